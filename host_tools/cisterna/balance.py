"""A precision balance on a serial port, in the two protocols that most of them speak.

- MT-SICS (Mettler-Toledo, Reference Manual MT-SICS Interface Commands; also other makers). Lines
  end in CR LF. ``S`` asks for a stable value, ``SI`` for one at once, ``SIR`` for values until
  ``@``. Answers: ``S S value unit`` stable, ``S D value unit`` not, ``S I`` not possible now,
  ``S +`` and ``S -`` over- and underload, ``ES``, ``ET``, ``EL`` not understood. ``Z`` zeroes.
- SBI (Sartorius, Data Interfaces in the operating instructions of Cubis, Entris, Quintix). ESC P
  asks for a value; a balance set to automatic output sends them without being asked. Lines have
  14 characters and CR LF, or 20 with an identification of 6 before them: sign, value with blanks,
  a blank, unit of 3. No unit: the value is not stable. ``Stat`` lines: High and Low are over- and
  underload, ERR an error of the balance. ESC V zeroes. Digits in brackets are not verified.

Masses are whole nanograms, exactly what the balance showed.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from cisterna.errors import CisternaError, NoPump, UsageError, quoted
from cisterna.transport import SerialLink

Protocol = Literal["sics", "sbi"]
PROTOCOLS: tuple[Protocol, ...] = ("sics", "sbi")
BAUD = 9_600  # both makers' setting when new

_ESC = "\x1b"
_UNITS_NG = {
    "g": 1_000_000_000,
    "mg": 1_000_000,
    "kg": 1_000_000_000_000,
    "ug": 1_000,
    "µg": 1_000,
}
_MOST_LINE = 40  # octets; what is longer is no line of a balance
_MOST_G = Decimal(100_000)
_STABLE_S = 30.0  # how long a stable value is waited for
_ANSWER_S = 2.0
_POLL_S = 0.1
_BAD_LINES = 20  # in a row: nothing there speaks this protocol


class BalanceError(CisternaError):
    """The balance tells no mass: overload, an error of its own, silence, another protocol."""


class NotALine(ValueError):
    """Octets that no balance of this protocol sends."""


@dataclass(frozen=True)
class Reading:
    """``mass_ng``: as shown. ``stable``: the balance says that it does not change.
    ``readability_ng``: the last digit."""

    mass_ng: int
    stable: bool
    readability_ng: int


def _reading(number: str, unit: str, stable: bool) -> Reading:
    if unit not in _UNITS_NG:
        raise BalanceError(
            f"the balance shows {quoted(unit)}, which is no unit of mass it may have",
            f"set it to one of: {', '.join(_UNITS_NG)}",
        )
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?", number):
        raise NotALine(number)
    try:
        value = Decimal(number)
    except InvalidOperation:
        raise NotALine(number) from None
    grams = value * _UNITS_NG[unit] / 1_000_000_000
    if abs(grams) > _MOST_G:
        raise NotALine(number)
    digits = len(number.partition(".")[2])
    last = Decimal(_UNITS_NG[unit]).scaleb(-digits)
    return Reading(int(value * _UNITS_NG[unit]), stable, max(1, int(last)))


def parse_sics(line: str) -> Reading | None:
    """What an answer to S, SI or SIR tells; None: not now, ask again. Raises BalanceError,
    NotALine."""
    words = line.split()
    if words in (["S", "I"], ["SI", "I"]):
        return None
    if words[:1] == ["S"] and words[1:] in (["+"], ["-"]):
        raise BalanceError(f"the balance is {'overloaded' if words[1] == '+' else 'underloaded'}")
    if len(words) == 1 and words[0] in ("ES", "ET", "EL"):
        raise BalanceError(f"the balance did not understand its command ({words[0]})")
    if len(words) == 4 and words[0] == "S" and words[1] in ("S", "D"):
        return _reading(words[2], words[3], words[1] == "S")
    raise NotALine(line)


def parse_sbi(line: str) -> Reading | None:
    """What a line of 14 or 20 characters tells; None: it is no value and no error. Raises
    BalanceError, NotALine."""
    if line.startswith("Stat"):
        what = line[4:].strip()
        if what in ("High", "H", "HH"):
            raise BalanceError("the balance is overloaded")
        if what in ("Low", "L", "LL"):
            raise BalanceError("the balance is underloaded")
        if "ER" in what.upper():
            raise BalanceError(f"the balance reports {quoted(what)}")
        return None
    if len(line) == 20:
        line = line[6:]
    if len(line) != 14 or line[0] not in "+- ":
        raise NotALine(line)
    number = re.sub(r"[\[\] ]", "", line[:10])
    unit = line[10:].strip()
    stable = bool(unit)
    return _reading(number, unit or "g", stable)


class Balance:
    """One balance. ``port``: a serial port or pyserial URL. ``continuous``: it sends values by
    itself (SIR is asked for once; an SBI balance must be set to automatic output). Raises NoPump
    when there is no such port, UsageError for a protocol that does not exist."""

    def __init__(
        self,
        port: str,
        protocol: str,
        continuous: bool = False,
        baud: int = BAUD,
        framing: str = "8N1",
    ) -> None:
        if protocol not in PROTOCOLS:
            raise UsageError(
                f"no balance speaks {quoted(protocol)}", f"there are: {', '.join(PROTOCOLS)}"
            )
        self._sics = protocol == "sics"
        self._continuous = continuous
        self._link = SerialLink(port, baud=baud, framing=framing)
        self._octets = bytearray()
        self.port = port
        if continuous and self._sics:
            self._write("SIR")

    def __enter__(self) -> Balance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End continuous output and let go of the port."""
        try:
            if self._continuous and self._sics:
                self._write("@")
        except NoPump:
            pass
        self._link.close()

    def zero(self) -> None:
        """What lies on it now counts as nothing."""
        self._write("Z" if self._sics else f"{_ESC}V")

    def _write(self, command: str) -> None:
        self._link.write(f"{command}\r\n".encode("ascii"))

    def _line(self, end_s: float) -> str | None:
        """The next whole line; None when none came in time."""
        while True:
            line, found, rest = bytes(self._octets).partition(b"\n")
            if found:
                self._octets[:] = rest
                return line.rstrip(b"\r").decode("latin-1")
            if len(self._octets) > _MOST_LINE:
                del self._octets[:-_MOST_LINE]
            left = end_s - time.monotonic()
            if left <= 0:
                return None
            self._octets += self._link.read(min(left, _POLL_S))

    def read(self, stable: bool = True, within_s: float = _STABLE_S) -> Reading:
        """The mass now; ``stable``: the next that the balance calls stable, within ``within_s``
        seconds. Raises BalanceError."""
        end_s = time.monotonic() + within_s
        self._drop_old()
        bad = 0
        unstable = False
        while time.monotonic() < end_s:
            if not self._continuous:
                self._write("SI" if self._sics else f"{_ESC}P")
            line = self._line(min(end_s, time.monotonic() + _ANSWER_S))
            if line is None:
                continue
            try:
                reading = parse_sics(line) if self._sics else parse_sbi(line)
            except NotALine:
                bad += 1
                if bad >= _BAD_LINES:
                    raise BalanceError(
                        f"what comes from {self.port} is no answer of a balance: {quoted(line)}",
                        "look at its protocol, speed and parity",
                    ) from None
                continue
            if reading is None:
                time.sleep(_POLL_S)
                continue
            if reading.stable or not stable:
                return reading
            unstable = True
        if unstable:
            raise BalanceError(
                f"no stable mass within {within_s:g} s", "keep draught and vibration away"
            )
        raise BalanceError(
            f"no mass from the balance on {self.port} within {within_s:g} s",
            "look at its port, protocol and speed",
        )

    def _drop_old(self) -> None:
        """Forget what came before the question."""
        self._octets.clear()
        self._link.read(0)  # all that is there
