"""Benches for the requirement tests.

``--bench``: "virtual" (default), "emulated", a ``bench.toml``, or the serial port of a board.
``--full``: the figures of requirements.toml in full; without it campaigns run their quick setting.
``--seed``: of everything random, in tests and benches; the header of every run shows it.
``--deploy mpremote``: the firmware gets on the emulated Pico as it gets on a board, half a minute
a test; without, in a file system image.
``--report DIR``: an evidence report; ``evidence`` tells what is in it.

Fixtures: ``bench``, opened new for every test (the emulated one: ``booted`` tells how);
``pump``, a programmer on it; ``module_bench``, one for all tests of a module; ``seed``; ``full``;
``measured`` and ``picture``, for the report.

Marks: ``needs("edges", ...)`` skips a test on a bench that does not offer all of them, naming what
is missing. ``requirement("DEL-1", ...)`` names what the test shows; an ID that does not exist
fails it.

A bench that cannot be opened fails the first test that wants it; the others are skipped and say
why. One that is not to be had on this machine (no Pico image) skips all of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from cisterna import open_bench
from cisterna.bench import Bench
from cisterna.bench_emulated import EmulatedBench
from cisterna.emulator import NoPicoImage
from cisterna.programmer import Programmer
from hil_tests import booted, evidence
from hil_tests.evidence import measured, picture
from hil_tests.trace import marked, needed, read_requirements

__all__ = ["measured", "picture"]  # fixtures

_LONGEST = ("test_power_cuts.py", "test_cost.py", "test_power_loss.py")

_unavailable = pytest.StashKey[str]()
_broken = pytest.StashKey[str]()
_offers = pytest.StashKey[frozenset[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cisterna")
    group.addoption(
        "--bench",
        default="virtual",
        help='"virtual" (default), "emulated", a bench.toml or a port',
    )
    group.addoption(
        "--deploy",
        choices=("image", "mpremote"),
        default="image",
        help="how the firmware gets on the emulated Pico",
    )
    evidence.add_options(group)
    group.addoption("--full", action="store_true", help="requirements with their full figures")
    group.addoption("--seed", type=int, default=1, help="seed of everything random (default 1)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    evidence.configure(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when == "call":
        item.stash[evidence.failed] = True
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first, so that no worker waits for one at the end."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)
    for item in items:
        evidence.facts(item)


def pytest_report_header(config: pytest.Config) -> str:
    setting = "full" if config.getoption("--full") else "quick"
    return f"bench: {config.getoption('--bench')}, seed: {config.getoption('--seed')}, {setting}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    requirements = read_requirements()
    for identity in marked(item):
        if identity not in requirements:
            pytest.fail(f"{identity} is not in hil_tests/requirements.toml", pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    config = item.config
    names: list[str] = getattr(item, "fixturenames", [])
    if config.getoption("--bench") != "emulated" or "bench" not in names:
        return None
    if _offers not in config.stash:
        config.stash[_offers] = EmulatedBench.offers
    if needed(item) - EmulatedBench.offers:
        return None
    return booted.run(item, nextitem, lambda: _open(config)) or None


def pytest_unconfigure(config: pytest.Config) -> None:
    booted.close(config)


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """Seed for everything random in a test."""
    return pytestconfig.getoption("--seed")


@pytest.fixture
def full(pytestconfig: pytest.Config) -> bool:
    """True: use the full figures of the requirement; False: a quick setting."""
    return pytestconfig.getoption("--full")


def skip_lacking(item: pytest.Item | pytest.Module, name: str, offers: frozenset[str]) -> None:
    """Skip ``item`` when the bench called ``name`` lacks something that it needs."""
    lacking = sorted(needed(item) - offers)
    if lacking:
        pytest.skip(f"the {name} bench does not offer {', '.join(lacking)}")


def _open(config: pytest.Config) -> Bench:
    seed = config.getoption("--seed")
    deploy = config.getoption("--deploy")
    others = {} if deploy == "image" else {"deploy": deploy}
    return open_bench(config.getoption("--bench"), seed=seed, **others)


def _opened(request: pytest.FixtureRequest) -> Iterator[Bench]:
    stash = request.config.stash
    name = request.config.getoption("--bench")
    if _unavailable in stash:
        pytest.skip(stash[_unavailable])
    if _broken in stash:
        pytest.skip(f"the {name} bench is broken: {stash[_broken]}")
    if _offers in stash:
        skip_lacking(request.node, name, stash[_offers])
    try:
        opened = booted.take(request.config) or _open(request.config)
    except NoPicoImage as error:
        stash[_unavailable] = str(error)
        pytest.skip(str(error))
    except Exception as error:
        stash[_broken] = f"{type(error).__name__}: {error}"
        raise
    stash[_offers] = opened.offers
    with opened:
        skip_lacking(request.node, name, opened.offers)
        yield opened
        evidence.met(request.node, opened)


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The bench of this run, opened for this test alone."""
    yield from _opened(request)


@pytest.fixture(scope="module")
def module_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The bench of this run, opened once for the tests of a module, whose ``pytestmark`` says what
    all of them need: for tests that judge one long run."""
    yield from _opened(request)


@pytest.fixture
def pump(bench: Bench) -> Iterator[Programmer]:
    """A clinician's programmer on the bench's pump."""
    with bench.programmer("clinician") as programmer:
        yield programmer
