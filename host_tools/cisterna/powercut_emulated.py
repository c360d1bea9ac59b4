"""The campaign of power cuts on the emulated Pico (PWR-4): at any instruction, at a flash
operation torn or not, at an instant, while it starts, several in a row; on one image that goes on
living.

Case ``powercut:SEED:PWR-4-emulated:N`` is the N-th cut. What is compared comes from the plant.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cisterna.bench_emulated import EmulatedBench
from cisterna.campaign import Batch, Campaign, Evidence, Result, case_parts, failures, largest
from cisterna.emulator_flash import TORN_ERASES, TORN_PROGRAMS
from cisterna.errors import CisternaError, Refused, UsageError, quoted
from cisterna.prescription import Therapy
from cisterna.programmer import Programmer

_CUTS = {"quick": 5, "full": 1_000}
_SEGMENT = 5  # cuts a batch: what is lost when one is interrupted
_BOOT_CYCLES = 60_000_000  # processor cycles within which a start is over
_WORK_CYCLES = 12_000_000  # that a command and some steps take
_BACK_S = 5
_BASAL_PL, _BOLUS_PL = 500_000, 2_000_000  # ACC-2
_RATES = ("8.64 mL/day", "17.28 mL/day", "1 mL/day", "24 mL/day")
_SHAPES = (None, *TORN_PROGRAMS, *TORN_ERASES)
_LAST_EVENTS = 20


class Wrong(Exception):
    """What is wrong, in words."""


def _expect(holds: bool, text: str) -> None:
    if not holds:
        raise Wrong(text)


def _therapy(rate: str) -> Therapy:
    return Therapy.simple_continuous(
        drug="saline", concentration="0.5 mg/mL", rate=rate, capacity="20 mL"
    )


class _Life:
    """One Pico on one image. ``settings``: (prescription, halted) that may be stored, two while a
    command is on its way; ``next_event``: records below it were read."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self.bench = EmulatedBench(seed=seed, state=folder)
        path = folder / "life.json"
        self.settings: list[tuple[Therapy | None, bool]] = [(None, False)]
        self.over_pl = 0
        self.next_event = 0
        if path.is_file():
            kept = json.loads(path.read_text())
            stored = kept["therapy"]
            self.settings = [(Therapy(**stored) if stored else None, kept["halted"])]
            self.over_pl = self._over_pl()[0]
            self.next_event = kept["next_event"]
        else:
            with self.bench.programmer() as pump:
                pump.program(_therapy(_RATES[0]))
                self.bench.refill_reservoir(20_000_000)
                pump.refill(0, 20_000_000, "first fill")
            self.settings = [(_therapy(_RATES[0]), False)]

    def keep(self) -> None:
        """Leave all that goes on living in the folder; the power is off afterwards."""
        therapy, halted = self.settings[0]
        kept: dict[str, Any] = {
            "therapy": None if therapy is None else vars(therapy),
            "halted": halted,
            "next_event": self.next_event,
        }
        self.bench.cut_power()
        self.bench.save()
        (self._folder / "life.json").write_text(json.dumps(kept))

    def _over_pl(self) -> tuple[int, int]:
        """(least, most) that the account says too much: a pulse may come while it is asked."""
        before = self.bench.truth()["delivered_pl"]
        with self.bench.programmer() as pump:
            reported = pump.account().lifetime_pl
        return reported - self.bench.truth()["delivered_pl"], reported - before

    # -- a cut --------------------------------------------------------------------------------

    def cut(self, chance: random.Random) -> int:
        """Something is done, the power goes, the pump starts and is judged. Returns what the
        account says too much because of it, in pL. Raises Wrong."""
        bench = self.bench
        self._arm(chance, _WORK_CYCLES)
        bolus = False
        with contextlib.suppress(CisternaError):
            with bench.programmer() as pump:
                bolus = self._act(pump, chance)
            for _ in range(chance.randrange(1, 6)):
                bench.advance(seconds=1 + chance.random() * 3)
        if bench.powered:
            bench.disarm_cut()
            bench.cut_power()
            self._say("cut where it stands")
        else:
            self._say("cut")
        for _ in range(chance.choice((0, 0, 1, 2))):
            cycle = chance.randrange(1, _BOOT_CYCLES)
            self._say(f"cut while it starts, after {cycle} cycles, if it has not started by then")
            bench.cut_power_at(cycle=cycle)
            bench.power_on()
            if bench.powered:
                bench.disarm_cut()
                bench.cut_power()
        bench.power_on()
        _expect(bench.powered, "it has no power")
        return self._judge(_BOLUS_PL if bolus else _BASAL_PL)

    def _arm(self, chance: random.Random, cycles: int) -> None:
        kind = chance.randrange(4)
        if kind < 2:
            cycle = chance.randrange(1, cycles)
            self._say(f"to be cut after {cycle} cycles of the processor")
            self.bench.cut_power_at(cycle=cycle)
        elif kind < 3:
            operation, torn = chance.randrange(1, 8), chance.choice(_SHAPES)
            self._say(f"to be cut at flash operation {operation}, torn: {torn}")
            self.bench.cut_power_at(flash_op=operation, torn=torn)
        else:
            us = chance.randrange(1, 8_000_000)
            self._say(f"to be cut after {us} us")
            self.bench.cut_power_at(us=us)

    def _act(self, pump: Programmer, chance: random.Random) -> bool:
        """One command, or none; True if a bolus may run."""
        old, halted = self.settings[0]
        what = chance.choice(("nothing", "program", "program", "bolus", "bolus", "stop", "clock"))
        if halted:
            what = "resume"
        self._say(f"command: {what}")
        with contextlib.suppress(Refused):
            if what == "program":
                new = _therapy(chance.choice(_RATES))
                self.settings = [(old, halted), (new, halted)]
                pump.program(new)
                self.settings = [(new, halted)]
            elif what in ("stop", "resume"):
                self.settings = [(old, halted), (old, not halted)]
                (pump.stop if what == "stop" else pump.resume)()
                self.settings = [(old, not halted)]
            elif what == "clock":
                pump.set_clock(1_800_000_000 + chance.randrange(1_000_000))
            elif what == "bolus":
                pump.bolus("10 uL", over="40 s")
        return what == "bolus"

    def _judge(self, bound_pl: int) -> int:
        bench = self.bench
        least, most = self._over_pl()
        _expect(most >= self.over_pl, f"the account says {self.over_pl - most} pL too little")
        added = least - self.over_pl
        _expect(added <= bound_pl, f"the account says {added} pL too much, {bound_pl} may be")
        with bench.programmer() as pump:
            status = pump.status()
            _expect(not status.fault, f"fault {status.fault}: {status.fault_text}")
            therapy = pump.prescription()
            halted = status.stop_reason == 3
            _expect((therapy, halted) in self.settings, f"{therapy}, {halted}: not old nor new")
            before = bench.truth()["steps"]
            bench.advance(seconds=_BACK_S)
            steps = bench.truth()["steps"] - before
            rate = 0 if halted or therapy is None else therapy.rate_nl_day
            due = rate * 1000 * _BACK_S // 86_400 // status.step_pl
            _expect(due - 1 <= steps <= due + 2, f"{steps} steps in {_BACK_S} s, {due} are due")
            status = pump.status()
            _expect(status.bolus_pl == 0, "a bolus goes on")
            events = list(pump.events(max(0, self.next_event - _LAST_EVENTS)))
        numbers = [event.sequence for event in events]
        _expect(numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a gap in the log")
        new = [event for event in events if event.sequence >= self.next_event]
        _expect(any(each.name == "power_lost" for each in new), "no power-lost record")
        damaged = [each.sequence for each in events if each.damaged]
        _expect(not [each for each in damaged if each < self.next_event], f"damaged: {damaged}")
        self._say(f"it holds: {therapy and therapy.rate_nl_day} nL/day, halted: {halted}, "
                  f"{added} pL too much; log: {', '.join(each.name for each in new)}")  # fmt: skip
        self.settings = [(therapy, halted)]
        self.over_pl = max(least, self.over_pl)
        self.next_event = numbers[-1] + 1
        if bench.truth()["residual_pl"] < 4_000_000_000:
            with bench.programmer() as pump:
                pump.refill(bench.refill_reservoir(20_000_000), 20_000_000)
        return max(added, 0)


class EmulatedPowerCut(Campaign):
    """Random cuts on one image of the emulated Pico."""

    name = "powercut"
    bench = "emulated"

    def batches(self) -> list[Batch]:
        count = _CUTS[self.setting]
        return [
            Batch(
                tuple(f"powercut:{self.seed}:PWR-4-emulated:{first + i}" for i in range(_SEGMENT)),
                after=(first - 1) // _SEGMENT - 1,
                weight=_SEGMENT,
            )
            for first in range(1, count + 1, _SEGMENT)
        ]

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        wanted = set(cases)
        segment = (int(cases[0].split(":")[3]) - 1) // _SEGMENT
        yield from (each for each in self._segment(segment, folder) if each.case in wanted)

    def _segment(
        self,
        segment: int,
        folder: Path,
        say: Callable[[int, str], None] = lambda number, text: None,
    ) -> Iterator[Result]:
        """The cuts of one segment, from the image that the one before left."""
        work = folder / f"emulated-{segment + 1}"
        shutil.rmtree(work, ignore_errors=True)
        if segment:
            shutil.copytree(folder / f"emulated-{segment}", work)
        first = segment * _SEGMENT + 1
        now = [first]  # the cut that is going on

        def tell(text: str) -> None:
            say(now[0], text)

        life = _Life(work, self.seed, tell)
        try:
            for number in range(first, first + _SEGMENT):
                now[0] = number
                chance = random.Random(self.seed * 1_000_003 + number)
                case = f"powercut:{self.seed}:PWR-4-emulated:{number}"
                try:
                    yield Result(case, figures={"over_pl": life.cut(chance)})
                except (Wrong, CisternaError) as error:
                    say(number, f"wrong: {error}")
                    yield Result(case, failures=((case, str(error)),))
                    life.bench.close()  # from here on a new image
                    shutil.rmtree(work, ignore_errors=True)
                    life = _Life(work, self.seed, tell)
            life.keep()
        finally:
            life.bench.close()

    def evidence(self, results: list[Result]) -> list[Evidence]:
        found = failures(results)
        return [
            Evidence(
                "PWR-4",
                "emulated Pico: 1,000 random cuts at any instruction, 0 failures",
                f"{len(results)} cuts, {len(found)} failures, the account at most "
                f"{largest(results, 'over_pl')} pL too high",
                not found,
            )
        ]

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        parts = case_parts(case, self.name, 4)
        if parts[2] != "PWR-4-emulated" or not parts[3].isdigit() or parts[3] == "0":
            raise UsageError(f"{quoted(case)} is no cut of the emulated Pico")
        self.seed, number = int(parts[1]), int(parts[3])
        segment = (number - 1) // _SEGMENT
        for earlier in range(segment):
            if not (folder / f"emulated-{earlier + 1}" / "life.json").is_file():
                yield f"the image lives to cut {(earlier + 1) * _SEGMENT}"
                for _ in self._segment(earlier, folder):
                    pass
        told: list[str] = []
        verdict = "this cut was not reached"
        for result in self._segment(
            segment, folder, lambda at, text: told.append(text) if at == number else None
        ):
            if result.case.endswith(f":{number}"):
                verdict = result.failures[0][1] if result.failures else "all holds"
                break
        yield from told
        yield f"verdict: {verdict}"
