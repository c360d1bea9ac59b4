"""What the pump refuses for what it does and holds now: value, limit, and nothing changed."""

from virtual_pump import DAY_US, SECOND_US, Pump, refused, running, state

from pump_wire.messages import CONFIRM, GET_ACCOUNT, GET_STATUS, RECORD_REFILL, SET_PRESCRIPTION

TIMEOUT_S = 60

ML = 1_000_000  # nL


def check_refused(pump, field, value, limit, call, *arguments, **values):
    before = state(pump)
    refusal = refused("below_limit", call, *arguments, **values)
    assert (refusal.field, refusal.value, refusal.limit) == (field, value, limit)
    assert state(pump) == before


# -- bolus --------------------------------------------------------------------------------------


def test_bolus_slower_than_the_basal_rate_is_refused():
    for mode, basal, bolus, value in (
        (2, 8_640_000, (100, 100 * SECOND_US), 86_400),
        (2, 8_640_000, (1_000, 10_000_001), 8_639_999),
        (2, 24_000_000, (10_000, 36_000_002), 23_999_999),
        (2, 48_000, (100, 180_003_000), 47_999),
        (1, 6_000, (100, 1_440_200_000), 5_999),
    ):
        pump = running()
        pump.program(basal, mode=mode)
        check_refused(pump, "rate_nl_day", value, basal, pump.bolus, *bolus)
        before = pump.steps
        pump.advance(DAY_US // 24)  # the basal rate goes on
        assert pump.steps == before + basal // 2_400
        assert pump.ask(GET_STATUS)["rate_nl_day"] == basal


def test_bolus_as_fast_as_the_basal_rate_is_given():
    for mode, basal, volume_nl, duration_us in (
        (2, 8_640_000, 1_000, 10 * SECOND_US),
        (2, 24_000_000, 10_000, 36 * SECOND_US),  # the only rate there is left
        (2, 48_000, 100, 180 * SECOND_US),
        (1, 6_000, 100, 1_440 * SECOND_US),
    ):
        pump = running()
        pump.program(basal, mode=mode)
        pump.bolus(volume_nl, duration_us)
        assert pump.mode == "single_bolus"
        assert pump.ask(GET_STATUS)["rate_nl_day"] == basal
        pump.advance(duration_us)
        assert pump.steps == volume_nl // 100
        assert pump.ask(GET_ACCOUNT)["bolus_pl"] == volume_nl * 1000
        assert pump.mode == ("simple_continuous" if mode == 2 else "minimum_rate")


def test_bolus_smaller_than_a_step_is_refused():
    for step_pl, least_nl in ((100_000, 100), (20_000, 20), (250_500, 251), (250_000, 250)):
        pump = running(step_pl=step_pl)
        for volume_nl in (1, least_nl - 1):
            check_refused(pump, "volume_nl", volume_nl, least_nl, pump.bolus, volume_nl, SECOND_US)
        pump.program(mode=1)
        before = pump.steps
        pump.bolus(least_nl, SECOND_US)
        pump.advance(SECOND_US)
        assert pump.steps == before + 1
        assert pump.mode == "minimum_rate"
        assert pump.ask(GET_ACCOUNT)["bolus_pl"] == step_pl


# -- refill -------------------------------------------------------------------------------------


def test_refill_that_fills_no_more_than_the_unusable_volume_is_refused():
    values = {"measured_nl": 0, "reason": "early"}
    pump = running()
    pump.bolus(2_000, 10 * SECOND_US)
    pump.advance(4_200_000)
    for fill_nl in (1, ML, 1_400_000):
        values["fill_nl"] = fill_nl
        check_refused(pump, "fill_nl", fill_nl, 1_400_001, pump.command, RECORD_REFILL, **values)
    pump.advance(15_800_000)  # neither the bolus nor the basal rate noticed
    assert pump.steps == 20 + 10
    before = pump.ask(GET_ACCOUNT)["refills"]
    pump.refill(1_400_001)
    account = pump.ask(GET_ACCOUNT)
    assert account["fill_pl"] == account["residual_pl"] == 1_400_001_000
    assert account["refills"] == before + 1
    assert (pump.mode, pump.stop_reason) == ("stopped", "empty reservoir")


def test_refill_limit_holds_before_the_first_prescription():
    pump = Pump()
    pump.advance(1_000)
    values = {"measured_nl": 0, "fill_nl": 1_400_000, "reason": "first"}
    refusal = refused("below_limit", pump.command, RECORD_REFILL, **values)
    assert (refusal.field, refusal.value, refusal.limit) == ("fill_nl", 1_400_000, 1_400_001)
    assert pump.ask(GET_ACCOUNT)["refills"] == 0
    pump.refill(1_400_001)
    assert pump.ask(GET_ACCOUNT)["refills"] == 1


# -- prescription -------------------------------------------------------------------------------

RX = {
    "drug": "saline",
    "concentration_ng_ml": 500_000,
    "mode": 2,
    "rate_nl_day": 8_640_000,
    "capacity_nl": 20 * ML,
    "low_mark_nl": 2 * ML,
}


def test_capacity_below_the_expected_residual_is_refused():
    for step_pl, residual_nl in ((100_000, 4_999_900), (250_500, 4_999_750)):  # rounded up
        pump = running(step_pl=step_pl)
        pump.refill(5 * ML)
        values = dict(RX)
        for delivered, least_nl in ((0, 5 * ML), (1, residual_nl)):
            while pump.app.ledger.delivered_pl() < delivered * step_pl:
                pump.advance(SECOND_US // 2)
            assert pump.ask(GET_ACCOUNT)["delivered_pl"] == delivered * step_pl
            for capacity_nl in (2 * ML + 1, least_nl - 1):
                values["capacity_nl"] = capacity_nl
                check_refused(
                    pump,
                    "capacity_nl",
                    capacity_nl,
                    least_nl,
                    pump.command,
                    SET_PRESCRIPTION,
                    **values,
                )
            values["capacity_nl"] = least_nl
            pump.command(SET_PRESCRIPTION, **values)
            assert pump.app.delivery.capacity_pl() == least_nl * 1000


def test_capacity_is_compared_again_at_the_confirmation():
    pump = running()
    pump.refill(5 * ML)
    values = dict(RX)
    values["capacity_nl"] = 5 * ML
    token, _ = pump.prepare(SET_PRESCRIPTION, **values)
    pump.app.ledger.fill_pl += 1
    check_refused(pump, "capacity_nl", 5 * ML, 5 * ML + 1, pump.ask, CONFIRM, token=token)
