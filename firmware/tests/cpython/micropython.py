"""What the firmware imports from ``micropython``, for tests that run it under CPython.

``conftest.py`` puts this module in the place of the one that a MicroPython wheel may have
installed, for those tests only.
"""


def const(value):
    return value


def native(function):
    return function


def viper(function):
    raise NotImplementedError("viper code runs in the VM only: name its tests in VM_ONLY")


def heap_lock():
    raise NotImplementedError("heap_lock means nothing here: name the test in VM_ONLY")
