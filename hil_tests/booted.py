"""Tests on the emulated Pico without a start of their own.

A start takes the emulator ten seconds and more. With one seed all starts are the same, so one
bench is started and each test gets it in a process forked from there: what the test does to it is
gone with that process. Where there is no fork, every test starts its own.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from cisterna.bench import Bench

_booted = pytest.StashKey[Bench]()
_own = pytest.StashKey[Bench]()


def take(config: pytest.Config) -> Bench | None:
    """The started bench, once in each process that was forked for a test."""
    bench = config.stash.get(_own, None)
    if bench is not None:
        del config.stash[_own]
    return bench


def run(item: pytest.Item, next_item: pytest.Item | None, start: Callable[[], Bench]) -> bool:
    """Run ``item`` in a process of its own, with a bench that ``start`` started in this one.
    False: nothing was done, there is no fork here or the bench does not start."""
    if not hasattr(os, "fork"):
        return False
    stash = item.config.stash
    if _booted not in stash:
        try:
            stash[_booted] = start()
        except Exception:  # the fixture meets it too, and tells it
            return False
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        hook.pytest_runtest_logreport(report=report)
    # What earlier tests set up here, and the next does not share: no test ran here to end it.
    item.session._setupstate.teardown_exact(next_item)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def close(config: pytest.Config) -> None:
    """Close the bench that was started, if one was."""
    if _booted in config.stash:
        config.stash[_booted].close()
        del config.stash[_booted]


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # xdist's workers have threads
        child = os.fork()
    if child == 0:
        os.close(reading)
        _perform(item, writing)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            data = pipe.read()
    except BaseException as error:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if isinstance(error, KeyboardInterrupt):
            raise
        return [_failed(item, f"{type(error).__name__}: {error}")]
    _, status = os.waitpid(child, 0)
    if not data:
        return [_failed(item, f"its process ended with {os.waitstatus_to_exitcode(status)}")]
    config = item.config
    read: Callable[..., Any] = config.hook.pytest_report_from_serializable
    return [read(config=config, data=each) for each in pickle.loads(data)]


def _perform(item: pytest.Item, writing: int) -> None:
    """In the forked process, which ends here."""
    config = item.config
    code = 1
    try:
        config.stash[_own] = config.stash[_booted]
        reports = runtestprotocol(item, log=False)
        put: Callable[..., Any] = config.hook.pytest_report_to_serializable
        data = pickle.dumps([put(config=config, report=report) for report in reports])
        with open(writing, "wb") as pipe:
            pipe.write(data)
        sys.stdout.flush()
        sys.stderr.flush()
        code = 0
    finally:
        os._exit(code)


def _failed(item: pytest.Item, why: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
