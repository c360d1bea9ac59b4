"""Writes ``firmware/PROTOCOL.md`` from the code that both sides run: ``python -m
cisterna.protocol_document``.

What ``pump_wire`` says is imported. The few numbers that only the pump has (how long a token is
valid, what is a discrepancy ...) are read from its sources without running them.
"""

from __future__ import annotations

import ast
import math
import re
import struct
import sys
import textwrap
from binascii import crc32
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from cisterna.boards import project_root
from cisterna.prescription import NOTICE
from cisterna.protocol_threats import THREATS
from cisterna.session import PAIR_S, REPLY_S, TRIES
from pump_wire import codec, frame, messages, session
from pump_wire.messages import Message

Field: TypeAlias = "tuple[str, str, int | None, int | None, str]"
Fields: TypeAlias = "tuple[Field, ...]"

# Longest first: a name may end in two of them.
_UNITS = (
    ("_nl_day", "nL/day"),
    ("_ng_ml", "ng/mL"),
    ("_nl", "nL"),
    ("_pl", "pL"),
    ("_us", "us"),
    ("_ms", "ms"),
    ("_s", "s"),
    ("_ppm", "ppm"),
)
_SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8}

# What stands in messages.EVENT_FORMAT, in its order.
_RECORD = (
    ("sequence", "number of the record: one more than the one before, never used twice"),
    ("code", "what happened, see below"),
    ("flags", "bit 0: the wall time is known; bits 1 to 3: role whose command caused it, or 0"),
    ("cause", "first two octets of that command's token, 0: no command did"),
    ("uptime_us", "pump clock when it was written: microseconds since the pump started"),
    ("wall_s", "seconds since 1970-01-01 UTC, 0 while the clock is not set"),
    ("value", "the {a} of its text"),
)
# The same of messages.ALARM_FORMAT.
_ALARM_RECORD = (
    ("instance", "number of the event that recorded it"),
    ("alarm", "see above"),
    ("state", "see above"),
    ("age_s", "seconds since it came up"),
)
# The same of messages.FAULT_FORMAT.
_FAULT_RECORD = (
    *_RECORD[:1],
    ("code", "the fault, see below"),
    ("flags", "bit 0: the wall time is known"),
    ("length", "octets of the text"),
    *_RECORD[4:6],
    ("text", "what was seen, and where in the firmware; UTF-8, filled up with 00"),
)
_FORMAT_TYPES = {"84s": "b84", "B": "u8", "H": "u16", "I": "u32", "Q": "u64", "q": "i64"}

_WIDTH = 110
_ITEM = re.compile(r"(- |\d+\. )")

_SEQUENCE = 0x0001
_TOKEN = bytes.fromhex("a1b2c3d4e5f60718")

# Values of the worked examples. Numbers and names are only examples; the hash is the real one.
_HELLO: dict[str, Any] = {
    "wire_version": messages.WIRE_VERSION,
    "table_hash": 0,  # filled in
    "sealed": 1,
    "board": "virtual",
    "firmware": "0.1.0",
    "vm": "1.29.0",
    "serial": bytes.fromhex("e660c15c00000001"),
    "boots": 1,
    "reset_cause": 1,
}
_BOLUS = {"volume_nl": 20_000, "duration_us": 600_000_000, "agreed": 0}
_BOLUS_ECHO = {
    "volume_nl": 20_000,
    "duration_us": 600_000_000,
    "rate_nl_day": 2_880_000,
    "cut_nl": 0,
    "asks": 0,
}


def protocol_document() -> str:
    """The text of PROTOCOL.md for the code as it is now."""
    parts = [
        _head(),
        _frames(),
        _packets(),
        _sessions(),
        _handshake_example(),
        _pairing(),
        _prepare_and_confirm(),
        _threats(),
        _worked_frames(),
        _messages(),
        _refusals(),
        _modes(),
        _events(),
        _faults(),
        _alarms(),
        _hash(),
        _limits(),
        _not_there(),
    ]
    return _wrapped("\n\n".join(part.strip("\n") for part in parts)) + "\n"


def path() -> Path:
    """Where the document stands in the checkout."""
    return project_root() / "firmware" / "PROTOCOL.md"


# -- numbers and octets -----------------------------------------------------------------------


def pump_constant(module: str, name: str) -> int:
    """Whole number that ``firmware/pump/<module>.py`` gives ``name``. Raises KeyError."""
    for statement in _pump_source(module).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            value = statement.value.value
            for target in statement.targets:
                if isinstance(target, ast.Name) and target.id == name and isinstance(value, int):
                    return value
    raise KeyError(f"firmware/pump/{module}.py: {name}")


def _pump_source(module: str) -> ast.Module:
    source = project_root() / "firmware" / "pump" / f"{module}.py"
    return ast.parse(source.read_text(encoding="utf-8"), str(source))


def _unused(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that no source of the pump holds as a text."""
    used: set[Any] = set()
    for source in sorted((project_root() / "firmware" / "pump").glob("*.py")):
        for node in ast.walk(_pump_source(source.stem)):
            if isinstance(node, ast.Constant):
                used.add(node.value)
    return [name for name in names if name not in used]


def _number(value: int) -> str:
    """A whole number for people; powers of two as such."""
    for sign, size in (("", value), ("-", -value)):
        if size >= 1 << 31:
            for off, tail in ((0, ""), (1, " - 1")):
                whole = size + off
                if whole & (whole - 1) == 0:
                    return f"{sign}2^{whole.bit_length() - 1}{tail}"
    return f"{value:,}"


def _unit(name: str) -> str:
    return next((unit for suffix, unit in _UNITS if name.endswith(suffix)), "")


def _range(field: Field) -> str:
    _, kind, low, high, _ = field
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}"
    if kind == "b*":
        return "all that is left"
    octets = f"{int(kind[1:])} octets"
    return octets if kind[0] == "b" else f"at most {octets}"


def _size(fields: Fields) -> str:
    """Octets of a body: "9", "1 to 33", "8 or more"."""
    low = high = 0
    for _, kind, *_ in fields:
        if kind == "b*":
            return f"{low} to {codec.MAX_BODY}"
        size = _SIZES.get(kind) or int(kind[1:])
        low += 1 if kind[0] == "s" else size
        high += size + 1 if kind[0] == "s" else size
    return _number(low) if low == high else f"{low} to {high}"


def _encoded(fields: Fields, values: Mapping[str, Any]) -> bytes:
    out = bytearray(codec.MAX_BODY)
    end = codec.encode(fields, dict(values), out)
    return bytes(out[:end])


def _packet(kind: int, message: Message, body: bytes) -> bytes:
    out = bytearray(frame.MAX_PACKET)
    end = session.HEADER + len(body)
    out[session.HEADER : end] = body
    return bytes(out[: session.wrap(out, kind, _SEQUENCE, message.number, end)])


def _frame(packet: bytes) -> bytes:
    out = bytearray(frame.MAX_STUFFED)
    return bytes(out[: frame.write_frame(out, packet, len(packet))])


# -- Markdown ---------------------------------------------------------------------------------


def _wrapped(text: str) -> str:
    """``text`` with paragraphs and lists at one width; tables, headings and code as they are."""
    blocks: list[str] = []
    for block in text.split("\n\n"):
        block = block.strip("\n")
        if not block or block.startswith(("#", "|", "    ")):
            blocks += [block] * bool(block)
            continue
        items: list[str] = []
        for line in block.splitlines():
            if not items or _ITEM.match(line):
                items.append(line)
            else:
                items[-1] += " " + line.strip()
        blocks.append("\n".join(map(_filled, items)))
    return "\n\n".join(blocks)


def _filled(item: str) -> str:
    mark = _ITEM.match(item)
    return textwrap.fill(
        item,
        _WIDTH,
        subsequent_indent=" " * len(mark.group()) if mark else "",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def _fields(fields: Fields) -> str:
    return _table(
        ("field", "type", "range", "unit", "meaning"),
        (
            (f"`{field[0]}`", f"`{field[1]}`", _range(field), _unit(field[0]), field[4])
            for field in fields
        ),
    )


def _hex(octets: bytes) -> str:
    return octets.hex(" ")


def _listing(octets: bytes) -> str:
    """Octets in hex, 24 a line, indented as code."""
    rows = (octets[at : at + 24] for at in range(0, len(octets), 24))
    return "\n".join("    " + _hex(row) for row in rows)


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# -- the parts --------------------------------------------------------------------------------


def _head() -> str:
    return f"""
# The wire

{NOTICE}

What goes over the serial link between a pump and a programmer. Written from `pump_wire/` by
`python -m cisterna.protocol_document`; a test fails when this file and the code differ. Change the
code, then write it again.

It is for whoever writes another programmer, listens on the line, or attacks the link. It is no
standard, no real pump speaks it, and nothing here is fit to protect one.

Wire version {messages.WIRE_VERSION}, message table `{messages.table_hash():08x}`.

Numbers are little endian. Octets are in hex. Types: `u8 u16 u32 u64` unsigned, `i64` signed (two's
complement), `sN` text (a length octet, then at most N octets of UTF-8), `bN` exactly N octets,
`b*` all that is left (last field only). A unit is the last part of a field's name; volumes are
whole picolitres or nanolitres, rates whole nanolitres a day, times whole microseconds. Ranges are
inclusive, and both sides refuse a value outside them. Text is strict: no overlong forms, no
surrogates.
"""


def _frames() -> str:
    silence_ms = pump_constant("link", "_SILENCE_US") // 1000
    return f"""
## Frames

    {frame.FLAG:02x}  stuffed(packet, FCS)  {frame.FLAG:02x}

- FCS: CRC-32 of the packet (RFC 1662's 32-bit FCS, the one of zlib), 4 octets, least significant
  first.
- Stuffing: every octet from 00 to 1f, and {frame.ESCAPE:02x}, {frame.FLAG:02x} and 7f, is sent as
  {frame.ESCAPE:02x} and the octet xor 20. So no control character stands in a frame, and a
  console's Ctrl-C (03) cannot come out of one.
- A packet has 1 to {frame.MAX_PACKET} octets; packet and FCS at most {frame.MAX_FRAME} before
  stuffing, a frame at most {frame.MAX_STUFFED} octets on the line.
- One flag may end a frame and begin the next. Flags in a row are nothing.
- What stands outside a frame is ignored. A frame with a wrong FCS, with a bare control
  character, that ends inside an escape or is too long is dropped without an answer; the next
  flag begins anew.
- A frame that pauses for {silence_ms} ms is dropped.
"""


def _packets() -> str:
    open_rows = (
        (
            "0",
            "`kind`",
            "`u8`",
            f"{session.REQUEST} request, {session.REPLY} reply, {session.REFUSAL} refusal",
        ),
        ("1", "`sequence`", "`u16`", "chosen by the programmer; the answer repeats it"),
        ("3", "`message`", "`u8`", "number of the message; the answer repeats it"),
        (str(session.HEADER), "body", "", f"at most {codec.MAX_BODY} octets, see the messages"),
    )
    sealed_rows = (
        (
            "0",
            "`kind`",
            "`u8`",
            f"{session.SEALED_REQUEST} to the pump, {session.SEALED_REPLY} from it",
        ),
        ("1", "`session`", "`u16`", "first two octets of the session's id"),
        ("3", "`counter`", "`u32`", "of the request; the answer repeats it"),
        (
            str(session.SEALED),
            "text",
            "",
            "kind, message and body as in an open packet, encrypted",
        ),
        ("", "tag", f"`b{session.TAG}`", "authenticates all of the above"),
    )
    anyone = [each.name for each in messages.TABLE if each.roles & messages.ANYONE]
    confirm = session.BODY + len(_TOKEN) + session.TAG
    return f"""
## Packets

The programmer asks, the pump answers: one answer to a request, in order, and no frame unasked. A
reply's body is the message's reply; a refusal's body is the same for all messages, see Refusals.
What is no request gets no answer. On a board whose console is the port, text may stand between
frames.

An open packet carries {_names(anyone)}, and nothing else:

{_table(("at", "field", "type", "meaning"), open_rows)}

All else is sealed:

{_table(("at", "field", "type", "meaning"), sealed_rows)}

Sealed is AES-128-CCM (RFC 3610) with M = {session.TAG} and L = 2. The nonce is the session's id (8
octets), the direction (`u8`: {session.TO_PUMP} to the pump, {session.FROM_PUMP} from it) and the
counter (`u32`); the {session.SEALED} octets in front of the text are authenticated with it.

- A programmer takes the sequence of an open packet at random and adds 1 (modulo 2^16) for every
  new one. The first sealed request of a session has counter 1, each next one 1 more. It has one
  request under way at a time.
- No answer within {REPLY_S:g} s: it sends the same octets again, {TRIES} times in all. An answer
  with another sequence, counter or message is a late one and is ignored.
- The pump takes a sealed request whose counter is exactly the next and whose tag is right. It
  keeps that packet and its answer: the same octets again get the same answer again, and are not
  carried out again. Any other counter, a wrong tag, a wrong direction get no answer.
- A request of a session that the pump does not know gets an open refusal, `no_session`, with that
  session in place of the sequence and 0 for the message. It is not proved, so a programmer
  concludes nothing from it: it opens a new session and asks there.
- A sealed text that opens and is no request uses its counter up as a request does, and gets no
  answer, nor when it comes again.
- What the pump keeps of a session is gone when it restarts.
- Lengths and times are not hidden, and lengths tell much of what is asked: a packet of {confirm}
  octets is likely a `confirm`. Whoever can keep frames from arriving can choose whose answers do
  not come.
"""


def _sessions() -> str:
    def seconds(name: str) -> str:
        return f"{pump_constant('sessions', name) / 1e6:g} s"

    rows = (
        (name, str(bit), _names([m.name for m in messages.TABLE if m.roles & bit]))
        for name, bit in ROLE_BITS
    )
    states = (
        ("unpaired", "no role has a key", "`hello`; with the button `pair`"),
        ("idle", "no session", "`hello`, `open_session`; with the button `pair`, `revoke_key`"),
        (
            "waiting",
            f"answered `open_session`, for {seconds('_WAIT_US')}",
            "as before, and the first sealed request, which proves the programmer",
        ),
        (
            "open",
            "has taken a sealed request",
            "as before, and what the role may send",
        ),
    )
    return f"""
## Sessions

`open_session` carries a role, a name for people and 16 random octets; the answer 16 of the pump's
and a proof. Both sides now make the session's key out of the role's key K, and name the session:

    info = "cisterna session" | wire version u16 | table hash u32 | pump's id 8 | role u8 | name
    key  = HKDF-SHA-256(secret K, salt host's nonce | pump's nonce, info), the first 16 octets
    id   = pump's nonce, the first 8 octets

The pump's id is `serial` in `hello`, the name without its length. The proof is the CCM tag over
nothing, of the pump's counter 0: a programmer that cannot verify it stops there. The programmer's
proof is its first sealed request: only then does the session take the place of one that may be
open. So nobody without the key changes anything but who waits.

- The very same `open_session` while the pump waits gets the same answer; any other makes a new
  key.
- One session is open at a time. Whoever gives the same name may take it over at once, in a role
  with the same or a higher bit: a patient's goes to any role, a clinician's to clinician and
  service, a service's to service only. Others are refused, `busy`, with the name of who has it,
  until that one has been silent for {seconds("_YIELD_US")}. A name is what a programmer says of
  itself, in clear, and belongs to no role's key. All this is looked at when `open_session` comes,
  and again when the programmer proves itself: if the session that is open has come to life
  meanwhile, it gets `no_session`.
- It ends with `close_session`, after {seconds("_END_US")} without a new request, when its role's
  key is revoked, and with the pump. What was prepared in it is void then. A `close_session` that
  is sent again gets `no_session`, in the same octets, too: it is closed.
- A first sealed request with a wrong tag is a failed authentication. What waits goes on waiting,
  as anybody can send a wrong tag; any other `open_session` is refused, `backed_off`, for
  {seconds("_FIRST_US")}, twice as long with each in a row, at most {seconds("_MOST_US")}: longer
  would be a way to lock others out, and a tag of 64 bits under a key
  that lives for one session is not guessed at this rate in any case. `hello`, delivery, and a
  session that is open are not held up. A wrong tag with the next counter of a session that is open
  does it no harm. The log tells of both, at most once in {seconds("_RECORD_US")}, with how often.
- No clock is in any of this.

What the pump takes, by its state:

{_table(("state", "", "takes"), states)}

Each role, its bit, and what it may send; what is not listed is refused, `not_allowed`, and where
the role is proved logged. `prepare` is judged by the command inside it, too. Of these refusals, of
patient boluses that are refused and of alarms that are silenced, all of which one may ask for
again and again, the log takes 24 records at once and then one in
{pump_constant("eventlog", "_ASKED_S")} s. Patient boluses that were refused and not taken down are
counted by reason, and told at that pace, `refused_again`; a loss of power takes the count with it.

{_table(("role", "bit", "messages"), rows)}
"""


ROLE_BITS = (
    ("anyone", messages.ANYONE),
    ("patient", messages.PATIENT),
    ("clinician", messages.CLINICIAN),
    ("service", messages.SERVICE),
)

# Values of the worked handshake.
HANDSHAKE_KEY = bytes(range(16))
HANDSHAKE_HOST_NONCE = bytes(range(0xA0, 0xB0))
HANDSHAKE_PUMP_NONCE = bytes(range(0xB0, 0xC0))
HANDSHAKE_WHO = "ann@ward"


def _handshake_example() -> str:
    pump_id: bytes = _HELLO["serial"]
    role = messages.CLINICIAN
    info = session.session_info(
        messages.WIRE_VERSION, messages.table_hash(), pump_id, role, HANDSHAKE_WHO.encode()
    )
    out = session.hkdf(HANDSHAKE_KEY, HANDSHAKE_HOST_NONCE + HANDSHAKE_PUMP_NONCE, info)
    key, identity = out[: session.KEY], HANDSHAKE_PUMP_NONCE[:8]
    ccm = AESCCM(key, tag_length=session.TAG)
    proof = ccm.encrypt(session.nonce(identity, session.FROM_PUMP, 0), b"", None)
    ask = _encoded(
        messages.OPEN_SESSION.request,
        {"role": role, "who": HANDSHAKE_WHO, "nonce": HANDSHAKE_HOST_NONCE},
    )
    reply = HANDSHAKE_PUMP_NONCE + proof
    head = bytearray(session.BODY)
    number = messages.GET_STATUS.number
    session.wrap_sealed(head, session.SEALED_REQUEST, identity, 1, session.REQUEST, number)
    front, text = bytes(head[: session.SEALED]), bytes(head[session.SEALED :])
    used = session.nonce(identity, session.TO_PUMP, 1)
    first = front + ccm.encrypt(used, text, front)
    return f"""
## A worked handshake

Pump `{pump_id.hex()}`, its clinician's key `{HANDSHAKE_KEY.hex()}`. `open_session`, packet:

{_listing(_packet(session.REQUEST, messages.OPEN_SESSION, ask))}

The reply, packet; the last {session.TAG} octets are the proof:

{_listing(_packet(session.REPLY, messages.OPEN_SESSION, reply))}

`info`:

{_listing(info)}

key and id:

{_listing(key)}

{_listing(identity)}

nonce of the pump's counter 0, whose tag is the proof:

{_listing(session.nonce(identity, session.FROM_PUMP, 0))}

The first sealed request, `get_status` ({_hex(text)} in clear), nonce and packet:

{_listing(used)}

{_listing(first)}
"""


def _pairing() -> str:
    return f"""
## Pairing

A pump makes a key of {session.KEY} random octets for a role when that role is first paired, and
keeps it on flash. Several programmers may have it. No message tells it in clear, and it does not
leave the pump but in the answer to `pair`, which the pump gives only while its service button is
held, at the beginning and at the end.

The two agree by X25519 (RFC 7748), each with a key made for this; the role's key travels under
what they agreed on:

    info    = "cisterna pair" | wire version u16 | table hash u32 | pump's id 8 | role u8
    carrier = HKDF-SHA-256(secret agreed, salt host's public | pump's public, info)[0:16]
    nonce   = 8 octets 00 | direction {session.FROM_PUMP} | generation u32
    sealed  = AES-128-CCM(carrier, nonce, role's key)

The pump answers when it has agreed, which takes a Pico seconds; it answers nothing else meanwhile.
The project's own programmer waits {PAIR_S:g} s and asks once: the same octets again would be
another agreement, and another record in the log.

Nobody who only listens learns the key. Whoever can change octets on the line while the button is
held can pair in the programmer's place: hold it with the cable in sight.

`revoke_key`, with the button too, makes a role's key worthless wherever it is; the next `pair` of
that role makes another, its generation one more. A programmer whose key is lost or revoked must be
paired again; there is no other way in.

Nothing proves the answer to `revoke_key`, nor `not_paired`. What does is `get_keys` in a session
of another role: it has 0 for a role whose key was revoked. That the old key no longer opens a
session proves nothing, as who holds the line can keep any from opening. The project's own
programmer asks in another role, and without one says that it does not know.
"""


def _prepare_and_confirm() -> str:
    valid_s = pump_constant("commands", "TOKEN_VALID_US") / 1e6
    commands = [message.name for message in messages.TABLE if message.prepared]
    return f"""
## Prepare and confirm

What moves drug or settings ({_names(commands)}) is refused as a plain request
(`not_prepared`). It takes two:

1. `prepare` carries the command's number and its request. The pump checks it as if it were to be
   carried out, changes nothing, and answers with a token and the command's reply: what it would
  do.
2. `confirm` carries the token. The pump checks again, carries the command out once, and answers
   with the number of the event that recorded it and the instant it took effect.

The token is bound to the octets it was made for. It is good for {valid_s:g} s, for one command,
and until the next `prepare`, the end of its session or a restart. A refused `prepare` leaves an
earlier token as it was. Confirming a second time with the token of the last command that was
carried out gives the same answer and carries nothing out.

A command is done, not done, or unknown. A programmer keeps what it confirms on its disk before it
sends it. When no answer comes, or `internal`, it opens a new session, in which the command can no
longer be done, and asks: `last_token` in `get_status` is the token of the last command carried
out, zero after a restart; and each event that a command caused has the role and the first two
octets of the token. Until it knows, it prepares nothing else.
"""


def _threats() -> str:
    rows = (
        (each.attack, each.case, each.stopped_by, f"`{each.test}`" if each.test else "none")
        for each in THREATS
    )
    return f"""
## Threats

What somebody with the line in hand may try. Published cases are of real devices and
other protocols; the numbers are those of the CVE list.

{_table(("attack", "published case", "what stops it", "test"), rows)}
"""


def _worked_frames() -> str:
    hello = {**_HELLO, "table_hash": messages.table_hash()}
    ask = _packet(session.REQUEST, messages.HELLO, b"")
    body = _encoded(messages.HELLO.reply, hello)
    answer = _packet(session.REPLY, messages.HELLO, body)
    bolus = _encoded(messages.START_BOLUS.request, _BOLUS)
    echo = _encoded(messages.START_BOLUS.reply, _BOLUS_ECHO)
    prepare = _encoded(
        messages.PREPARE.request, {"command": messages.START_BOLUS.number, "body": bolus}
    )
    valid_ms = pump_constant("commands", "TOKEN_VALID_US") // 1000
    prepared = _encoded(
        messages.PREPARE.reply,
        {"token": _TOKEN, "valid_ms": valid_ms, "next_event": 7, "body": echo},
    )
    confirm = _encoded(messages.CONFIRM.request, {"token": _TOKEN})
    volume_ul = _BOLUS["volume_nl"] / 1000
    minutes = _BOLUS["duration_us"] / 60e6
    return f"""
## Worked frames

`hello` with sequence {_SEQUENCE}: packet, then frame.

    {_hex(ask)}
    {_hex(_frame(ask))}

Read backwards: the flags off, each {frame.ESCAPE:02x} dropped and the octet behind it xor 20 gives
`{_hex(ask)}` and the FCS `{_hex(crc32(ask).to_bytes(4, "little"))}`: kind {ask[0]} (request),
sequence {_SEQUENCE}, message {ask[3]} (`hello`), no body.

A reply from a board called {hello["board"]}, octet by octet:

{_annotated(answer, messages.HELLO.reply, hello)}

and its frame, FCS `{_hex(crc32(answer).to_bytes(4, "little"))}`:

{_listing(_frame(answer))}

A bolus of {volume_ul:g} uL over {minutes:g} min, as bodies. `prepare`:

{_listing(prepare)}

its reply, with the token, how long it is good, and the echo (volume, time it will take, rate):

{_listing(prepared)}

`confirm`:

{_listing(confirm)}
"""


def _annotated(packet: bytes, fields: Fields, values: Mapping[str, Any]) -> str:
    """Table of a packet: offset, octets, field, value."""
    kind, sequence, message = struct.unpack("<BHB", packet[: session.HEADER])
    rows = [
        ("0", _hex(packet[0:1]), "`kind`", f"{kind}"),
        ("1", _hex(packet[1:3]), "`sequence`", f"{sequence}"),
        ("3", _hex(packet[3:4]), "`message`", f"{message}"),
    ]
    at = session.HEADER
    for field in fields:
        name = field[0]
        octets = _encoded((field,), values)
        value = values[name]
        shown = f'"{value}"' if isinstance(value, str) else f"{value}"
        if isinstance(value, bytes):
            shown = value.hex()
        elif name == "table_hash":
            shown = f"{value:08x}"
        rows.append((str(at), _hex(octets), f"`{name}`", shown))
        at += len(octets)
    return _table(("at", "octets", "field", "value"), rows)


def _messages() -> str:
    index = _table(
        ("number", "message", "roles", "prepared", ""),
        (
            (
                str(message.number),
                f"[`{message.name}`](#{message.number}-{message.name})",
                _roles(message),
                "yes" if message.prepared else "",
                message.text,
            )
            for message in messages.TABLE
        ),
    )
    return "\n\n".join(
        [
            "## Messages",
            "Roles are who may send a message; anyone: also in an open packet. The pump checks "
            "them, and that what is prepared comes through `prepare` and `confirm`.",
            index,
            *(_message(message) for message in messages.TABLE),
        ]
    )


def _roles(message: Message) -> str:
    names = (
        (messages.ANYONE, "anyone"),
        (messages.PATIENT, "patient"),
        (messages.CLINICIAN, "clinician"),
        (messages.SERVICE, "service"),
    )
    return ", ".join(name for bit, name in names if message.roles & bit)


def _message(message: Message) -> str:
    sent = "through `prepare` and `confirm` only" if message.prepared else "as a request"
    lines = [
        f"### {message.number} {message.name}",
        message.text,
        f"Roles: {_roles(message)}. Sent {sent}.",
    ]
    for title, fields in (("Request", message.request), ("Reply", message.reply)):
        if fields:
            lines += [f"{title}, {_size(fields)} octets:", _fields(fields)]
        else:
            lines.append(f"{title}: empty.")
    return "\n\n".join(lines)


def _refusals() -> str:
    rows = (
        (str(code), f"`{name}`", text) for code, (name, text) in sorted(messages.REFUSALS.items())
    )
    return f"""
## Refusals

The body of a refusal. Nothing has changed when one comes, unless it is `internal`: then the
motor is stopped, and a command that was confirmed is unknown, as if no answer had come.

{_fields(messages.ERROR)}

`field` is the field that was refused, `value` what was sent in it and `limit` what it broke, in
the unit of the field's name; 0 where there is none.

{_table(("code", "name", "meaning"), rows)}
{_not_yet("No pump sends these yet", (name for name, _ in messages.REFUSALS.values()))}
"""


def _not_yet(said: str, names: Iterable[str]) -> str:
    unused = _unused(names)
    return f"\n{said}: {_names(unused)}.\n" if unused else ""


def _modes() -> str:
    ready = [hasattr(messages, name.upper()) for name in messages.MODES]
    rows = (
        (str(number), f"`{name}`", "" if ready[number] else "not there yet")
        for number, name in enumerate(messages.MODES)
    )
    reasons = ((str(number), name) for number, name in enumerate(messages.STOP_REASONS))
    causes = ((str(number), name) for number, name in enumerate(messages.RESET_CAUSES))
    low = pump_constant("prescription", "RATE_LOW_NL_DAY")
    high = pump_constant("prescription", "RATE_HIGH_NL_DAY")
    step = pump_constant("prescription", "RATE_STEP_NL_DAY")
    minimum = pump_constant("prescription", "MINIMUM_RATE_NL_DAY")
    return f"""
## Modes, stop reasons, reset causes

{_table(("mode", "name", ""), rows)}

`simple_continuous` runs {_number(low)} to {_number(high)} nL/day in multiples of {_number(step)};
`minimum_rate` runs {_number(minimum)} nL/day.

{_table(("stop reason", ""), reasons)}

{_table(("reset cause", ""), causes)}
"""


def _record_rows() -> list[tuple[str, str, str, str]]:
    kinds = messages.EVENT_FORMAT[1:]
    if messages.EVENT_FORMAT[0] != "<" or len(kinds) != len(_RECORD):
        raise ValueError(f"event records are now {messages.EVENT_FORMAT}: tell their fields here")
    rows: list[tuple[str, str, str, str]] = []
    for index, (kind, (name, text)) in enumerate(zip(kinds, _RECORD, strict=True)):
        at = struct.calcsize("<" + kinds[:index])
        rows.append((str(at), f"`{name}`", f"`{_FORMAT_TYPES[kind]}`", text))
    end = struct.calcsize(messages.EVENT_FORMAT)
    if end + 4 != messages.EVENT_SIZE:
        raise ValueError(f"records have {messages.EVENT_SIZE} octets, their format {end} + 4")
    rows.append((str(end), "`crc`", "`u32`", f"CRC-32 of the {end} octets before it"))
    return rows


def _events() -> str:
    record_table = _table(("at", "field", "type", "meaning"), _record_rows())
    code = messages.EVENT["bolus_started"]
    value = _BOLUS["volume_nl"] * 1000
    body = struct.pack(messages.EVENT_FORMAT, 7, code, 0, 0, 90_000_000, 0, value)
    record = body + crc32(body).to_bytes(4, "little")
    kept = _kept("eventlog")
    rows = (
        (str(code), f"`{name}`", text) for code, (name, text) in sorted(messages.EVENTS.items())
    )
    return f"""
## Events

`get_events` hands records out as they are stored, {messages.EVENT_SIZE} octets each:

{record_table}

A record whose CRC is wrong is damaged, and nothing in it is to be believed; its place says its
number. The pump keeps at least {_number(kept)} records, the oldest go first. A
record is written after what it tells of has begun. A `clock_set` is the reference between the two
clocks: its record has both, and the wall time of before.

Record 7, {value // 1000:,} nL started 90 s after the pump did, clock not set:

{_listing(record)}

{_table(("code", "name", "text"), rows)}
{_not_yet("No pump writes these yet", (name for name, _ in messages.EVENTS.values()))}
"""


def _kept(log: str) -> int:
    """Records that a log of the pump keeps at least."""
    names = ("PER_SLOT", "SLOTS", "FILES")
    return math.prod(pump_constant(log, name) for name in names)


def _fault_record_rows() -> list[tuple[str, str, str, str]]:
    rows: list[tuple[str, str, str, str]] = []
    at = 0
    for kind, (name, text) in zip(
        re.findall(r"\d*[a-zA-Z]", messages.FAULT_FORMAT), _FAULT_RECORD, strict=True
    ):
        rows.append((str(at), f"`{name}`", f"`{_FORMAT_TYPES.get(kind, kind)}`", text))
        at += struct.calcsize("<" + kind)
    if at + 4 != messages.FAULT_SIZE:
        raise ValueError(f"fault records have {messages.FAULT_SIZE} octets, their format {at} + 4")
    rows.append((str(at), "`crc`", "`u32`", f"CRC-32 of the {at} octets before it"))
    return rows


def _faults() -> str:
    rows = (
        (str(code), f"`{name}`", text, remedy)
        for code, (name, text, remedy) in sorted(messages.FAULTS.items())
    )
    low = pump_constant("refilling", "RATIO_LOW_PPM")
    high = pump_constant("refilling", "RATIO_HIGH_PPM")
    small = pump_constant("refilling", "_UNEXPLAINED_SMALL_PL")
    large = pump_constant("refilling", "_UNEXPLAINED_LARGE_PL")
    reservoir = pump_constant("refilling", "_SMALL_RESERVOIR_PL")
    return f"""
## Faults

The first fault latches: the motor is stopped and stays so until the pump restarts. `get_status`
has its number and what was seen. Reads still work, and so does what the remedy asks for. A fault
whose cause still stands latches again at the next start.

Each latch leaves an event, and a record in a log of its own, of which at least
{_number(_kept("faultlog"))} are kept.
`get_faults` hands them out as they are stored, {messages.FAULT_SIZE} octets each:

{_table(("at", "field", "type", "meaning"), _fault_record_rows())}

{_table(("fault", "name", "what", "remedy"), rows)}
{_not_yet("No pump latches these yet", (name for name, _, _ in messages.FAULTS.values()))}
A refill's `flagged` is no fault, only a record (`discrepancy`): true / programmed volume outside
{_number(low)} to {_number(high)} ppm, or more than {_number(small)} pL
unexplained in a reservoir of up to {_number(reservoir)} pL, {_number(large)} pL in a larger one.
"""


def _alarms() -> str:
    rows = (
        (
            str(code),
            f"`{name}`",
            messages.ALARM_CLASSES[urgent],
            messages.ACTIONS[action],
            text,
            remedy,
        )
        for code, (name, urgent, action, text, remedy) in sorted(messages.ALARMS.items())
    )
    tones = (
        (
            str(pattern),
            (*messages.ALARM_CLASSES, "a change from outside, or a test")[pattern],
            ", ".join(f"{hz:,} Hz {ms:,} ms" for hz, ms in tones),
        )
        for pattern, tones in enumerate(messages.TONES)
    )
    states = (
        ("pending", "it sounds, at once and every interval of its class"),
        ("silenced", "it sounds again when the time given is over"),
        (
            "acknowledged",
            f"somebody saw to it; if its cause stands {messages.ALARM_AGAIN_S // 3600} h later "
            "it comes up as a new instance",
        ),
        ("cured", "its cause is gone; silent, and listed until it is acknowledged"),
    )
    at = 0
    record: list[tuple[str, str, str, str]] = []
    for kind, (name, text) in zip(messages.ALARM_FORMAT[1:], _ALARM_RECORD, strict=True):
        record.append((str(at), f"`{name}`", f"`{_FORMAT_TYPES[kind]}`", text))
        at += struct.calcsize("<" + kind)
    return f"""
## Alarms

An alarm is one cause; each time it comes up is an instance, numbered as the event
`alarm_raised` that records it. Several alarms may stand; of what they make the pump do the most
restrictive wins: {_names(messages.ACTIONS)}, in this order. Nobody can acknowledge what an alarm
does away: it ends when its cause does. A restart forgets instances; a cause that still stands
alarms again.

{_table(("alarm", "name", "class", "pump does", "what", "remedy"), rows)}

Patterns of tones. While a critical one plays others wait; it breaks off any other.

{_table(("pattern", "for", "tones"), tones)}

States, and what `get_alarms` hands out of each instance, {messages.ALARM_SIZE} octets:

{_table(("state", "meaning"), [(f"{n} `{name}`", text) for n, (name, text) in enumerate(states)])}

{_table(("at", "field", "type", "meaning"), record)}
"""


def _hash() -> str:
    formats = (messages.EVENT_FORMAT, messages.FAULT_FORMAT, messages.ALARM_FORMAT)
    return f"""
## Versions and the table's hash

`hello` carries `wire_version` ({messages.WIRE_VERSION}: frames, packets, retry) and `table_hash`
(`{messages.table_hash():08x}`). A programmer with another version or hash stops there and names
both. The hash tells of what goes over the wire; texts meant for people are not in it. It can be
taken from here, or worked out. It is the CRC-32 of zlib, begun with the wire version in place of
0, over the UTF-8 octets of these, one behind the other, numbers in decimal:

1. of each message, in the order of the list of messages: number, space, name, space, sum of the
   bits of its roles, space, 1 if it is prepared, else 0, and `|`; the fields of its request; the
   fields of its reply;
2. the fields of a refusal's body;
3. of each refusal, event, fault and alarm, these four in this order and each by its code: code,
   space, name, `|`;
4. modes, stop reasons, reset causes, the formats `{"`, `".join(formats)}`, what alarms make the
   pump do, states of alarms: each of the six in its order, with `|` between two.

Fields are name, space, type, space, lowest, space, highest, with `;` between two and `#` behind
the last; `None` and `None` where a field has no range. No fields are `#`.

In every version the reply to `hello` begins with these two, so that any programmer can name what
it has met.

A session's key is made with wire version, table hash and `serial`: a session that opens proves
these three. All else in `hello` is what whoever answered says: `sealed`, `board`, `firmware`,
`vm`, `boots`, `reset_cause`. Why the pump last started is proved by its event `pump_started`, read
in a session.
"""


def _limits() -> str:
    yield_s = pump_constant("sessions", "_YIELD_US") // 1_000_000
    record_s = pump_constant("sessions", "_RECORD_US") // 1_000_000
    kept = _kept("eventlog")
    days = kept * record_s / (2 * 86_400)
    return f"""
## Known limits

What the pump does not keep anybody from, told so that nobody relies on it.

- Who relays a pairing, with a key agreement of their own to each side, has the role's key from
  then on. The programmer is paired all the same and works, nobody notices, and who relays can also
  play the pump to it. Only an eye on the cable helps.
- The button is held for nobody in particular, and for no role. While it is, who only adds frames
  to the line can pair any role, the clinician's too, and revoke any key, as often as they like.
  Each time leaves a record in the log.
- Who asks for sessions without end keeps others from opening one, too: one waits at a time.
- Roles take sessions over in the order patient, clinician, service, though service may not
  program, give a bolus or stop delivery: with the service's key and the clinician's name a
  clinician's session is ended at once, and what was prepared in it is void.
- A clinician waits for a patient's session of another name: for {yield_s} s of silence, which
  never come if the patient asks more often. What ends it at once is a session under the patient's
  own name, which `busy` tells: `cisterna stop` and `cisterna bolus --cancel` take that.
- Without any key, a wrong tag every {record_s} s makes two records each time, `auth_failed` and
  `alarm_raised`: the {_number(kept)} records that the log keeps at least are pushed out in
  {days:.0f} days.
- Lengths and times of frames are in clear, see Packets.
- Most of `hello` is not proved, see Versions.
"""


def _not_there() -> str:
    return """
## Not there yet

- On a board whose console is the port and whose profile is `development`, a Ctrl-C outside a frame
  may stop the pump and open the REPL; that of a sealed one stays shut.
- A programmer of another table is refused whole: there is no reading of what both still share.
"""


def main() -> int:
    """Write the document."""
    path().write_text(protocol_document(), encoding="utf-8")
    print(path())
    return 0


if __name__ == "__main__":
    sys.exit(main())
