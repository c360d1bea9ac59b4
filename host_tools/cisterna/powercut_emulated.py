"""The campaign of power cuts on the emulated Pico (PWR-4): at any instruction, at a flash
operation torn or not, at an instant, in starts, several in a row; on an image that goes on living.

Case ``powercut:SEED:PWR-4-emulated:N`` is the N-th life of the image, from power on to the cut
from which it lives on: in the start or after it. At instants drawn beforehand, the life is cut as
well, but on copies: cut N.1, N.2 and so on, as many as come before its end, which is N.0. What is
compared comes from the plant.

A start takes the emulator ten seconds and more, so a cut is not judged by one there. The firmware
starts on a copy of the flash in the virtual pump (``boards/virtual/power_image.py``): account,
settings, delivery and log must be right, each cut with its own bound. The emulated Pico starts on
the flash itself, for the next life. Where it comes through its start, it is asked too, and must
say what the copy said.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cisterna import vm_runs
from cisterna.bench_emulated import EmulatedBench
from cisterna.campaign import Batch, Campaign, Evidence, Result, case_parts, failures, largest
from cisterna.emulator import FILES_AT
from cisterna.emulator_flash import TORN_ERASES, TORN_PROGRAMS
from cisterna.errors import CisternaError, Refused, UsageError, quoted
from cisterna.prescription import Therapy
from cisterna.programmer import Programmer

_LIVES = {"quick": 2, "full": 40}
_CUTS = {"quick": 5, "full": 1_000}  # that must come of them
_IMAGES = {"quick": 1, "full": 2}  # that live beside each other, for two processors
_SEGMENT = 4  # lives a batch: what is lost when one is interrupted
_INSTANTS = 60  # drawn for cuts on copies; half of them and more come before a life ends
_START_CYCLES = 110_000_000  # processor cycles within which a start is over
_WORK_CYCLES = 30_000_000  # that a command and some steps take
_WORK_S = 12
_BACK_S = 5
_CAPACITY_NL = 20_000_000
_RATES = ("8.64 mL/day", "17.28 mL/day", "1 mL/day", "24 mL/day")
_ACTS = ("nothing", "program", "program", "bolus", "bolus", "stop", "clock", "refill")
_FULL_LOG_EVERY = 5  # lives at whose end the whole log is read
_LOW_PL = 4_000_000_000


class Wrong(Exception):
    """What is wrong, in words."""


def _expect(holds: bool, text: str) -> None:
    if not holds:
        raise Wrong(text)


def _therapy(rate: str) -> Therapy:
    return Therapy.simple_continuous(
        drug="saline", concentration="0.5 mg/mL", rate=rate, capacity="20 mL"
    )


@dataclass(frozen=True)
class _Cut:
    """What a power cut leaves, and what is known then. See _Pump."""

    flash: bytes
    plant: dict[str, int]
    settings: list[tuple[Therapy, bool]]
    refills: list[tuple[int, int]]
    bolus: bool
    doing: str


class _Pump:
    """One Pico on one image.

    ``settings``: (prescription, halted) that may be stored, two while a command is on its way;
    ``refills``: (count, fill in pL) likewise. ``over_steps``: what the account said too much after
    the last life. ``next_event``: number of the event after those stored then. The power is on
    when it is made, and off after each life.
    """

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._bolus = False  # one may run
        self._doing = ""
        self._cuts: list[_Cut] = []
        self.asked = 0  # starts that the emulated Pico came through, and was then asked
        self.bench = EmulatedBench(seed=seed, state=folder)
        path = folder / "pump.json"
        if path.is_file():
            kept = json.loads(path.read_text())
            therapy = replace(_therapy(_RATES[0]), rate_nl_day=int(kept["rate_nl_day"]))
            self.settings = [(therapy, bool(kept["halted"]))]
            self.refills = [(int(kept["refill"][0]), int(kept["refill"][1]))]
            self.over_steps = int(kept["over_steps"])
            self.next_event = int(kept["next_event"])
        else:
            first = _therapy(_RATES[0])
            with self.bench.programmer() as pump:
                pump.program(first)
                self.bench.refill_reservoir(_CAPACITY_NL)
                pump.refill(0, _CAPACITY_NL, "first fill")
                self.next_event = pump.status().next_event
            self.settings = [(first, False)]
            self.refills = [(1, _CAPACITY_NL * 1000)]
            self.over_steps = 0

    def keep(self) -> None:
        """Leave all that goes on living in the folder. The power must be off."""
        therapy, halted = self.settings[0]
        kept: dict[str, Any] = {
            "rate_nl_day": therapy.rate_nl_day,  # all else of a prescription here is the same
            "halted": halted,
            "refill": self.refills[0],
            "over_steps": self.over_steps,
            "next_event": self.next_event,
        }
        self.bench.save()
        (self._folder / "pump.json").write_text(json.dumps(kept))

    # -- a life -------------------------------------------------------------------------------

    def live(self, number: int, chance: random.Random) -> tuple[int, int, list[tuple[int, str]]]:
        """The pump lives until its power goes; every cut is judged. Returns how many there were,
        the most steps that the account says too much because of one, and (place, what is wrong)
        of those that do not hold. Raises Wrong for the life itself and its end."""
        bench = self.bench
        self._cuts = []
        self._bolus = False
        if bench.powered:  # a segment begins
            self._do("it started, and is asked")
            self._ask(_BACK_S)
            cycles = _WORK_CYCLES
        else:
            self._do("it starts")
            cycles = _START_CYCLES + _WORK_CYCLES
        instants = [chance.randrange(1, cycles) for _ in range(_INSTANTS)]
        bench.pico.watch_cuts(instants, self._keep_cut)
        self._arm(chance, cycles)
        bench.power_on()
        if bench.powered:
            try:
                self._work(chance)
            except CisternaError as error:  # of the cut, if it came
                _expect(not bench.powered, str(error))
        if bench.powered:
            bench.disarm_cut()
            bench.cut_power()
        self._keep_cut(bench.pico.flash_image())
        *copies, end = self._cuts
        most = 0
        wrong: list[tuple[int, str]] = []
        for place, cut in enumerate(copies, 1):
            try:
                most = max(most, self._judge(cut, f"{number}.{place}", False)["added_steps"])
            except (Wrong, CisternaError) as error:
                wrong.append((place, str(error)))
        found = self._judge(end, f"{number}.0", number % _FULL_LOG_EVERY == 0)
        self.settings = [
            (therapy, halted)
            for therapy, halted in end.settings
            if (therapy.rate_nl_day, therapy.low_mark_nl, halted) == tuple(found["settings"])
        ][:1]
        self.refills = [(found["refill"][0], found["refill"][1])]
        self.over_steps = found["over_steps"]
        self.next_event = found["next_event"]
        return len(self._cuts), max(most, found["added_steps"]), wrong

    def _do(self, text: str) -> None:
        self._doing = text
        self._say(text)

    def _keep_cut(self, flash: bytes) -> None:
        """Called inside the emulator, too."""
        self._cuts.append(
            _Cut(
                flash[FILES_AT:],
                self.bench.truth(),
                self.settings,
                self.refills,
                self._bolus,
                self._doing,
            )
        )

    def _arm(self, chance: random.Random, cycles: int) -> None:
        kind = chance.randrange(10)
        if kind < 7:
            cycle = chance.randrange(1, cycles)
            self._say(f"to be cut after {cycle} cycles of the processor")
            self.bench.cut_power_at(cycle=cycle)
        elif kind < 9:
            operation = chance.randrange(1, 16)
            torn = chance.choice((None, *TORN_PROGRAMS, *TORN_ERASES))
            self._say(f"to be cut at flash operation {operation}, torn: {torn}")
            self.bench.cut_power_at(flash_op=operation, torn=torn)
        else:
            us = chance.randrange(1, _WORK_S * 1_000_000)
            self._say(f"to be cut after {us} us")
            self.bench.cut_power_at(us=us)

    def _work(self, chance: random.Random) -> None:
        """The start is over: the pump is asked, used, and left alone, until the cut."""
        self._do("it started, and is asked")
        self._ask(chance.choice((0, 0, _BACK_S)))
        with self.bench.programmer() as pump:
            self._act(pump, chance)
            self._do(f"after {self._doing}")
        for _ in range(_WORK_S):
            if self.bench.powered:
                self.bench.advance(seconds=chance.random() * 2)

    def _act(self, pump: Programmer, chance: random.Random) -> None:
        """One command, or none."""
        old, halted = self.settings[0]
        what = "resume" if halted else chance.choice(_ACTS)
        if self.bench.truth()["residual_pl"] < _LOW_PL:
            what = "refill"
        self._do(f"command: {what}")
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
            elif what == "refill":
                count, _ = self.refills[0]
                aspirated_nl = self.bench.refill_reservoir(_CAPACITY_NL)
                self.refills = [self.refills[0], (count + 1, _CAPACITY_NL * 1000)]
                pump.refill(aspirated_nl, _CAPACITY_NL)
                self.refills = [self.refills[1]]
            elif what == "bolus":
                self._bolus = True
                pump.bolus("10 uL", over="40 s")

    # -- judging ------------------------------------------------------------------------------

    def _ask(self, seconds: int) -> None:
        """The emulated Pico came through its start: it must say what the copy said, and in the
        next ``seconds`` deliver what is prescribed. Raises Wrong."""
        bench = self.bench
        with bench.programmer() as pump:
            step_pl = pump.status().step_pl
            before = bench.truth()["steps"]
            reported = pump.account().lifetime_pl // step_pl
            after = bench.truth()["steps"]
            status = pump.status()
            _expect(not status.fault, f"fault {status.fault}: {status.fault_text}")
            _expect(status.bolus_pl == 0, "a bolus goes on")
            least, most = reported - after, reported - before  # a pulse may come while it is asked
            _expect(
                least <= self.over_steps <= most,
                f"it says {least} to {most} steps too much, the copy said {self.over_steps}",
            )
            therapy, halted = pump.prescription(), status.stop_reason == 3
            _expect((therapy, halted) in self.settings, f"{therapy}, {halted}: not old nor new")
            if seconds:
                steps = bench.truth()["steps"]
                bench.advance(seconds=seconds)
                if not bench.powered:
                    return
                steps = bench.truth()["steps"] - steps
                rate = 0 if halted or therapy is None else therapy.rate_nl_day
                due = rate * 1000 * seconds // 86_400 // step_pl
                _expect(due - 1 <= steps <= due + 2, f"{steps} steps in {seconds} s, {due} due")
        self.asked += 1

    def _judge(self, cut: _Cut, name: str, all_records: bool) -> dict[str, Any]:
        """A pump starts on a copy of the flash. What it found; raises Wrong."""
        work = self._folder / "copy"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / "flash.bin").write_bytes(cut.flash)
        request: dict[str, Any] = {
            "number": int(name.split(".")[0]),
            "settings": [
                (therapy.rate_nl_day, therapy.low_mark_nl, halted)
                for therapy, halted in cut.settings
            ],
            "refills": cut.refills,
            "in_bolus": cut.bolus,
            "next_event": self.next_event,
            "over_steps": self.over_steps,
            "plant": cut.plant,
            "all_records": all_records,
        }
        found = next(vm_runs.run("power_image", request, work))
        self._say(
            f"cut {name}, while: {cut.doing}, after {cut.plant['pulses']} pulses: "
            + (
                found["why"]
                or f"settings {found['settings']}, {found['added_steps']} steps more too much;"
                f" log: {', '.join(found['events']) or 'nothing new'}"
            )
        )
        _expect(not found["why"], found["why"])
        return found


class EmulatedPowerCut(Campaign):
    """Random cuts on images of the emulated Pico that go on living."""

    name = "powercut"
    bench = "emulated"

    def batches(self) -> list[Batch]:
        """Segments of the images in turn, so that two workers have one each."""
        found: list[Batch] = []
        for first in range(1, self._each + 1, _SEGMENT):
            for image in range(_IMAGES[self.setting]):
                numbers = range(first, min(first + _SEGMENT, self._each + 1))
                cases = tuple(self._case(image * self._each + number) for number in numbers)
                after = len(found) - _IMAGES[self.setting] if first > 1 else -1
                found.append(Batch(cases, after=after, weight=len(cases)))
        return found

    @property
    def _each(self) -> int:
        """Lives of one image."""
        return _LIVES[self.setting] // _IMAGES[self.setting]

    def _case(self, number: int) -> str:
        return f"powercut:{self.seed}:PWR-4-emulated:{number}"

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        wanted = set(cases)
        number = int(cases[0].split(":")[3])
        yield from (each for each in self._segment(number, folder) if each.case in wanted)

    def _place(self, number: int) -> tuple[int, int]:
        """(image, segment of it) that life ``number`` belongs to, from 0."""
        return (number - 1) // self._each, (number - 1) % self._each // _SEGMENT

    def _segment(
        self,
        number: int,
        folder: Path,
        say: Callable[[int, str], None] = lambda number, text: None,
    ) -> Iterator[Result]:
        """The lives of the segment with life ``number``, from the image that the one before
        left."""
        image, segment = self._place(number)
        work = folder / f"image-{image + 1}-{segment + 1}"
        shutil.rmtree(work, ignore_errors=True)
        if segment:
            shutil.copytree(folder / f"image-{image + 1}-{segment}", work)
        first = image * self._each + segment * _SEGMENT + 1
        last = min(first + _SEGMENT - 1, (image + 1) * self._each)
        now = [first]  # the life that goes on

        def tell(text: str) -> None:
            say(now[0], text)

        pump = _Pump(work, self.seed + image, tell)
        try:
            for number in range(first, last + 1):
                now[0] = number
                chance = random.Random(self.seed * 1_000_003 + number)
                case = self._case(number)
                asked = pump.asked
                try:
                    cuts, over_steps, wrong = pump.live(number, chance)
                    figures = {"over_steps": over_steps, "asked": pump.asked - asked}
                    told = tuple((f"{case}.{place}", why) for place, why in wrong)
                    yield Result(case, runs=cuts, failures=told, figures=figures)
                except (Wrong, CisternaError) as error:
                    tell(f"wrong: {error}")
                    yield Result(case, failures=((case, str(error)),))
                    pump.bench.close()  # from here on a new image
                    shutil.rmtree(work, ignore_errors=True)
                    pump = _Pump(work, self.seed + image, tell)
            pump.bench.cut_power()
            pump.keep()
        finally:
            pump.bench.close()

    def evidence(self, results: list[Result]) -> list[Evidence]:
        found = failures(results)
        cuts = sum(each.runs for each in results)
        asked = sum(each.figures.get("asked", 0) for each in results)
        return [
            Evidence(
                "PWR-4",
                f"emulated Pico: {_CUTS['full']:,} random cuts at any instruction, 0 failures",
                f"{cuts:,} cuts, {len(found)} failures; {_IMAGES[self.setting]} images lived on"
                f" after {len(results)} of them, {asked} starts were asked on the Pico itself;"
                f" the account at most {largest(results, 'over_steps')} steps too high because of"
                " one",
                not found and cuts >= _CUTS[self.setting],
                self.setting == "quick",
            )
        ]

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        """All of a life is told; the verdict is that of the cut named, N.M, or of all."""
        parts = case_parts(case, self.name, 4)
        life, _, place = parts[3].partition(".")
        if parts[2] != "PWR-4-emulated" or not life.isdigit() or life == "0":
            raise UsageError(f"{quoted(case)} is no cut of the emulated Pico")
        self.seed, number = int(parts[1]), int(life)
        image, segment = self._place(number)
        for earlier in range(segment):
            first = image * self._each + earlier * _SEGMENT + 1
            if not (folder / f"image-{image + 1}-{earlier + 1}" / "pump.json").is_file():
                yield f"the image lives to the end of life {first + _SEGMENT - 1}"
                for _ in self._segment(first, folder):
                    pass
        told: list[str] = []
        verdict = "this life was not reached"
        for result in self._segment(
            number, folder, lambda at, text: told.append(text) if at == number else None
        ):
            if result.case == self._case(number):
                wrong = [why for name, why in result.failures if not place or name == case]
                verdict = "; ".join(wrong) or "all holds"
                break
        yield from told
        yield f"verdict: {verdict}"
