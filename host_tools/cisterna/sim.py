"""``cisterna sim``: a virtual pump for people and other programs, until Ctrl-C.

It runs at real time or a multiple of it, behind a serial port that ``cisterna ports`` finds, and
keeps flash and plant in a folder if one is named. On a terminal its prompt is a small bench: see
``cisterna.bench_prompt``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cisterna import screens
from cisterna.bench import Bench
from cisterna.errors import CisternaError, UsageError, quoted
from cisterna.finding import registered
from cisterna.keys import ROLES, KeyStore
from cisterna.own_files import make_own_folder
from cisterna.prescription import NOTICE
from cisterna.vm import find_vm

BOARDS = ("virtual", "rpi_pico")
MAX_SPEED = 1_000_000_000  # "max": more than any machine simulates

_LOOK_EVERY_S = 1.0  # for tones, and for a pump that ended by itself
_LOOKS_A_SAVE = 5
_PICO_MAX_SPEED = 100  # an idle emulated Pico runs at about 50 times real time, a busy one at 1/20


class StateTaken(CisternaError):
    """Another pump lives in the state folder."""


@dataclass
class RunningPump:
    """A simulated pump that runs by itself. ``lock``: held by whoever uses ``bench``.

    ``pace``: sets simulated seconds a real second. ``save``: writes the state folder, if there is
    one, and raises CisternaError if the pump ended by itself; None where ``bench.truth`` does.
    ``listen``: has a function told of tones, where the bench can.
    """

    bench: Bench
    port: str
    board: str
    state: Path | None
    lock: Any
    pace: Callable[[float], None]
    save: Callable[[], None] | None
    listen: Callable[[Callable[[int, int], None]], None] = lambda _: None


def parse_speed(text: str) -> float:
    """Simulated seconds a real second: a number, or "max". Raises UsageError."""
    if text == "max":
        return MAX_SPEED
    if not re.fullmatch(r"(0|[1-9][0-9]*)(\.[0-9]+)?", text) or not 0 < float(text) <= MAX_SPEED:
        raise UsageError(
            f"speed {quoted(text)} is no number above 0 up to {MAX_SPEED:,}, and not max",
            remedy="1 is real time; 1440 makes a day a minute",
        )
    return float(text)


def speed_words(speed: float) -> str:
    """A speed for people."""
    if speed == 1:
        return "at real time"
    if speed == MAX_SPEED:
        return "as fast as this machine can"
    return f"at {speed:,.10g} times real time"


@contextlib.contextmanager
def _only_one(state: Path | None) -> Generator[None, None, None]:
    """While inside, no other pump can live in ``state``. Raises StateTaken."""
    if state is None:
        yield
        return
    import fcntl

    try:
        make_own_folder(state)
        file = (state / "in-use").open("w")
    except OSError as error:
        raise CisternaError(f"the state folder {state}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateTaken(
                f"another virtual pump lives in {state}",
                remedy="end it, or name another folder with --state",
            ) from error
        yield


def _drawn(seed: int | None) -> int:
    """``seed``, or one that nobody can foretell: the pump's serial follows from it, and on the
    emulated Pico its random bits."""
    return secrets.randbits(128) if seed is None else seed


@contextlib.contextmanager
def _virtual(
    speed: float, state: Path | None, seed: int | None, paired: bool
) -> Generator[RunningPump, None, None]:
    from cisterna.bench_virtual import VirtualBench

    bench = VirtualBench(
        speed=speed,
        state=state,
        seed=_drawn(seed),
        trace=False,
        paired=paired,
        secret=seed is None,
    )
    with bench:
        yield RunningPump(
            bench,
            bench.port,
            "virtual",
            state,
            threading.RLock(),
            bench.pace,
            bench.save if state is not None else None,
            bench.listen,
        )


@contextlib.contextmanager
def _emulated(
    speed: float, state: Path | None, seed: int | None, paired: bool
) -> Generator[RunningPump, None, None]:
    _check_pico_speed(speed)
    screens.note(screens.console(stderr=True), "the emulated Pico boots; this takes some seconds")
    from cisterna.bench_emulated import EmulatedBench
    from cisterna.emulator_port import EmulatedPort

    bench = EmulatedBench(seed=_drawn(seed), state=state, paired=paired, secret=seed is None)
    with bench:
        port = EmulatedPort(bench.pico, speed)

        def pace(speed: float) -> None:
            _check_pico_speed(speed)
            port.pace(speed)

        def save() -> None:
            if port.error is not None:
                raise CisternaError(f"the emulator ended by itself: {port.error!r}")
            bench.save()

        try:
            yield RunningPump(bench, port.path, "rpi_pico", state, port.lock, pace, save)
        finally:
            port.close()


def _check_pico_speed(speed: float) -> None:
    if speed > _PICO_MAX_SPEED:
        raise UsageError(
            f"speed {speed:,.10g} is above the highest for an emulated Pico, {_PICO_MAX_SPEED}",
            remedy="the virtual board simulates a year in a minute: cisterna sim --speed max",
        )


class Listener:
    """Says on ``shown`` what sounds, one line a sequence of tones; at most one a second, the
    others counted."""

    def __init__(self, shown: Console) -> None:
        self._shown = shown
        self._tones: list[tuple[int, int]] = []
        self._said_s = 0.0
        self._unsaid = 0

    def hear(self, time_us: int, hz: int) -> None:
        """From ``time_us`` of the bench's time on ``hz`` sounds, 0 for silence."""
        if hz:
            self._tones.append((time_us, hz))
            return
        tones, self._tones = self._tones, []
        if not tones:
            return
        now_s = time.monotonic()
        if now_s - self._said_s < 1:
            self._unsaid += 1
            return
        begin_us = tones[0][0]
        heard = " and ".join(f"{each:,}" for each in dict.fromkeys(hz for _, hz in tones))
        others = f" (and {self._unsaid} times before)" if self._unsaid else ""
        text = f"tone at {screens.pump_clock(begin_us)}: {heard} Hz, {len(tones)} in "
        text += f"{(time_us - begin_us) / 1e6:.1f} s{others}"
        screens.note(self._shown, text, "bold")
        self._said_s, self._unsaid = now_s, 0


class _Ended(Exception):
    """The program was told to end."""


def _signals() -> tuple[signal.Signals, ...]:
    """What ends the program: Ctrl-C, kill, a closed terminal."""
    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _end(_: int, __: object) -> None:
    for number in _signals():  # once is enough: what follows must not be broken off
        signal.signal(number, signal.SIG_IGN)
    raise _Ended


@contextlib.contextmanager
def _ends_quietly() -> Generator[None, None, None]:
    """The first of ``_signals`` leaves this block; state is saved on the way out."""
    before = {number: signal.signal(number, _end) for number in _signals()}
    try:
        yield
    except _Ended:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _kept(pump: RunningPump) -> Generator[list[CisternaError], None, None]:
    """Saves the state every few seconds, and ends this program when the pump ends by itself; the
    reason is then in the list."""
    over = threading.Event()
    reasons: list[CisternaError] = []

    def keep() -> None:
        looks = 0
        while not over.wait(_LOOK_EVERY_S):
            looks += 1
            try:
                with pump.lock:
                    if over.is_set():
                        return
                    if pump.save is not None and looks % _LOOKS_A_SAVE == 0:
                        pump.save()
                    else:
                        pump.bench.truth()
            except CisternaError as error:
                reasons.append(error)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=keep, name="state keeper", daemon=True)
    thread.start()
    try:
        yield reasons
    finally:
        over.set()
        thread.join(timeout=_LOOK_EVERY_S * _LOOKS_A_SAVE)


@contextlib.contextmanager
def _link_at(link: Path | None, port: str) -> Generator[None, None, None]:
    """While inside, ``link`` is a symbolic link to ``port``."""
    if link is None:
        yield
        return
    try:
        if link.is_symlink() and not link.exists():  # left over: what it named is gone
            link.unlink()
        link.symlink_to(port)
    except OSError as error:
        raise CisternaError(f"cannot make the port {link}: {error.strerror}") from error
    try:
        yield
    finally:
        link.unlink(missing_ok=True)


def _has_prompt() -> bool:
    """True if a person can type here: a terminal, and this program is in its foreground."""
    try:
        return (
            sys.stdin.isatty()
            and sys.stdout.isatty()
            and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        )
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _paired(pump: RunningPump, wanted: bool) -> Generator[None, None, None]:
    """While inside, the user's key store has the pump's keys; for good if the pump is kept."""
    if not wanted:
        yield
        return
    users = KeyStore.of_user()
    with pump.lock:
        for role in ROLES:
            pump.bench.programmer(role).close()
    kept = pump.bench.keys.all()
    for held in kept:
        users.put(held.pump, held.role, held.key, held.generation)
    try:
        yield
    finally:
        if pump.state is None:
            for held in kept:
                users.drop(held.pump, held.role)


def _say_hello(pump: RunningPump, port: str, speed: float, prompt: bool, paired: bool) -> None:
    shown = screens.console()
    screens.note(shown, NOTICE)
    kept = "lost at the end (--state DIR keeps it)" if pump.state is None else str(pump.state)
    what = "A virtual pump" if pump.board == "virtual" else "A pump on an emulated Pico"
    screens.title(shown, f"\n{what} runs on {port}")
    screens.rows(
        shown, [("Board", pump.board), ("Time", f"runs {speed_words(speed)}"), ("State", kept)]
    )
    screens.title(shown, "In another terminal")
    first = () if paired else ("cisterna pair                 (press its button here: press)",)
    for command in (
        *first,
        "cisterna status",
        "cisterna program baclofen",
        'cisterna refill --measured "0 mL" --fill "20 mL" --reason "first fill"',
        'cisterna bolus "10 ug" --over "10 min"',
    ):
        screens.note(shown, f"  {command}")
    end = "Here: help lists what this bench can do; Ctrl-C ends the pump." if prompt else ""
    screens.note(shown, end or "Ctrl-C ends the pump.")
    sys.stdout.flush()


def run(
    *,
    board: str = "virtual",
    speed: float = 1,
    state: Path | None = None,
    seed: int | None = None,
    link: Path | None = None,
    pair: bool = False,
    as_json: bool = False,
) -> None:
    """Run a pump until Ctrl-C, SIGTERM, or ``quit`` at the prompt.

    ``seed``: of all that is random in the pump; None: its keys and nonces cannot be foretold.
    ``pair``: the user's key store gets its keys, with no button pressed. ``link``: a symbolic link
    to make to the port. ``as_json``: print one line of JSON with the port and nothing else. Raises
    CisternaError when it cannot run, or ends by itself.
    """
    if board not in BOARDS:
        raise UsageError(
            f"no board {quoted(board)} can be simulated", f"one of: {', '.join(BOARDS)}"
        )
    find_vm()  # says why not, where there can be no virtual pump
    start = _virtual if board == "virtual" else _emulated
    reasons: list[CisternaError] = []
    with _only_one(state):
        with (
            _ends_quietly(),
            start(speed, state, seed, pair) as pump,
            _paired(pump, pair),
            _link_at(link, pump.port),
            registered(pump.port, board),
            _kept(pump) as reasons,
        ):
            port = pump.port if link is None else str(link)
            prompt = not as_json and _has_prompt()
            if not as_json:
                with pump.lock:
                    pump.listen(Listener(screens.console()).hear)
            if as_json:
                print(json.dumps({"port": port, "board": board, "pid": os.getpid()}), flush=True)
            else:
                _say_hello(pump, port, speed, prompt, pair)
            if prompt:
                from cisterna.bench_prompt import serve

                serve(pump)
            else:
                while True:
                    signal.pause()
        if reasons:
            raise reasons[0]
    if not as_json:
        print()
        print(f"The pump ended; its state is in {state}." if state else "The pump ended.")
