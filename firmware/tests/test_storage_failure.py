"""A flash that fails or loses power under a whole pump: success, or a motor that is stopped."""

from virtual_pump import SECOND_US, Pump, running

from pump_wire.messages import CANCEL_BOLUS, FAULT, GET_STATUS, RESUME, STOP

TIMEOUT_S = 60


def test_an_account_that_cannot_be_written_stops_the_motor():
    pump = running()
    pump.advance(12 * SECOND_US)
    pump.flash.fail_at(1, True)
    pump.advance(60 * SECOND_US)
    assert pump.fault == "storage_failed"
    assert pump.steps == 15  # what was reserved before
    pump.check_no_more_steps()
    pump.restart()
    assert pump.app.ledger.steps() == 15
    pump.advance(10 * SECOND_US)
    assert pump.fault == ""


def test_storage_that_fails_from_any_moment_of_a_start_is_a_fault_that_can_be_read():
    pump = running()
    for _ in range(4):  # what a start writes first differs: the file system tidies up
        after = clean = 0
        while clean < 8:  # how many operations it takes differs too
            pump.cut_power()
            pump.flash.fail_at(after + 1, True)
            pump.power_on()
            pump.advance(SECOND_US)
            if pump.flash.ops <= after:
                assert pump.fault == ""
                clean += 1
                after += 1
                continue
            clean = 0
            if pump.fault == "self_test_failed":  # it wrote its file when storage failed first
                assert pump.app.faults.text.startswith("flash: OSError"), after
            else:
                assert pump.fault == "storage_failed", after
            assert pump.ask(GET_STATUS)["fault"] == FAULT[pump.fault]
            pump.check_no_more_steps()
            after += 1
        assert after > 5
    assert pump.fault == ""


def test_storage_that_fails_under_any_command_never_leaves_the_motor_running():
    for name in ("program", "bolus", "stop", "refill", "cancel"):
        pump = running()
        pump.advance(12 * SECOND_US)
        if name == "cancel":
            pump.bolus(10_000, 60 * SECOND_US)
            pump.advance(SECOND_US)
        pump.flash.fail_at(1, True)
        try:
            if name == "program":
                pump.program(24_000_000)
            elif name == "bolus":
                pump.bolus(1_000, 10 * SECOND_US)
            elif name == "stop":
                pump.command(STOP)
            elif name == "cancel":
                pump.command(CANCEL_BOLUS)
            else:
                pump.refill()
        except Exception as error:
            assert str(error) == "internal", (name, error)
        else:
            raise AssertionError("%s was not refused" % name)
        assert pump.fault == "storage_failed", name
        pump.check_no_more_steps()
        true_steps = pump.plant.pulses
        pump.restart()
        assert 0 <= pump.app.ledger.steps() - true_steps <= 20, name


def test_one_write_that_fails_is_full_success_or_a_latched_stop():
    fail = 0
    while True:
        fail += 1
        pump = running()
        pump.advance(3 * SECOND_US)
        pump.flash.fail_at(fail)
        told = True
        try:
            pump.bolus(1_000, 10 * SECOND_US)
        except Exception as error:
            assert str(error) == "internal"
            told = False
        if told:
            pump.advance(30 * SECOND_US)
        if pump.flash.armed:
            break
        assert pump.fault == "storage_failed", (fail, pump.app.faults.text)
        pump.check_no_more_steps()
        true_steps = pump.plant.pulses
        pump.restart()
        assert 0 <= pump.app.ledger.steps() - true_steps <= 20
        pump.advance(5 * SECOND_US)
        assert pump.fault == "" and pump.mode == "simple_continuous"
    assert fail > 10


def test_a_cut_at_any_flash_operation_of_a_first_hour_is_recovered_from():
    cut = 0
    while True:
        cut += 1
        pump = Pump(powered=False)
        pump.flash.cut_at(cut)
        try:
            pump.power_on()
            pump.advance(1_000)
            pump.refill()
            pump.program(8_640_000)
            pump.advance(20 * SECOND_US)
            pump.bolus(1_000, 10 * SECOND_US)
            pump.advance(3 * SECOND_US)
            pump.command(STOP)
            pump.command(RESUME)
            pump.advance(SECOND_US)
        except BaseException as error:
            assert pump.flash.dead, error
        if not pump.flash.dead:
            break
        true_steps = pump.plant.pulses
        pump.cut_power()
        pump.power_on()
        pump.advance(1_000)
        assert pump.fault == "", (cut, pump.app.faults.text)
        assert 0 <= pump.app.ledger.steps() - true_steps <= 20, cut
        if pump.app.store.current:
            assert pump.app.store.current["rate_nl_day"] == 8_640_000
        pump.refill()
        if pump.app.store.halted:
            pump.command(RESUME)
        else:
            pump.program(8_640_000)
        before = pump.steps
        pump.advance(10 * SECOND_US)
        assert pump.steps - before == 10, cut
    assert cut > 30
