"""Builds with a bug in the telemetry link: the campaign of attacks must find each of them.

A bug is one or a few pieces of source replaced, as in ``test_seeded_bugs``. Each names the kind of
attack that must find it; the firmware as it is passes all of those first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cisterna import campaign
from cisterna.attack import KINDS, Attack
from cisterna.campaign import Result
from cisterna.programmer import Programmer
from cisterna.session import Refused
from host_tools.tests.test_seeded_bugs import copied
from pump_wire.messages import TABLE

ORDERS = sum(message.prepared for message in TABLE)  # cases of "tokens" with one attack


@dataclass(frozen=True)
class Bug:
    """Each ``right`` in ``source`` (a path from the root) becomes its ``wrong``. ``found_by``:
    kind of attack, and the cases of it."""

    name: str
    source: str
    right: str
    wrong: str
    found_by: str
    first: int = 0
    last: int = 0


BUGS = (
    Bug(
        "the tag is not checked",
        "firmware/pump/ccm.py",
        "        return not wrong\n",
        "        return True\n",
        "flips",
    ),
    Bug(
        "the tag is checked as far as its second octet",
        "firmware/pump/ccm.py",
        "        for at in range(TAG):",
        "        for at in range(2):",
        "flips",
    ),
    Bug(
        "an old counter is good enough",
        "firmware/pump/link.py",
        "        if counter != session.counter + 1:\n",
        "        if counter > session.counter + 1:\n",
        "replays",
        0,
        5,
    ),
    Bug(
        "a counter may be skipped",
        "firmware/pump/link.py",
        "        if counter != session.counter + 1:\n",
        "        if counter <= session.counter:\n",
        "replays",
        0,
        5,
    ),
    Bug(
        "the pump's nonce is always the same",
        "firmware/pump/sessions.py",
        "        ours = self._entropy(_NONCE_SIZE)\n        if active",
        "        ours = bytes(_NONCE_SIZE)\n        if active",
        "replays",
        0,
        5,
    ),
    Bug(
        "the pump's nonce is that of the programmer",
        "firmware/pump/sessions.py",
        "        ours = self._entropy(_NONCE_SIZE)\n        if active",
        "        ours = asked[2]\n        if active",
        "replays",
        0,
        5,
    ),
    Bug(
        "the pump's nonces begin again with each start",
        "firmware/pump/sessions.py",
        "        ours = self._entropy(_NONCE_SIZE)\n        if active",
        "        self._count = getattr(self, '_count', 0) + 1\n"
        "        ours = bytes(_NONCE_SIZE - 1) + bytes((self._count & 0xFF,))\n        if active",
        "fresh",
    ),
    Bug(
        "the nonce of a packet leaves its direction out",
        "firmware/pump_wire/session.py",
        "    return pack(_NONCE, session, direction, counter)\n",
        "    return pack(_NONCE, session, 0, counter)\n",
        "splices",
    ),
    Bug(
        "any token confirms",
        "firmware/pump/commands.py",
        "        if prepared is None or token != prepared[0]:\n",
        "        if prepared is None:\n",
        "tokens",
        0,
        ORDERS - 1,
    ),
    Bug(
        "a token is good for ever",
        "firmware/pump/commands.py",
        "        if self._clock.now_us() > prepared[3]:\n",
        "        if False:\n",
        "tokens",
        ORDERS,
        2 * ORDERS - 1,
    ),
    Bug(
        "what was prepared outlives its session",
        "firmware/pump/starting.py",
        "    app.sessions.on_end = app.commands.forget_prepared  # pyright: ignore\n",
        "",
        "tokens",
        4 * ORDERS,
        5 * ORDERS - 1,
    ),
    Bug(
        "roles are not checked",
        "firmware/pump/commands.py",
        "        if message.roles & self.role:\n",
        "        if True:\n",
        "roles",
        1,
        2,
    ),
    Bug(
        "a command may be prepared in any role",
        "firmware/pump/commands.py",
        "        self._check_role(message)\n        request = ",
        "        request = ",
        "roles",
        1,
        2,
    ),
    Bug(
        "a change is made in silence",
        "firmware/pump/app.py",
        "        self.annunciator.announce()\n",
        "        pass\n",
        "announced",
        0,
        ORDERS - 1,
    ),
    Bug(
        "the log does not say whose command it was",
        "firmware/pump/commands.py",
        "        self._log.cause = self.role << 1 | ",
        "        self._log.cause = 0 * ",
        "announced",
        0,
        ORDERS - 1,
    ),
    Bug(
        "what must be prepared may come bare",
        "firmware/pump/commands.py",
        '            raise Refusal("not_prepared", "", number)\n',
        "            values = self.decoded(message, body)\n"
        '            self._handler("apply_" + message.name)(values)\n'
        '            raise Refusal("not_prepared", "", number)\n',
        "tokens",
        10 * ORDERS,
        11 * ORDERS - 1,
    ),
    Bug(
        "keys are given out without the button",
        "firmware/pump/sessions.py",
        "        if self._button is None or not self._button.pressed():\n",
        "        if False:\n",
        "roles",
        1,
        2,
    ),
    Bug(
        "a session never ends",
        "firmware/pump/sessions.py",
        "        if active and now_us - active.heard_us >= _END_US:\n",
        "        if False:\n",
        "roles",
        5,
        5,
    ),
    Bug(
        "a forged packet ends the session",
        "firmware/pump/sessions.py",
        "        self._failures += 1\n",
        "        self._failures += 1\n"
        "        if session is self.active:\n            self.end()\n",
        "flood",
        8,
        8,
    ),
    Bug(
        "after a failed authentication nobody gets in for a minute",
        "firmware/pump/sessions.py",
        "_MOST_US = 800_000",
        "_MOST_US = 60_000_000",
        "flood",
        7,
        7,
    ),
    Bug(
        "a flood keeps the processor",
        "firmware/pump/link.py",
        "                await asyncio.sleep_ms(0)",
        "                await asyncio.sleep_ms(40)",
        "flood",
        0,
        0,
    ),
    Bug(
        "an alarm is heard five seconds late",
        "firmware/pump/annunciator.py",
        "        self._due_us[urgent] = self._clock.now_us()\n",
        "        self._due_us[urgent] = self._clock.now_us() + 5_000_000\n",
        "flood",
        0,
        0,
    ),
    Bug(
        "every refusal goes into the log",
        "firmware/pump/eventlog.py",
        "        if self._told_s <= now_s:\n",
        "        if True:\n",
        "keys",
        9,
        9,
    ),
    Bug(
        "a session may have the number of the open one",
        "firmware/pump/sessions.py",
        "        if active and ours[:2] == active.id[:2]:",
        "        if False:",
        "keys",
        7,
        7,
    ),
    Bug(
        "a public key of small order is taken",
        "firmware/pump/pairing.py",
        "    if not agreed:\n",
        "    if False:\n",
        "keys",
        1,
        1,
    ),
    Bug(
        "the CRC of a frame is not checked",
        "firmware/pump_wire/frame.py",
        "crc32(self.packet[:size]) & 0xFFFFFFFF != _RESIDUE",
        "False",
        "damaged",
        7,
        7,
    ),
    Bug(
        "a frame that breaks off is waited for",
        "firmware/pump/link.py",
        "_SILENCE_US = 400_000",
        "_SILENCE_US = 4_000_000",
        "pauses",
    ),
    Bug(
        "a packet is not measured before it is read",
        "firmware/pump_wire/session.py",
        "    if len(packet) < HEADER:\n",
        "    if False:\n",
        "fuzz",
    ),
    Bug(
        "what cannot be opened is kept",
        "firmware/pump/link.py",
        "        if opened is None or opened[0] != REQUEST:\n",
        "        if opened is None or opened[0] != REQUEST:\n"
        "            self._odd = getattr(self, '_odd', []) + [bytes(packet)]\n",
        "fuzz",
    ),
)


def results(tree: Path, name: str, first: int, last: int) -> Iterator[Result]:
    """Those of a kind of attack on the firmware in ``tree``."""
    (kind,) = (each for each in KINDS if each.name == name)
    attack = Attack(1, "quick", tree=tree)
    cases = [f"attack:1:{kind.requirement}:{name}:{number}" for number in range(first, last + 1)]
    return attack.run_batch(tuple(cases), tree)


@pytest.mark.requirement("SEC-1", "SEC-2", "SEC-3", "SEC-4", "SEC-5", "SEC-7", "SEC-8", "INP-2")
@pytest.mark.parametrize(
    ("name", "first", "last"), sorted({(bug.found_by, bug.first, bug.last) for bug in BUGS})
)
def test_the_firmware_as_it_is_passes(name: str, first: int, last: int, tmp_path: Path) -> None:
    found = list(results(copied(tmp_path), name, first, last))
    assert len(found) == last - first + 1
    assert campaign.failures(found) == [], name


@pytest.mark.requirement("SEC-1", "SEC-2", "SEC-3", "SEC-4", "SEC-5", "SEC-7", "SEC-8", "INP-2")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "_"))
def test_a_build_with_a_bug_in_its_link_is_caught(bug: Bug, tmp_path: Path) -> None:
    copied(tmp_path)
    path = tmp_path / bug.source
    source = path.read_text(encoding="utf-8")
    assert source.count(bug.right) == 1, f"{bug.source} no longer holds once: {bug.right}"
    path.write_text(source.replace(bug.right, bug.wrong), encoding="utf-8")
    found = campaign.failures(results(tmp_path, bug.found_by, bug.first, bug.last))
    assert found, f"{bug.found_by} does not find that {bug.name}"
    case, why = found[0]
    print(f"{bug.name}: {case}: {why}")
    assert "Error" not in why, why


@pytest.mark.requirement("SEC-6")
def test_a_programmer_that_takes_silence_for_no_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def not_done(*_: object) -> None:
        raise Refused("bad_token", "as if it were known", "", 0, 0)

    monkeypatch.setattr(Programmer, "_after_silence", not_done)
    found: list[str] = []
    attack = Attack(1, "quick")
    for number in range(4):
        case = f"attack:1:SEC-6:lossy:{number}"
        found += [why for _, why in campaign.failures(attack.run_batch((case,), Path()))]
    assert found
    assert "the programmer says not done, the plant saw 1" in found[0]
