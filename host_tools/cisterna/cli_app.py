"""The ``cisterna`` command: its subcommands with their examples, its errors and exit codes.

Exit codes: 0 done; 1 refused or failed; 2 usage; 3 no pump; 4 unknown outcome, or something failed
after the pump had carried the command out, which the text then says; 130 interrupted.
The reason is on stderr, what to do about it on the line below. With --json stdout holds exactly
one JSON document, for an error ``{"error", "remedy", "exit_code"}``, with "settled" where the
command ended because an earlier one, whose outcome was not known, was settled first.
"""

from __future__ import annotations

import importlib.metadata
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from cisterna import (
    cli_alarms,
    cli_benches,
    cli_campaigns,
    cli_catheter,
    cli_log,
    cli_monitor,
    cli_pairing,
    cli_patient,
    cli_reading,
    cli_therapy,
    ordering,
    units,
)
from cisterna.cli_options import EVERY_FRAME, OWN_FRAMES, emit, ignore_interrupts, say_why, traced
from cisterna.errors import CisternaError, Interrupted, OutcomeUnknown, Refused, UsageError
from cisterna.prescription import NOTICE
from cisterna.programmer import EarlierSettled, ReadBackDiffers
from cisterna.run_samples import plain
from pump_wire import messages

_DELIVERY_GOES_ON = "the pump goes on delivering what it delivered"
# Subcommands that ask nothing of one pump's delivery: nobody need be told that it goes on.
_NO_PUMP_TO_TELL_OF = ("sim", "demo", "ports", "log", "monitor", "report", "flash", "bench")

# Every subcommand in the order of the help, with its examples, one a line.
_COMMANDS: tuple[tuple[Callable[..., None], str], ...] = (
    (
        cli_benches.sim,
        """cisterna sim
        cisterna sim --pair --speed 1440 --state ~/pump
        cisterna sim --pair --json &""",
    ),
    (cli_benches.demo, "cisterna demo --out story"),
    (cli_reading.ports, "cisterna ports"),
    (
        cli_pairing.pair,
        """cisterna pair
        cisterna pair --role all
        cisterna pair --list
        cisterna pair --role patient --revoke""",
    ),
    (
        cli_reading.status,
        """cisterna status
        cisterna status --port /dev/ttyACM0
        cisterna status --settle
        cisterna status --json""",
    ),
    (
        cli_monitor.monitor,
        """cisterna monitor
        cisterna monitor --every "500 ms"
        cisterna monitor --json""",
    ),
    (
        cli_therapy.program,
        """cisterna program rx.toml
        cisterna program baclofen --check
        cisterna program rx.toml --yes --json
        cisterna program rx.toml --yes --confirm-total "120 ug/day"
        cisterna program --export rx.toml""",
    ),
    (
        cli_therapy.bolus,
        """cisterna bolus "10 ug" --over "10 min"
        cisterna bolus "20 uL" --over "1 h" --yes
        cisterna bolus --cancel""",
    ),
    (
        cli_patient.patient,
        """cisterna patient
        cisterna patient --bolus --yes""",
    ),
    (cli_therapy.stop, "cisterna stop"),
    (cli_therapy.resume, "cisterna resume --yes"),
    (
        cli_catheter.prime,
        """cisterna prime
        cisterna prime --supplied "89 cm" --trimmed "9 cm" --over "20 min" --yes""",
    ),
    (
        cli_catheter.bridge,
        """cisterna bridge
        cisterna bridge --start baclofen_2000
        cisterna bridge --cancel
        cisterna bridge --resume --yes""",
    ),
    (
        cli_therapy.refill,
        """cisterna refill --measured "0 mL" --fill "20 mL" --reason "first fill"
        cisterna refill --measured "3.2 mL" --fill "20 mL" --reason early
        cisterna refill --measured "2 mL" --fill "18 mL" --drug "baclofen 2 mg/mL" --reason new""",
    ),
    (
        cli_log.log,
        """cisterna log
        cisterna log --last 20 --follow
        cisterna log --event power_lost --since "3 days"
        cisterna log --faults --json""",
    ),
    (
        cli_alarms.alarms,
        """cisterna alarms
        cisterna alarms --silence "30 min"
        cisterna alarms --ack 117
        cisterna alarms --test critical
        cisterna alarms --critical-every "5 min" --others-every "2 h"
        cisterna alarms --json""",
    ),
    (
        cli_therapy.clock,
        """cisterna clock
        cisterna clock --set
        cisterna clock --set --utc-offset +02:00""",
    ),
    (cli_reading.report, "cisterna report --out today"),
    (
        cli_benches.flash,
        """cisterna flash --board rpi_pico
        cisterna flash --board rpi_pico --port /dev/ttyACM0 --profile sealed
        cisterna flash --remove --port /dev/ttyACM0""",
    ),
)


def _examples(lines: str) -> str:
    """Text below a subcommand's help; the \b keeps its lines as they are."""
    return "\n".join(("\b", "Examples:", *(f"  {line.strip()}" for line in lines.splitlines())))


app = typer.Typer(
    name="cisterna",
    help=f"Program and read a model of an intrathecal drug pump.\n\n{NOTICE}",
    epilog="Numbers carry units: 0.5 mL/day, 100 ug/day, 2 mg/mL, 10 min."
    "\n\nExit codes: 0 done, 1 refused or failed, 2 usage, 3 no pump, 4 unknown outcome.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help as plain text: it can be piped, searched and read aloud
    context_settings={"help_option_names": ["-h", "--help"]},
)


for _function, _lines in _COMMANDS:
    _told = OWN_FRAMES if _function is cli_benches.sim else EVERY_FRAME
    app.command(epilog=_examples(_lines))(traced(_function, _told))
for _function, _lines in (*cli_benches.BENCH_COMMANDS, *cli_campaigns.CAMPAIGNS):
    cli_benches.bench.command(epilog=_examples(_lines))(_function)
app.add_typer(
    cli_benches.bench,
    epilog=_examples(
        """cisterna bench speed --json
        cisterna bench powercut --full --report evidence
        cisterna bench calibrate --steps 5000 --water 22C 498.1mg 499.0mg 498.7mg"""
    ),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            version = importlib.metadata.version("cisterna")
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        print(
            f"cisterna {version}, wire version {messages.WIRE_VERSION}, "
            f"message table {messages.table_hash():08x}"
        )
        raise typer.Exit


@app.callback()
def _all(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


_REFUSAL_REMEDIES = {
    "no_prescription": "program one: cisterna program FILE",
    "bolus_running": "wait until it is done, or end it: cisterna bolus --cancel",
    "bad_token": "another program talked to the pump meanwhile; nothing was done, repeat",
    "token_expired": "nothing was done; repeat the command",
    "wrong_mode": "see what it does: cisterna status",
    "not_enough_drug": "give less, or refill first; cisterna status shows what is left",
    "no_such_alarm": "see which there are: cisterna alarms",
    "alarm_stands": "see which, and what to do about it: cisterna alarms",
    "lockout": "see when it is possible: cisterna patient",
    "patient_max": "see when it is possible: cisterna patient",
    "not_permitted": "the prescription must permit it: [patient]",
    "volume_limit": "see the limits: cisterna status",
    "no_bridge": "see: cisterna bridge",
    "bridge_running": "wait until it is done, or cancel it: cisterna bridge --cancel",
    "clock_not_set": "set it: cisterna clock --set",
    "not_agreed": "see what is asked: cisterna program --help",
    "bad_text": "give it text that is not blank, and no name twice",
}

# Of a field outside its limit: (refusal, field).
_LIMIT_REMEDIES = {
    ("above_limit", "measured_nl"): "measure again: with what was left in (--left) it cannot have "
    "held more than its capacity",
    ("above_limit", "fill_nl"): "put in no more than the prescribed capacity",
    ("above_limit", "bridge"): "leave --bridge and --no-bridge-because out",
    (
        "above_limit",
        "bridge_nl",
    ): "its rate fits one drug alone: go on with the last one first (cisterna bridge --resume), "
    "wait until that drug is out, or say why there is none: --no-bridge-because",
    ("below_limit", "fill_nl"): "put in more; a part of the reservoir cannot be used",
    ("below_limit", "capacity_nl"): "the reservoir holds more than that; correct the capacity",
    ("below_limit", "duration_us"): "give it more time: --over",
    ("below_limit", "rate_nl_day"): "a bolus takes the place of the basal rate: "
    "give it less time, or a larger dose",
    ("below_limit", "volume_nl"): "give a larger dose",
    (
        "below_limit",
        "catheter_nl",
    ): "a bridge bolus fills tubing and catheter: say in the file what "
    'they hold, [path] with tubing = "0.15 mL" and catheter = "0.176 mL" or segments',
    ("bad_text", "reason"): "say why in at most 32 octets: --reason scheduled",
    ("bad_text", "why"): "say why in at most 24 octets: --no-bridge-because",
}


def _remedy(error: CisternaError) -> str | None:
    if error.remedy is not None or not isinstance(error, Refused):
        return error.remedy
    if error.name == "fault_latched" and error.value in messages.FAULTS:
        return messages.FAULTS[error.value][2]
    by_limit = _LIMIT_REMEDIES.get((error.name, error.field))
    return by_limit or _REFUSAL_REMEDIES.get(error.name)


def _fail(
    text: str,
    remedy: str | None,
    code: int,
    as_json: bool,
    label: str = "error",
    more: Mapping[str, Any] | None = None,
) -> int:
    """Say why on stderr, what to do on the line below, and with --json both on stdout, and
    ``more``."""
    say_why(text, remedy, label)
    if as_json:
        emit({"error": plain(text), "remedy": remedy, "exit_code": code, **(more or {})})
    return code


def _interrupted(text: str, remedy: str | None, as_json: bool) -> int:
    ignore_interrupts()
    if sys.stderr.isatty():
        print(file=sys.stderr)  # the terminal wrote ^C on the line
    label = "interrupted" if text else ""
    return _fail(text or "interrupted", remedy, Interrupted.exit_code, as_json, label)


def _after_it_was_done(text: str, as_json: bool) -> int:
    """What went wrong when the pump had carried the command out: not to be repeated for that."""
    remedy = "do not repeat it: cisterna status shows what the pump does"
    code = OutcomeUnknown.exit_code
    return _fail(f"{ordering.carried_out()}; then: {text}", remedy, code, as_json)


def _usage(error: Any, arguments: Sequence[str], as_json: bool) -> int:
    """An error of the command line's form."""
    option = str(getattr(error, "option_name", "") or "")
    if len(option) > 1 and (option[1].isdigit() or option[1] in ".,"):
        for text in arguments:
            if text.startswith(option):  # a number with a sign, not an option
                try:
                    units.parse_dose(text, name="dose" if "bolus" in arguments else "number")
                except UsageError as refusal:
                    return _fail(str(refusal), refusal.remedy, 2, as_json)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "cisterna"
    return _fail(error.format_message(), f"see: {command} --help", error.exit_code, as_json)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Without ``arguments`` this process ends with it: from then on Ctrl-C changes nothing.
    """
    if arguments is None:
        code = _run(sys.argv[1:])
        ignore_interrupts()
        return code
    before = signal.getsignal(signal.SIGINT)
    try:
        return _run(arguments)
    finally:
        signal.signal(signal.SIGINT, before)


def _run(arguments: Sequence[str]) -> int:
    words = list(arguments)
    as_json = "--json" in words
    ordering.begin()
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(words or ["--help"], prog_name="cisterna", standalone_mode=False)
        ignore_interrupts()
    except OutcomeUnknown as error:
        return _fail(str(error), error.remedy, error.exit_code, as_json, "UNKNOWN OUTCOME")
    except Interrupted as error:  # it told its outcome before
        return _interrupted(str(error), error.remedy, as_json=False)
    except EarlierSettled as error:
        more = {"settled": plain(error.settled)}
        return _fail(str(error), error.remedy, error.exit_code, as_json, more=more)
    except CisternaError as error:
        if ordering.carried_out() and not isinstance(error, ReadBackDiffers):
            return _after_it_was_done(str(error), as_json)
        return _fail(str(error), _remedy(error), error.exit_code, as_json)
    except (KeyboardInterrupt, typer.Abort):
        code = Interrupted.exit_code
    except OSError as error:
        text = f"{error.filename or 'failed'}: {error.strerror or error}"
        if ordering.carried_out():
            return _after_it_was_done(text, as_json)
        return _fail(text, None, 1, as_json)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer says of a command line is no failure
            raise
        return _usage(error, words, as_json)
    if code == Interrupted.exit_code:
        name = next((word for word in words if not word.startswith("-")), "")
        text = "" if name in _NO_PUMP_TO_TELL_OF else _DELIVERY_GOES_ON
        return _interrupted(text, None, as_json)
    if not words:
        return UsageError.exit_code
    return code if isinstance(code, int) else 0
