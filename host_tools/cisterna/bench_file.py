"""Benches that a file describes: a board on a serial port with the instruments around it.

``bench.toml``; ``hil_tests/bench.example.toml`` has every entry::

    format = 1
    name = "desk"
    board = "rpi_pico"

    [pump]
    usb_serial = "E66118604B4A5A2C"   # or port = "/dev/ttyACM0"

    [power]                           # a USB hub's port, a relay: what switches it
    off = ["uhubctl", "-l", "1-1", "-p", "2", "-a", "off"]
    on = ["uhubctl", "-l", "1-1", "-p", "2", "-a", "on"]

    [counter]                         # prints how many STEP pulses it has seen
    read = ["./count_pulses"]

    [balance]
    port = "/dev/ttyUSB0"
    protocol = "sics"                 # or "sbi"
    water = "21 C"
    tolerance_percent = 2.0
    tolerance_source = "..."

The bench proves itself before the first test of a process: the link is clean, the power really
cuts, the counter really counts, the balance tells a mass. What does not makes it a broken bench,
and the error names it. A lock, held by this process while the bench is open and gone with the
process, keeps two runs from one board.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import platformdirs
from serial.tools import list_ports

from cisterna import units
from cisterna.balance import PROTOCOLS, Balance, Reading
from cisterna.bench import Bench
from cisterna.boards import board_names
from cisterna.calibration import water_density_ng_ml
from cisterna.dose import RATE_HIGH_NL_DAY
from cisterna.errors import CisternaError, NoPump, UsageError, quoted
from cisterna.gravimetric import Liquid
from cisterna.keys import KeyStore
from cisterna.trumpet_source import CAPACITY_NL, therapy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = 1
_COMMAND_S = 30  # longest that a command of the bench may take
_DEAD_S = 1.5  # without an answer for so long: the power is off
_BOOT_S = 20.0  # longest until a pump answers after its power came
_CLEAN = 20  # requests in a row that a clean link answers at once
_MOVE_S = 3.0  # the pump moves for so long for the counter; a step every 0.36 s at 0.1 uL
_FEWEST_STEPS = 4
_SLACK_STEPS = 2
_SLOW_S = 1.0  # a reply that took longer was one to a repeated request

_WORDS = {
    "list": "a command, a list of texts",
    "dict": "a table",
    "str": "text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
}
# Table: key: (type, required).
_KEYS: dict[str, dict[str, tuple[type, bool]]] = {
    "": {
        "format": (int, True),
        "name": (str, True),
        "board": (str, True),
        "pump": (dict, True),
        "power": (dict, False),
        "counter": (dict, False),
        "balance": (dict, False),
    },
    "pump": {"port": (str, False), "usb_serial": (str, False)},
    "power": {"off": (list, True), "on": (list, True)},
    "counter": {"read": (list, True)},
    "balance": {
        "port": (str, True),
        "protocol": (str, True),
        "continuous": (bool, False),
        "baud": (int, False),
        "framing": (str, False),
        "water": (str, False),
        "density": (str, False),
        "evaporation": (str, False),
        "tolerance_percent": (float, True),
        "tolerance_source": (str, True),
    },
}


class BrokenBench(CisternaError):
    """An instrument of the bench does not do what it is there for."""


class BenchTaken(CisternaError):
    """Another run has this board."""


@dataclass(frozen=True)
class BalanceOnBench:
    """``tolerance_ppm``: of a weighed volume, with ``source``, the reason for it."""

    port: str
    protocol: str
    continuous: bool
    baud: int
    framing: str
    liquid: Liquid
    tolerance_ppm: int
    source: str


@dataclass(frozen=True)
class BenchFile:
    """What a file says."""

    path: Path
    name: str
    board: str
    port: str
    usb_serial: str
    power: Mapping[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    counter: tuple[str, ...] = ()
    balance: BalanceOnBench | None = None


def _wrong(path: Path, what: str, remedy: str | None = None) -> UsageError:
    return UsageError(f"{path}: {what}", remedy)


def _table(path: Path, name: str, values: Any) -> dict[str, Any]:
    """A table of the file with known keys of the right types. Raises UsageError."""
    keys = _KEYS[name]
    where = f"[{name}] " if name else ""
    for key, value in values.items():
        if key not in keys:
            raise _wrong(
                path, f"{where}has no entry {quoted(key)}", f"it may have: {', '.join(keys)}"
            )
        kind = keys[key][0]
        numbers = (int, float)
        good = type(value) in numbers if kind is float else type(value) is kind
        if kind is list and good:
            good = bool(value) and all(isinstance(each, str) for each in value)
        if not good:
            raise _wrong(path, f"{where}{key} must be {_WORDS[kind.__name__]}")
    for key, (_, required) in keys.items():
        if required and key not in values:
            raise _wrong(path, f"{where}{key} is missing")
    return cast("dict[str, Any]", values)


def read(path: Path) -> BenchFile:
    """The bench that ``path`` describes. Raises UsageError for a file that describes none."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _wrong(path, "there is no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(path, f"it is no TOML: {error}") from None
    top = _table(path, "", content)
    if top["format"] != FORMAT:
        raise _wrong(path, f"format {top['format']}; this program reads format {FORMAT}")
    if top["board"] not in board_names():
        raise _wrong(path, f"there is no board {quoted(top['board'])}", ", ".join(board_names()))
    pump = _table(path, "pump", top["pump"])
    if ("port" in pump) == ("usb_serial" in pump):
        raise _wrong(path, "[pump] needs either port or usb_serial", "cisterna ports lists them")
    power = _table(path, "power", top["power"]) if "power" in top else {}
    counter = _table(path, "counter", top["counter"])["read"] if "counter" in top else ()
    return BenchFile(
        path,
        top["name"],
        top["board"],
        pump.get("port", ""),
        pump.get("usb_serial", ""),
        power,
        tuple(counter),
        _balance(path, top["balance"]) if "balance" in top else None,
    )


def _balance(path: Path, values: Any) -> BalanceOnBench:
    table = _table(path, "balance", values)
    if table["protocol"] not in PROTOCOLS:
        raise _wrong(path, f"[balance] protocol must be one of: {', '.join(PROTOCOLS)}")
    if ("water" in table) == ("density" in table):
        raise _wrong(path, "[balance] needs either water (its temperature) or density")
    if "water" in table:
        density = water_density_ng_ml(units.parse_temperature(table["water"]))
    else:
        density = units.parse_density(table["density"])
    percent = table["tolerance_percent"]
    if not 0 <= percent <= 20:
        raise _wrong(path, f"[balance] tolerance_percent {percent}: 0 to 20")
    if not table["tolerance_source"].strip():
        raise _wrong(path, "[balance] tolerance_source is empty: say where the number is from")
    return BalanceOnBench(
        table["port"],
        table["protocol"],
        table.get("continuous", False),
        table.get("baud", 9_600),
        table.get("framing", "8N1"),
        Liquid(density, units.parse_dose_rate(table.get("evaporation", "0 mg/h"))),
        round(percent * 10_000),
        table["tolerance_source"],
    )


def find_port(bench: BenchFile) -> str:
    """The serial port of the bench's board now. Raises NoPump."""
    if bench.port:
        return bench.port
    found = [
        each.device for each in list_ports.comports() if each.serial_number == bench.usb_serial
    ]
    if not found:
        raise NoPump(
            f"no USB device with serial number {bench.usb_serial} is here",
            "plug the board in; cisterna ports lists what is there",
        )
    return found[0]


# -- locks -------------------------------------------------------------------------------------

_held: dict[str, tuple[IO[str], int]] = {}  # name: open file, how often in this process


def _lock_folder() -> Path:
    return Path(platformdirs.user_runtime_dir("cisterna")) / "locks"


def take(board: str) -> str:
    """Take the lock of ``board`` (its USB serial number, or its port's path) for this process; a
    second time in one process is counted. Gone with the process, so it is never stale. Raises
    BenchTaken, naming who has it."""
    name = hashlib.sha256(board.encode()).hexdigest()[:24]
    if name in _held:
        file, times = _held[name]
        _held[name] = (file, times + 1)
        return name
    folder = _lock_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (folder / name).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        who = file.read().strip() or "another process"
        file.close()
        raise BenchTaken(
            f"the board {board} is in use by {who}", "wait until that run is over, or end it"
        ) from None
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()}")
    file.flush()
    _held[name] = (file, 1)
    return name


def let_go(name: str) -> None:
    """Give back what ``take`` returned."""
    file, times = _held.pop(name)
    if times > 1:
        _held[name] = (file, times - 1)
    else:
        file.close()


# -- the bench ---------------------------------------------------------------------------------

_proven: set[str] = set()  # benches that proved themselves in this process


class FileBench(Bench):
    """A board with the instruments of a file. Real time passes. ``counter`` and ``balance`` are
    the truth here: what the pump says is never used for them."""

    def __init__(self, path: Path, keys: KeyStore | None = None) -> None:
        """``keys``: the user's by default. Raises UsageError, NoPump, BenchTaken, BrokenBench."""
        self.file = read(path)
        self.name = self.file.name
        self.keys = keys or KeyStore.of_user()
        offers = {"advance"}
        offers |= {"power"} if self.file.power else set()
        offers |= {"counter"} if self.file.counter else set()
        offers |= {"scale"} if self.file.balance else set()
        self.offers = frozenset(offers)
        self._on = True
        self._lock = take(self.file.usb_serial or os.path.realpath(self.file.port))
        try:
            self._port = find_port(self.file)
            key = f"{self.file.path.resolve()} {self.file}"
            if key not in _proven:
                self.prove()
                _proven.add(key)
        except BaseException:
            let_go(self._lock)
            raise

    @property
    def port(self) -> str:
        return self._port

    def close(self) -> None:
        if self._lock:
            if not self._on:
                self._switch("on")
            let_go(self._lock)
            self._lock = ""

    def _advance_us(self, us: int) -> None:
        time.sleep(us / 1e6)

    def _run(self, command: list[str]) -> str:
        try:
            done = subprocess.run(
                command,
                cwd=self.file.path.resolve().parent,
                capture_output=True,
                text=True,
                timeout=_COMMAND_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BrokenBench(f"bench {self.name}: {command[0]}: {error}") from None
        if done.returncode:
            why = (done.stderr or done.stdout).strip().splitlines()
            raise BrokenBench(
                f"bench {self.name}: {' '.join(command)} ended with {done.returncode}"
                + (f": {why[-1]}" if why else "")
            )
        return done.stdout

    # -- instruments --------------------------------------------------------------------------

    def _switch(self, to: str) -> None:
        self._run(self.file.power[to])
        self._on = to == "on"

    def cut_power(self) -> None:
        if not self.file.power:
            raise self._lacking("power")
        self._switch("off")

    def power_on(self) -> None:
        if not self.file.power:
            raise self._lacking("power")
        self._switch("on")
        end = time.monotonic() + _BOOT_S
        while True:
            try:
                self._port = find_port(self.file)
                self.programmer().close()
                return
            except NoPump:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    @property
    def powered(self) -> bool:
        return self._on

    def count(self) -> int:
        """STEP pulses that the counter has seen."""
        if not self.file.counter:
            raise self._lacking("counter")
        said = self._run(list(self.file.counter)).strip()
        if not said.isdigit():
            raise BrokenBench(f"bench {self.name}: the counter tells {quoted(said)}, no number")
        return int(said)

    def weigh(self) -> Reading:
        """A stable reading of the balance."""
        if self.file.balance is None:
            raise self._lacking("balance")
        settings = self.file.balance
        with Balance(
            settings.port,
            settings.protocol,
            settings.continuous,
            settings.baud,
            settings.framing,
        ) as scale:
            return scale.read()

    # -- proof --------------------------------------------------------------------------------

    def prove(self) -> None:
        """Show that every instrument does what it is there for. Raises BrokenBench, NoPump."""
        self._prove_link()
        if self.file.power:
            self._prove_power()
        if self.file.counter:
            self._prove_counter()
        if self.file.balance:
            try:
                self.weigh()
            except CisternaError as error:
                raise BrokenBench(f"bench {self.name}: balance: {error}", error.remedy) from None

    def _prove_link(self) -> None:
        with self.programmer() as pump:
            board = pump.identity.board
            if board != self.file.board:
                raise BrokenBench(
                    f"bench {self.name}: the file says board {self.file.board}, there answers a "
                    f"{board}"
                )
            for number in range(_CLEAN):
                start = time.monotonic()
                pump.status()
                took = time.monotonic() - start
                if took > _SLOW_S:
                    raise BrokenBench(
                        f"bench {self.name}: the link is not clean: reply {number + 1} of {_CLEAN}"
                        f" took {took:.1f} s",
                        "look at cable and hub",
                    )

    def _prove_power(self) -> None:
        with self.programmer() as pump:
            before = pump.identity.boots
        self.cut_power()
        try:
            time.sleep(_DEAD_S)
            answered = True
            try:
                self.programmer().close()
            except NoPump:
                answered = False
        finally:
            self.power_on()
        if answered:
            raise BrokenBench(
                f"bench {self.name}: the pump still answers with its power off",
                "the switch switches another port, or the board has a second supply",
            )
        with self.programmer() as pump:
            if pump.identity.boots != before + 1:
                raise BrokenBench(
                    f"bench {self.name}: {pump.identity.boots - before} starts after one cut of "
                    "the power",
                )

    def _prove_counter(self) -> None:
        """The pump steps at its fastest for a few seconds, and the counter counts as many, give
        or take two for the instants of asking."""
        with self.programmer() as pump:
            pump.program(therapy(RATE_HIGH_NL_DAY))
            pump.refill(0, CAPACITY_NL, "bench proof")
            if pump.status().stopped_because == "command":
                pump.resume()
            told, seen = pump.status().steps, self.count()
            time.sleep(_MOVE_S)
            told, seen = pump.status().steps - told, self.count() - seen
            pump.stop()
        if told < _FEWEST_STEPS or abs(told - seen) > _SLACK_STEPS:
            raise BrokenBench(
                f"bench {self.name}: the pump made {told} steps, the counter counted {seen}",
                "look at its wire on the STEP pin",
            )
