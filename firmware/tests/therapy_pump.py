"""A whole pump in this VM with a therapy beyond a basal rate, for tests."""

from binascii import crc32
from struct import pack

from virtual_pump import Pump

from pump_wire.messages import GET_THERAPY, SET_CLOCK, SET_PRESCRIPTION, WRITE_PART

MONDAY_S = 1_800_000_000 // 604_800 * 604_800 + 4 * 86_400  # 00:00 UTC of a Monday
HOUR_US = 3_600_000_000
PERIODIC = {"bolus_nl": 50_000, "bolus_s": 1_800, "interval_s": 14_400}


def pattern(*steps):
    """Octets of a flex pattern: (minute of the day, rate in nL/day) each."""
    return b"".join(pack("<HH", minute, rate // 1000) for minute, rate in steps)


def drug(name, ng_ml):
    return pack("<Q", ng_ml) + name.encode()


def stage(pump, parts):
    """Stage {number: octets}; returns the CRC-32 that names them."""
    pump.ask(WRITE_PART, part=255, octets=b"")
    octets = b""
    for number in sorted(parts):
        pump.ask(WRITE_PART, part=number, octets=parts[number])
        octets += bytes((number, len(parts[number]))) + parts[number]
    return crc32(octets)


def fields(**values):
    """A prescription of 1 mL/day of a drug of 500 ug/mL, changed by ``values``."""
    wanted = {
        "drug": "saline",
        "concentration_ng_ml": 500_000,
        "mode": 2,
        "rate_nl_day": 1_000_000,
        "capacity_nl": 20_000_000,
        "low_mark_nl": 2_000_000,
        "tubing_nl": 140_000,
        "catheter_nl": 176_000,
    }
    wanted.update(values)
    if wanted["mode"] in (0, 1, 3):
        wanted["rate_nl_day"] = 0
    return wanted


def prepare(pump, parts=None, **values):
    """(token, echo) of a prescription."""
    crc = stage(pump, parts) if parts else 0
    return pump.prepare(SET_PRESCRIPTION, **fields(parts_crc=crc, **values))


def prescribe(pump, parts=None, **values):
    """Commit a prescription as one who was asked would: the total typed, all agreed to."""
    crc = stage(pump, parts) if parts else 0
    wanted = fields(parts_crc=crc, agreed=46, **values)
    _, echo = pump.prepare(SET_PRESCRIPTION, **wanted)
    wanted["total_nl"] = echo["new_total_nl"]
    return pump.command(SET_PRESCRIPTION, **wanted)


def treated(parts=None, **values):
    """A filled pump with its clock at a Monday's midnight that runs a prescription."""
    pump = Pump()
    pump.advance(1_000)
    pump.refill()
    pump.command(SET_CLOCK, wall_s=MONDAY_S, utc_offset_min=0)
    prescribe(pump, parts, **values)
    return pump


def therapy(pump):
    return pump.ask(GET_THERAPY)
