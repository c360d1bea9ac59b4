"""Started by MicroPython after boot.py: shut the REPL, then hand the board to the pump.

A bench and teaching model. Not a medical device; never for use on people or animals.
"""

from micropython import kbd_intr

kbd_intr(-1)  # no branch before it: a Ctrl-C is raised at branches only
try:
    for _ in (0,):
        pass  # one that was there already is raised here
except KeyboardInterrupt:
    pass

from drivers import repl_gate  # noqa: E402


def start():
    import board

    hardware = board.build()  # first: drivers take their buffers while the heap is whole

    from pump import app

    app.run(hardware)


repl_gate.run(start)
