"""A chip that hangs and one that is damaged, on the emulated Pico: what its own watchdog and the
first look at its flash do. The stall on this bench is in ``test_alarms``."""

from __future__ import annotations

import pytest

from cisterna import Bench
from cisterna.boards import board_data
from cisterna.errors import CisternaError
from cisterna.firmware_files import SUMS, sums
from hil_tests.pulses import commission
from hil_tests.test_delivery import BIG
from pump_wire import messages

pytestmark = pytest.mark.needs("advance", "truth", "edges", "power", "refill", "chip")

RELEASED_US = 100_000  # FLT-2
ROOT = board_data("rpi_pico")["files"]["root"]

# Behind boot.py: the handlers of the clock, which the pump lends when they are asked for, hang. A
# processor that waits for ever is as deaf as one that loops, and costs the emulator less.
HANGING = b"""
import sys
class _Hanging:
    def __init__(self, *_):
        pass
    def check_set_clock(self, _):
        from time import sleep
        sleep(3600)
class _Module:
    UpkeepCommands = _Hanging
sys.modules["pump.upkeep"] = _Module
"""


@pytest.mark.requirement("FLT-2")
@pytest.mark.needs("flash_files")
def test_a_chip_that_hangs_is_reset(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    timeout_us = board_data("rpi_pico")["watchdog"]["timeout_ms"] * 1000
    bench.cut_power()
    boot = bench.read_flash_file("/boot.py") + HANGING
    bench.write_flash_file("/boot.py", boot)
    lines = bench.read_flash_file(SUMS).splitlines(keepends=True)
    others = [line for line in lines if not line.startswith(b"boot.py ")]
    assert len(others) == len(lines) - 1
    bench.write_flash_file(SUMS, b"".join(others) + sums({"/boot.py": boot}))
    bench.power_on()
    with bench.programmer() as pump:
        commission(bench, pump, BIG)
    bench.advance(seconds=10)
    steps = bench.truth()["steps"]
    assert steps > 0
    from_us = bench.truth()["time_us"]
    with pytest.raises(CisternaError), bench.programmer() as pump:
        pump.set_clock()
    while not bench.truth()["resets"]:
        bench.advance(seconds=0.1)
        assert bench.truth()["time_us"] - from_us <= 2 * timeout_us
    bench.advance(us=RELEASED_US)
    off = [edge.t_ns // 1000 for edge in bench.edges() if edge.line == "enable" and not edge.level]
    with capsys.disabled():
        print(f"\na chip that hangs is reset after {(off[-1] - from_us) / 1e6:.2f} s", end=" ")
    assert from_us <= off[-1] <= from_us + 2 * timeout_us
    pulses = [
        edge.t_ns // 1000
        for edge in bench.edges()
        if edge.line == "step" and edge.level and off[-1] < edge.t_ns // 1000
    ]
    assert pulses == []
    bench.advance(seconds=2)
    with bench.programmer() as pump:
        assert pump.identity.reset_cause == messages.RESET_CAUSES.index("watchdog")
        assert "watchdog_reset" in [alarm.name for alarm in pump.alarms().listed]
        assert [fault.name for fault in pump.faults()][-1] == "watchdog_reset"
        assert pump.status().mode_name == "simple continuous"


@pytest.mark.requirement("FLT-2")
def test_whoever_works_at_the_repl_is_not_reset(bench: Bench) -> None:
    """In the development profile, as ``make flash`` does for half a minute."""
    bench.advance(seconds=5)
    link = bench.link()
    link.write(b"\r\x03\x01")  # stop the pump, raw REPL
    bench.advance(seconds=20)  # four times as long as the watchdog waits
    assert bench.truth()["resets"] == 0
    assert b"raw REPL" in link.read(1.0)
    link.write(b"print(6 * 7)\x04")
    bench.advance(seconds=1)
    assert b"OK42" in link.read(1.0)
    off = [edge for edge in bench.edges() if edge.line == "enable"]
    assert not off or not off[-1].level


@pytest.mark.requirement("FLT-1", "DEL-7")
@pytest.mark.needs("flash_files")
@pytest.mark.parametrize(
    ("paths", "fault", "text"),
    [
        ((f"{ROOT}/prescription.0", f"{ROOT}/prescription.1"), "settings_damaged", ""),
        ((f"{ROOT}/refill.0", f"{ROOT}/refill.1"), "account_damaged", ""),
        (("/pump/pairing.mpy",), "self_test_failed", "files: pump/pairing.mpy"),
    ],
    ids=["settings", "account", "firmware"],
)
def test_a_chip_whose_flash_is_damaged_moves_nothing(
    bench: Bench, paths: tuple[str, ...], fault: str, text: str
) -> None:
    with bench.programmer() as pump:
        commission(bench, pump, BIG)
    bench.cut_power()
    for path in paths:
        content = bytearray(bench.read_flash_file(path))
        content[len(content) // 2] ^= 0x10
        bench.write_flash_file(path, bytes(content))
    seen = len(bench.edges())
    bench.power_on()
    bench.advance(seconds=30)
    assert [edge for edge in bench.edges()[seen:] if edge.line == "step" and edge.level] == []
    with bench.programmer() as pump:
        status = pump.status()
        assert messages.FAULTS[status.fault][0] == fault
        assert text in status.fault_text
        alarm = "self_test" if fault == "self_test_failed" else "memory_critical"
        assert alarm in [alarm.name for alarm in pump.alarms().listed]
