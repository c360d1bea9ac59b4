"""A deployment broken off at every single point, on a board made of a dictionary: what the host
has it execute is executed, by this Python, with the board's files in place of ours."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from mpremote.transport import TransportError, TransportExecError

from cisterna import board_repl, flash
from cisterna.errors import NoPump
from cisterna.finding import Answer, Candidate
from cisterna.programmer import Identity
from pump_wire.messages import SIMPLE_CONTINUOUS, STOPPED

PORT = "/dev/paper"
OLD = {
    "/board_data.mpy": b"old data",
    "/pump/app.mpy": b"old app" * 300,
    "/pump/gone.mpy": b"of no use any more",
    "/boot.py": b"# old boot",
    "/main.py": b"# old main",
}
NEW = {
    "/board_data.mpy": b"new data",
    "/pump/app.mpy": b"new app" * 300,
    "/pump/link.mpy": b"a new module",
    "/boot.py": b"# new boot",
    "/main.py": b"# new main",
}
RECORD = {"/steps.0": b"the pump's own"}
_MICROPYTHON = SimpleNamespace(
    name="micropython", version=(1, 28, 0, ""), _mpy=4 << 10 | 6, _machine="Pico with RP2040"
)


def _absolute(path: str) -> str:
    """``path`` from the folder that MicroPython starts in, here the root."""
    return "/" + path.lstrip("/")


class PaperBoard:
    """``cut_at``: how many more execs until the cable is pulled, ``late``: when that one has been
    carried out. ``torn``: a file being written shows what it has so far (FAT); without, what it
    had until it is closed (littlefs). ``room``: octets that may yet be written."""

    def __init__(self, files: dict[str, bytes], torn: bool = False) -> None:
        self.files = dict(files)
        self.torn = torn
        self.cut_at = -1
        self.late = False
        self.room = 1 << 20
        self.execs = 0
        self.resets = 0
        self.repl = True
        self.namespace: dict[str, Any] = {}

    def _open(self, name: str, mode: str = "r") -> Any:
        path = _absolute(name)
        if "w" not in mode:
            if path not in self.files:
                raise OSError(errno.ENOENT, "ENOENT")
            data = self.files[path]
            return io.BytesIO(data) if "b" in mode else io.StringIO(data.decode())
        board = self

        class File(io.BytesIO):
            def write(self, data: Any) -> int:
                if len(data) > board.room:
                    raise OSError(errno.ENOSPC, "ENOSPC")
                board.room -= len(data)
                count = super().write(data)
                if board.torn:
                    board.files[path] = self.getvalue()
                return count

            def close(self) -> None:
                if not self.closed:
                    board.files[path] = self.getvalue()
                super().close()

            def __del__(self) -> None:  # dropped, not closed: as a reset does
                pass

        if self.torn:
            self.files[path] = b""
        return File()

    def _module(self, name: str, *_: Any, **__: Any) -> Any:
        if name == "os":
            module = ModuleType("os")
            vars(module).update(
                remove=self._remove,
                rename=self._rename,
                mkdir=lambda _: None,
                rmdir=lambda _: None,
                getcwd=lambda: "/",
                statvfs=lambda _: (4096, 4096, 352, 300, 300, 0, 0, 0, 0, 255),
            )
            return module
        if name == "sys":
            return SimpleNamespace(implementation=_MICROPYTHON, platform="rp2")
        return builtins.__import__(name)

    def _remove(self, path: str) -> None:
        if self.files.pop(_absolute(path), None) is None:
            raise OSError(errno.ENOENT, "ENOENT")

    def _rename(self, old: str, new: str) -> None:
        self.files[_absolute(new)] = self.files.pop(_absolute(old))

    def execute(self, source: str) -> bytes:
        self.execs += 1
        cut = self.cut_at == 0
        self.cut_at -= 1
        if cut and not self.late:
            raise TransportError("timeout waiting for first EOF reception")
        replaced = {"open": self._open, "__import__": self._module}
        self.namespace["__builtins__"] = {**vars(builtins), **replaced}
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(source, self.namespace)  # noqa: S102
        except Exception as error:
            text = f"Traceback:\n{type(error).__name__}: {error}\r\n"
            raise TransportExecError(0, text) from error
        if cut:
            raise TransportError("timeout waiting for first EOF reception")
        return printed.getvalue().encode()


Board = Callable[..., PaperBoard]


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Board:
    """Makes a PaperBoard and puts it on PORT, with a pump on it that says ``answer``."""
    boards: list[PaperBoard] = []

    class Transport:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.exec = boards[-1].execute

        def enter_raw_repl(self, **_: Any) -> None:
            if not boards[-1].repl:
                print(b"~\x7d\x23nonsense")
                raise TransportError("could not enter raw repl")
            boards[-1].namespace = {}  # the soft reset

        def exit_raw_repl(self) -> None:
            pass

        def close(self) -> None:
            pass

        def exec_raw_no_follow(self, _: str) -> None:
            boards[-1].resets += 1

    def ask(candidate: Candidate) -> Answer:
        return getattr(boards[-1], "answer", Answer(candidate, "silent"))

    monkeypatch.setattr(board_repl, "SerialTransport", Transport)
    monkeypatch.setattr(board_repl, "try_open", lambda _: None)
    monkeypatch.setattr(flash, "try_open", lambda _: None)
    monkeypatch.setattr(flash, "ask", ask)
    monkeypatch.setattr(flash, "firmware_files", lambda *_, **__: dict(NEW))
    identity = Identity(0, 0, 0, "rpi_pico", "", "", b"", 0, 0)
    monkeypatch.setattr(flash, "_wait_answer", lambda *_: identity)
    monkeypatch.setattr(board_repl.time, "sleep", lambda _: None)

    def make(files: dict[str, bytes] | None = None, torn: bool = False) -> PaperBoard:
        if files is None:
            digests = {path: flash.digest(data) for path, data in OLD.items()}
            manifest = json.dumps({"board": "rpi_pico", "files": digests}).encode()
            files = {**OLD, **RECORD, flash.MANIFEST: manifest}
        boards.append(PaperBoard(files, torn))
        return boards[-1]

    return make


def firmware(board: PaperBoard) -> dict[str, bytes]:
    """What is there besides the pump's records and the list of what was deployed."""
    return {
        path: data
        for path, data in board.files.items()
        if path not in RECORD and path != flash.MANIFEST
    }


def whole_run(paper: Board, torn: bool) -> int:
    """How many execs a deployment takes."""
    board = paper(torn=torn)
    done = flash.deploy("rpi_pico", PORT)
    assert firmware(board) == NEW
    assert RECORD.items() <= board.files.items()
    assert board.resets == 1
    assert done.removed == ("/pump/gone.mpy",)
    return board.execs


@pytest.mark.parametrize("torn", [False, True], ids=["littlefs", "FAT"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_cut_at_every_point_never_leaves_a_mix_that_starts(
    paper: Board, torn: bool, late: bool
) -> None:
    execs = whole_run(paper, torn)
    assert execs > 40
    started_old = started_new = 0
    for cut_at in range(execs):
        board = paper(torn=torn)
        board.cut_at, board.late = cut_at, late
        with pytest.raises(flash.DeploymentBroken, match="the board went away while") as told:
            flash.deploy("rpi_pico", PORT)
        assert "plug it in again and repeat" in str(told.value.remedy)
        there = firmware(board)
        if "/main.py" in there:  # it starts: then it is one firmware, whole
            assert there in (OLD, NEW), f"a mix starts after a cut at {cut_at}"
            started_old += there == OLD
            started_new += there == NEW
        assert there.get("/boot.py") in (OLD["/boot.py"], NEW["/boot.py"])
        assert RECORD.items() <= board.files.items()
        flash.deploy("rpi_pico", PORT)
        assert firmware(board) == NEW, f"not healed after a cut at {cut_at}"
    assert started_old > 5
    assert started_new == int(late)  # only when the rename was carried out


def test_cut_in_a_first_deployment_leaves_nothing_behind_that_is_not_taken_off(
    paper: Board,
) -> None:
    paper({})
    flash.deploy("rpi_pico", PORT)
    execs = paper({}).execs
    for cut_at in range(5, 40, 3):
        board = paper({})
        board.cut_at = cut_at
        with pytest.raises(flash.DeploymentBroken):
            flash.deploy("rpi_pico", PORT)
        assert "/main.py" not in board.files
        if flash.MANIFEST in board.files:
            flash.unflash(PORT)
            assert board.files == {}, cut_at
    assert execs == 0


def test_file_system_that_fills_up_meanwhile(paper: Board) -> None:
    board = paper()
    board.room = 1500
    with pytest.raises(flash.DeploymentBroken, match=r"file system is full \(writing") as told:
        flash.deploy("rpi_pico", PORT)
    assert "remove files from it" in str(told.value.remedy)
    assert "/main.py" not in board.files
    board.room = 1 << 20
    flash.deploy("rpi_pico", PORT)
    assert firmware(board) == NEW


def test_flash_that_does_not_keep_what_it_is_given(paper: Board) -> None:
    board = paper()
    kept = board._rename

    def forgetful(old: str, new: str) -> None:
        board.files["/pump/app.mpy"] = b"new apq" * 300
        kept(old, new)

    board._rename = forgetful  # type: ignore[method-assign]
    with pytest.raises(flash.DeploymentBroken, match=r"/pump/app\.mpy reads back otherwise"):
        flash.deploy("rpi_pico", PORT)
    assert "/main.py" not in board.files


def pump_says(mode: int) -> Answer:
    status: Any = SimpleNamespace(mode=mode, mode_name="simple continuous")
    return Answer(Candidate(PORT, "", virtual=False), "pump", status=status)


def test_pump_that_delivers_is_not_stopped_unasked(paper: Board) -> None:
    board: Any = paper()
    before = dict(board.files)
    board.answer = pump_says(SIMPLE_CONTINUOUS)
    for doing in (lambda: flash.deploy("rpi_pico", PORT), lambda: flash.unflash(PORT)):
        with pytest.raises(flash.PumpDelivers, match=r"delivers \(simple continuous\)") as told:
            doing()
        assert f"cisterna stop --port {PORT}" in str(told.value.remedy)
        assert "YES=1" in str(told.value.remedy)
    assert (board.files, board.execs) == (before, 0)
    assert flash.deploy("rpi_pico", PORT, stop=True).copied[-1] == "/main.py"
    board.answer = pump_says(STOPPED)
    assert flash.deploy("rpi_pico", PORT).copied == ()


def test_pump_of_another_version_may_deliver(paper: Board) -> None:
    board: Any = paper()
    board.answer = Answer(Candidate(PORT, "", virtual=False), "other version")
    with pytest.raises(flash.PumpDelivers, match="does not say whether it delivers"):
        flash.deploy("rpi_pico", PORT)


def test_sealed_pump_says_how_to_open_it(paper: Board) -> None:
    board: Any = paper()
    before = dict(board.files)
    board.answer = pump_says(STOPPED)
    board.repl = False
    with pytest.raises(flash.SealedPump, match="is sealed: its REPL is shut") as told:
        flash.deploy("rpi_pico", PORT)
    assert "hold its service button while you plug it in" in str(told.value.remedy)
    assert isinstance(told.value, NoPump)
    assert board.files == before
