"""PROTOCOL.md is what the code would write, and what it shows is what the code does."""

from __future__ import annotations

import hmac
import re
import struct
import zlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from cisterna.protocol_document import main, path, protocol_document, pump_constant
from cisterna.protocol_threats import THREATS
from pump_wire import messages
from pump_wire.codec import decode
from pump_wire.frame import FrameReader
from pump_wire.session import HEADER, REPLY, REQUEST, unwrap


def stored() -> str:
    return path().read_text(encoding="utf-8")


def octets_after(text: str, marker: str) -> bytes:
    """The octets of the first block of code behind ``marker``."""
    block = re.search(r"(?m)(^    [0-9a-f ]+\n)+", text[text.index(marker) :])
    assert block is not None, marker
    return bytes.fromhex(block.group())


def packet_in(frame: bytes) -> bytes:
    """What the firmware's own reader finds in ``frame``."""
    reader = FrameReader()
    found = [bytes(reader.packet[: reader.length]) for octet in frame if reader.feed(octet)]
    assert len(found) == 1
    return found[0]


def unstuffed(frame: bytes) -> bytes:
    """Packet and FCS in ``frame`` by RFC 1662's words, with none of the project's code."""
    assert frame[0] == frame[-1] == 0x7E
    inside = re.sub(rb"\x7d(.)", lambda pair: bytes([pair[1][0] ^ 0x20]), frame[1:-1], flags=re.S)
    return bytes(inside)


def test_the_document_is_what_the_code_would_write() -> None:
    assert stored() == protocol_document(), "run: python -m cisterna.protocol_document"


def test_writing_it_writes_it(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("cisterna.protocol_document.path", lambda: tmp_path / "P.md")
    assert main() == 0
    assert (tmp_path / "P.md").read_text(encoding="utf-8") == protocol_document()
    assert str(tmp_path / "P.md") in capsys.readouterr().out


def changed_range() -> tuple[str, object]:
    fields = tuple(
        (name, kind, low, high + 1 if name == "volume_nl" else high, text)
        for name, kind, low, high, text in messages.START_BOLUS.request
    )
    bolus = messages.START_BOLUS
    row = messages.Message(
        bolus.number, bolus.name, bolus.roles, bolus.prepared, bolus.text, fields, bolus.reply
    )
    return "TABLE", tuple(row if message is bolus else message for message in messages.TABLE)


def changed_role() -> tuple[str, object]:
    bolus = messages.START_BOLUS
    row = messages.Message(
        bolus.number,
        bolus.name,
        bolus.roles | messages.PATIENT,
        bolus.prepared,
        bolus.text,
        bolus.request,
        bolus.reply,
    )
    return "TABLE", tuple(row if message is bolus else message for message in messages.TABLE)


CHANGES = {
    "a range": changed_range,
    "a role": changed_role,
    "a message gone": lambda: ("TABLE", messages.TABLE[:-1]),
    "a refusal": lambda: ("REFUSALS", {**messages.REFUSALS, 18: ("too_hot", "it is too hot")}),
    "a remedy": lambda: ("FAULTS", {**messages.FAULTS, 2: (*messages.FAULTS[2][:2], "wait")}),
    "an event's text": lambda: ("EVENTS", {**messages.EVENTS, 5: ("bolus_done", "it is over")}),
    "a mode": lambda: ("MODES", (*messages.MODES, "prime")),
    "a stop reason": lambda: ("STOP_REASONS", (*messages.STOP_REASONS, "end of service")),
    "a reset cause": lambda: ("RESET_CAUSES", (*messages.RESET_CAUSES, "brown out")),
    "the wire version": lambda: ("WIRE_VERSION", messages.WIRE_VERSION + 1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_table_is_found(change, monkeypatch) -> None:
    name, value = change()
    monkeypatch.setattr(messages, name, value)
    assert stored() != protocol_document()


def test_another_event_record_must_be_told_of(monkeypatch) -> None:
    monkeypatch.setattr(messages, "EVENT_FORMAT", "<IBBHQIqI")
    with pytest.raises(ValueError, match="<IBBHQIqI"):
        protocol_document()


def test_golden_hello_is_a_hello() -> None:
    lines = stored()[stored().index("`hello` with sequence") :].splitlines()
    code = [bytes.fromhex(line) for line in lines if line.startswith("    ")]
    packet, frame = code[:2]
    assert packet_in(frame) == packet
    assert unstuffed(frame) == packet + zlib.crc32(packet).to_bytes(4, "little")
    opened = unwrap(packet)
    assert opened is not None
    kind, _, number, body = opened
    assert (kind, number, bytes(body)) == (REQUEST, messages.HELLO.number, b"")


def test_golden_reply_is_the_reply() -> None:
    frame = octets_after(stored(), "and its frame")
    packet = packet_in(frame)
    assert unstuffed(frame) == packet + zlib.crc32(packet).to_bytes(4, "little")
    opened = unwrap(packet)
    assert opened is not None
    assert opened[0] == REPLY
    values = decode(messages.HELLO.reply, packet[HEADER:])
    assert values["table_hash"] == messages.table_hash()
    assert values["wire_version"] == messages.WIRE_VERSION
    assert values["sealed"] == 1
    assert [field[:2] for field in messages.HELLO.reply[:2]] == [
        ("wire_version", "u16"),
        ("table_hash", "u32"),
    ]  # every version's
    assert values["board"] == "virtual"


def test_the_worked_handshake_is_what_both_sides_do() -> None:
    """With HMAC and CCM from elsewhere, and nothing of the project's but the frames' layout."""
    text = stored()[stored().index("## A worked handshake") :]
    ask = octets_after(text, "`open_session`, packet")
    reply = octets_after(text, "The reply, packet")
    info = octets_after(text, "`info`:")
    key, identity = (
        bytes.fromhex(block)
        for block in re.findall(r"(?m)^    ([0-9a-f ]+)$", text[text.index("key and id") :])[:2]
    )
    assert (ask[0], ask[3], ask[4]) == (1, messages.OPEN_SESSION.number, messages.CLINICIAN)
    ours, theirs, proof = ask[-16:], reply[4:20], reply[20:]
    match = re.search("clinician's key `([0-9a-f]+)`", text)
    assert match is not None
    secret = bytes.fromhex(match[1])
    assert info.startswith(b"cisterna session")
    assert info[16:22] == struct.pack("<HI", messages.WIRE_VERSION, messages.table_hash())
    middle = hmac.digest(ours + theirs, secret, "sha256")
    assert hmac.digest(middle, info + b"\x01", "sha256")[:16] == key
    assert identity == theirs[:8]
    ccm = AESCCM(key, tag_length=8)
    assert ccm.decrypt(identity + b"\x01" + bytes(4), proof, None) == b""
    first = re.findall(r"(?m)^    ([0-9a-f ]+)$", text[text.index("nonce and packet") :])[:2]
    used, packet = (bytes.fromhex(block) for block in first)
    assert used == identity + b"\x00" + struct.pack("<I", 1)
    assert packet[:7] == b"\x04" + identity[:2] + struct.pack("<I", 1)
    assert ccm.decrypt(used, packet[7:], packet[:7]) == bytes((1, messages.GET_STATUS.number))


def test_example_bolus_decodes() -> None:
    ask = decode(messages.PREPARE.request, octets_after(stored(), "as bodies. `prepare`"))
    assert ask["command"] == messages.START_BOLUS.number
    bolus = decode(messages.START_BOLUS.request, ask["body"])
    reply = decode(messages.PREPARE.reply, octets_after(stored(), "its reply, with the token"))
    echo = decode(messages.START_BOLUS.reply, reply["body"])
    assert bolus == {"volume_nl": 20_000, "duration_us": 600_000_000, "agreed": 0}
    assert echo["rate_nl_day"] * bolus["duration_us"] == bolus["volume_nl"] * 86_400_000_000
    assert decode(messages.CONFIRM.request, octets_after(stored(), "`confirm`:\n")) == {
        "token": reply["token"]
    }


def test_example_event_record_is_whole() -> None:
    record = octets_after(stored(), "Record 7")
    assert len(record) == messages.EVENT_SIZE
    assert zlib.crc32(record[:-4]).to_bytes(4, "little") == record[-4:]


HASHED = {
    "the refusals": ("REFUSALS", {**messages.REFUSALS, 18: ("too_hot", "")}, True),
    "the events": ("EVENTS", {**messages.EVENTS, 99: ("too_hot", "")}, True),
    "the faults": ("FAULTS", {**messages.FAULTS, 99: ("too_hot", "", "")}, True),
    "the modes": ("MODES", (*messages.MODES, "prime"), True),
    "the stop reasons": ("STOP_REASONS", (*messages.STOP_REASONS, "end of service"), True),
    "the reset causes": ("RESET_CAUSES", (*messages.RESET_CAUSES, "brown out"), True),
    "the event record": ("EVENT_FORMAT", "<IBBHQIQ", True),
    "a text for people": ("REFUSALS", {**messages.REFUSALS, 1: ("unknown_message", "")}, False),
}


@pytest.mark.parametrize(("name", "value", "hashed"), HASHED.values(), ids=HASHED.keys())
def test_what_it_says_of_the_hash_is_so(name, value, hashed, monkeypatch) -> None:
    before = messages.table_hash()
    monkeypatch.setattr(messages, name, value)
    assert (messages.table_hash() != before) == hashed


def table_after(text: str, marker: str) -> list[list[str]]:
    """The cells of the first table behind ``marker``, its head left out, without back quotes."""
    found: list[list[str]] = []
    for line in text[text.index(marker) :].splitlines():
        if line.startswith("|"):
            found.append([cell.strip().strip("`") for cell in line.strip("|").split(" | ")])
        elif found:
            break
    return found[2:]


def hashed_fields(text: str, marker: str) -> str:
    """Fields as the hash has them, out of the document."""
    if not re.match(r"[^:]*octets:", text[text.index(marker) + len(marker) :]):
        return "#"
    rows: list[str] = []
    for name, kind, limits, *_ in table_after(text, marker):
        bounds = re.match(r"(-?\d.*) to (\d.*)$", limits)
        low = high = None
        if bounds:
            low, high = (whole(part) for part in bounds.groups())
        rows.append(f"{name} {kind} {low} {high}")
    return ";".join(rows) + "#"


def whole(text: str) -> int:
    if "^" not in text:
        return int(text.replace(",", ""))
    power, _, off = text.lstrip("-").removeprefix("2^").partition(" - ")
    return (-1 if text.startswith("-") else 1) * 2 ** int(power) - int(off or 0)


def test_the_hash_can_be_worked_out_from_the_document_alone() -> None:
    """With nothing of the project's: what another programmer's author does."""
    text = stored()
    bits = {row[0]: int(row[1]) for row in table_after(text, "| role | bit |")}
    said: list[str] = []
    for number, link, roles, prepared, *_ in table_after(text, "| number | message |"):
        name = re.findall(r"`(\w+)`", link)[0]
        total = sum(bits[role] for role in roles.split(", "))
        section = text[text.index(f"### {number} {name}\n") :]
        said.append(f"{number} {name} {total} {int(prepared == 'yes')}|")
        said += [hashed_fields(section, "Request"), hashed_fields(section, "Reply")]
    said.append(hashed_fields("octets:" + text[text.index("The body of a refusal") :], ""))
    for head in ("code | name | meaning", "code | name | text", "fault | name", "alarm | name"):
        said += [f"{row[0]} {row[1]}|" for row in table_after(text, f"| {head}")]
    formats = re.findall(r"`(<[A-Za-z0-9]+)`", text)
    named = (
        [row[1] for row in table_after(text, "| mode | name |")],
        [row[1] for row in table_after(text, "| stop reason |")],
        [row[1] for row in table_after(text, "| reset cause |")],
        formats,
        re.findall(r"`([^`]+)`", text[text.index("restrictive wins:") :])[:3],
        [row[0].split("`")[1] for row in table_after(text, "| state | meaning |")],
    )
    said += ["|".join(names) for names in named]
    version = re.search(r"Wire version (\d+), message table `(\w+)`", text)
    assert version is not None
    total = zlib.crc32("".join(said).encode(), int(version[1]))
    assert f"{total:08x}" == version[2]


def test_how_long_the_log_lasts_is_told_alike() -> None:
    said = " ".join(stored().split())
    match = re.search(r"the ([\d,]+) records that the log keeps .*? out in (\d+) days", said)
    assert match is not None
    every_s = pump_constant("sessions", "_RECORD_US") // 1_000_000
    assert round(whole(match[1]) / 2 * every_s / 86_400) == int(match[2])
    assert f"{match[2]} days for all of it" in said


def test_every_row_of_the_table_is_there() -> None:
    text = stored()
    for message in messages.TABLE:
        assert f"\n### {message.number} {message.name}\n" in text
        for name, kind, *_ in message.request + message.reply:
            assert f"| `{name}` | `{kind}` |" in text
    for codes in (messages.REFUSALS, messages.EVENTS, messages.FAULTS):
        for code, row in codes.items():
            assert f"| {code} | `{row[0]}` | {row[1]}" in text


def test_every_threat_has_a_test_that_is_there_or_says_that_nothing_stops_it() -> None:
    root = path().parents[1]
    assert len(THREATS) > 15
    for threat in THREATS:
        if not threat.test:
            assert threat.stopped_by.startswith("nothing: "), threat.attack
            continue
        file, name = threat.test.split("::")
        assert f"def {name}(" in (root / file).read_text(encoding="utf-8"), threat.test


def test_it_says_what_it_is_not() -> None:
    text = " ".join(stored().split())
    assert (
        "A bench and teaching model. Not a medical device; never for use on people or animals."
        in text
    )


def test_a_constant_the_pump_lacks_is_an_error() -> None:
    assert pump_constant("commands", "TOKEN_VALID_US") == 30_000_000
    with pytest.raises(KeyError, match=r"commands\.py: NO_SUCH"):
        pump_constant("commands", "NO_SUCH")
