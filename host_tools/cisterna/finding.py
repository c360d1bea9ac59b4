"""Finding pumps: the virtual ones that run on this machine, and whatever is on its serial ports;
and the boards that a pump could be put on, by their USB id.

A virtual pump is found by its entry, a small file in the user's run folder that names its port.
The program that runs the pump holds a lock on the entry for as long as it lives; an entry nobody
holds is left over, is ignored, and is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Literal

import platformdirs

from cisterna.boards import board_data, board_names
from cisterna.errors import CisternaError, NoPump, OutcomeUnknown, UsageError
from cisterna.keys import BadKeyStore, KeyStore
from cisterna.programmer import GarbledHello, Identity, Programmer, Status, WrongVersion
from cisterna.session import REPLY_S, NoReply
from cisterna.transport import PortTaken, SerialLink, serial_ports, usb_ids

VARIABLE = "CISTERNA_PORT"

_PATIENCE_S = 3.0  # how long to wait for another program that is talking to the pump
_HELLO_S = 0.5  # a pump on a serial port answers hello within this
_VIRTUAL_HELLO_S = 2.0  # a simulated one too, on a busy machine
_VIRTUAL_REPLY_S = 5.0  # an emulated one takes a command apart at a tenth of a Pico's speed
_LOOK_S = 5.0  # a port that takes longer than this to open or to answer is given up
_START_A_VIRTUAL_ONE = "connect a pump, or start a virtual one in another terminal: cisterna sim"


@dataclass(frozen=True)
class Candidate:
    """A port where a pump may be. ``virtual``: one that registered as a simulated pump.
    ``boards``: those of ``boards/`` that say the same on USB."""

    port: str
    description: str
    virtual: bool
    boards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What is on a port. ``state`` "pump": ``identity`` and ``status`` are there. "other version":
    a pump this program cannot talk to. "busy": another program has the port. ``problem``: why
    there is no answer, or of a pump only who it is."""

    candidate: Candidate
    state: Literal["pump", "other version", "busy", "silent"]
    problem: str = ""
    identity: Identity | None = None
    status: Status | None = None

    @property
    def is_pump(self) -> bool:
        """True if a pump is there, or must be taken to be."""
        return self.state in ("pump", "other version") or (
            self.state == "busy" and self.candidate.virtual
        )


def run_folder() -> Path:
    """Folder with the entries of the virtual pumps that run now."""
    with warnings.catch_warnings():  # about a fallback, where XDG_RUNTIME_DIR is not set
        warnings.simplefilter("ignore")
        return Path(platformdirs.user_runtime_dir("cisterna")) / "sims"


@contextlib.contextmanager
def registered(port: str, board: str) -> Generator[None, None, None]:
    """While inside, ``candidates`` lists a virtual pump at ``port``. Not on Windows."""
    import fcntl

    folder = run_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry = folder / f"{os.getpid()}.json"
    new = entry.with_suffix(".new")
    with new.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # held before the entry can be seen
        json.dump({"port": port, "board": board, "pid": os.getpid()}, file)
        file.flush()
        new.replace(entry)
        try:
            yield
        finally:
            entry.unlink(missing_ok=True)


def virtual_pumps() -> list[Candidate]:
    """The virtual pumps that run now; entries left over are removed."""
    if sys.platform == "win32":
        return []
    import fcntl

    try:
        entries = sorted(run_folder().glob("*.json"))
    except OSError:  # there can be no folder where entries are safe, so none was made either
        return []
    found: list[Candidate] = []
    for entry in entries:
        try:
            with entry.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:  # held: its program lives
                    values = json.load(file)
                    text = f"virtual pump, board {values['board']}"
                    found.append(Candidate(str(values["port"]), text, virtual=True))
                else:
                    entry.unlink(missing_ok=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def candidates() -> list[Candidate]:
    """Every port of this machine where a pump may be, the virtual ones first."""
    known = boards_on_usb()
    serial = [
        Candidate(port, text, virtual=False, boards=known.get(port, ()))
        for port, text in serial_ports()
    ]
    return virtual_pumps() + serial


def boards_on_usb() -> dict[str, tuple[str, ...]]:
    """Serial port -> the boards of ``boards/`` with its USB id; ports without one are left out."""
    wanted = {name: _ids(name) for name in board_names()}
    found: dict[str, tuple[str, ...]] = {}
    for port, pair in usb_ids().items():
        boards = tuple(name for name, ids in wanted.items() if pair in ids)
        if boards:
            found[port] = boards
    return found


def _ids(board: str) -> list[tuple[int, int]]:
    return [
        (vendor, product) for vendor, product in board_data(board).get("usb", {"ids": []})["ids"]
    ]


def find_board(board: str) -> str:
    """The port of the only board on USB that can be ``board``.

    Raises NoPump when there is none, UsageError when there are several.
    """
    ids = _ids(board)
    if not ids:
        raise UsageError(
            f"{board} cannot be found by itself: its board.toml names no USB id",
            remedy=f"name its port: make flash BOARD={board} PORT=/dev/ttyUSB0",
        )
    ports = [port for port, boards in boards_on_usb().items() if board in boards]
    if len(ports) == 1:
        return ports[0]
    said = ", ".join(f"{vendor:04x}:{product:04x}" for vendor, product in ids)
    if ports:
        raise UsageError(
            f"{len(ports)} boards with USB id {said} were found: {', '.join(ports)}",
            remedy=f"name one: make flash BOARD={board} PORT={ports[0]}",
        )
    others = [f"{port} ({v:04x}:{p:04x})" for port, (v, p) in usb_ids().items()]
    raise NoPump(
        f"no {board} was found: no port has USB id {said}; on USB: {', '.join(others) or 'none'}",
        remedy="plug it in with a cable that carries data; it appears once MicroPython is on it"
        " (a Pico: hold BOOTSEL at plug-in and copy the .uf2 from micropython.org)",
    )


def same_port(one: str, other: str) -> bool:
    """True if both name the same port, one of them perhaps through a symbolic link."""
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def ask(candidate: Candidate) -> Answer:
    """Say hello at one port."""
    hello_s = _VIRTUAL_HELLO_S if candidate.virtual else _HELLO_S
    try:
        link = SerialLink(candidate.port, alone_s=hello_s)
    except PortTaken as error:
        return Answer(candidate, "busy", str(error))
    except NoPump as error:
        return Answer(candidate, "silent", str(error))
    try:
        pump = Programmer(link, reply_s=hello_s, tries=1)
        try:
            pump.take_role()
            return Answer(candidate, "pump", identity=pump.identity, status=pump.status())
        except CisternaError as error:  # it is there, and tells us no more
            return Answer(candidate, "pump", str(error), identity=pump.identity)
        finally:
            pump.session.close()
    except WrongVersion as error:
        return Answer(candidate, "other version", str(error))
    except NoReply:
        return Answer(candidate, "silent", _silent(candidate))
    except CisternaError as error:
        return Answer(candidate, "silent", f"no pump answers: {error}")
    finally:
        link.close()


def _silent(candidate: Candidate) -> str:
    if not candidate.boards:
        return "no pump answers"
    names = " or ".join(candidate.boards)
    return f"no pump answers; by its USB id it may be a {names}: cisterna flash puts one on"


def look(where: Iterable[Candidate]) -> list[Answer]:
    """Say hello at all of them at once; answers in the order of ``where``."""
    asked = list(where)
    answers: queue.SimpleQueue[tuple[int, Answer]] = queue.SimpleQueue()

    def ask_one(index: int) -> None:
        answers.put((index, ask(asked[index])))

    for index in range(len(asked)):  # daemons: a port that hangs must not keep the program
        threading.Thread(target=ask_one, args=(index,), daemon=True).start()
    found: dict[int, Answer] = {}
    until = time.monotonic() + _LOOK_S
    while len(found) < len(asked):
        try:
            index, answer = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        found[index] = answer
    late = "it does not answer, nor let itself be closed"
    return [
        found.get(index, Answer(candidate, "silent", late))
        for index, candidate in enumerate(asked)
    ]


def find_port() -> str:
    """The port of the only pump there is.

    Raises NoPump when there is none, UsageError when there are several.
    """
    answers = look(candidates())
    pumps = [answer for answer in answers if answer.is_pump]
    if len(pumps) == 1:
        return pumps[0].candidate.port
    if pumps:
        listed = ", ".join(_described(answer) for answer in pumps)
        raise UsageError(
            f"{len(pumps)} pumps were found: {listed}",
            remedy=f"name one with --port, or in {VARIABLE}",
        )
    raise no_pump(answers)


def no_pump(answers: Sequence[Answer]) -> NoPump:
    """That there is no pump on any of these ports, in words."""
    busy = [answer.candidate.port for answer in answers if answer.state == "busy"]
    asked = f"no pump answers on {len(answers)} serial ports" if answers else "no serial port"
    if len(answers) == 1:
        asked = f"no pump answers on {answers[0].candidate.port}"
    taken = f"; in use by another program: {', '.join(busy)}" if busy else ""
    return NoPump(f"no pump was found: {asked}{taken}", remedy=_START_A_VIRTUAL_ONE)


def _described(answer: Answer) -> str:
    who = f" ({answer.identity.serial.hex()})" if answer.identity else ""
    return answer.candidate.port + who


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


class Earlier(Enum):
    """What to do first about a command whose outcome is not known. TELL: settle it and say so;
    END: settle it, and do nothing else; TRY: as TELL, and go on where that fails; LEAVE it as it
    is."""

    TELL = auto()
    END = auto()
    TRY = auto()
    LEAVE = auto()


def open_pump(
    port: str | None,
    role: str | None = None,
    earlier: Earlier = Earlier.TELL,
    tell: Callable[[str], None] = _tell,
) -> Programmer:
    """A programmer on ``port``, else on the only pump found; the port is this program's alone.
    ``role`` None: the one that can do most of those there is a key of. What became of a command
    whose outcome was not known goes to ``tell``.

    Raises NoPump, UsageError (several found), WrongVersion, EarlierSettled for END, and
    OutcomeUnknown where it cannot be asked what became of a command.
    """
    try:
        return _open(port, role, earlier, tell)
    except (NoPump, WrongVersion, GarbledHello) as error:
        waiting = KeyStore.of_user().all_pending()
        if not waiting:
            raise
        told = ", ".join(
            f"{command['command'].replace('_', ' ')} (pump {pump.hex()})"
            for pump, command in waiting.items()
        )
        raise OutcomeUnknown(
            f"{error}; and the answer to what a pump was told did not come yet: {told}",
            remedy=f"do not repeat it; first: {error.remedy or 'see to the pump'}; "
            "then cisterna status asks it what became of it",
        ) from error


def try_to_settle(pump: Programmer, tell: Callable[[str], None] = _tell) -> None:
    """Tell what became of a command whose outcome was not known, or why that cannot be told."""
    try:
        if pump.settle():
            tell(pump.settled)
    except (OutcomeUnknown, BadKeyStore) as error:
        tell(str(error))


def _open(
    port: str | None, role: str | None, earlier: Earlier, tell: Callable[[str], None]
) -> Programmer:
    where = port or find_port()
    link = SerialLink(where, alone_s=_PATIENCE_S)
    try:
        virtual = any(same_port(each.port, where) for each in virtual_pumps())
        pump = Programmer(link, role, reply_s=_VIRTUAL_REPLY_S if virtual else REPLY_S)
        if earlier is Earlier.END:
            pump.settle_first()
        elif earlier is Earlier.TRY:
            try_to_settle(pump, tell)
        elif earlier is Earlier.TELL and pump.settle():
            tell(pump.settled)
        return pump
    except BaseException:
        link.close()
        raise
