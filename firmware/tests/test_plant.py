"""The plant: what is true when the firmware may be wrong."""

from plant import CATHETER_PL_PER_CM, TUBING_PL, UNUSABLE_PL, Plant

PURE = True
REQUIREMENTS = {"test_dead_volume_of_tubing_and_catheter": ["THE-3"]}

STEP_PL = 100_000


def test_dead_volume_of_tubing_and_catheter():
    # 80 cm x 0.0022 mL/cm + 0.140 mL = 0.316 mL. With 0.199 mL of tubing it was a recall.
    assert Plant(STEP_PL, catheter_cm=80).dead_pl == 316_000_000
    assert Plant(STEP_PL).dead_pl == 316_000_000
    assert TUBING_PL == 140_000_000
    assert CATHETER_PL_PER_CM == 2_200_000
    assert Plant(STEP_PL, catheter_cm=0).dead_pl == 140_000_000


def test_unusable_volume():
    assert UNUSABLE_PL == 1_400_000_000


def test_steps_move_their_volume():
    plant = Plant(STEP_PL)
    assert plant.move(12_345) == 12_345
    assert (plant.pulses, plant.steps, plant.reverse_steps) == (12_345, 12_345, 0)
    assert plant.delivered_pl == 12_345 * STEP_PL
    assert plant.delivered_pl + plant.residual_pl == 20_000_000_000


def test_nothing_leaves_the_tip_before_the_dead_volume_is_full():
    plant = Plant(STEP_PL)
    plant.move(3_160)
    assert plant.tip_pl == 0
    plant.move(1)
    assert plant.tip_pl == STEP_PL


def test_what_cannot_be_used_stays():
    plant = Plant(STEP_PL, reservoir_pl=UNUSABLE_PL + 250_000)
    assert plant.move(2) == 2
    assert plant.delivered_pl == 200_000
    assert plant.move(2) == 2  # the rotor follows, half a step's volume comes
    assert plant.steps == 4
    assert plant.delivered_pl == 250_000
    assert plant.residual_pl == UNUSABLE_PL
    plant.move(1_000)
    assert plant.residual_pl == UNUSABLE_PL


def test_reservoir_below_the_unusable_volume_gives_nothing():
    plant = Plant(STEP_PL, reservoir_pl=UNUSABLE_PL - 1)
    plant.move(10)
    assert plant.delivered_pl == 0
    assert plant.residual_pl == UNUSABLE_PL - 1


def test_stall_at_once_and_after_steps():
    plant = Plant(STEP_PL)
    plant.inject("stall", after_steps=3)
    assert not plant.stalled
    assert plant.move(2) == 2
    assert plant.move(5) == 1
    assert plant.stalled
    assert plant.move(7) == 0
    assert (plant.pulses, plant.steps, plant.delivered_pl) == (14, 3, 300_000)
    plant.clear("stall")
    assert not plant.stalled
    assert plant.move(1) == 1
    plant.inject("stall")
    assert plant.stalled
    assert plant.move(1) == 0


def test_reverse_is_counted_apart_and_moves_no_drug():
    plant = Plant(STEP_PL)
    plant.move(5)
    assert plant.move(3, forward=False) == 3
    assert (plant.pulses, plant.steps, plant.reverse_steps) == (8, 5, 3)
    assert plant.delivered_pl == 5 * STEP_PL


def rising_edges(level, plant, pulses, forward=True):
    """Rising edges of the sensor, looked at after every pulse; ``level`` is the one before."""
    edges = 0
    for _ in range(pulses):
        plant.move(1, forward)
        if plant.rotor_level > level:
            edges += 1
        level = plant.rotor_level
    return edges


def test_rotor_sensor_gives_a_pulse_a_line():
    for line in (2, 4, 10):
        plant = Plant(STEP_PL, steps_per_pulse=line)
        assert plant.rotor_level == 0
        seen = rising_edges(0, plant, 1_003)
        assert plant.rotor_pulses == seen == (1_003 + line // 2) // line
        seen += rising_edges(plant.rotor_level, plant, 1_501, False)  # back, and past the start
        assert plant.rotor_pulses == seen
        whole = Plant(STEP_PL, steps_per_pulse=line)
        whole.move(1_003)
        whole.move(1_501, False)
        assert whole.rotor_pulses == seen
        assert whole.rotor_level == plant.rotor_level


def test_rotor_sensor_stands_still_in_a_stall():
    plant = Plant(STEP_PL)
    plant.inject("stall", after_steps=7)
    plant.move(100)
    assert (plant.pulses, plant.steps, plant.rotor_pulses) == (100, 7, 4)
    plant.clear("stall")
    plant.move(3)
    assert plant.rotor_pulses == 5


def test_lines_that_no_rotor_rests_in_are_refused():
    for line in (0, 1, 3):
        try:
            Plant(STEP_PL, steps_per_pulse=line)
        except ValueError as error:
            assert str(line) in str(error)
        else:
            raise AssertionError("%d was taken" % line)


def test_state_of_an_older_plant_is_taken():
    plant = Plant(STEP_PL)
    plant.restore({"steps": 5, "pulses": 6})
    assert (plant.steps, plant.pulses, plant.rotor_pulses) == (5, 6, 0)
    assert plant.battery_mv == 3_000


def test_refill_tells_what_was_aspirated():
    plant = Plant(STEP_PL)
    plant.move(100)
    assert plant.refill(18_000_000_000) == 20_000_000_000 - 100 * STEP_PL
    assert plant.residual_pl == 18_000_000_000
    assert plant.delivered_pl == 100 * STEP_PL


def test_state_is_all_of_it():
    plant = Plant(333_333, reservoir_pl=5_000_000_000, catheter_cm=30)
    plant.move(17)
    plant.move(2, forward=False)
    plant.inject("stall", after_steps=9)
    plant.move(4)
    twin = Plant(1)
    twin.restore(plant.state())
    assert twin.__dict__ == plant.__dict__
    assert twin.move(9) == plant.move(9) == 5
    assert twin.__dict__ == plant.__dict__
    numbers = plant.state()
    assert numbers.pop("fills") == [[0, 0]]
    assert all(type(value) is int for value in numbers.values())


def test_what_it_does_not_know_is_refused():
    plant = Plant(STEP_PL)
    for wrong in (
        lambda: plant.inject("lake"),
        lambda: plant.clear("lake"),
        lambda: plant.inject("stall", after_steps=-1),
        lambda: plant.refill(-1),
    ):
        before = dict(plant.state())
        try:
            wrong()
        except ValueError as error:
            assert "lake" in str(error) or "-1" in str(error)
        else:
            raise AssertionError("it was taken")
        assert plant.state() == before


def test_drug_at_the_tip_follows_the_front_through_tubing_and_catheter():
    plant = Plant(STEP_PL)
    plant.refill(20_000_000_000, 500_000)
    plant.move(3_160)  # fills tubing and catheter
    assert plant.tip_mass() == 0 < plant.tip_mixed_ng()
    plant.move(1_000)
    assert plant.tip_mass() == 100_000_000 * 500_000
    plant.refill(20_000_000_000, 2_000_000)
    plant.move(3_160)  # what is old passes
    before = (1_000 + 3_160) * STEP_PL * 500_000
    assert plant.tip_mass() == before
    plant.move(7)
    assert plant.tip_mass() == before + 7 * STEP_PL * 2_000_000
    mixed = plant.tip_mixed_ng()
    # a stirred tubing lets some of the new drug out early, and keeps some of the old
    assert mixed != plant.tip_mass() // 10**9
    other = Plant(STEP_PL)
    other.restore(plant.state())
    assert (other.tip_mass(), other.tip_mixed_ng()) == (plant.tip_mass(), mixed)
    plant.move(100_000)
    total = (1_000 + 3_160) * STEP_PL * 500_000 + 100_007 * STEP_PL * 2_000_000
    assert plant.tip_mass() == total


def test_a_rest_in_the_reservoir_mixes_with_the_fill():
    plant = Plant(STEP_PL, reservoir_pl=5_000_000_000)
    plant.ng_ml = 500_000
    assert plant.refill(15_000_000_000, 2_000_000, 5_000_000_000) == 0
    assert (plant.residual_pl, plant.ng_ml) == (20_000_000_000, 1_625_000)
