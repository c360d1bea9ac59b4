"""One run of 2,000 steps and more in mixed modes, on any bench with edges, judged several ways by
the edges on the pins and by the plant.

Instants are compared on the pump's own clock: when a command took effect the pump says, and where
its clock stands against the bench's the first pulse of the run tells, which comes a whole step
after delivery began. That is the one thing here that is taken from the pump.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import pytest

from cisterna import Bench, Programmer, Therapy
from cisterna.bench import DAY_US, Edge
from cisterna.programme import ExactProgramme
from cisterna.programmer import Account
from hil_tests.conftest import skip_lacking
from hil_tests.evidence import Measured
from hil_tests.test_delivery import BIG
from pump_wire.messages import MINIMUM_RATE

pytestmark = pytest.mark.needs("advance", "edges", "truth", "refill")

LATE_US = 1_000  # DEL-2 at a basal rate, and of the first pulse of a bolus
EVEN_NS = 10_000  # DEL-2 in a bolus
STEP_UNITS = 100_000 * DAY_US  # pL times us in a day: a step of the programme
MINIMUM_RATE_NL_DAY = 6_000


@dataclass
class Run:
    """What was ordered and what came of it."""

    programme: ExactProgramme = field(default_factory=ExactProgramme)  # on the pump's clock
    boluses: list[tuple[int, int, int]] = field(default_factory=list)  # start, end (us), steps
    queries: list[tuple[Account, dict[str, int]]] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    stopped: list[tuple[int, int]] = field(default_factory=list)  # ns of the bench's time
    end_us: int = 0  # on the pump's clock
    edges: list[Edge] = field(default_factory=list)
    step_pl: int = 0

    @property
    def rises(self) -> list[int]:
        """Rising edges of STEP, ns of the bench's time."""
        return [edge.t_ns for edge in self.edges if edge.line == "step" and edge.level == 1]

    def pulses_us(self) -> list[float]:
        """The same in us of the pump's clock, to the accuracy of the first pulse."""
        rises = self.rises
        ideal_us = self.ideal_us(1)
        return [ideal_us + (rise - rises[0]) / 1000 for rise in rises]

    def ideal_us(self, step: int) -> int:
        """When step ``step`` (from 1) is due on the pump's clock."""
        wanted = step * self.step_pl * DAY_US  # in pL times us
        at_us, have = 0, 0
        changes = self.programme.changes
        for (from_us, rate), (to_us, _) in itertools.pairwise([*changes, (1 << 62, 0)]):
            gain = (to_us - from_us) * rate * 1000
            if rate and have + gain >= wanted:
                return from_us - (have - wanted) // (rate * 1000)
            have += gain
            at_us = to_us
        return at_us


class Driver:
    """Orders, and writes down when they took effect."""

    def __init__(self, bench: Bench, pump: Programmer, run: Run) -> None:
        self.bench, self.pump, self.run = bench, pump, run
        self.rate = 0

    def commission(self, therapy: Therapy) -> None:
        self.pump.program(therapy)
        self.bench.refill_reservoir(therapy.capacity_nl)
        done = self.pump.refill(0, therapy.capacity_nl, "first fill")
        self.rate = therapy.rate_nl_day
        self.run.programme.run(done.uptime_us, self.rate)

    def rate_of(self, rate: int) -> None:
        if rate == MINIMUM_RATE_NL_DAY:
            done = self.pump.program(replace(BIG, mode=MINIMUM_RATE, rate_nl_day=0))
        else:
            done = self.pump.program(replace(BIG, rate_nl_day=rate))
        self.rate = rate
        self.run.programme.run(done.uptime_us, rate)

    def steps(self, count: int) -> None:
        """Let about ``count`` steps pass at the present rate."""
        self.bench.advance(us=count * self.run.step_pl * DAY_US // (self.rate * 1000))

    def bolus(self, steps: int, spacing_us: int) -> None:
        volume_nl = steps * self.run.step_pl // 1000
        over_us = steps * spacing_us
        rate, rest = divmod(volume_nl * DAY_US, over_us)
        assert rest == 0, "choose a spacing that makes a whole rate"
        done = self.pump.bolus(volume_nl, over_us)
        self.run.boluses.append((done.uptime_us, done.uptime_us + over_us, steps))
        self.run.programme.run(done.uptime_us, rate)
        self.run.programme.run(done.uptime_us + over_us, self.rate)
        self.bench.advance(us=over_us)

    def query(self) -> None:
        self.run.queries.append((self.pump.account(), self.bench.truth()))


def _perform(bench: Bench, steps: int) -> Run:
    run = Run()
    with bench.programmer() as pump:
        run.step_pl = pump.status().step_pl
        run.before = bench.truth()
        driver = Driver(bench, pump, run)
        driver.commission(replace(BIG, rate_nl_day=24_000_000))
        while True:
            driver.steps(steps // 4)
            driver.query()
            driver.rate_of(1_000_000)
            driver.steps(steps // 10)
            driver.query()
            driver.bolus(100, 400_000)
            driver.query()
            driver.rate_of(12_345_000)
            driver.steps(steps // 10)
            driver.rate_of(MINIMUM_RATE_NL_DAY)
            driver.steps(2)
            driver.query()
            driver.rate_of(24_000_000)
            if bench.truth()["steps"] - run.before["steps"] >= steps - steps // 4 - 200:
                break
        driver.steps(max(steps - (bench.truth()["steps"] - run.before["steps"]), 0) + 5)
        driver.query()
        run.end_us = pump.status().uptime_us
        pump.stop()
        stopped_ns = bench.truth()["time_us"] * 1000
        bench.advance(seconds=60)
        run.stopped.append((stopped_ns, bench.truth()["time_us"] * 1000))
        driver.query()
    run.after = bench.truth()
    run.edges = bench.edges()
    return run


@pytest.fixture(scope="module")
def performed(module_bench: Bench, request: pytest.FixtureRequest) -> Run:
    return _perform(module_bench, 20_000 if request.config.getoption("--full") else 2_000)


@pytest.fixture
def run(performed: Run, module_bench: Bench, request: pytest.FixtureRequest) -> Run:
    """The run, for a test that may need more of the bench than the run did."""
    skip_lacking(request.node, module_bench.name, module_bench.offers)
    return performed


@pytest.mark.requirement("DEL-1", "DEL-2")
def test_every_step_is_on_the_programme(
    run: Run, measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never early, late by less than 1 ms, none missing: less than a step off at any time."""
    pulses = run.pulses_us()
    due = int(run.programme.volume_pl(run.end_us) // run.step_pl)
    assert len(pulses) in (due, due + 1)  # one more may have come between the query and the stop
    late = [at_us - run.ideal_us(step) for step, at_us in enumerate(pulses, 1)]
    measured("DEL-1", max(late) / 1000, f"ms late at most, {len(pulses):,} steps of mixed modes")
    measured("DEL-2", max(late) / 1000, "ms late at most at basal rates")
    with capsys.disabled():
        print(f"\n{len(pulses)} steps, late by {min(late):.3f} to {max(late):.3f} us", end=" ")
    assert len(pulses) >= 2_000
    assert min(late) > -EVEN_NS / 1000  # as accurate as the first pulse, which may be late itself
    assert max(late) < LATE_US
    tenth = len(late) // 10
    assert sum(late[-tenth:]) / tenth < sum(late[:tenth]) / tenth + EVEN_NS / 1000  # no drift


@pytest.mark.requirement("DEL-2")
def test_pulses_of_a_bolus_are_even(
    run: Run, measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    pulses = run.pulses_us()
    worst = 0.0
    for start_us, end_us, steps in run.boluses:
        inside = [at_us for at_us in pulses if start_us < at_us < end_us + EVEN_NS / 1000]
        assert len(inside) in (steps, steps + 1)  # a part of a step was due before
        gaps = [later - earlier for earlier, later in itertools.pairwise(inside)]
        worst = max(worst, *(abs(gap - (end_us - start_us) / steps) for gap in gaps))
    measured("DEL-2", worst, "us off even spacing at most in a bolus")
    with capsys.disabled():
        print(f"\nspacing in a bolus off by {worst:.3f} us at most", end=" ")
    assert run.boluses
    assert worst * 1000 < EVEN_NS


@pytest.mark.requirement("DEL-7")
def test_no_reverse_step_and_none_while_stopped(run: Run, measured: Measured) -> None:
    measured("DEL-7", run.after["reverse_steps"], "reverse steps")
    assert run.after["reverse_steps"] == 0
    assert not [edge for edge in run.edges if edge.line == "dir" and edge.level == 0]
    for from_ns, until_ns in run.stopped:
        assert not [at for at in run.rises if from_ns <= at <= until_ns]
    assert run.after["steps"] == run.queries[-2][1]["steps"] or len(run.rises) == (
        run.after["steps"] - run.before["steps"]
    )


@pytest.mark.requirement("ACC-1")
def test_account_balances_at_every_query(run: Run, measured: Measured) -> None:
    measured("ACC-1", len(run.queries), f"queries exact, {run.after['steps']:,} steps")
    assert len(run.queries) >= 6
    for account, truth in run.queries:
        assert account.fill_pl - account.delivered_pl == account.residual_pl
        ahead = account.lifetime_pl - truth["delivered_pl"]
        assert ahead in (0, -run.step_pl)  # a pulse may come while the answer is on its way
        assert account.residual_pl - truth["residual_pl"] == -ahead
    account, truth = run.queries[-1]  # stopped: nothing moves
    assert account.lifetime_pl == truth["delivered_pl"] == truth["steps"] * run.step_pl
    assert account.residual_pl == truth["residual_pl"]
    assert account.bolus_pl == sum(steps for _, _, steps in run.boluses) * run.step_pl
