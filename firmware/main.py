"""Started by MicroPython after boot.py: hand the board to the pump.

A bench and teaching model. Not a medical device; never for use on people or animals.
"""

import board

hardware = board.build()  # first: drivers take their buffers while the heap is whole

from pump import app  # noqa: E402

app.run(hardware)
