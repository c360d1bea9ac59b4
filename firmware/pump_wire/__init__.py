"""What the pump and the programmer share: frames, the message table, the codec, the session layer.

Both sides import this package: MicroPython on the pump, CPython on the host. It imports nothing
that only one of them has.
"""
