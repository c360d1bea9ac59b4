"""Numbers that set a dose, flipped in memory and in the stored copies: seen before the next
segment, never used and never replaced by something else."""

from random_numbers import Random
from virtual_pump import HOUR_US, ROOT, SECOND_US, running

from pump.journal import Damaged, TwoCopies
from pump.prescription import PrescriptionStore
from pump_wire.messages import GET_STATUS

TIMEOUT_S = 300
REQUIREMENTS = {
    "test_every_flipped_bit_of_the_prescription_stops_before_the_next_segment": ["FLT-4"],
    "test_every_flipped_bit_of_the_programme_stops_before_the_next_segment": ["FLT-4"],
    "test_every_flipped_bit_of_a_stored_copy_costs_nothing": ["FLT-4"],
    "test_two_flipped_bits_are_seen": ["FLT-4"],
}
DOSES = ("rate_nl_day", "concentration_ng_ml", "mode", "capacity_nl", "low_mark_nl")


def check_stops(pump, what):
    """No step comes but those that are queued, and the fault says why."""
    queued = pump.app.schedule.issued - pump.stepper.emitted()
    before = pump.steps
    pump.advance(HOUR_US)
    assert pump.steps - before <= queued, what
    assert pump.fault == "settings_damaged", (what, pump.fault)
    status = pump.ask(GET_STATUS)
    assert "memory" in status["fault_text"], status["fault_text"]
    pump.check_no_more_steps(HOUR_US)


def test_every_flipped_bit_of_the_prescription_stops_before_the_next_segment():
    pump = running()
    for field in DOSES:
        for bit in range(0, 40 if field != "mode" else 4):
            pump.restart()
            pump.advance(2 * SECOND_US)
            assert pump.fault == "" and pump.mode == "simple_continuous"
            pump.app.store.current[field] ^= 1 << bit
            check_stops(pump, (field, bit))
    pump.restart()
    pump.advance(2 * SECOND_US)
    pump.app.store.halted = True
    check_stops(pump, "halted")
    # A restart reads what is stored, which is whole.
    pump.restart()
    pump.advance(10 * SECOND_US)
    assert pump.fault == "" and pump.steps > 0


def flip(schedule, name, bit):
    setattr(schedule, name, getattr(schedule, name) ^ 1 << bit)


def test_every_flipped_bit_of_the_programme_stops_before_the_next_segment():
    pump = running()
    for bolus in (False, True):
        names = ["rate", "spacing", "_guard"] + (["_left", "_left_guard"] if bolus else [])
        for name in names:
            for bit in range(62):
                pump.restart()
                pump.advance(1_500_000)
                if bolus:
                    pump.bolus(10_000, 50 * SECOND_US)
                    pump.advance(SECOND_US)
                flip(pump.app.schedule, name, bit)
                if pump.app.schedule.rate:
                    check_stops(pump, (bolus, name, bit))
                else:
                    pump.check_no_more_steps(HOUR_US)


def test_a_fault_in_memory_is_told_and_a_new_prescription_is_its_remedy():
    pump = running()
    pump.advance(2 * SECOND_US)
    pump.app.store.current["rate_nl_day"] ^= 1 << 20
    check_stops(pump, "rate")
    pump.program(4_320_000)
    pump.check_no_more_steps(HOUR_US)
    pump.restart()
    pump.advance(SECOND_US)
    assert pump.app.store.current["rate_nl_day"] == 4_320_000
    assert pump.app.store.halted  # it could not be trusted, so it counts as stopped


def stored(path):
    with open(path, "rb") as file:
        return file.read()


def store(path, octets):
    with open(path, "wb") as file:
        file.write(octets)


def loaded():
    """(rate, mended) that a start reads; None when both copies are refused."""
    settings = PrescriptionStore(TwoCopies(ROOT + "/prescription"))
    try:
        settings.load()
    except Damaged:
        assert settings.halted and settings.current is None
        return None
    return settings.current["rate_nl_day"], settings.mended


def test_every_flipped_bit_of_a_stored_copy_costs_nothing():
    pump = running(7_654_000)
    pump.cut_power()
    paths = [ROOT + "/prescription.%d" % slot for slot in (0, 1)]
    good = stored(paths[0])
    assert stored(paths[1]) == good
    for path in paths:
        for bit in range(8 * len(good)):
            bad = bytearray(good)
            bad[bit >> 3] ^= 1 << (bit & 7)
            store(path, bad)
            assert loaded() == (7_654_000, True), (path, bit)
            assert stored(path) == good


def test_two_flipped_bits_are_seen():
    pump = running(7_654_000)
    random = Random(12)
    schedule = pump.app.schedule
    settings = pump.app.store
    pump.bolus(10_000, 50 * SECOND_US)
    pump.advance(SECOND_US)
    for _ in range(2_000):
        places = [(schedule, name) for name in ("rate", "spacing", "_left", "_left_guard")]
        flips = [(places[random.below(4)], random.below(62)) for _ in range(2)]
        if flips[0] == flips[1]:
            continue
        for (owner, name), bit in flips:
            flip(owner, name, bit)
        assert not schedule.is_whole(), flips
        for (owner, name), bit in flips:
            flip(owner, name, bit)
        assert schedule.is_whole()
        bits = [(DOSES[random.below(5)], random.below(40)) for _ in range(2)]
        if bits[0] == bits[1]:
            continue
        for name, bit in bits:
            settings.current[name] ^= 1 << bit
        assert not settings.is_whole(), bits
        for name, bit in bits:
            settings.current[name] ^= 1 << bit
        assert settings.is_whole()
    pump.cut_power()
    paths = [ROOT + "/prescription.%d" % slot for slot in (0, 1)]
    good = stored(paths[0])
    for _ in range(300):
        bits = [random.below(16 * len(good)) for _ in range(2)]
        bad = [bytearray(good), bytearray(good)]
        for bit in bits:
            bad[bit % 2][bit >> 4] ^= 1 << (bit >> 1 & 7)
        for path, octets in zip(paths, bad):
            store(path, octets)
        both = bits[0] % 2 != bits[1] % 2
        found = loaded()
        if bits[0] == bits[1]:
            assert found == (7_654_000, False)
        else:
            assert found == (None if both else (7_654_000, True)), bits
