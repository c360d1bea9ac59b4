"""The reservoir account: whole steps, written ahead, refused when it cannot be known."""

from nor_flash import PowerCut
from random_numbers import Random
from virtual_pump import ROOT, damage, new_flash, same_flash

from pump.journal import Damaged, HotRecord, TwoCopies
from pump.ledger import HOT_LAYOUT, Ledger
from pump.refilling import is_discrepancy

REQUIREMENTS = {
    "test_account_balances_at_every_query_over_a_million_steps": ["ACC-1"],
    "test_account_of_a_power_cut_is_never_too_low": ["ACC-2"],
    "test_discrepancy_boundaries": ["ACC-3"],
    "test_assessment_boundaries_of_a_refill": ["ACC-3"],
}

STEP_PL = 100_000
ML = 1_000_000_000  # pL
HUNDREDTH = ML // 100


class Motor:
    """``emitted``: what the step generator has emitted since the start."""

    def __init__(self):
        self.emitted = 0

    def __call__(self):
        return self.emitted


def opened(motor=None):
    """The account that is stored, as after a start."""
    ledger = Ledger(
        STEP_PL,
        motor or Motor(),
        HotRecord(ROOT + "/steps", HOT_LAYOUT),
        TwoCopies(ROOT + "/refill"),
    )
    ledger.load()
    return ledger


def is_refused():
    try:
        opened()
    except Damaged:
        return True
    return False


def filled(fill_pl=20 * ML):
    """(ledger, motor) of a pump that was just filled for the first time."""
    new_flash()
    motor = Motor()
    ledger = opened(motor)
    ledger.settle()
    ledger.refill(0, fill_pl, 0, 0)
    return ledger, motor


def test_a_new_account_is_all_zero():
    new_flash()
    ledger = opened()
    assert (ledger.steps(), ledger.bolus_steps(), ledger.refills) == (0, 0, 0)
    assert (ledger.fill_pl, ledger.delivered_pl(), ledger.residual_pl()) == (0, 0, 0)


def test_account_balances_at_every_query_over_a_million_steps():
    ledger, motor = filled()
    random = Random(1)
    total = bolus_total = since = bolus_since = 0
    fill_pl = 20 * ML
    in_bolus = False
    while total < 1_000_000:
        steps = random.between(1, 5) if not in_bolus else random.between(1, 20)
        if random.below(100) < 90:
            steps *= random.between(1, 100)  # as many segments, written down once
        ledger.reserve(motor.emitted + steps)
        for _ in range(3):
            done = random.below(steps + 1)
            motor.emitted += done
            steps -= done
            total += done
            since += done
            bolus_total += done * in_bolus
            bolus_since += done * in_bolus
            assert ledger.delivered_pl() == since * STEP_PL
            assert ledger.residual_pl() == fill_pl - since * STEP_PL
            assert ledger.fill_pl - ledger.delivered_pl() == ledger.residual_pl()
            assert ledger.steps() == total
            assert ledger.bolus_steps() == bolus_total
            assert ledger.bolus_delivered_pl() == bolus_since * STEP_PL
        choice = random.below(40)
        if choice < 8:
            if in_bolus:
                ledger.bolus_ends()
            else:
                ledger.bolus_begins()
            in_bolus = not in_bolus
        elif choice == 8:
            ledger.settle()
            fill_pl = random.between(1, 40_000) * 1_000_000
            ledger.refill(random.below(20 * ML), fill_pl, 0, 0)
            since = bolus_since = 0
    assert bolus_total > 100_000
    ledger.settle()
    again = opened()
    assert (again.steps(), again.bolus_steps()) == (total, bolus_total)
    assert again.residual_pl() == ledger.residual_pl()
    assert again.bolus_delivered_pl() == ledger.bolus_delivered_pl()


def test_account_of_a_power_cut_is_never_too_low():
    random = Random(2)
    ledger, motor = filled()
    true_steps = 0
    for _ in range(300):
        in_bolus = random.below(2)
        segment = 20 if in_bolus else 5
        if in_bolus:
            ledger.bolus_begins()
        for _ in range(random.between(1, 6)):
            count = random.between(1, segment)
            ledger.reserve(motor.emitted + count)
            emitted = random.below(count + 1) if random.below(2) else count
            motor.emitted += emitted
            true_steps += emitted
            stored = opened()  # what a start after a cut at this moment would find
            excess = stored.steps() - true_steps
            assert 0 <= excess <= segment, (excess, segment)
            assert stored.delivered_pl() - true_steps * STEP_PL == excess * STEP_PL
            assert ledger.steps() == true_steps
            if emitted < count:  # halted on the way
                ledger.settle()
                assert opened().steps() == true_steps
        if in_bolus:
            ledger.bolus_ends()
        ledger.settle()
        assert opened().steps() == true_steps
        assert opened().bolus_steps() == ledger.bolus_steps()


def test_starts_count_from_what_is_stored():
    ledger, motor = filled()
    ledger.reserve(5)
    motor.emitted = 3
    again_motor = Motor()
    again = opened(again_motor)
    assert (again.start_steps(), again.steps()) == (5, 5)
    again_motor.emitted = 2
    assert again.steps() == 7
    again.settle()
    assert opened().steps() == 7


def test_bolus_steps_of_a_cut_bolus_stay_counted():
    ledger, motor = filled()
    ledger.reserve(4)
    motor.emitted = 4
    ledger.bolus_begins()
    ledger.reserve(14)
    motor.emitted = 10
    again = opened()
    assert (again.steps(), again.bolus_steps()) == (14, 10)
    assert again.bolus_ends() == 0


def test_a_refill_starts_a_new_account_and_remembers_the_old():
    ledger, motor = filled()
    ledger.reserve(1_000)
    motor.emitted = 1_000
    ledger.settle()
    ledger.refill(19 * ML, 18 * ML, 123, 1_800_000_000)
    for account in (ledger, opened()):
        assert (account.fill_pl, account.refills) == (18 * ML, 2)
        assert (account.delivered_pl(), account.residual_pl()) == (0, 18 * ML)
        assert account.expected_pl == 20 * ML - 1_000 * STEP_PL
        assert account.measured_pl == 19 * ML
        assert account.before_delivered_pl == 1_000 * STEP_PL
        assert account.refill_wall_s == 1_800_000_000
        assert account.steps() == 1_000
    assert ledger.refill_us == 123
    assert opened().refill_us == 0  # it was in another start of the pump


def test_a_refill_that_cannot_be_stored_changes_nothing():
    ledger, motor = filled()
    ledger.reserve(100)
    motor.emitted = 100
    ledger.settle()

    def failing(payload):
        raise OSError(5)

    ledger._copies.commit = failing
    before = dict(ledger.__dict__)
    try:
        ledger.refill(1, 10 * ML, 5, 6)
    except OSError:
        pass
    else:
        raise AssertionError("the failure was not told")
    assert ledger.__dict__ == before
    assert ledger.residual_pl() == 20 * ML - 100 * STEP_PL


def test_a_power_cut_in_a_refill_leaves_the_old_or_the_new_account():
    cut = 0
    seen = set()
    while True:
        cut += 1
        flash = new_flash()
        motor = Motor()
        ledger = opened(motor)
        ledger.settle()
        ledger.refill(0, 20 * ML, 0, 0)
        ledger.reserve(50)
        motor.emitted = 50
        flash.cut_at(cut)
        try:
            ledger.settle()
            ledger.refill(19 * ML, 10 * ML, 0, 0)
        except PowerCut:
            pass
        if not flash.dead:
            break
        same_flash(flash)
        account = opened()
        assert account.steps() == 50
        state = (account.fill_pl, account.delivered_pl(), account.refills)
        assert state in ((20 * ML, 50 * STEP_PL, 1), (10 * ML, 0, 2)), (cut, state)
        seen.add(state)
    assert len(seen) >= 1 and cut > 2


# -- damage -----------------------------------------------------------------------------------


def moved(steps):
    """An account with a refill in each copy and ``steps`` moved since the last."""
    ledger, motor = filled()
    ledger.refill(0, 20 * ML, 0, 0)
    ledger.reserve(steps)
    motor.emitted = steps
    ledger.settle()
    return ledger


def test_a_damaged_count_of_steps_is_refused():
    moved(1_000)
    damage(ROOT + "/steps/now", at=0)
    assert is_refused()


def test_one_damaged_refill_copy_loses_nothing():
    for copy in (0, 1):
        moved(1_000)
        damage("%s/refill.%d" % (ROOT, copy))
        assert opened().refills == 2
        assert opened().residual_pl() == 20 * ML - 1_000 * STEP_PL


def test_both_refill_copies_damaged_are_refused():
    moved(1_000)
    damage(ROOT + "/refill.0")
    damage(ROOT + "/refill.1")
    assert is_refused()


def test_a_count_of_steps_that_is_gone_is_refused():
    import os

    moved(1_000)
    os.remove(ROOT + "/steps/now")
    assert is_refused()
    with open(ROOT + "/steps/now", "wb"):
        pass
    assert is_refused()


def test_fewer_steps_than_at_the_refill_are_refused():
    ledger = moved(1_000)
    ledger.refill(0, 20 * ML, 0, 0)
    HotRecord(ROOT + "/steps", HOT_LAYOUT).store(999, 0)
    assert is_refused()
    HotRecord(ROOT + "/steps", HOT_LAYOUT).store(1_000, 0)
    assert opened().delivered_pl() == 0


def test_a_refill_record_of_another_layout_is_refused():
    new_flash()
    TwoCopies(ROOT + "/refill").commit(b"something else")
    assert is_refused()


def unreadable():
    """(ledger, motor) of a start that could not read its account."""
    motor = Motor()
    ledger = Ledger(
        STEP_PL, motor, HotRecord(ROOT + "/steps", HOT_LAYOUT), TwoCopies(ROOT + "/refill")
    )
    try:
        ledger.load()
    except Damaged:
        return ledger, motor
    raise AssertionError("the damaged account was read")


def test_halting_does_not_write_over_an_account_that_could_not_be_read():
    moved(1_000)
    damage(ROOT + "/steps/now", at=0)
    ledger, _ = unreadable()
    ledger.settle()  # as every command that halts motion does
    assert is_refused()


def test_a_refill_makes_a_damaged_account_whole():
    for name in ("/steps/now", "/refill.0", "/refill.1"):
        ledger = moved(1_000)
        ledger.refill(0, 20 * ML, 0, 0)
        if name != "/steps/now":
            damage(ROOT + "/refill.0")
            damage(ROOT + "/refill.1")
        else:
            damage(ROOT + name, at=3)
        ledger, _ = unreadable()
        assert ledger.delivered_pl() >= 0  # it can still be told
        ledger.refill(5 * ML, 15 * ML, 0, 0)
        for account in (ledger, opened()):
            assert (account.fill_pl, account.delivered_pl()) == (15 * ML, 0)
            assert account.steps() == 1_000


# -- what a refill tells ----------------------------------------------------------------------


def test_discrepancy_boundaries():
    small, large = 20 * ML, 40 * ML
    for ratio_ppm, outside in (
        (854_999, True),
        (855_000, False),
        (1_000_000, False),
        (1_145_000, False),
        (1_145_001, True),
        (1, True),
        (0, False),
    ):
        assert is_discrepancy(ratio_ppm, 0, small) == outside, ratio_ppm
    for capacity, limit in ((small, ML), (large, 2 * ML), (small + 1, 2 * ML), (10 * ML, ML)):
        for sign in (1, -1):
            for off, outside in ((-HUNDREDTH, False), (0, False), (1, True), (HUNDREDTH, True)):
                assert is_discrepancy(0, sign * (limit + off), capacity) == outside
                assert is_discrepancy(1_000_000, sign * (limit + off), capacity) == outside


def assessed(delivered_pl, measured_pl, capacity_pl, fill_pl=None):
    """What a refill tells after ``delivered_pl`` were programmed and counted."""
    fill_pl = fill_pl or capacity_pl
    ledger, motor = filled(fill_pl)
    motor.emitted = delivered_pl // STEP_PL
    found = ledger.assess(measured_pl, delivered_pl, capacity_pl)
    assert found["expected_pl"] == fill_pl - delivered_pl
    assert found["discrepancy_pl"] == measured_pl - found["expected_pl"]
    assert found["true_pl"] == fill_pl - measured_pl
    assert found["programmed_pl"] == delivered_pl
    return found


def test_assessment_boundaries_of_a_refill():
    for capacity, limit in ((20 * ML, ML), (40 * ML, 2 * ML)):
        # The volume limit, with so much delivered that the ratio (0.9 or 1.1) stays inside.
        delivered = 10 * limit
        expected = capacity - delivered
        for sign in (1, -1):
            for off, flagged in ((-HUNDREDTH, 0), (0, 0), (HUNDREDTH, 1)):
                found = assessed(delivered, expected + sign * (limit + off), capacity)
                assert found["flagged"] == flagged, (capacity, sign, off, found)
        # The ratio limits, with so little delivered that the volume stays inside.
        delivered = 4 * ML
        expected = capacity - delivered
        for true, inside in (
            (4 * ML * 855 // 1000, HUNDREDTH),
            (4 * ML * 1145 // 1000, -HUNDREDTH),
        ):
            for off, flagged in ((inside, 0), (0, 0), (-inside, 1)):
                found = assessed(delivered, capacity - true - off, capacity)
                assert found["flagged"] == flagged, (capacity, true, off, found)


def test_ratio_is_true_over_programmed():
    found = assessed(4 * ML, 16 * ML, 20 * ML)
    assert (found["ratio_ppm"], found["flagged"]) == (1_000_000, 0)
    assert assessed(3 * ML, 17 * ML + ML // 10, 20 * ML)["ratio_ppm"] == 966_667


def test_a_pump_that_moved_nothing_is_flagged_however_little_was_asked():
    # Half a millilitre programmed, all of it still there: ratio 0, and below the volume limit.
    found = assessed(ML // 2, 20 * ML, 20 * ML)
    assert found["discrepancy_pl"] == ML // 2
    assert found["flagged"] == 1
    assert assessed(ML // 2, 20 * ML + HUNDREDTH, 20 * ML)["flagged"] == 1


def test_a_refill_right_after_another_tells_no_ratio():
    """What was programmed since is less than a measured residual can tell."""
    for programmed, measured in ((STEP_PL * 100, 20 * ML), (68 * ML // 1000, 20 * ML - HUNDREDTH)):
        found = assessed(programmed, measured, 20 * ML)
        assert (found["ratio_ppm"], found["life_ppm"], found["flagged"]) == (0, 0, 0)
    assert assessed(69 * ML // 1000, 20 * ML, 20 * ML)["flagged"] == 1
    assert assessed(69 * ML // 1000, 20 * ML - 2 * HUNDREDTH, 20 * ML)["ratio_ppm"] == 289_855
    assert assessed(STEP_PL * 100, 18 * ML, 20 * ML)["flagged"] == 1  # 2 mL unexplained


def test_nothing_programmed_has_no_ratio():
    found = assessed(0, 20 * ML - HUNDREDTH, 20 * ML)
    assert (found["ratio_ppm"], found["flagged"]) == (0, 0)


def test_the_first_refill_has_nothing_to_compare_with():
    new_flash()
    found = opened().assess(3 * ML, 0, 20 * ML)
    assert (found["discrepancy_pl"], found["true_pl"], found["ratio_ppm"]) == (0, 0, 0)
    assert found["flagged"] == 0
