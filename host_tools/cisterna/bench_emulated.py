"""The emulated bench: the firmware on the unmodified MicroPython image of an emulated Raspberry Pi
Pico, its pins watched from outside, the plant beside it.

The plant hears pulses as a driver chip does: a rising STEP edge counts while the chip is switched
on, in the direction that DIR then has.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from cisterna.bench import Bench, Edge, Line
from cisterna.boards import board_data, project_root
from cisterna.emulator import (
    FILES_AT,
    EmulatedPico,
    EmulatorFailed,
    PinEdge,
    file_system_image,
    files_of,
)
from cisterna.emulator_devices import Devices
from cisterna.emulator_port import EmulatedLink, EmulatedPort
from cisterna.errors import CisternaError, NoPump
from cisterna.firmware_files import PROFILES, firmware_files
from cisterna.keys import KeyStore, factory_files, factory_keys
from cisterna.own_files import make_own_folder, narrow, write_own
from cisterna.programmer import Programmer

Deploy = Literal["image", "mpremote"]

BOARD = "rpi_pico"
RESERVOIR_PL = 20_000_000_000  # the plant's reservoir when a bench is new: full
_PATIENT_S = 600.0  # real seconds that a start may take when it is waited for on a port
_BOOT_S = 5.0  # simulated; CST-2 allows 2 s from power on to delivery


def load_plant() -> ModuleType:
    """``boards/virtual/plant.py``, which runs in both Pythons and belongs to no package."""
    path = project_root() / "boards" / "virtual" / "plant.py"
    spec = importlib.util.spec_from_file_location("plant", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class EmulatedBench(Bench):
    """``seed``: of what is random in the chip. ``files``: what to put on the board in place of the
    firmware as it is in this checkout. ``state``: folder for flash and plant, kept and taken up
    again, for its owner's eyes only: keys are in the flash in clear; the pump's records stay, the
    firmware becomes that of this checkout. ``deploy``: how the
    firmware gets there: in a file system image, at once; or as on a real board, through mpremote
    on the serial port, which takes half a minute. ``profile``: see drivers/README.md. ``paired``:
    a new pump is provisioned before its first start, ``keys`` has every role's key.

    Simulated time moves in ``advance`` and while a programmer waits for a reply, never else.
    """

    name = "emulated"
    offers = frozenset(
        {
            "advance",
            "truth",
            "edges",
            "power",
            "flash_cuts",
            "power_cuts",
            "cable",
            "chip",
            "inject",
            "refill",
            "flash_files",
            "service",
            "rotor",
            "battery",
            "tone",
        }
    )

    def __init__(
        self,
        *,
        seed: int = 0,
        files: dict[str, bytes] | None = None,
        state: Path | None = None,
        deploy: Deploy = "image",
        profile: str = PROFILES[0],
        paired: bool = True,
        secret: bool = False,
    ) -> None:
        data = board_data(BOARD)
        self._active = int(data["stepper"]["enable_active"])
        self._forward = int(data["stepper"]["forward"])
        self._state = state
        wanted = firmware_files(BOARD, profile=profile) if files is None else files
        if deploy == "mpremote":
            if files is not None:
                raise ValueError("only the firmware of this checkout is deployed through mpremote")
            wanted = {}
        self.keys = KeyStore(None if state is None else state / "keys")
        if state is not None:
            make_own_folder(state)
        flash = self._kept_flash(wanted)
        self._new_keys = factory_keys(None if secret else seed) if paired and flash is None else {}
        root = data["files"]["root"]
        records = factory_files(self._new_keys) if self._new_keys else {}
        there = {f"{root}/{name}": content for name, content in records.items()}
        self.pico = EmulatedPico({**wanted, **there}, flash=flash, seed=seed)
        pins = data["pins"]
        self.pico.watch("step", pins["step"], undriven=0)
        self.pico.watch("dir", pins["dir"], undriven=self._forward)
        self.pico.watch("enable", pins["enable"], undriven=1 - self._active)
        self.pico.on_edge = self._on_edge
        plant: Any = load_plant()
        self._plant = plant.Plant(
            data["plant"]["step_pl"],
            RESERVOIR_PL,
            steps_per_pulse=data["rotor"]["steps_per_pulse"],
        )
        self._restore_plant()
        self._devices = Devices(self.pico, data, self._plant)
        self._edges: list[Edge] = []
        self._served: EmulatedPort | None = None
        if deploy == "mpremote":
            self._deploy(profile)
        self.power_on()

    # -- what is kept ---------------------------------------------------------------------------

    def _kept_flash(self, wanted: dict[str, bytes]) -> bytes | None:
        """The flash as it was saved, with ``wanted`` on it; None when none was saved."""
        if self._state is None or not (self._state / "flash.bin").is_file():
            return None
        narrow(self._state / "flash.bin")
        flash = (self._state / "flash.bin").read_bytes()
        there = files_of(flash[FILES_AT:])
        if all(there.get(path) == data for path, data in wanted.items()):
            return flash
        return flash[:FILES_AT] + file_system_image({**there, **wanted})

    def _restore_plant(self) -> None:
        if self._state is not None and (self._state / "bench.json").is_file():
            self._plant.restore(json.loads((self._state / "bench.json").read_text())["plant"])

    def save(self) -> None:
        """Write flash and plant to the state folder, if there is one."""
        if self._state is None:
            return
        make_own_folder(self._state)
        saved = {"plant": self._plant.state(), "time_us": self.pico.now_ns // 1000}
        for name, content in (
            ("flash.bin", self.pico.flash_image()),
            ("bench.json", json.dumps(saved).encode()),
        ):
            path = self._state / name
            write_own(path.with_suffix(".new"), content)
            path.with_suffix(".new").replace(path)

    def _deploy(self, profile: str) -> None:
        """Put the firmware on as ``cisterna flash`` does."""
        from cisterna import flash

        self.pico.power_on()
        self.pico.wait_connected()
        port = EmulatedPort(self.pico)
        try:
            flash.deploy(BOARD, port.path, profile=profile, stop=True, answer_s=_PATIENT_S)
        finally:
            port.close()
        self.pico.receive()  # what came for the port that is gone

    # -- the plant and the pins -----------------------------------------------------------------

    def _on_edge(self, edge: PinEdge) -> None:
        level = edge.level
        if edge.line == "step":
            if level and self.pico.level("enable") == self._active:
                self._plant.move(1, self.pico.level("dir") == self._forward)
                self._devices.turned()
        elif edge.line == "enable":
            level = int(level == self._active)
        else:
            level = int(level == self._forward)
        self._edges.append(Edge(edge.t_ns, cast("Line", edge.line), level))

    def truth(self) -> dict[str, int]:
        values: dict[str, int] = dict(self._plant.state())
        values.pop("fills")
        values["tip_ng"] = self._plant.tip_mass() // 10**9
        values["tip_mixed_ng"] = self._plant.tip_mixed_ng()
        values["stalled"] = int(self._plant.stalled)
        values["tip_pl"] = self._plant.tip_pl
        values["time_us"] = self.pico.now_ns // 1000
        values["resets"] = self.pico.resets
        values["awake_us"] = self.pico.awake_ns // 1000
        values["awake_cycles"] = self.pico.awake_cycles
        values["flash_programs"] = self.pico.flash.programs
        values["flash_erases"] = self.pico.flash.erases
        return values

    def edges(self) -> list[Edge]:
        """Levels are what they mean: step 1 high, enable 1 on, dir 1 forward."""
        tones = self._devices.tones.edges()
        return sorted([*self._edges, *tones], key=lambda edge: edge.t_ns)

    def read_flash_file(self, path: str) -> bytes:
        self._check_off()
        return self.pico.files()[path]

    def write_flash_file(self, path: str, content: bytes) -> None:
        self._check_off()
        self.pico.put_files({path: content})

    def _check_off(self) -> None:
        if self.pico.powered:
            raise CisternaError("the flash can be read from outside only while the power is off")

    def interrupts_off(self) -> list[tuple[int, int, int, int]]:
        return list(self.pico.watch_interrupts().spans)

    def safe_since_us(self) -> int:
        since = [self.pico.driven_ns(line) for line in ("step", "enable")]
        if None in since:
            raise CisternaError("the chip does not drive the motor's pins yet")
        return max(each for each in since if each is not None) // 1000

    def inject(self, fault: str, after_steps: int = 0, amount: int | None = None) -> None:
        if fault in ("free_run", "leak", "battery_sag"):  # they need time to pass in the plant
            raise self._lacking(fault)
        self._plant.inject(fault, after_steps, amount)

    def clear(self, fault: str) -> None:
        self._plant.clear(fault)

    def set_service(self, held: bool) -> None:
        self._devices.hold_service(held)

    def set_battery(self, battery_mv: int) -> None:
        self._devices.set_battery(battery_mv)

    def refill_reservoir(self, fill_nl: int, ng_ml: int | None = None, rest_nl: int = 0) -> int:
        return self._plant.refill(fill_nl * 1000, ng_ml, rest_nl * 1000) // 1000

    # -- time and power -------------------------------------------------------------------------

    def _advance_us(self, us: int) -> None:
        self.pico.run(us)

    def cut_power(self) -> None:
        self.pico.cut_power()

    def power_on(self) -> None:
        if self.pico.powered:
            return
        self.pico.power_on()
        if self.pico.plugged:
            self._wait_answer()

    @property
    def powered(self) -> bool:
        return self.pico.powered

    def cut_power_at(
        self,
        *,
        cycle: int | None = None,
        flash_op: int | None = None,
        torn: str | None = None,
        us: int | None = None,
    ) -> None:
        self.pico.cut_power_at(cycle=cycle, flash_op=flash_op, torn=torn, us=us)

    def disarm_cut(self) -> None:
        self.pico.disarm_cut()

    def unplug(self) -> None:
        self.pico.unplug()

    def replug(self) -> None:
        self.pico.replug()
        if self.pico.powered:
            self._wait_answer()

    def _wait_answer(self) -> None:
        end_ns = self.pico.now_ns + int(_BOOT_S * 1e9)
        while True:
            try:
                self.pico.wait_connected()
                with Programmer(self.link(), keys=self.keys) as pump:
                    for role, key in self._new_keys.items():
                        self.keys.put(pump.identity.serial, role, key, 1)
                    self._new_keys = {}
                return
            except (EmulatorFailed, NoPump):
                if not self.pico.powered:
                    return
                if self.pico.now_ns >= end_ns:
                    raise

    # -- the pump's serial port -----------------------------------------------------------------

    def link(self) -> EmulatedLink:
        return EmulatedLink(self.pico)

    @property
    def port(self) -> str:
        """A serial port to the pump for other programs. From the first use on, simulated time also
        moves by itself, along with real time or slower."""
        if self._served is None:
            self._served = EmulatedPort(self.pico)
        return self._served.path

    def close(self) -> None:
        if self._served is not None:
            self._served.close()
            self._served = None
        self.pico.cut_power()
        self.save()
