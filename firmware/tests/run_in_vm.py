"""Run the tests of one file in this MicroPython VM: ``micropython run_in_vm.py FILE [TEST ...]``.

Prints one JSON line a test, ``{"test": name, "ok": bool, "trace": text, "heap": octets}``;
whatever else is printed belongs to the test that is running. ``heap``: heap in use when the test
is over and its rubbish collected. A file that cannot be imported prints one line with the test "".
Without TEST arguments every ``test_*`` function runs. Exit code: 0 when every test asked for was
run and told.

No test is run after a crash: ``conftest.py`` starts one VM a file and reads what is missing from
that.
"""

import gc
import io
import json
import sys

import micropython


def _trace(error):
    text = io.StringIO()
    sys.print_exception(error, text)
    return text.getvalue()


def _tell(test, trace):
    gc.collect()
    # The first key stands first, whatever the order of a dict in this VM: conftest.py looks for
    # it.
    print(
        '{"test": %s, "ok": %s, "trace": %s, "heap": %d}'
        % (json.dumps(test), "false" if trace else "true", json.dumps(trace), gc.mem_alloc())
    )


def _free_heap():
    """Undo every heap_lock() that a failed test left behind."""
    micropython.heap_lock()
    while micropython.heap_unlock():
        pass


def _run(function):
    gc.collect()
    try:
        function()
    except BaseException as error:  # a test that calls sys.exit() has failed, not the runner
        _free_heap()
        return _trace(error)
    _free_heap()
    return ""


def main(path, tests):
    folder, _, file = path.rpartition("/")
    sys.path.insert(0, folder)
    try:
        module = __import__(file[: -len(".py")])
    except BaseException as error:
        _tell("", _trace(error))
        return 1
    for test in tests or [name for name in dir(module) if name.startswith("test_")]:
        function = getattr(module, test, None)
        if function is None:
            _tell(test, "%s has no %s in this VM" % (file, test))
        else:
            _tell(test, _run(function))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
