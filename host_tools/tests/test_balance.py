"""The balance as an instrument, against a simulated one on a pty that weighs what a virtual pump
delivered."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import tty
from collections.abc import Callable, Iterator

import pytest

from cisterna import balance, gravimetric
from cisterna.balance import Balance, BalanceError, NotALine, parse_sbi, parse_sics
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import UsageError
from cisterna.trumpet_source import therapy

WATER_NG_ML = 998_207_000  # at 20 degrees


class SimulatedBalance:
    """Speaks ``protocol`` on a pty. ``mass_ng``: what lies on it. ``state``: "stable", "moving",
    "over", "under", "busy", "error", "garbage" or "dead"; ``unit``, ``digits``: as shown."""

    def __init__(self, protocol: str, mass_ng: Callable[[], int] = lambda: 0) -> None:
        self.protocol = protocol
        self.mass_ng = mass_ng
        self.state = "stable"
        self.unit, self.digits = "g", 5
        self.wide = False  # SBI with an identification
        self.automatic = False
        self.zeroed_ng = 0
        self._over = threading.Event()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> SimulatedBalance:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _number(self) -> str:
        worth = {"g": 1e9, "mg": 1e6, "kg": 1e12, "ug": 1e3}.get(self.unit, 1e9)
        return f"{(self.mass_ng() - self.zeroed_ng) / worth:.{self.digits}f}"

    def answer(self) -> str:
        """One line, as it is now."""
        if self.state == "garbage":
            return "\x81\xfe?" * 12
        sics = self.protocol == "sics"
        special = {
            "over": ("S +", "Stat      High"),
            "under": ("S -", "Stat      Low "),
            "busy": ("S I", "Stat          "),
            "error": ("ES", "Stat   ERR 53 "),
        }
        if self.state in special:
            return special[self.state][0 if sics else 1]
        number = self._number()
        if sics:
            return f"S {'S' if self.state == 'stable' else 'D'} {number:>10} {self.unit}"
        sign = number[0] if number[0] == "-" else "+"
        unit = self.unit if self.state == "stable" else ""
        line = f"{sign}{number.lstrip('-'):>9} {unit:<3}"
        return f"N     {line}" if self.wide else line

    def _run(self) -> None:
        heard = b""
        repeat = False
        while not self._over.is_set():
            with contextlib.suppress(BlockingIOError, OSError):
                heard += os.read(self._master, 100)
            asked = False
            while b"\r\n" in heard:
                word, _, heard = heard.partition(b"\r\n")
                asked = asked or word in (b"SI", b"\x1bP")
                if word in (b"SIR", b"@"):
                    repeat = word == b"SIR"
                if word in (b"Z", b"\x1bV"):
                    self.zeroed_ng = self.mass_ng()
            if self.state != "dead" and (asked or repeat or self.automatic):
                with contextlib.suppress(BlockingIOError):
                    os.write(self._master, self.answer().encode("latin-1") + b"\r\n")
            time.sleep(0.01)


@pytest.fixture(params=["sics", "sics continuous", "sbi", "sbi wide", "sbi automatic"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[SimulatedBalance, Balance]]:
    """A simulated balance and what reads it."""
    protocol, _, more = request.param.partition(" ")
    with SimulatedBalance(protocol) as simulated:
        simulated.wide = more == "wide"
        simulated.automatic = more == "automatic"
        continuous = more in ("continuous", "automatic")
        with Balance(simulated.port, protocol, continuous=continuous) as reader:
            yield simulated, reader


@pytest.mark.parametrize(
    ("unit", "digits", "mass_ng", "readability_ng"),
    [
        ("g", 5, 12_345_670_000, 10_000),
        ("g", 4, -1_200_000, 100_000),
        ("mg", 2, 498_130_000, 10_000),
        ("kg", 5, 1_000_010_000_000, 10_000_000),
        ("g", 0, 253_000_000_000, 1_000_000_000),
    ],
)
def test_masses_are_read_to_the_last_digit(
    pair: tuple[SimulatedBalance, Balance],
    unit: str,
    digits: int,
    mass_ng: int,
    readability_ng: int,
) -> None:
    simulated, reader = pair
    simulated.mass_ng = lambda: mass_ng
    simulated.unit, simulated.digits = unit, digits
    reading = reader.read(within_s=5)
    assert (reading.mass_ng, reading.stable) == (mass_ng, True)
    assert reading.readability_ng == readability_ng


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("over", "overloaded"),
        ("under", "underloaded"),
        ("error", "did not understand|reports"),
        ("garbage", "no answer of a balance|no mass from"),
        ("busy", "no mass from"),
        ("dead", "no mass from"),
    ],
)
def test_what_is_no_mass_is_told(
    pair: tuple[SimulatedBalance, Balance], state: str, told: str
) -> None:
    simulated, reader = pair
    simulated.state = state
    with pytest.raises(BalanceError, match=told):
        reader.read(within_s=1)


def test_a_moving_balance_is_waited_for(pair: tuple[SimulatedBalance, Balance]) -> None:
    simulated, reader = pair
    simulated.mass_ng = lambda: 5_000_000_000
    simulated.state = "moving"
    if simulated.protocol == "sics":
        assert reader.read(stable=False, within_s=5).stable is False
    with pytest.raises(BalanceError, match=r"no stable mass within 0\.5 s"):
        reader.read(within_s=0.5)
    threading.Timer(0.3, setattr, (simulated, "state", "stable")).start()
    assert reader.read(within_s=10).mass_ng == 5_000_000_000


def test_zero(pair: tuple[SimulatedBalance, Balance]) -> None:
    simulated, reader = pair
    simulated.mass_ng = lambda: 7_000_000_000
    reader.zero()
    end = time.monotonic() + 5
    while reader.read(within_s=5).mass_ng and time.monotonic() < end:
        pass
    assert reader.read(within_s=5).mass_ng == 0


@pytest.mark.parametrize(
    "line",
    ["", "S", "S S", "S S 1.0", "S S 1.0 g g", "S S 1,0 g", "S S .5 g", "S X 1.0 g", "S S 1e9 g",
     "S S 99999999999 g", "SS 1.0 g", "Z A"],
)  # fmt: skip
def test_sics_lines_that_are_none(line: str) -> None:
    with pytest.raises(NotALine):
        parse_sics(line)


@pytest.mark.parametrize(
    "line",
    ["", "+   1.00 g", "+    1.00 g   x", "x     1.00 g  ", "+  1.0.0  g   ", "+          g  "],
)
def test_sbi_lines_that_are_none(line: str) -> None:
    with pytest.raises(NotALine):
        parse_sbi(line)


def test_digits_in_brackets_count() -> None:
    reading = parse_sbi("+ 123.5[6] g  ")
    assert reading is not None
    assert reading.mass_ng == 123_560_000_000


@pytest.mark.parametrize("unit", ["lb", "oz", "ct", "%", "pcs"])
def test_other_units_are_refused(unit: str) -> None:
    with pytest.raises(BalanceError, match="no unit of mass"):
        parse_sics(f"S S 1.00 {unit}")


def test_another_protocol_is_refused() -> None:
    with pytest.raises(UsageError, match="no balance speaks"):
        Balance("/dev/null", "morse")


# -- weighing what a pump delivers ---------------------------------------------------------------


def shown_ng(volume_pl: int, lost_ng: int = 0) -> int:
    """What a balance shows of so much water: less than its mass, for air carries a part.
    ``lost_ng``: what it showed less over the same time with the pump stopped."""
    mass_ng = volume_pl * WATER_NG_ML / 1e9
    return round(mass_ng * (1 - 1.2 / (WATER_NG_ML / 1e6)) / (1 - 1.2 / 8000) - lost_ng)


@pytest.mark.requirement("DEL-1")
@pytest.mark.parametrize("protocol", balance.PROTOCOLS)
def test_weighed_volume_follows_the_programme(protocol: str) -> None:
    """A day at 1 mL/day, 2 mg an hour evaporating; the balance hangs on the plant."""
    hours = 24
    loss_ng_h = 2_000_000
    with VirtualBench(seed=1, trace=False) as bench:
        with bench.programmer() as pump:
            pump.program(therapy(1_000_000))
            bench.refill_reservoir(20_000_000)
            pump.refill(0, 20_000_000, "weighed")
        now = {"shown": 0}
        with (
            SimulatedBalance(protocol, lambda: now["shown"]) as simulated,
            Balance(simulated.port, protocol) as reader,
        ):
            start = reader.read(within_s=5)
            bench.advance(hours=hours)
            truth = bench.truth()["delivered_pl"]
            now["shown"] = shown_ng(truth, hours * loss_ng_h)
            found = gravimetric.delivered(
                start,
                reader.read(within_s=5),
                hours * 3_600_000_000,
                gravimetric.Liquid(WATER_NG_ML, loss_ng_h * 24),
            )
            # Without the corrections it would be off by more than what is read.
            plain = gravimetric.delivered(
                start, reader.read(within_s=5), hours * 3_600_000_000,
                gravimetric.Liquid(WATER_NG_ML, 0, buoyancy=False),
            )  # fmt: skip
    assert abs(found.volume_pl - truth) <= found.readability_pl
    assert abs(found.volume_pl - 1_000_000_000) <= found.readability_pl + 100_000
    assert abs(plain.volume_pl - truth) > 40_000_000
    assert found.readability_pl <= 2 * 10_030


@pytest.mark.parametrize("wrong", [1.02, 0.98])
def test_a_pump_that_is_two_per_cent_off_is_seen(wrong: float) -> None:
    day_us = 86_400_000_000
    start = balance.Reading(0, True, 10_000)
    end = balance.Reading(shown_ng(round(1_000_000_000 * wrong)), True, 10_000)
    found = gravimetric.delivered(start, end, day_us, gravimetric.Liquid(WATER_NG_ML))
    within = gravimetric.judge(found, 1_000_000_000, step_pl=100_000, tolerance_ppm=10_000)
    assert not within.holds
    right = balance.Reading(shown_ng(1_000_000_000), True, 10_000)
    found = gravimetric.delivered(start, right, day_us, gravimetric.Liquid(WATER_NG_ML))
    assert gravimetric.judge(found, 1_000_000_000, 100_000, 10_000).holds
