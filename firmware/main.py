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

# Of these MicroPython keeps none for the next import, and looks through the file system before
# each: 4 ms on a Pico, fifty times at a start. asyncio is frozen into the image.
_BUILT_IN = "array asyncio binascii errno io machine os select struct time"


def _find_built_in():
    """Import what is built in once, past the file system."""
    import sys

    path = sys.path[:]
    sys.path[:] = [".frozen"]
    for name in _BUILT_IN.split():
        sys.modules[name] = __import__(name)
    sys.path[:] = path


def start():
    _find_built_in()

    import board

    hardware = board.build()  # first: drivers take their buffers while the heap is whole

    from pump import app

    app.run(hardware)


repl_gate.run(start)
