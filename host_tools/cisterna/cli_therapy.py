"""Subcommands that move drug or settings: program, bolus, stop, resume, refill, clock."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from cisterna import finding, ordering, screens, units
from cisterna.amounts import (
    format_dose_rate,
    format_duration,
    format_rate,
    format_volume_nl,
)
from cisterna.bench import DAY_US
from cisterna.cli_options import Json, Port, Yes, emit, progress
from cisterna.dose import number
from cisterna.errors import CisternaError, Interrupted, Refused, UsageError, quoted
from cisterna.guard import Guard, guard
from cisterna.interrogation import Interrogation, interrogate, therapy_data
from cisterna.mixture import CONCENTRATION_HIGH_NG_ML, Drug, Mixture, mixed
from cisterna.ordering import Order, Typed
from cisterna.prescription import (
    LoadedPrescription,
    PrescriptionError,
    Therapy,
    dumps,
    load,
    shipped,
)
from cisterna.prescription_v2 import dated
from cisterna.programmer import (
    SOFT_ASKS,
    Account,
    Done,
    Outlook,
    Prepared,
    Programmer,
    Status,
    Values,
    local_offset_min,
)
from cisterna.run_samples import plain
from pump_wire import messages

# Octets of the reason for no bridge bolus that the pump keeps.
_WHY = next(int(kind[1:]) for name, kind, *_ in messages.SET_PRESCRIPTION.request if name == "why")
# What a pump does not keep of the file that it was programmed with.
_NOT_EXPORTED = (
    "# As the pump has it. It keeps no profile, and of the stability the date, not days or fill: "
    "see\n# to both before it is programmed again."
)
_LOOK_EVERY_S = 1.0  # while watching a bolus

# Echo, prescription in force, stopped by command, bolus running.
_ProgramBasis = tuple[Values, Therapy | None, bool, bool]


def _load(name: str) -> LoadedPrescription:
    """A prescription file; or one that ships with Cisterna, by its name."""
    known = shipped()
    path = known[name] if name in known and not Path(name).exists() else name
    try:
        return load(path)
    except PrescriptionError as error:
        if not Path(path).exists():
            error.remedy = f"shipped: {', '.join(known)}"
        raise


def program(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="A prescription file, or one that ships with Cisterna: baclofen, morphine ...",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only read the file; no pump is needed.")
    ] = False,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write what the pump runs as a prescription file; - for stdout."
        ),
    ] = None,
    confirm_total: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help='The new 24-h total, "100 ug/day": needed when a dose changes by more than 20 %; '
            "with all patient boluses, where only that one does.",
        ),
    ] = None,
    accept_warnings: Annotated[
        bool,
        typer.Option(help="Soft limits, and concentrations that are not the reservoir's."),
    ] = False,
    bridge: Annotated[
        bool, typer.Option(help="A changed concentration begins with a bridge bolus.")
    ] = False,
    no_bridge_because: Annotated[
        str | None, typer.Option(metavar="WHY", help="It does not, and why; kept by the pump.")
    ] = None,
    yes: Yes = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Program a prescription, or export the one in force.

    It is shown beside the one in force, checked by the pump, confirmed, read back and compared.
    Where a dose changes by more than 20 % the new 24-h total must be typed; --yes does not stand
    for it.
    """
    if (file is None) == (export is None):
        raise UsageError(
            "give a prescription file to program, or --export and where to write one",
            remedy="see: cisterna program --help",
        )
    if export is not None:
        _export(export, port, as_json)
        return
    loaded = _load(str(file))
    if check:
        _show_checked(loaded, as_json)
        return
    answers = _Answers(confirm_total, accept_warnings, bridge, no_bridge_because)
    _program(str(file), loaded, answers, port, yes, as_json)


def start_program(
    name: str,
    port: str | None,
    yes: bool,
    as_json: bool,
    *,
    confirm_total: str | None,
    accept_warnings: bool,
    bridge: bool,
) -> None:
    """Program a file, or a prescription that ships, as ``cisterna program`` does."""
    answers = _Answers(confirm_total, accept_warnings, bridge, None)
    _program(name, _load(name), answers, port, yes, as_json)


@dataclass
class _Answers:
    """What the command line says ahead, and what was agreed to then."""

    confirm_total: str | None
    accept_warnings: bool
    bridge: bool
    no_bridge: str | None
    total_nl: int = 0
    agreed: int = 0

    def request(self) -> dict[str, Any]:
        """Answers as ``Programmer.prepare_program`` wants them."""
        answer = messages.NO_BRIDGE
        if self.bridge:
            answer = messages.BRIDGE
        elif self.no_bridge is not None:
            answer = messages.BRIDGE_REFUSED
        return {
            "total_nl": self.total_nl,
            "agreed": self.agreed,
            "bridge": answer,
            "why": self.no_bridge or "",
        }

    def check(self, asks: int, yes: bool) -> None:
        """Raise UsageError for what the pump asks and only the command line can answer."""
        if asks & messages.ASK_BRIDGE:
            raise UsageError(
                "the concentration changes: tubing and catheter still hold the old one",
                remedy="say --bridge, or --no-bridge-because and why",
            )
        _check_warnings(screens.ask_words(asks), self.accept_warnings or not yes)


def _check_warnings(warnings: list[str], accepted: bool) -> None:
    """Raise UsageError for warnings that nobody can agree to."""
    if warnings and not accepted:
        raise UsageError(
            "; ".join(warnings), remedy="agree on a terminal, or say --accept-warnings"
        )


def _program(
    name: str,
    loaded: LoadedPrescription,
    answers: _Answers,
    port: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    if answers.bridge and answers.no_bridge is not None:
        raise UsageError("--bridge and --no-bridge-because are two answers to one question")
    if answers.no_bridge is not None and not 0 < len(answers.no_bridge.strip().encode()) <= _WHY:
        raise UsageError(
            f"--no-bridge-because {quoted(answers.no_bridge)} is empty or too long",
            remedy=f'say why in at most {_WHY} octets: --no-bridge-because "another drug"',
        )
    shown = screens.console()
    therapies = [loaded.therapy]  # with the date its drugs expire, once the pump was asked
    before: list[Therapy | None] = []
    next_event: list[int] = []
    not_given_pl: list[int] = []
    verified: list[bool] = []
    guessed: list[bool] = []  # the day from which the drugs' stability counts is today

    def prepare(pump: Programmer) -> Prepared:
        if loaded.stability is not None and not therapies[0].stable_until_s:
            now = pump.status()
            now_s = now.wall_s or round(time.time())
            refilled_s = _refilled_s(pump.account(), now, now_s)
            guessed[:] = [] if refilled_s else [True]
            therapies[:] = [dated(loaded.therapy, loaded.stability, refilled_s or now_s)]
        return pump.prepare_program(therapies[0], **answers.request())

    def show(pump: Programmer, prepared: Prepared, found: _ProgramBasis) -> None:
        therapy = therapies[0]
        screens.title(shown, f"{plain(name)} for {whose(pump)}")
        screens.change_screen(shown, found[1], therapy)
        screens.guard_screen(shown, guard(found[1], therapy))
        seen = interrogate(pump)
        rows = screens.bolus_ends(seen)
        if seen.status.stop_reason == messages.BY_COMMAND:
            rows.append(("Now", "stopped by command; stays stopped until cisterna resume"))
        if loaded.stability is not None:
            rows.append(("Stability", screens.stability_words(loaded.stability, bool(guessed))))
        rows += screens.bridge_rows(prepared.echo, answers.no_bridge)
        screens.rows(shown, rows)
        for text in loaded.notes:
            screens.note(shown, f"  note: {text}", "yellow")
        for text in screens.ask_words(prepared.echo["asks"] | answers.agreed):
            screens.note(shown, f"  WARNING: {text}", "bold red")
        screens.note(shown, "  The pump checked it and can run it.")

    def basis(pump: Programmer, prepared: Prepared) -> _ProgramBasis:
        before[:] = [pump.prescription()]
        status = pump.status()
        next_event[:] = [status.next_event]
        stopped = status.stop_reason == messages.BY_COMMAND
        echo = {key: value for key, value in prepared.echo.items() if key != "asks"}
        _same_totals(echo, guard(before[0], therapies[0]))
        answers.check(prepared.echo["asks"], yes)
        return echo, before[0], stopped, status.mode == messages.SINGLE_BOLUS

    def typed(found: _ProgramBasis) -> Typed:
        seen = guard(found[1], therapies[0])
        what = "With all patient boluses the" if seen.with_patient else "The"
        return Typed(
            seen.must_be_typed,
            f"{what} dose changes by more than 20 %. Type the new {seen.asks_for}, as 100 ug/day:",
            seen.check,
            f'--confirm-total "{format_dose_rate(seen.typed_total.mass_ng, digits=3)}", the new '
            f"{seen.asks_for}, if that is what you mean",
        )

    def agree(prepared: Prepared) -> None:
        answers.total_nl = therapies[0].total_nl
        answers.agreed |= prepared.echo["asks"] & SOFT_ASKS

    def after(pump: Programmer, done: Done) -> None:
        pump.verify(therapies[0])
        verified.append(True)
        not_given_pl[:] = [not_given(pump, next_event[0], done)]

    order = Order(
        messages.SET_PRESCRIPTION,
        prepare,
        basis,
        show,
        "Program it?",
        after,
        typed,
        agree,
    )
    prepared, done, now = ordering.carry_out(
        order, port, yes=yes, as_json=as_json, typed=answers.confirm_total
    )
    if as_json:
        stability = loaded.stability
        emit(
            {
                **ordering.done_data(prepared, done, now),
                "verified": bool(verified),
                "prescription": therapy_data(therapies[0]),
                "previous": therapy_data(before[0]),
                "guard": guard(before[0], therapies[0]).as_data(),
                "stability": None
                if stability is None
                else {
                    "days": stability.days,
                    "source": stability.source,
                    "overridden": stability.overridden,
                },
                "profile": loaded.profile,
                "bolus_not_given_pl": not_given_pl[0] if not_given_pl else None,
                "notes": list(loaded.notes),
            }
        )
    else:
        what = "Programmed and verified" if verified else "Programmed, NOT verified"
        text = f"{what} (record {done.event})." + _bolus_words(not_given_pl)
        if now.status is not None and now.status.stop_reason == messages.BY_COMMAND:
            text += " The pump stays stopped until cisterna resume."
        screens.outcome(shown, text, *now)


def _refilled_s(account: Account, now: Status, now_s: int) -> int:
    """Wall time of the last refill as the pump has it, or has kept the time since; 0: unknown, or
    there was none. ``now_s``: wall time of ``now``."""
    if account.refill_wall_s or not account.refill_uptime_us:
        return account.refill_wall_s
    since_s = (now.uptime_us - account.refill_uptime_us) // 1_000_000
    return now_s - since_s


def _same_totals(echo: Values, ours: Guard) -> None:
    """Raise CisternaError where the pump works out other 24-h totals than this programmer, or
    another change of them."""
    for field, therapy in (("old_total_nl", ours.old), ("new_total_nl", ours.new)):
        total_nl = 0 if therapy is None else therapy.total_nl
        if echo[field] != total_nl:
            raise CisternaError(
                f"the pump works out a 24-h total of {format_volume_nl(echo[field])}, this "
                f"programmer one of {format_volume_nl(total_nl)}: nothing was changed"
            )
    if echo["change_ppm"] != ours.change_ppm:
        raise CisternaError(
            f"the pump works out that the dose changes by {echo['change_ppm']} ppm, this "
            f"programmer by {ours.change_ppm} ppm: nothing was changed"
        )


def not_given(pump: Programmer, first: int, done: Done) -> int:
    """What a bolus that ended early did not give, by the records from ``first`` to ``done``."""
    return sum(
        event.value
        for event in pump.events(first)
        if event.name == "bolus_ended_early" and event.sequence <= done.event
    )


def _bolus_words(not_given_pl: list[int]) -> str:
    """``not_given_pl``: what ``not_given`` found; empty where it could not be read."""
    if not sum(not_given_pl):
        return ""
    return f" The bolus has ended: {screens.microlitres(sum(not_given_pl))} of it were not given."


def whose(pump: Programmer) -> str:
    """Which pump it is, in words."""
    return f"pump {pump.identity.serial.hex()} on {plain(pump.session.link.name)}"


def _show_checked(loaded: LoadedPrescription, as_json: bool) -> None:
    if as_json:
        emit({"prescription": therapy_data(loaded.therapy), "notes": list(loaded.notes)})
        return
    shown = screens.console()
    screens.therapy_screen(shown, loaded.therapy, loaded.notes)
    if loaded.profile is not None:
        screens.rows(shown, [("Pump profile", loaded.profile)])
    if loaded.stability is not None:
        screens.rows(shown, [("Stability", screens.stability_words(loaded.stability))])
    screens.good(shown, "The file is a prescription; no pump was asked.")


def _export(where: str, port: str | None, as_json: bool) -> None:
    with finding.open_pump(port) as pump:
        therapy = pump.prescription()
    if therapy is None:
        raise CisternaError(
            "the pump has no prescription to export", remedy="program one: cisterna program FILE"
        )
    first, rest = dumps(therapy).split("\n", 1)
    text = f"{first}\n{_NOT_EXPORTED}\n{rest}"
    if where != "-":
        try:
            with Path(where).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            raise CisternaError(
                f"{where} exists; it was not overwritten", remedy="name another file"
            ) from error
    if as_json:
        data = {"prescription": therapy_data(therapy), "file": None if where == "-" else where}
        emit({**data, "text": text})
    elif where == "-":
        print(text, end="")
    else:
        screens.good(screens.console(), f"What the pump runs is in {where}.")


def _limits(message: messages.Message, field: str) -> tuple[int, int]:
    """Range of a number in ``message``'s request."""
    for name, _, low, high, _ in message.request:
        if name == field and low is not None and high is not None:
            return low, high
    raise ValueError(f"{message.name} has no number {field}")


def bolus(
    dose: Annotated[
        str | None, typer.Argument(metavar="DOSE", help='A mass or a volume: "10 ug", "20 uL".')
    ] = None,
    over: Annotated[
        str | None, typer.Option(metavar="TIME", help='Time to deliver it in: "10 min".')
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the running bolus.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the bolus is done.")] = False,
    accept_warnings: Annotated[
        bool, typer.Option("--accept-warnings", help="A bolus above the soft limit.")
    ] = False,
    yes: Yes = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Give a single bolus over a time, or end one.

    It takes the place of the basal rate, which then goes on. A mass becomes a volume by the
    concentration that the pump has.
    """
    if cancel:
        if dose is not None or over is not None or watch or accept_warnings:
            raise UsageError("--cancel ends the running bolus and takes no dose or other option")
        _cancel_bolus(port, yes, as_json)
        return
    if dose is None:
        raise UsageError("which dose?", 'give one: cisterna bolus "10 ug" --over "10 min"')
    _check_dose(dose)
    if over is None:
        raise UsageError(
            f"over which time is {quoted(dose)} to be given?", 'give it: --over "10 min"'
        )
    over_us = units.parse_duration(
        over, *_limits(messages.START_BOLUS, "duration_us"), name="--over"
    )
    _bolus(dose, over_us, accept_warnings, port, yes, as_json)
    if watch:
        _watch_bolus(port)


def _check_dose(dose: str) -> None:
    low_nl, high_nl = _limits(messages.START_BOLUS, "volume_nl")
    if units.parse_dose(dose).kind == "volume":
        units.parse_volume(dose, low_nl, high_nl, name="dose")
    else:
        units.parse_mass(dose, 1, name="dose")


def _bolus(
    dose: str, over_us: int, accept_warnings: bool, port: str | None, yes: bool, as_json: bool
) -> None:
    shown = screens.console()
    therapies: list[Therapy] = []
    agreed: list[int] = []
    limits: list[str] = []  # that cut it

    def prepare(pump: Programmer) -> Prepared:
        volume_nl = pump.dose_volume_nl(dose)
        highest_nl = _limits(messages.START_BOLUS, "volume_nl")[1]
        if volume_nl > highest_nl:
            raise UsageError(
                f"dose {quoted(dose)} is {format_volume_nl(volume_nl)} at the pump's "
                f"concentration, above the highest allowed, {format_volume_nl(highest_nl)}",
                remedy="give a smaller dose, or check its unit",
            )
        return pump.prepare_bolus(volume_nl, over_us, agreed=sum(agreed))

    def basis(pump: Programmer, prepared: Prepared) -> tuple[Values, Therapy | None]:
        therapy = pump.prescription()
        therapies[:] = [therapy] if therapy else []
        limits[:] = _cut_by(pump.outlook(), prepared.echo, therapy) if therapy else []
        soft = _soft_words(prepared.echo["asks"], prepared.echo, therapy)
        _check_warnings(soft, accept_warnings or not yes)
        return {key: value for key, value in prepared.echo.items() if key != "asks"}, therapy

    def show(pump: Programmer, prepared: Prepared, found: tuple[Values, Therapy | None]) -> None:
        screens.title(shown, f"Bolus from {whose(pump)}")
        echo, therapy = found
        screens.rows(shown, _bolus_rows(dose, over_us, echo, therapy, interrogate(pump)))
        if echo["cut_nl"]:
            screens.rows(shown, [("Cut", screens.cut_words(echo, therapy, limits))])
        for text in _soft_words(prepared.echo["asks"] | sum(agreed), echo, therapy):
            screens.note(shown, f"  WARNING: {text}", "bold red")
        screens.note(shown, "  The pump checked it and can give it.")

    def agree(prepared: Prepared) -> None:
        agreed.append(prepared.echo["asks"] & SOFT_ASKS)

    order = Order(messages.START_BOLUS, prepare, basis, show, "Give it?", agree=agree)
    prepared, done, now = ordering.carry_out(order, port, yes=yes, as_json=as_json)
    if as_json:
        masses = therapies[0].mixture.masses_data(done.echo["volume_nl"]) if therapies else None
        mass_ng = masses[0]["mass_ng"] if masses else None
        data = ordering.done_data(prepared, done, now)
        emit({**data, "mass_ng": mass_ng, "masses": masses, "cut_by": limits})
    else:
        cut_nl = done.echo["cut_nl"]
        rest = f": {format_volume_nl(cut_nl)} of what was asked for will not be given"
        text = f"Started (record {done.event}){rest if cut_nl else ''}."
        screens.outcome(shown, text, *now)


def _cut_by(ahead: Outlook, echo: Values, therapy: Therapy) -> list[str]:
    """The fields of ``therapy`` with the limits that may have cut a bolus: without those that
    leave more than is given even with what the basal programme gives at the most."""
    used_nl = {"hour_nl": ahead.hour_pl // 1000, "day_nl": ahead.day_pl // 1000}
    least_nl = therapy.least_limits_nl
    set_here = [name for name in used_nl if getattr(therapy, name)]
    close = [
        name
        for name in set_here
        if getattr(therapy, name) - used_nl[name] - least_nl[name] <= echo["volume_nl"]
    ]
    return (close or set_here) if echo["cut_nl"] else []


def _soft_words(asks: int, echo: Values, therapy: Therapy | None) -> list[str]:
    """What must be agreed to before a bolus, with the soft limit."""
    if therapy is None or not asks & messages.ASK_SOFT_BOLUS:
        return screens.ask_words(asks)
    given, limit = (
        f"{format_volume_nl(volume_nl)} = {screens.masses_words(therapy, volume_nl, 6)}"
        for volume_nl in (echo["volume_nl"], therapy.soft_bolus_nl)
    )
    return [f"the bolus, {given}, is above the soft limit, {limit}"]


def _bolus_rows(
    dose: str, over_us: int, echo: Values, therapy: Therapy | None, seen: Interrogation
) -> list[tuple[str, screens.Value]]:
    volume_nl, rate = echo["volume_nl"], echo["rate_nl_day"]
    given = format_volume_nl(volume_nl)
    if therapy is not None:
        given += f" = {screens.masses_words(therapy, volume_nl, 6, named=True)}"
    during = format_rate(rate, digits=6)
    basal = seen.basal_rate_nl_day
    if basal:
        during += f", {_times(Fraction(rate, basal))} the basal {format_rate(basal)}"
    usual_nl = Fraction(basal * echo["duration_us"], DAY_US)
    unit = "mL" if volume_nl >= 1_000_000 else "uL"
    usual = format_volume_nl(
        usual_nl, _places(usual_nl / (1_000_000 if unit == "mL" else 1000)), unit
    )
    instead = f"{format_volume_nl(volume_nl, unit=unit)} instead of {usual} in this time"
    after_pl = seen.account.residual_pl - volume_nl * 1000
    return [
        ("Asked for", f"{dose} over {format_duration(over_us)}"),
        ("Volume", given),
        ("Time", format_duration(echo["duration_us"], digits=3)),
        ("Rate", during),
        ("", f"in place of the basal rate: {instead}"),
        ("Residual after it", f"{screens.volume(after_pl)} expected"),
        *screens.not_prescribed_rows(therapy, seen.reservoir),
    ]


def _times(factor: Fraction) -> str:
    return f"{units.exact_decimal(factor, digits=_places(factor))} times"


def _places(value: Fraction) -> int:
    """Decimals that show at least three significant digits of ``value``."""
    places = 0
    while value and abs(value) * 10**places < 100:
        places += 1
    return places


def _cancel_bolus(port: str | None, yes: bool, as_json: bool) -> None:
    shown = screens.console()
    not_given_pl: list[int] = []

    def show(pump: Programmer, _: Prepared, __: None) -> None:
        screens.title(shown, f"End the bolus of {whose(pump)}")
        screens.rows(shown, [("Bolus", screens.bolus_progress(interrogate(pump)))])

    def after(pump: Programmer, done: Done) -> None:
        # A step may have come since it was prepared: the record has what was left in the end.
        not_given_pl[:] = [not_given(pump, max(done.event - 1, 0), done)]

    order: Order[None] = Order(
        messages.CANCEL_BOLUS,
        lambda pump: pump.prepare(messages.CANCEL_BOLUS, {}),
        lambda _pump, _prepared: None,
        show,
        "End it?",
        after,
    )
    prepared, done, now = ordering.carry_out(order, port, yes=yes, as_json=as_json)
    left_pl = sum(not_given_pl) or done.echo["left_pl"]
    if as_json:
        emit({**ordering.done_data(prepared, done, now), "bolus_not_given_pl": left_pl})
    else:
        left = screens.microlitres(left_pl)
        text = f"Ended (record {done.event}): {left} of it will not be given."
        screens.outcome(shown, text, *now)


def _watch_bolus(port: str | None) -> None:
    """Show how a bolus goes until it is done; the pump is free in between."""
    try:
        ordering.take_interrupts()
        with progress("bolus") as tell:
            while True:
                with finding.open_pump(port) as pump:
                    status = pump.status()
                if not status.bolus_pl:
                    return
                tell(status.bolus_pl - status.bolus_left_pl, status.bolus_pl)
                time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt as interrupt:
        raise Interrupted("the bolus goes on; end it with cisterna bolus --cancel") from interrupt


def _stop_or_resume(
    message: messages.Message,
    basis: Callable[[Programmer, Prepared], Any],
    show: Callable[[Programmer, Prepared, Any], None],
    question: str,
    port: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    not_given_pl: list[int] = []

    def after(pump: Programmer, done: Done) -> None:
        # A stop that ends a bolus notes that, then the mode, then itself.
        first = max(done.event - 2, 0)
        ended = message is messages.STOP
        not_given_pl[:] = [not_given(pump, first, done) if ended else 0]

    order = Order(message, lambda pump: pump.prepare(message, {}), basis, show, question, after)
    prepared, done, now = ordering.carry_out(order, port, yes=yes, as_json=as_json)
    if as_json:
        data = ordering.done_data(prepared, done, now)
        emit({**data, "bolus_not_given_pl": not_given_pl[0] if not_given_pl else None})
    else:
        text = f"Done (record {done.event})." + _bolus_words(not_given_pl)
        screens.outcome(screens.console(), text, *now)


def stop(yes: Yes = False, port: Port = None, as_json: Json = False) -> None:
    """Stop delivery until resumed.

    Also across a restart of the pump. A running bolus ends.
    """
    shown = screens.console()

    def show(pump: Programmer, _: Prepared, __: Any) -> None:
        seen = interrogate(pump)
        screens.title(shown, f"Stop {whose(pump)}")
        now = f"{seen.status.mode_name}, {screens.rate_now(seen)}"
        then = "stopped, no drug, until cisterna resume"
        screens.rows(shown, [("Now", now), *screens.bolus_ends(seen), ("Then", then)])

    _stop_or_resume(
        messages.STOP, lambda _pump, _prepared: None, show, "Stop it?", port, yes, as_json
    )


def resume(yes: Yes = False, port: Port = None, as_json: Json = False) -> None:
    """Leave stopped and run the prescription again."""
    shown = screens.console()

    def show(pump: Programmer, prepared: Prepared, _: Any) -> None:
        screens.title(shown, f"Resume {whose(pump)}")
        mode = screens.mode_words(prepared.echo["mode"])
        therapy = pump.prescription()
        rate_nl_day = prepared.echo["rate_nl_day"]
        rate = screens.rate_words(rate_nl_day, therapy.capacity_nl if therapy else None)
        if pump.outlook().bridge:
            rate += " of the old drug"
        elif therapy is not None and rate_nl_day:
            rate += f" = {screens.doses_words(therapy, rate_nl_day)}"
        screens.rows(shown, [("Then", f"{mode}, {rate}")])

    _stop_or_resume(
        messages.RESUME,
        lambda pump, prepared: (prepared.echo, pump.prescription()),
        show,
        "Resume it?",
        port,
        yes,
        as_json,
    )


def refill(
    measured: Annotated[
        str,
        typer.Option(metavar="VOLUME", help="Residual volume that was aspirated and measured."),
    ],
    fill: Annotated[str, typer.Option(metavar="VOLUME", help="Volume put in.")],
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why: scheduled, early, first fill ...")
    ] = "scheduled",
    drug: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DRUG",
            help='What was put in, "baclofen 2 mg/mL"; up to four times. By default as before.',
        ),
    ] = None,
    left: Annotated[
        str, typer.Option(metavar="VOLUME", help="What was not aspirated and mixes with it.")
    ] = "0 mL",
    accept_warnings: Annotated[
        bool, typer.Option(help="Drugs or concentrations that are not the prescription's.")
    ] = False,
    yes: Yes = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Record a refill and start a new account.

    The pump compares the measured residual volume with the expected one, and works out what is in
    the reservoir then: the fill, mixed with what was left in. Where that is not what is prescribed
    it is told, and --yes does not stand for it.
    """
    limits = {
        name: _limits(messages.RECORD_REFILL, f"{name}_nl")
        for name in ("measured", "fill", "rest")
    }
    measured_nl = units.parse_volume(measured, *limits["measured"], name="--measured")
    fill_nl = units.parse_volume(fill, *limits["fill"], name="--fill")
    rest_nl = units.parse_volume(left, *limits["rest"], name="--left")
    drugs = Mixture(tuple(_drug(text) for text in drug)) if drug else None
    shown = screens.console()
    accounts: list[Account] = []
    inside: list[Drug] = []

    def basis(pump: Programmer, prepared: Prepared) -> tuple[int, int, Therapy | None]:
        account, therapy = pump.account(), pump.prescription()
        accounts[:] = [account]  # it goes on while the user reads
        before = pump.reservoir()
        if rest_nl and not before and therapy is not None:
            before = therapy.mixture.drugs  # as the pump takes it
        inside[:] = _mixture(prepared.echo, drugs, fill_nl, before, rest_nl)
        return prepared.echo["flagged"], account.refills, therapy

    def show(pump: Programmer, prepared: Prepared, found: tuple[int, int, Therapy | None]) -> None:
        therapy = found[2]
        screens.title(shown, f"Refill of {whose(pump)}")
        screens.refill_screen(shown, prepared.echo, prepared.request, accounts[0], inside, therapy)
        if therapy is not None and therapy.stable_until_s:
            date = screens.wall(therapy.stable_until_s)
            screens.note(
                shown,
                f"  The prescription's drug expires on {date}: program it again for a later date.",
                "yellow",
            )

    def typed(found: tuple[int, int, Therapy | None]) -> Typed | None:
        """Nothing is typed, but --yes alone does not stand for a warning that was shown."""
        therapy = found[2]
        warning = "" if therapy is None else screens.not_prescribed_words(therapy, inside)
        if yes and warning and not accept_warnings:
            raise UsageError(warning, remedy="agree on a terminal, or say --accept-warnings")
        return None

    def prepare(pump: Programmer) -> Prepared:
        try:
            return pump.prepare_refill(measured_nl, fill_nl, reason, rest=rest_nl, drugs=drugs)
        except Refused as refusal:
            if (refusal.name, refusal.field) == ("above_limit", "rest_nl"):
                most, holds = (
                    format_volume_nl(nl) for nl in (refusal.limit, refusal.limit + fill_nl)
                )
                refusal.remedy = (
                    f"--left may be at most {most} with --fill {format_volume_nl(fill_nl)}: "
                    f"the reservoir holds {holds}"
                )
            raise

    order = Order(
        messages.RECORD_REFILL,
        prepare,
        basis,
        show,
        "Record it?",
        typed=typed,
    )
    prepared, done, now = ordering.carry_out(order, port, yes=yes, as_json=as_json)
    if as_json:
        held = [
            {"name": each.name, "concentration_ng_ml": number(Fraction(each.concentration_ng_ml))}
            for each in inside
        ]
        first = not accounts[0].refills
        emit({**ordering.done_data(prepared, done, now), "first": first, "reservoir": held})
    else:
        text = (
            f"Recorded (record {done.event}): the account starts at "
            f"{format_volume_nl(fill_nl + rest_nl)}."
        )
        screens.outcome(shown, text, *now)


def _drug(text: str) -> Drug:
    """ "baclofen 2 mg/mL". Raises UsageError."""
    name, _, concentration = text.strip().partition(" ")
    while concentration and not concentration[0].isdigit():
        more, _, concentration = concentration.partition(" ")
        name += f" {more}"
    if not concentration:
        raise UsageError(f"--drug {quoted(text)} is no name and concentration", "baclofen 2 mg/mL")
    high = CONCENTRATION_HIGH_NG_ML
    return Drug(name, units.parse_concentration(concentration, 1, high, name="--drug"))


def _mixture(
    echo: Values, fill: Mixture | None, fill_nl: int, before: tuple[Drug, ...], rest_nl: int
) -> list[Drug]:
    """What is in the reservoir then, as the pump says; empty where it does not know.

    Raises CisternaError where that is not what this programmer works out.
    """
    told = [echo[f"drug{number}_ng_ml"] for number in ("", "2", "3", "4")]
    if fill is None or (rest_nl and not before):
        return list(before) if fill is None else []
    ours = mixed(Mixture(before) if before else None, rest_nl, fill, fill_nl)
    for drug, said in zip(ours, told, strict=False):
        if abs(drug.concentration_ng_ml - said) > 1:
            raise CisternaError(
                f"the pump works out {said} ng/mL of {drug.name} in the reservoir, this "
                f"programmer {screens.exact_decimal(Fraction(drug.concentration_ng_ml), 3)}: "
                "nothing was changed"
            )
    return list(ours)


def clock(
    set_it: Annotated[
        bool, typer.Option("--set", help="Set the pump's wall time to this computer's.")
    ] = False,
    utc_offset: Annotated[
        str | None,
        typer.Option(
            metavar="+HH:MM",
            help="With --set: local time - UTC; by default this computer's. Flex steps use it.",
        ),
    ] = None,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Show or set the pump's wall time and time zone.

    Of delivery only flex steps use them; the log and the forecast do, too.
    """
    if utc_offset is not None and not set_it:
        raise UsageError("--utc-offset goes with --set")
    offset_min = local_offset_min() if utc_offset is None else _offset_min(utc_offset)
    earlier = finding.Earlier.END if set_it else finding.Earlier.TELL
    with finding.open_pump(port, earlier=earlier) as pump:
        done: Done | None = None
        if set_it:
            prepared = pump.prepare(
                messages.SET_CLOCK,
                {"wall_s": round(time.time()), "utc_offset_min": offset_min},
            )
            done = ordering.confirm(pump, prepared)
        seen = interrogate(pump)
    status, computer_s = seen.status, seen.computer_s
    pump_offset_min = seen.outlook.utc_offset_min if seen.outlook is not None else 0
    flex = screens.flex_clock_rows(seen)
    if as_json:
        emit(
            {
                "pump_s": status.wall_s or None,
                "utc_offset_min": pump_offset_min,
                "computer_s": computer_s,
                "uptime_us": status.uptime_us,
                "set": done is not None,
                "before_s": (done.echo["wall_s"] or None) if done else None,
                "event": done.event if done else None,
                "flex_in_time": None if seen.flex_wanted is None else not flex,
            }
        )
        return
    shown = screens.console()
    lines: list[tuple[str, screens.Value]] = [
        ("Pump", screens.clock_words(status.wall_s, computer_s)),
        ("Its local time", f"UTC{_offset_words(pump_offset_min)}"),
        ("This computer", screens.wall(computer_s, True)),
        *flex,
    ]
    if done is not None:
        lines.insert(0, ("Before", screens.wall(done.echo["wall_s"], True)))
    screens.rows(shown, lines)
    if done is not None:
        screens.good(shown, f"Set (record {done.event}).")


def _offset_min(text: str) -> int:
    """Minutes of "+02:00". Raises UsageError."""
    match = re.fullmatch(r"([+-])([01][0-9]):([0-5][0-9])", text)
    minutes = int(match[2]) * 60 + int(match[3]) if match else 0
    if match is None or minutes > 14 * 60:
        raise UsageError(
            f"--utc-offset {quoted(text)} is no offset from -14:00 to +14:00",
            "write it like +02:00",
        )
    return minutes if match[1] == "+" else -minutes


def _offset_words(offset_min: int) -> str:
    hours, minutes = divmod(abs(offset_min), 60)
    return f"{'-' if offset_min < 0 else '+'}{hours:02d}:{minutes:02d}"
