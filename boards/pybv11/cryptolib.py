"""AES-128 in Python, for an image that has no ``cryptolib``: the part of it that the pump uses.
Some milliseconds a block on an STM32F405 (estimated, not measured).

Tables look-ups depend on the key, so their times do: nobody but the pump's own code must be able
to measure them.
"""


def _boxes():
    """The S-box (FIPS 197, 5.1.1), from inverses modulo x^8 + x^4 + x^3 + x + 1."""
    box = bytearray(256)
    p = q = 1
    while True:
        p ^= (p << 1 & 0xFF) ^ (0x1B if p & 0x80 else 0)  # times 3
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        if q & 0x80:
            q ^= 0x09
        x = q ^ _turned(q, 1) ^ _turned(q, 2) ^ _turned(q, 3) ^ _turned(q, 4)
        box[p] = x ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return bytes(box)


def _turned(x, by):
    return (x << by | x >> (8 - by)) & 0xFF


_BOX = _boxes()
_ECB = 1


class aes:  # noqa: N801 (the name that MicroPython's module has)
    """``aes(key, mode[, iv])``: mode 1 is ECB, 2 CBC. Encrypts only."""

    def __init__(self, key, mode, iv=None):
        if len(key) != 16:
            raise ValueError("key of %d octets" % len(key))
        self._last = None if mode == _ECB else bytearray(iv or bytes(16))
        keys = bytearray(176)
        keys[:16] = key
        constant = 1
        for at in range(16, 176, 4):
            word = [keys[at - 4], keys[at - 3], keys[at - 2], keys[at - 1]]
            if not at & 15:
                word = [_BOX[octet] for octet in word[1:] + word[:1]]
                word[0] ^= constant
                constant = constant << 1 ^ (0x11B if constant & 0x80 else 0)
            for i in range(4):
                keys[at + i] = keys[at + i - 16] ^ word[i]
        self._keys = keys

    def encrypt(self, source, out=None):
        """``source``, whole blocks, encrypted into ``out``, which may be ``source``; else
        returned."""
        if len(source) & 15:
            raise ValueError("%d octets are no whole blocks" % len(source))
        into = bytearray(len(source)) if out is None else out
        last = self._last
        for at in range(0, len(source), 16):
            block = bytearray(source[at : at + 16])
            if last is not None:
                for i in range(16):
                    block[i] ^= last[i]
            block = self._block(block)
            into[at : at + 16] = block
            if last is not None:
                last = self._last = block
        return bytes(into) if out is None else None

    def _block(self, state):
        keys = self._keys
        for i in range(16):
            state[i] ^= keys[i]
        for at in range(16, 176, 16):
            moved = bytearray(16)
            for i in range(16):  # SubBytes and ShiftRows
                moved[i] = _BOX[state[(i + 4 * (i & 3)) & 15]]
            if at < 160:  # MixColumns
                for i in range(0, 16, 4):
                    a, b, c, d = moved[i], moved[i + 1], moved[i + 2], moved[i + 3]
                    every = a ^ b ^ c ^ d
                    moved[i] = a ^ every ^ _doubled(a ^ b)
                    moved[i + 1] = b ^ every ^ _doubled(b ^ c)
                    moved[i + 2] = c ^ every ^ _doubled(c ^ d)
                    moved[i + 3] = d ^ every ^ _doubled(d ^ a)
            for i in range(16):
                moved[i] ^= keys[at + i]
            state = moved
        return state


def _doubled(x):
    return x << 1 & 0xFF ^ (0x1B if x & 0x80 else 0)
