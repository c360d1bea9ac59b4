"""What screens say of rate and drug is of the same instant and of the drug that leaves the tip."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable

import pytest

from cisterna import prescription
from cisterna.bench_virtual import VirtualBench
from cisterna.interrogation import interrogate
from host_tools.tests.conftest import Cisterna, Other
from pump_wire.messages import PERIODIC_BOLUS

PERIODIC = dataclasses.replace(
    prescription.load(prescription.shipped()["baclofen"]).therapy,
    mode=PERIODIC_BOLUS,
    bolus_nl=20_000,
    bolus_s=1_800,
    interval_s=21_600,
)
MONDAY_S = 1_800_230_400  # 2027-01-18 00:00 UTC
FIRST_FILL = ("--measured", "0 mL", "--fill", "20 mL", "--reason", "first fill")


def words(text: str) -> str:
    """The screen on one line, without its frames."""
    return " ".join(text.replace("│", " ").split())


def filled(cisterna: Cisterna, name: str, *more: str) -> None:
    """A new pump that runs a shipped prescription."""
    assert cisterna("program", name, "--yes").code == 0
    assert cisterna("refill", *FIRST_FILL, *more, "--yes").code == 0


def bridging(cisterna: Cisterna, bench: VirtualBench) -> None:
    """A pump whose bridge bolus from 500 to 2,000 ug/mL begins."""
    filled(cisterna, "baclofen")
    bench.advance(days=3)
    assert cisterna("program", "baclofen_2000", "--bridge", "--yes").code == 0


# -- bridge bolus ------------------------------------------------------------------------------


def test_no_screen_tells_a_mass_of_the_old_drug_by_the_new_concentration(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    bridging(cisterna, bench)
    bench.advance(hours=1)
    for command in ("status", "monitor"):
        shown = words(cisterna(command).out)
        assert "bridge bolus, then the new programme" in shown, command
        assert "0.2 mL/day of the old drug" in shown, command
        assert "0.2 mL/day =" not in shown, command
        assert "then back to bridge bolus" not in shown, command
        assert "0 uL" not in shown, command
        # 0.316 mL less an hour at 0.2 mL/day, to a step
        assert "0.3077 mL of the old drug still to come, done in 1 day 12 h" in shown, command
    assert re.search(
        r"Last 24 h at most [0-9.]+ mL of the old drug", words(cisterna("monitor").out)
    )


def test_how_long_a_bridge_bolus_lasts(cisterna: Cisterna, bench: VirtualBench) -> None:
    bridging(cisterna, bench)
    shown = words(cisterna("bridge").out)
    assert "0.316 mL of the old drug still to come" in shown
    assert "the new programme, in 1 day 13 h" in shown  # vector A: 37.92 h
    assert bench.truth()["steps"] == 6_000


def test_a_cancelled_bridge_bolus_still_leaves_old_drug_at_the_tip(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    bridging(cisterna, bench)
    bench.advance(hours=1)
    assert cisterna("bridge", "--cancel", "--yes").code == 0
    shown = words(cisterna("status").out)
    assert "0.05 mL/day of the old drug" in shown
    assert cisterna("bolus", "20 uL", "--over", "10 min", "--yes").code == 0
    assert "20 uL: 0 uL given" in words(cisterna("status").out)


def test_the_last_day_has_a_mass_once_no_old_drug_is_in_it(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    bridging(cisterna, bench)
    bench.advance(hours=40)
    shown = words(cisterna("monitor").out)
    assert "0.05 mL/day = 100 ug/day of baclofen" in shown
    assert "; the old drug may be in it" in shown
    assert "0.05 mL/day = 100 ug/day of baclofen" in words(cisterna("status").out)
    bench.advance(hours=24)
    assert "; the old drug may be in it" not in words(cisterna("monitor").out)


def test_a_stop_does_not_end_a_bridge_bolus(cisterna: Cisterna, bench: VirtualBench) -> None:
    bridging(cisterna, bench)
    stopped = words(cisterna("stop", "--yes").out)
    assert "WILL END" not in stopped
    resumed = words(cisterna("resume", "--yes").out)
    assert "bridge bolus, 0.2 mL/day of the old drug" in resumed
    assert "ug/day" not in resumed
    assert bench.truth()["steps"] == 6_000


# -- another drug in the reservoir ---------------------------------------------------------------

MORPHINE = ("--drug", "morphine 1 mg/mL")
NOT_PRESCRIBED = "the reservoir's concentrations are not the prescription's"


def test_a_refill_with_another_drug_is_not_recorded_in_silence(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    filled(cisterna, "baclofen")
    bench.advance(days=10)
    refill = ("refill", "--measured", "18 mL", "--fill", "20 mL", *MORPHINE, "--yes")
    refused = cisterna(*refill)
    assert refused.code == 2
    assert NOT_PRESCRIBED in refused.err
    assert "--accept-warnings" in refused.err
    assert cisterna(*refill, "--json").code == 2
    assert cisterna("status", "--json").json["account"]["refills"] == 1
    done = cisterna(*refill, "--accept-warnings")
    assert done.code == 0
    shown = words(done.out)
    assert "Prescribed baclofen 500 ug/mL Then in it morphine 1 mg/mL" in shown
    assert f"WARNING: {NOT_PRESCRIBED}" in shown
    for command in ("status", "monitor"):
        shown = words(cisterna(command).out)
        assert f"{NOT_PRESCRIBED}: it holds morphine 1 mg/mL" in shown, command
        assert "100 ug/day of baclofen, as prescribed" in shown, command
    back = ("refill", "--measured", "20 mL", "--fill", "20 mL", "--drug", "baclofen 500 ug/mL")
    assert cisterna(*back, "--yes").code == 0
    assert NOT_PRESCRIBED not in cisterna("status").out
    assert bench.truth()["steps"] == 20_000


def test_a_mixture_of_residual_and_fill_is_judged_by_what_it_comes_to(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    filled(cisterna, "baclofen")
    assert bench.truth()["steps"] == 0
    stronger = ("--drug", "baclofen 1 mg/mL", "--left", "10 mL", "--fill", "10 mL")
    refused = cisterna("refill", "--measured", "10 mL", *stronger, "--yes")
    assert refused.code == 2
    assert "it holds baclofen 0.75 mg/mL" in refused.err or "750 ug/mL" in refused.err
    same = ("--drug", "baclofen 500 ug/mL", "--left", "10 mL", "--fill", "10 mL")
    assert cisterna("refill", "--measured", "10 mL", *same, "--yes").code == 0


def test_a_patient_is_told_that_the_reservoir_holds_something_else(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    assert cisterna("clock", "--set").code == 0
    filled(cisterna, "baclofen_flex", *MORPHINE, "--accept-warnings")
    shown = words(cisterna("patient", "--bolus", "--yes").out)
    assert f"= 5 ug of baclofen Time 5 min WARNING {NOT_PRESCRIBED}" in shown
    bench.advance(minutes=5)


def test_on_a_terminal_the_confirmation_accepts_another_drug(
    cisterna: Cisterna, bench: VirtualBench, in_terminal: Callable[..., Other]
) -> None:
    filled(cisterna, "baclofen")
    other = in_terminal("refill", "--measured", "20 mL", "--fill", "20 mL", *MORPHINE)
    other.wait_for("Record it?")
    assert "WARNING" in other.shown
    other.type("y\n")
    assert other.end() == 0
    held = cisterna("status", "--json").json["reservoir"]
    assert held == [{"name": "morphine", "concentration_ng_ml": 1_000_000}]
    assert bench.truth()["steps"] == 0


# -- rates, doses and totals ---------------------------------------------------------------------


def test_a_rate_between_boluses_is_not_the_days_total(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    assert cisterna("program", "external_mixture", "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "100 mL", "--yes").code == 0
    shown = words(cisterna("status").out)
    between = "4.8 mL/day (0.2 mL/h) = 2.4 mg/day"
    assert f"Rate now {between} of morphine + 12 mg/day of bupivacaine" in shown
    both = "of morphine + 12 mg/day of bupivacaine"
    total = "24-h total 6 mL = 3 mg of morphine + 15 mg of bupivacaine"
    assert f"{between} {both} between boluses, {total}" in shown
    assert "4.8 mL/day = 3 mg/day" not in shown
    # (100 - 5) mL / 6 mL a day
    assert cisterna("status", "--json").json["forecast"]["low_in_us"] == 1_368_000_000_000
    assert "at the mean rate on" in shown
    bench.advance(hours=7)
    assert cisterna("stop", "--yes").code == 0
    resumed = words(cisterna("resume", "--yes").out)
    assert f"{between} of morphine" in resumed
    assert "3 mg/day" not in resumed


def flexing(cisterna: Cisterna, bench: VirtualBench) -> None:
    """A filled pump in flex, from a Monday's midnight on."""
    with bench.programmer() as pump:
        pump.set_clock(MONDAY_S, 0)
    filled(cisterna, "baclofen_flex")


def test_flex_resumes_at_the_dose_of_its_step_and_is_forecast_by_its_steps(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    flexing(cisterna, bench)
    shown = words(cisterna("status").out)
    assert "0.144 mL/day = 72 ug/day of baclofen" in shown
    assert "24-h total 0.198 mL = 99 ug on the largest day" in shown
    assert "2 mL, by the flex steps on" in shown
    # 18 mL at about the week's mean, 98.3 ug a day, not at the night's 0.144
    days = cisterna("status", "--json").json["forecast"]["low_in_us"] / 86_400_000_000
    therapy = prescription.load(prescription.shipped()["baclofen_flex"]).therapy
    assert 0 < abs(days - 18_000_000 / therapy.basal_rate_nl_day) < 0.5
    assert cisterna("stop", "--yes").code == 0
    resumed = words(cisterna("resume", "--yes").out)
    assert "flex, 0.144 mL/day = 72 ug/day of baclofen" in resumed
    assert bench.truth()["steps"] == 0


def test_the_low_mark_is_reached_as_forecast_in_flex(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    flexing(cisterna, bench)
    low_us = cisterna("status", "--json").json["forecast"]["low_in_us"]
    bench.advance(us=low_us)
    assert abs(bench.truth()["residual_pl"] - 2_000_000_000) <= 100_000  # a step


@pytest.mark.parametrize("name", ["flex", "baclofen"])
def test_the_next_refill_is_never_shown_after_the_low_mark(
    cisterna: Cisterna, bench: VirtualBench, name: str
) -> None:
    """Without patient boluses the two are one instant, and the pump's is never the later."""
    therapy = prescription.load(prescription.shipped()["baclofen"]).therapy
    if name == "flex":
        flex = prescription.load(prescription.shipped()["baclofen_flex"]).therapy
        therapy = dataclasses.replace(flex, patient_nl=0, patient_s=0, lockout_s=0, patient_max=0)
    with bench.programmer() as pump:
        pump.set_clock(MONDAY_S, 0)
        pump.program(therapy)
        pump.refill(0, 20_000_000, "first fill", drugs=therapy.mixture)
    for hours in (0, 5, 8, 80, 24 * 50 + 3):
        bench.advance(seconds=hours * 3600 + 17)
        found = cisterna("status", "--json").json
        low_us, refill_us = found["forecast"]["low_in_us"], found["refill"]["in_us"]
        assert refill_us <= low_us <= refill_us + 3_600_000_000, hours
    cisterna("clock", "--set", "--utc-offset", "+09:00")
    found = cisterna("status", "--json").json
    assert found["refill"]["in_us"] <= found["forecast"]["low_in_us"]


def test_flex_by_a_clock_that_is_not_set_is_forecast_by_its_mean(bench: VirtualBench) -> None:
    flex = prescription.load(prescription.shipped()["baclofen_flex"]).therapy
    with bench.programmer() as pump:
        pump.set_clock(MONDAY_S, 0)
        pump.program(flex)
        pump.refill(0, 20_000_000, "first fill", drugs=flex.mixture)
        seen = interrogate(pump)
    unset = dataclasses.replace(seen, status=dataclasses.replace(seen.status, wall_s=0))
    assert seen.flex_local_us is not None
    assert unset.flex_local_us is None
    days = (unset.low_in_us or 0) / 86_400_000_000
    assert abs(days - 18_000_000 / flex.basal_rate_nl_day) < 0.001


def test_rates_of_an_external_pump_are_told_in_ml_an_hour_too(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    assert "(0.2 mL/h)" in cisterna("program", "external_mixture", "--check").out
    assert "mL/h" not in cisterna("program", "baclofen", "--check").out
    assert cisterna("program", "external_mixture", "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "100 mL", "--yes").code == 0
    assert cisterna("stop", "--yes").code == 0
    assert words(cisterna("resume", "--yes").out).endswith(
        "Now periodic bolus, 4.8 mL/day (0.2 mL/h)"
    )
    assert "4.8 mL/day (0.2 mL/h)" in cisterna("patient").out
    assert "4.8 mL/day (0.2 mL/h)" in cisterna("monitor").out
    assert bench.truth()["steps"] == 0


# -- periodic boluses ---------------------------------------------------------------------------


def told(cisterna: Cisterna, *texts: str) -> None:
    """What status and monitor tell of the periodic bolus."""
    for command in ("status", "monitor"):
        shown = words(cisterna(command).out)
        for text in texts:
            assert text in shown, command


def test_a_periodic_bolus_is_seen_while_it_runs_and_before_it(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    with bench.programmer() as pump:
        pump.program(PERIODIC)
        pump.refill(0, 20_000_000, "first fill", drugs=PERIODIC.mixture)
    bench.advance(hours=2, minutes=50)
    told(cisterna, "Periodic bolus 0.02 mL = 10 ug; the next in 3 h 10 min")
    assert "Bolus none" not in words(cisterna("status").out)
    bench.advance(hours=3, minutes=15)
    before_pl = bench.truth()["delivered_pl"]
    told(
        cisterna,
        "Mode periodic bolus",
        "Periodic bolus 0.02 mL = 10 ug; running: 16.7 uL to go, done in 25 min, "
        "the next in 5 h 55 min at the latest",
    )
    found = cisterna("status", "--json").json["periodic_bolus"]
    assert found["next_us"] == 5 * 3_600_000_000 + 55 * 60_000_000
    bench.advance(us=found["left_us"])
    given_pl = bench.truth()["delivered_pl"] - before_pl
    assert abs(given_pl - found["left_nl"] * 1000) <= 100_000  # a step
    told(cisterna, "Periodic bolus 0.02 mL = 10 ug; the next in 5 h 30 min")


def test_what_is_certain_of_a_periodic_bolus_beside_another(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    with bench.programmer() as pump:
        pump.program(PERIODIC)
        pump.refill(0, 20_000_000, "first fill", drugs=PERIODIC.mixture)
        bench.advance(hours=6, minutes=10)
        pump.bolus("20 uL", "20 min")
    told(cisterna, "interrupted, goes on when the running bolus is done")
    bench.advance(minutes=25)
    # It began 35 minutes ago; by what the pump tells it may have begun 15 minutes ago.
    told(cisterna, "running: 10 uL to go, done in 15 min, the next in 5 h 45 min at the latest")
    bench.advance(hours=5, minutes=20)
    with bench.programmer() as pump:
        pump.bolus("20 uL", "20 min")
    told(cisterna, "Periodic bolus 0.02 mL = 10 ug; the next in 20 min")
    assert cisterna("stop", "--yes").code == 0
    told(cisterna, "Periodic bolus 0.02 mL = 10 ug; none while the pump is stopped")
    assert cisterna("status", "--json").json["periodic_bolus"] is None


# -- the patient -----------------------------------------------------------------------------


def flex_running(cisterna: Cisterna) -> None:
    """A filled pump on which the patient may have boluses."""
    assert cisterna("clock", "--set").code == 0
    filled(cisterna, "baclofen_flex")


def not_now(cisterna: Cisterna, why: str) -> str:
    """What a patient sees who may have none now, because of ``why``; and the refusal's words."""
    shown = words(cisterna("patient").out)
    assert f"not possible now: {why}" in shown
    assert "possible now," not in shown
    assert why in words(cisterna("status").out)
    found = cisterna("patient", "--json").json
    assert (found["possible_now"], found["obstacle"]) == (False, why)
    refused = cisterna("patient", "--bolus", "--yes")
    assert refused.code == 1
    for clinicians in ("--cancel", "cisterna resume", "cisterna program", "cisterna refill"):
        assert clinicians not in shown + refused.err, clinicians
    return refused.err


def test_a_patient_learns_what_stands_in_the_way(cisterna: Cisterna, bench: VirtualBench) -> None:
    flex_running(cisterna)
    assert "possible now, 0 of 3 used" in words(cisterna("patient").out)
    assert cisterna("prime", "--volume", "0.05 mL", "--over", "10 min", "--yes").code == 0
    not_now(cisterna, "a priming bolus is running")
    bench.advance(minutes=11)
    assert cisterna("patient", "--json").json["possible_now"] is True
    assert cisterna("stop", "--yes").code == 0
    assert "tell your clinician" in not_now(cisterna, "the pump is stopped (command)")


def test_a_patient_waits_for_a_bridge_bolus(cisterna: Cisterna, bench: VirtualBench) -> None:
    flex_running(cisterna)
    with bench.programmer() as pump:
        now = pump.prescription()
        assert now is not None
        stronger = dataclasses.replace(now, concentration_ng_ml=510_000)
        pump.program(stronger, accept_warnings=True, bridge=True)
    assert "wait until it is done" in not_now(cisterna, "a bridge bolus is running")
    assert bench.truth()["steps"] == 0


def test_a_patient_whose_reservoir_is_almost_empty(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    flex_running(cisterna)
    refill = ("refill", "--measured", "20 mL", "--fill", "1.405 mL", "--yes")
    assert cisterna(*refill).code == 0
    not_now(cisterna, "the reservoir does not hold enough")
    assert bench.truth()["steps"] == 0


# -- refills and the clock ---------------------------------------------------------------------


def test_how_much_may_be_left_in_is_named(cisterna: Cisterna, bench: VirtualBench) -> None:
    filled(cisterna, "baclofen")
    options = ("refill", "--measured", "18 mL", "--fill", "19 mL", "--left", "2 mL", "--yes")
    refused = cisterna(*options)
    assert refused.code == 1
    assert "--left may be at most 1 mL with --fill 19 mL: the reservoir holds 20 mL" in refused.err
    assert bench.truth()["steps"] == 0


def test_what_the_last_refill_told_is_seen_later(cisterna: Cisterna, bench: VirtualBench) -> None:
    filled(cisterna, "baclofen")
    assert "Last refill to 20 mL" in words(cisterna("status").out)
    assert "first fill" in words(cisterna("status").out)
    bench.advance(days=10)
    early = ("refill", "--measured", "17.9 mL", "--fill", "20 mL", "--reason", "early", "--yes")
    assert cisterna(*early).code == 0
    told = "early, measured 17.9 mL, expected 18 mL"
    assert told in words(cisterna("status").out)
    lines = [line for line in cisterna("log").out.splitlines() if "refill recorded" in line]
    assert told not in lines[0]
    assert lines[1].endswith(f"refill recorded, fill 20 mL: {told}")
    found = cisterna("log", "--json").json
    assert found["last_refill"] == {
        "reason": "early",
        "measured_pl": 17_900_000_000,
        "expected_pl": 18_000_000_000,
    }


def test_the_clock_tells_that_a_flex_step_keeps_its_end(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    now = round(time.time())
    here = 481 - now % 86_400 // 60  # 08:01 here, 09:01 an hour further: on any day another step
    here += 1440 if here < -720 else 0
    with bench.programmer() as pump:
        pump.set_clock(now, here)
    filled(cisterna, "baclofen_flex")
    assert "keeps its end" not in cisterna("clock").out
    assert cisterna("clock", "--json").json["flex_in_time"] is True
    hours, minutes = divmod(abs(here + 60), 60)
    zone = f"{'-' if here + 60 < 0 else '+'}{hours:02d}:{minutes:02d}"
    shown = words(cisterna("clock", "--set", f"--utc-offset={zone}").out)
    told = r"step (\d) of the day keeps its end, in .* by the new time step (\d) of the day would"
    found = re.search(told, shown)
    assert found is not None, shown
    assert int(found[2]) == int(found[1]) + 1
    assert cisterna("clock", "--json").json["flex_in_time"] is False
    assert bench.truth()["steps"] == 0


def test_the_clock_tells_nothing_of_flex_to_others(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    filled(cisterna, "baclofen")
    assert "Flex" not in cisterna("clock", "--set", "--utc-offset", "+02:00").out
    assert cisterna("clock", "--json").json["flex_in_time"] is None
    assert bench.truth()["steps"] == 0
