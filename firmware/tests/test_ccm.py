"""AES-128-CCM, HMAC and HKDF against vectors from their RFCs, and X25519 against RFC 7748."""

import asyncio
import sys

from pump.ccm import Ccm
from pump_wire.session import hkdf, hmac

PURE = True
VM_ONLY = (
    "test_key_agreement_of_rfc_7748",
    "test_public_keys_that_lead_to_nothing_are_refused",
    "test_pairing_is_not_kept_in_memory",
)
REQUIREMENTS = {
    "test_vectors_of_the_rfc_with_eight_octets_of_tag": ["SEC-3"],
    "test_every_flipped_bit_is_refused": ["SEC-3"],
}

KEY = "C0C1C2C3C4C5C6C7C8C9CACBCCCDCECF"
# RFC 3610, section 8: nonce, octets in front of the text, packet, sealed packet. Those with M = 8.
VECTORS = (
    (
        "00000003020100A0A1A2A3A4A5",
        8,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E",
        "0001020304050607588C979A61C663D2F066D0C2C0F989806D5F6B61DAC38417E8D12CFDF926E0",
    ),
    (
        "00000004030201A0A1A2A3A4A5",
        8,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
        "000102030405060772C91A36E135F8CF291CA894085C87E3CC15C439C9E43A3BA091D56E10400916",
    ),
    (
        "00000005040302A0A1A2A3A4A5",
        8,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20",
        "000102030405060751B1E5F44A197D1DA46B0F8E2D282AE871E838BB64DA8596574ADAA76FBD9FB0C5",
    ),
    (
        "00000006050403A0A1A2A3A4A5",
        12,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E",
        "000102030405060708090A0BA28C6865939A9A79FAAA5C4C2A9D4A91CDAC8C96C861B9C9E61EF1",
    ),
    (
        "00000007060504A0A1A2A3A4A5",
        12,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
        "000102030405060708090A0BDCF1FB7B5D9E23FB9D4E131253658AD86EBDCA3E51E83F077D9C2D93",
    ),
    (
        "00000008070605A0A1A2A3A4A5",
        12,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20",
        "000102030405060708090A0B6FC1B011F006568B5171A42D953D469B2570A4BD87405A0443AC91CB94",
    ),
)


def octets(text):
    return bytes.fromhex(text)


def test_vectors_of_the_rfc_with_eight_octets_of_tag():
    ccm = Ccm(octets(KEY))
    for nonce, front, packet, sealed in VECTORS:
        packet = octets(packet)
        buffer = bytearray(packet + bytes(8))
        end = ccm.seal(octets(nonce), buffer, front, len(packet))
        assert bytes(buffer[:end]) == octets(sealed), nonce
        assert ccm.open(octets(nonce), buffer, front, len(packet)), nonce
        assert bytes(buffer[: len(packet)]) == packet, nonce


def test_every_flipped_bit_is_refused():
    ccm = Ccm(octets(KEY))
    nonce, front, packet, sealed = VECTORS[2]
    end = len(octets(packet))
    for bit in range(8 * len(octets(sealed))):
        buffer = bytearray(octets(sealed))
        buffer[bit >> 3] ^= 1 << (bit & 7)
        assert not ccm.open(octets(nonce), buffer, front, end), bit
    for bit in range(8 * 13):
        other = bytearray(octets(nonce))
        other[bit >> 3] ^= 1 << (bit & 7)
        assert not ccm.open(bytes(other), bytearray(octets(sealed)), front, end), bit


def test_texts_of_every_length_go_there_and_back():
    ccm = Ccm(octets(KEY))
    nonce = octets(VECTORS[0][0])
    for size in range(241):
        text = bytes([size * at & 0xFF for at in range(7 + size)])
        buffer = bytearray(text + bytes(8))
        end = ccm.seal(nonce, buffer, 7, 7 + size)
        assert end == 7 + size + 8
        assert size < 16 or bytes(buffer[7 : 7 + size]) != text[7:]
        assert ccm.open(nonce, buffer, 7, 7 + size), size
        assert bytes(buffer[: 7 + size]) == text, size


def test_hmac_of_rfc_4231():
    for key, text, wanted in (
        (
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
    ):
        assert hmac(key, text) == octets(wanted)


def test_hkdf_of_rfc_5869():
    found = hkdf(
        b"\x0b" * 22, octets("000102030405060708090a0b0c"), octets("f0f1f2f3f4f5f6f7f8f9")
    )
    wanted = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    assert found == octets(wanted)


def test_key_agreement_of_rfc_7748():
    """Section 5.2: k = u = 9, once; and what both sides of an exchange make of it."""
    from pump import pairing

    nine = b"\x09" + bytes(31)
    found = asyncio.run(pairing.multiply(pairing.clamped(nine), 9)).to_bytes(32, "little")
    assert found == octets("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
    public, _ = asyncio.run(pairing.agree(b"a" * 32, nine))
    other, agreed = asyncio.run(pairing.agree(b"b" * 32, public))
    assert asyncio.run(pairing.agree(b"a" * 32, other)) == (public, agreed)


def test_public_keys_that_lead_to_nothing_are_refused():
    from pump import pairing
    from pump.prescription import Refusal

    for low_order in (bytes(32), b"\x01" + bytes(31)):
        try:
            asyncio.run(pairing.agree(b"s" * 32, low_order))
        except Refusal as refusal:
            assert refusal.field == "public"
        else:
            raise AssertionError("agreed")


def test_pairing_is_not_kept_in_memory():
    from sealed_host import Button, Host

    from pump_wire.messages import PAIR, SERVICE

    host = Host(0)
    button = host.pump.app.sessions._button = Button()
    button.held = True
    reply = host.ask_open(PAIR, us=5_000_000, role=SERVICE, public=b"\x09" + bytes(31))
    assert len(reply["sealed_key"]) == 24
    assert "pump.pairing" not in sys.modules
    import pump

    assert not hasattr(pump, "pairing")
