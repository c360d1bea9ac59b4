"""What a command may do now and would come to; delivery lends it for one command."""

from pump.prescription import RATE_HIGH_NL_DAY, Refusal
from pump.schedule import DAY_US, UNITS_PER_NL, ceil_div
from pump_wire.messages import (
    ASK_SOFT_BOLUS,
    BRIDGE,
    BRIDGE_BOLUS,
    BY_COMMAND,
    BY_PRESCRIPTION,
    PATIENT_BOLUS,
    PRIMING_BOLUS,
    SINGLE_BOLUS,
    STOPPED,
)

# What each command does in each mode. Rows: the modes in the order of MODES, then stopped by a
# command, then stopped for any other reason but the prescription's. Columns, in this order:
COMMANDS = (
    "start_bolus",
    "request_bolus",
    "start_prime",
    "cancel_bolus",
    "stop_delivery",
    "resume_delivery",
    "resume_bridge",
    "set_prescription",
    "set_prescription of another concentration",
)
# +  its bolus begins, and ends in the mode it came from    =  the bridge bolus goes on
# <  the prescription's mode, of one that is stopped by a command: stopped    0  stopped
# w, b, g, n: refused with wrong_mode, bolus_running, bridge_running, no_bridge
TRANSITIONS = (
    b"ww+w0w=<<"  # stopped
    b"+++w0w=<<"  # minimum_rate
    b"+++w0w=<<"  # simple_continuous
    b"+++w0w=<<"  # flex
    b"+++w0w=<<"  # periodic_bolus
    b"bbb<0wb<<"  # single_bolus
    b"bbb<0wb<<"  # patient_bolus
    b"bbb<0wb<<"  # priming_bolus
    b"ggg<0wn=g"  # bridge_bolus
    b"ww+w0<=00"  # stopped by a command
    b"wwww0w=00"  # stopped for want of drug, by an alarm or fault, without a prescription
)
_WHY = ("wrong_mode", "bolus_running", "bridge_running", "no_bridge")
_CANCELLED = 2  # first of a bridge that was cancelled


def permit(delivery, command):
    """Raise Refusal unless ``command`` (of COMMANDS) is possible in the present mode."""
    row = delivery.mode
    if row == STOPPED and delivery.stop_reason != BY_PRESCRIPTION:
        row = BRIDGE_BOLUS + (1 if delivery.stop_reason == BY_COMMAND else 2)
    at = row * len(COMMANDS) + COMMANDS.index(command)
    why = b"wbgn".find(TRANSITIONS[at : at + 1])
    if why == 0:
        raise Refusal("wrong_mode", "mode", delivery.mode)
    if why > 0:
        raise Refusal(_WHY[why])


_BEGINS = {
    SINGLE_BOLUS: "start_bolus",
    PATIENT_BOLUS: "request_bolus",
    PRIMING_BOLUS: "start_prime",
}


def bolus(delivery, volume_nl, duration_us, kind=SINGLE_BOLUS, agreed=0):
    """What START_BOLUS's reply tells of a bolus of ``kind``, a mode; raises Refusal when it
    cannot be given.

    The rate is the nearest whole nL/day, so the time differs from the asked one by less than
    one part in the rate. What a volume limit takes away is cut off at the end.
    """
    delivery.refuse_if_latched()
    if delivery.held:
        raise Refusal("alarm_stands", "action", delivery.held)
    permit(delivery, _BEGINS[kind])
    p = delivery.store.current
    ledger = delivery.ledger
    if kind == PRIMING_BOLUS:
        dead_nl = p["tubing_nl"] + p["catheter_nl"]
        if volume_nl > dead_nl:
            raise Refusal("above_limit", "volume_nl", volume_nl, dead_nl)
    smallest_nl = ceil_div(ledger.step_pl, 1000)
    if volume_nl * 1000 < ledger.step_pl:
        raise Refusal("below_limit", "volume_nl", volume_nl, smallest_nl)
    units = volume_nl * UNITS_PER_NL
    rate = (units + duration_us // 2) // duration_us
    if rate > RATE_HIGH_NL_DAY:
        shortest_us = ceil_div(volume_nl * DAY_US, RATE_HIGH_NL_DAY)
        raise Refusal("below_limit", "duration_us", duration_us, shortest_us)
    basal = delivery.schedule.rate
    if rate < basal:  # it takes the place of the basal rate
        raise Refusal("below_limit", "rate_nl_day", rate, basal)
    allowed_nl = (ledger.residual_pl() - delivery.unusable_pl()) // 1000
    if volume_nl > allowed_nl:
        raise Refusal("not_enough_drug", "volume_nl", volume_nl, max(allowed_nl, 0))
    given_nl = min(volume_nl, delivery.spare_nl(duration_us))
    if given_nl < smallest_nl:
        raise Refusal("volume_limit", "volume_nl", volume_nl, max(0, given_nl))
    soft_nl = p["soft_bolus_nl"]
    asks = ASK_SOFT_BOLUS if soft_nl and given_nl > soft_nl and kind == SINGLE_BOLUS else 0
    return {
        "volume_nl": given_nl,
        "duration_us": ceil_div(given_nl * UNITS_PER_NL, rate),
        "rate_nl_day": rate,
        "cut_nl": volume_nl - given_nl,
        "asks": asks & ~agreed,
    }


def bridge(delivery):
    """What RESUME_BRIDGE's reply tells; raises Refusal when there is nothing to go on with."""
    delivery.refuse_if_latched()
    left_nl = delivery.bridge_left_pl() // 1000
    kept = delivery.store.bridge
    if kept[0] != _CANCELLED or not left_nl:
        raise Refusal("no_bridge")
    permit(delivery, "resume_bridge")
    delivery.check_room(delivery.store.current, kept[1])  # they may have come since
    return {
        "volume_nl": left_nl,
        "duration_us": ceil_div(left_nl * UNITS_PER_NL, kept[1]),
        "rate_nl_day": kept[1],
        "cut_nl": 0,
        "asks": 0,
    }


def resume(delivery):
    """What RESUME's reply tells; raises Refusal when delivery cannot be resumed."""
    delivery.refuse_unprescribed()
    delivery.refuse_if_latched()
    permit(delivery, "resume_delivery")
    store = delivery.store
    mode = BRIDGE_BOLUS if store.bridge[0] == BRIDGE else store.current["mode"]
    rate = store.bridge[1] if mode == BRIDGE_BOLUS else delivery.basal.rate_now()
    if delivery.empty:
        mode, rate = STOPPED, 0
    return {"mode": mode, "rate_nl_day": rate}
