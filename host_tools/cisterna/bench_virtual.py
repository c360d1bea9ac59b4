"""The virtual bench: the firmware in the real MicroPython VM, its serial port a real pty, its
plant and clock inside the VM behind a control channel of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import tty
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any, cast

import platformdirs
from littlefs import LittleFS

from cisterna.bench import FIRMWARE_FAULTS, HOUR_US, Bench, Edge, Line
from cisterna.boards import board_data, project_root
from cisterna.errors import CisternaError
from cisterna.firmware_files import firmware_files
from cisterna.keys import KeyStore, factory_files, factory_keys
from cisterna.own_files import make_own_folder, narrow, write_own
from cisterna.vm import find_vm

RESERVOIR_PL = 20_000_000_000  # the plant's reservoir when a bench is new: full
_JUMP_US = HOUR_US  # of the clock, unless it is told
_LEFT_OCTETS = 4_096  # of a heap under pressure, unless it is told
_POWER_ON = 1  # index in messages.RESET_CAUSES
_ANSWER_S = 120.0  # a VM that says nothing for so long is stuck; only advance may take longer


def compiled_firmware() -> Path:
    """Folder with the virtual board's firmware as a board would hold it, compiled once for each
    version of the sources and kept in the user's cache."""
    root = project_root()
    digest = hashlib.sha256()
    for folder in ("firmware", "boards/virtual"):
        for path in sorted((root / folder).rglob("*.py")) + sorted((root / folder).glob("*.toml")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    cache = Path(platformdirs.user_cache_dir("cisterna")) / "virtual"
    folder = cache / digest.hexdigest()[:24]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
        for name, content in firmware_files("virtual").items():
            path = building / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            building.rename(folder)
        except OSError:  # another process was first, with the same content
            shutil.rmtree(building)
    return folder


class PumpStopped(CisternaError):
    """The VM that ran the firmware ended by itself."""


class _Reset(Exception):
    """The watchdog reset the pump. ``told``: the truth at that instant, and the cause."""

    def __init__(self, told: dict[str, int]) -> None:
        super().__init__()
        self.told = told


class PowerGone(PumpStopped):
    """The power went, as ``cut_power_at`` asked for."""


class VirtualBench(Bench):
    """``seed``: of everything random in the pump. ``trace``: keep edges. ``state``: folder for
    flash, plant and seed, kept and taken up again, the flash for its owner's eyes only: keys are
    in it in clear; a temporary one by default. ``speed``:
    simulated seconds a real second, 0 for time that only ``advance`` moves. ``heap``: the VM's, as
    MicroPython writes it. ``firmware``: folder with other firmware to run, laid out as on a board.
    ``paired``: a new pump is provisioned before its first start, ``keys`` has every role's key.
    ``secret``: keys and nonces come from this machine's randomness, not from ``seed``, and nobody
    can foretell them.
    """

    name = "virtual"
    offers = frozenset(
        {
            "advance",
            "days",
            "truth",
            "edges",
            "runs",
            "power",
            "flash_cuts",
            "inject",
            "refill",
            "flash_files",
            "service",
            "patient",
            "rotor",
            "battery",
            "tone",
        }
    )

    def __init__(
        self,
        *,
        seed: int = 0,
        trace: bool = True,
        state: Path | None = None,
        speed: float = 0,
        heap: str | None = None,
        firmware: Path | None = None,
        paired: bool = True,
        secret: bool = False,
    ) -> None:
        self._vm = find_vm()
        self._firmware = firmware or compiled_firmware()
        self._data = board_data("virtual")
        self._heap = heap or self._data["memory"]["heap"]
        self._seed = seed
        self._speed = speed
        self._tracing = trace
        self._temporary = state is None
        self.state = Path(tempfile.mkdtemp(prefix="cisterna-")) if state is None else state
        self.keys = KeyStore(self.state / "keys")
        self._paired = paired
        self._secret = secret
        self._process: subprocess.Popen[bytes] | None = None
        self._world_us = 0
        self._plant: dict[str, int] | None = None
        self._boots = 0
        self._armed: list[dict[str, Any]] = []  # for the next power on
        self._reset_cause = _POWER_ON
        self._resets = 0
        self._still = False  # time that could run by itself is held
        self._clock_stands = False
        self._service_held = False
        self._traces: list[Path] = []
        self.on_tone: Callable[[int, int], None] | None = None
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._port = os.ttyname(self._slave)
        try:
            make_own_folder(self.state)
            self._load_state()
            self.power_on()
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> str:
        return self._port

    @property
    def pump_id(self) -> bytes:
        """What the pump calls itself in hello; it follows from the seed."""
        return hashlib.sha256(b"cisterna %d" % self._seed).digest()[:8]

    # -- power --------------------------------------------------------------------------------

    def _load_state(self) -> None:
        path = self.state / "bench.json"
        if path.is_file():
            saved = json.loads(path.read_text())
            self._plant = saved["plant"]
            self._world_us = saved["time_us"]
            self._seed = saved["seed"]
            self._boots = saved["boots"]

    def _save_state(self) -> None:
        saved = {
            "plant": self._plant,
            "time_us": self._world_us,
            "seed": self._seed,
            "boots": self._boots,
        }
        path = self.state / "bench.json"
        path.with_suffix(".new").write_text(json.dumps(saved))
        path.with_suffix(".new").replace(path)

    def _config(self, request_fd: int, answer_fd: int) -> dict[str, Any]:
        flash = self.state / "flash.bin"
        fresh = not flash.is_file()
        if fresh:
            size = self._data["flash"]["blocks"] * self._data["flash"]["block_size"]
            write_own(flash, b"\xff" * size)
        narrow(flash)
        files: dict[str, bytes] = {}
        if fresh and self._paired:
            keys = factory_keys(None if self._secret else self._seed)
            files = factory_files(keys)
            for role, key in keys.items():
                self.keys.put(self.pump_id, role, key, 1)
        trace = None
        if self._tracing:
            trace = self.state / f"edges.{self._boots}"
            self._traces.append(trace)
        period = self._data["clock"]["ticks_period"]
        digest = hashlib.sha256(b"%d %d" % (self._seed, self._boots)).digest()
        return {
            "step_pl": self._data["plant"]["step_pl"],
            "ticks_period": period,
            "ticks_from": int.from_bytes(digest[:8], "little") % period,
            "flash": str(flash),
            "fresh": fresh,
            "files": {name: content.hex() for name, content in files.items()},
            "telemetry_fd": self._master,
            "request_fd": request_fd,
            "answer_fd": answer_fd,
            "speed": 0 if self._still else self._speed,
            "world_us": self._world_us,
            "plant": self._plant,
            "reservoir_pl": RESERVOIR_PL,
            "steps_per_pulse": self._data["rotor"]["steps_per_pulse"],
            "watchdog_ms": self._data["watchdog"]["timeout_ms"],
            "service": self._service_held,
            "clock_stands": self._clock_stands,
            "trace": str(trace) if trace else None,
            "unique_id": self.pump_id.hex(),
            "reset_cause": self._reset_cause,
            "seed": int.from_bytes(digest[8:11], "little"),
            "secret": self._secret,
            "flash_faults": self._armed,
        }

    def power_on(self) -> None:
        if not self.powered:
            self._reset_cause = _POWER_ON
            self._still = False
            self._start()
            with contextlib.suppress(PowerGone):
                self._ask("truth" if self.on_tone is None else "listen")

    def _start(self) -> None:
        request_read, request_write = os.pipe()
        os.set_blocking(request_read, False)  # MicroPython's readinto would wait for a full buffer
        answer_read, answer_write = os.pipe()
        config_path = self.state / "board.json"
        config = json.dumps(self._config(request_read, answer_write))
        write_own(config_path, config.encode())  # a new pump's keys are in it
        self._boots += 1
        self._armed = []
        environment = dict(os.environ)
        environment["CISTERNA_VIRTUAL"] = str(config_path)
        environment["MICROPYPATH"] = f"{self._firmware}:.frozen"
        self._console_path = self.state / "console.txt"
        with self._console_path.open("ab") as console:
            self._process = subprocess.Popen(
                [self._vm, "-X", f"heapsize={self._heap}", str(self._firmware / "main.py")],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=(self._master, request_read, answer_write),
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is for the host tool, not the pump
            )
        os.close(request_read)
        os.close(answer_write)
        self._requests = os.fdopen(request_write, "wb", buffering=0)
        self._answers = os.fdopen(answer_read, "rb", buffering=0)
        self._buffer = b""
        self._number = 0

    def cut_power(self) -> None:
        self._armed = []
        if not self.powered:
            return
        self._stand_still()
        self._plant_now()
        self._save_state()
        self._end_process()

    @property
    def powered(self) -> bool:
        with contextlib.suppress(PowerGone):
            if self._process is not None:
                self._ask("truth")
        return self._process is not None

    def cut_power_at(
        self,
        *,
        cycle: int | None = None,
        flash_op: int | None = None,
        torn: str | None = None,
        us: int | None = None,
    ) -> None:
        if flash_op is None or cycle is not None or us is not None:
            raise self._lacking("power cuts but those at a flash operation")
        if flash_op < 1:
            raise ValueError(f"flash_op of a power cut must be 1 or more, not {flash_op}")
        self._arm({"fault": "cut", "at": flash_op, "torn": torn})

    def disarm_cut(self) -> None:
        self._arm({"fault": "cut", "at": 0})

    def _arm(self, fault: dict[str, Any]) -> None:
        if self.powered:
            self._ask("flash_fault", **fault)
        else:
            self._armed = [fault] if fault["at"] else []

    def _power_went(self, truth: dict[str, int]) -> None:
        """The VM ended in the cut that was asked for, and told the truth of that instant."""
        self._keep_plant(truth)
        self._save_state()
        self._end_process()

    def save(self) -> None:
        """Write plant and time into the state folder, for a host that may end without
        ``close``."""
        if self._process is not None:
            self._plant_now()
        self._save_state()

    def _stand_still(self) -> None:
        """Time that runs by itself stands still: what is read now stays true."""
        self._still = True
        if self._speed:
            self._ask("pace", speed=0)

    def _plant_now(self) -> None:
        """Keep what the plant is and when."""
        self._ask("trace")
        self._keep_plant(self._ask("truth"))

    def _keep_plant(self, truth: dict[str, int]) -> None:
        self._world_us = truth["time_us"]
        self._plant = {
            name: value for name, value in truth.items() if name not in ("id", "time_us", "reset")
        }

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        self._requests.close()
        self._answers.close()
        while select.select([self._slave], [], [], 0)[0]:  # what nobody read dies with the power
            if not os.read(self._slave, 4096):
                break

    def close(self) -> None:
        try:
            if self._process is not None and self._process.poll() is None and not self._temporary:
                self._stand_still()
                self._plant_now()
                self._save_state()
        except PumpStopped:
            pass
        finally:
            self._end_process()
            for fd in (self._master, self._slave):
                if fd >= 0:
                    os.close(fd)
            self._master = self._slave = -1
            if self._temporary:
                shutil.rmtree(self.state, ignore_errors=True)

    # -- the control channel ------------------------------------------------------------------

    def console(self) -> str:
        """What the pump printed on its console."""
        return self._console_path.read_text(errors="replace")

    def _ask(self, operation: str, **values: Any) -> dict[str, Any]:
        """The answer to a request. A pump that its watchdog has reset is started again first."""
        while True:
            try:
                return self._ask_once(operation, **values)
            except _Reset as reset:
                self._keep_plant(reset.told)
                self._end_process()
                self._resets += 1
                self._reset_cause = reset.told["reset"]
                self._start()
                self._ask_once("truth" if self.on_tone is None else "listen")

    def _ask_once(self, operation: str, **values: Any) -> dict[str, Any]:
        if self._process is None:
            raise PumpStopped("the pump has no power")
        self._number += 1
        request = {"op": operation, "id": self._number, **values}
        try:
            with contextlib.suppress(BrokenPipeError):  # its last words may still be there
                self._requests.write(json.dumps(request).encode() + b"\n")
            while True:
                while b"\n" in self._buffer:
                    line, self._buffer = self._buffer.split(b"\n", 1)
                    answer = json.loads(line)
                    if "reset" in answer:
                        raise _Reset(answer)
                    if "tone" in answer:
                        if self.on_tone is not None:
                            self.on_tone(answer["time_us"], answer["tone"])
                        continue
                    if "power_cut" in answer:
                        self._power_went(answer["power_cut"])
                        raise PowerGone("the power went at a flash operation")
                    if answer["id"] != self._number:
                        continue  # of a request that Ctrl-C abandoned
                    if "error" in answer:
                        raise CisternaError(f"bench: {answer['error']}")
                    return answer
                if operation != "advance" and not self._answer_comes():
                    self._end_process()
                    raise PumpStopped(f"the pump's VM did not answer within {_ANSWER_S:.0f} s")
                got = self._answers.read(65536)
                if not got:
                    raise BrokenPipeError
                self._buffer += got
        except (BrokenPipeError, OSError) as error:
            self._process.wait()
            last = self.console().strip()[-2000:]
            raise PumpStopped(f"the pump's VM ended by itself; its console:\n{last}") from error

    def _answer_comes(self) -> bool:
        return bool(select.select([self._answers], [], [], _ANSWER_S)[0])

    # -- instruments --------------------------------------------------------------------------

    def _advance_us(self, us: int) -> None:
        if not self.powered:
            self._world_us += us
            return
        until_us = self._world_us
        try:
            self._stand_still()
            until_us = self._ask("truth")["time_us"] + us
            self._ask("advance", until_us=until_us)
        except PowerGone:  # the rest of the time passes without power
            self._world_us = max(self._world_us, until_us)
        finally:
            self._still = False
            if self._speed and self._process is not None:
                self._ask("pace", speed=self._speed)

    def listen(self, on_tone: Callable[[int, int], None]) -> None:
        """Have ``on_tone(us of the bench's time, Hz)`` called for every tone, 0 Hz where one ends,
        whenever the bench is next asked for something. For as long as the bench is open."""
        self.on_tone = on_tone
        self._ask("listen")

    def pace(self, speed: float) -> None:
        """Let time run by itself at ``speed`` simulated seconds a real second; 0 stands still."""
        self._speed = speed
        if self._process is not None:
            self._ask("pace", speed=speed)

    def truth(self) -> dict[str, int]:
        if self.powered:
            values = self._ask("truth")
        else:
            assert self._plant is not None
            values = {**self._plant, "time_us": self._world_us}
        values["resets"] = self._resets
        return {name: value for name, value in values.items() if name not in ("id", "fills")}

    def runs(self) -> list[tuple[int, int, int, int, int]]:
        """Runs of evenly spaced pulses: (first_us, slack, spacing, rate, count); pulse i of a run
        happened at first_us + ceil((i * spacing - slack) / rate) us of the bench's time."""
        return [
            (int(line[1]), int(line[2]), int(line[3]), int(line[4]), int(line[5]))
            for line in self._trace_lines()
            if line[0] == "step"
        ]

    def _trace_lines(self) -> list[list[str]]:
        if not self._tracing:
            raise self._lacking("edges: it was opened with trace=False")
        if self._process is not None:
            self._ask("trace")
        lines: list[list[str]] = []
        for path in self._traces:
            if path.is_file():
                lines += [line.split() for line in path.read_text().splitlines()]
        return lines

    def edges(self) -> list[Edge]:
        found: list[Edge] = []
        for line in self._trace_lines():
            if line[0] != "step":
                found.append(Edge(int(line[1]) * 1000, cast("Line", line[0]), int(line[2])))
                continue
            first, slack, spacing, rate, count = map(int, line[1:])
            for i in range(count):
                t_ns = (first - (slack - i * spacing) // rate) * 1000
                found.append(Edge(t_ns, "step", 1))
                found.append(Edge(t_ns + PULSE_NS, "step", 0))
        found.sort(key=lambda edge: edge.t_ns)  # a run is written down when it is over
        return found

    def read_flash_file(self, path: str) -> bytes:
        with self._file_system() as files, cast("IO[bytes]", files.open(path, "rb")) as file:
            return file.read()

    def write_flash_file(self, path: str, content: bytes) -> None:
        with self._file_system() as files, cast("IO[bytes]", files.open(path, "wb")) as file:
            file.write(content)

    @contextlib.contextmanager
    def _file_system(self) -> Generator[LittleFS]:
        """The pump's file system, mounted from outside while the pump has no power."""
        if self._process is not None:
            raise CisternaError("the flash can be read from outside only while the power is off")
        image = self.state / "flash.bin"
        flash = self._data["flash"]
        files = LittleFS(
            block_size=flash["block_size"],
            block_count=flash["blocks"],
            prog_size=flash["program_size"],
            read_size=32,
            mount=False,
        )
        files.context.buffer = bytearray(image.read_bytes())
        files.mount()
        yield files
        files.unmount()
        write_own(image, bytes(files.context.buffer))

    def inject(self, fault: str, after_steps: int = 0, amount: int | None = None) -> None:
        if fault.startswith("hang_"):
            self._ask("hang", where=fault.removeprefix("hang_"))
        elif (
            fault == "clock_stop"
        ):  # a chip whose timers stand hangs, and so it is after its reset
            self._clock_stands = True
            self._ask("hang", where="loop")
        elif fault == "clock_jump":
            self._ask("jump", us=_JUMP_US if amount is None else amount)
        elif fault == "memory_pressure":
            self._ask("press_memory", left=_LEFT_OCTETS if amount is None else amount)
        elif fault == "flash_fails":
            self._ask("flash_fault", fault="fail", at=1 if amount is None else amount)
        else:
            self._ask("inject", name=fault, after_steps=after_steps, amount=amount)

    def clear(self, fault: str) -> None:
        if fault == "clock_stop":
            self._clock_stands = False
        elif fault == "memory_pressure":
            self._ask("press_memory", left=0)
        elif fault == "flash_fails":
            self._ask("flash_fault", fault="heal")
        elif fault not in FIRMWARE_FAULTS:
            self._ask("clear", name=fault)

    def set_service(self, held: bool) -> None:
        self._service_held = held
        if self._process is not None:
            self._ask("service", held=held)

    def set_patient(self, held: bool) -> None:
        self._ask("patient", held=held)

    def set_battery(self, battery_mv: int) -> None:
        self._ask("battery", mv=battery_mv)

    def refill_reservoir(self, fill_nl: int, ng_ml: int | None = None, rest_nl: int = 0) -> int:
        told = self._ask("refill", fill_pl=fill_nl * 1000, ng_ml=ng_ml, rest_pl=rest_nl * 1000)
        return told["aspirated_pl"] // 1000


PULSE_NS = 10_000  # width of the virtual STEP pulse
