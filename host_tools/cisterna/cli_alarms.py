"""``cisterna alarms``: what is wrong with the pump, and what somebody does about it."""

from __future__ import annotations

from typing import Annotated

import typer

from cisterna import finding, screens, units
from cisterna.cli_options import Json, Port, emit, whole_number
from cisterna.errors import UsageError, quoted
from cisterna.interrogation import alarm_data
from cisterna.programmer import Alarms
from pump_wire import messages

_SECOND_US = 1_000_000
_PATTERNS = ("other", "critical", "announcement")  # as TONES


def alarms(
    silence: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='No tones for so long, such as "30 min".'),
    ] = None,
    ack: Annotated[
        str | None, typer.Option(metavar="N", help="Acknowledge alarm N of the list.")
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="TONES", help="Play once: critical, other or announcement."),
    ] = None,
    critical_every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='Critical alarms sound so often, "1 min" to "1 h".'),
    ] = None,
    others_every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='The others sound so often, "10 min" to "1 day".'),
    ] = None,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """List the pump's alarms; silence, acknowledge or try them.

    An alarm ends when its cause does. One that is acknowledged while its cause stands comes again
    after a day, and after a restart. Silence ends by itself; a new alarm sounds all the same.
    """
    given = [silence, ack, test, critical_every or others_every]
    if sum(each is not None for each in given) > 1:
        raise UsageError("more than one thing to do was given", "give one of them")
    number = whole_number(ack, "--ack")
    if test is not None and test not in _PATTERNS:
        raise UsageError(f"--test {quoted(test)}", f"one of: {', '.join(_PATTERNS)}")
    silence_s = _seconds(silence, "--silence", messages.SILENCE.request[0])
    critical_s, other_s = (
        _seconds(text, option, field)
        for text, option, field in zip(
            (critical_every, others_every),
            ("--critical-every", "--others-every"),
            messages.SET_ALARM_INTERVALS.request,
            strict=True,
        )
    )
    if critical_s is not None or other_s is not None:
        _set_intervals(critical_s, other_s, port, as_json)
        return
    with finding.open_pump(port) as pump:
        done = ""
        if silence_s is not None:
            count = pump.silence(silence_s)
            done = f"silenced {count} for {screens.span(silence_s * _SECOND_US)}"
        elif number is not None:
            stands = pump.acknowledge(number)
            again = "; its cause stands, so it comes again after a day" if stands else ""
            done = f"alarm {number} acknowledged{again}"
        elif test is not None:
            took_ms = pump.alarm_test(_PATTERNS.index(test))
            done = f"the {test} tones play, {took_ms / 1000:g} s"
        seen = pump.alarms()
    _show(seen, done, as_json)


def _seconds(
    text: str | None, option: str, field: tuple[str, str, int | None, int | None, str]
) -> int | None:
    """Whole seconds within the limits of ``field``. Raises UsageError."""
    if text is None:
        return None
    _, _, low, high, _ = field
    assert low is not None
    assert high is not None
    return units.parse_duration(text, low * _SECOND_US, high * _SECOND_US, name=option) // (
        _SECOND_US
    )


def _show(seen: Alarms, done: str, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "alarms": [alarm_data(alarm) for alarm in seen.listed],
                "action": messages.ACTIONS[seen.action],
                "critical_s": seen.critical_s,
                "other_s": seen.other_s,
            }
        )
        return
    shown = screens.console()
    if done:
        screens.good(shown, done)
    screens.rows(shown, screens.alarm_rows(seen.listed))
    screens.rows(
        shown,
        [
            ("They make the pump", messages.ACTIONS[seen.action]),
            (
                "Tones",
                f"critical every {screens.span(seen.critical_s * _SECOND_US)}, "
                f"others every {screens.span(seen.other_s * _SECOND_US)}",
            ),
        ],
    )


def _set_intervals(
    critical_s: int | None, other_s: int | None, port: str | None, as_json: bool
) -> None:
    with finding.open_pump(port, earlier=finding.Earlier.END) as pump:
        now = pump.alarms()
        pump.set_alarm_intervals(critical_s or now.critical_s, other_s or now.other_s)
        seen = pump.alarms()
    _show(seen, "set", as_json)
