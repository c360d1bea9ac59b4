"""Key agreement for pairing: X25519 (RFC 7748) in whole numbers, loaded for a pairing and dropped
afterwards. How long it takes depends on the secret, which is used once and thrown away.
"""

import asyncio

from pump.ccm import Ccm
from pump.prescription import Refusal
from pump_wire.messages import WIRE_VERSION
from pump_wire.session import FROM_PUMP, KEY, TAG, hkdf, nonce, pairing_info

_P = (1 << 255) - 19
_A24 = 121665
_BASE = 9
_BITS_AT_ONCE = 8  # some 10 ms on a Pico, then the other tasks run
_NO_SESSION = bytes(8)


def _inverse(z):
    """z ** (p - 2) modulo p."""
    result = 1
    power = _P - 2
    while power:
        if power & 1:
            result = result * z % _P
        z = z * z % _P
        power >>= 1
    return result


async def multiply(scalar, u):
    """The u coordinate of ``scalar`` times the point with coordinate ``u``, all whole numbers."""
    x2 = 1
    z2 = 0
    x3 = u
    z3 = 1
    swapped = 0
    for bit in range(254, -1, -1):
        now = scalar >> bit & 1
        if swapped ^ now:
            x2, x3 = x3, x2
            z2, z3 = z3, z2
        swapped = now
        a = x2 + z2
        b = x2 - z2
        da = (x3 - z3) * a
        cb = (x3 + z3) * b
        aa = a * a % _P
        bb = b * b % _P
        e = aa - bb
        x3 = da + cb
        x3 = x3 * x3 % _P
        z3 = da - cb
        z3 = z3 * z3 % _P * u % _P
        x2 = aa * bb % _P
        z2 = e * (aa + _A24 * e) % _P
        if not bit % _BITS_AT_ONCE:
            await asyncio.sleep_ms(0)
    if swapped:
        x2, z2 = x3, z3
    return x2 * _inverse(z2) % _P


def clamped(secret):
    """32 random octets as a private key."""
    scalar = bytearray(secret)
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return int.from_bytes(scalar, "little")


async def agree(secret, theirs):
    """(our public key, what both know) for 32 random octets and their public key.

    Raises Refusal for a public key that leads to nothing.
    """
    scalar = clamped(secret)
    public = await multiply(scalar, _BASE)
    u = int.from_bytes(theirs, "little") & ((1 << 255) - 1)
    agreed = await multiply(scalar, u)
    if not agreed:
        raise Refusal("bad_body", "public")
    return public.to_bytes(32, "little"), agreed.to_bytes(32, "little")


def reply(role, generation, key, ours, theirs, agreed, pump_id, hashed):
    """PAIR's reply: ``key`` sealed for whoever has the other half of ``theirs``."""
    carrier = hkdf(agreed, theirs + ours, pairing_info(WIRE_VERSION, hashed, pump_id, role))
    sealed = bytearray(key) + bytearray(TAG)
    Ccm(carrier[:KEY]).seal(nonce(_NO_SESSION, FROM_PUMP, generation), sealed, 0, KEY)
    return {"public": ours, "generation": generation, "sealed_key": bytes(sealed)}
