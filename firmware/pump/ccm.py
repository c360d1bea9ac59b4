"""AES-128-CCM (RFC 3610: M = 8, L = 2) over the AES of ``cryptolib``, in place.

The tag is a CBC-MAC, which is the last block of AES-CBC, and the key stream is AES-ECB over
counters, so each takes one call for a whole packet.
"""

from cryptolib import aes

from pump_wire.session import TAG

_ECB = 1
_CBC = 2
_BLOCK = 16
_MOST = 240  # octets of text: what a packet holds, in whole blocks
_ADATA = 0x40  # flags of B0: there is something in front of the text
_MAC_FLAGS = (TAG - 2) // 2 << 3 | 1
_STREAM_FLAGS = 1
_NO_IV = bytes(_BLOCK)


class Ccm:
    """``seal`` and ``open`` under one key. Texts have at most 240 octets, what stands in front of
    them at most 14. Allocates some hundred octets a call."""

    def __init__(self, key):
        self._key = key
        self._stream = aes(key, _ECB)
        self._work = bytearray(2 * _BLOCK + _MOST)
        self._view = memoryview(self._work)

    def seal(self, nonce, buffer, front, end):
        """Encrypt ``buffer[front:end]``, authenticate it with ``buffer[:front]``, write the tag
        behind it; return the new end."""
        tag = self._tag(nonce, buffer, front, end)
        self._apply(nonce, buffer, front, end, tag)
        buffer[end : end + TAG] = tag
        return end + TAG

    def open(self, nonce, buffer, front, end):
        """Decrypt ``buffer[front:end]``, whose tag is behind it. False, and the text is worth
        nothing, when the tag is wrong."""
        tag = bytearray(buffer[end : end + TAG])
        self._apply(nonce, buffer, front, end, tag)
        right = self._tag(nonce, buffer, front, end)
        wrong = 0
        for at in range(TAG):  # all of them: how long it takes tells nothing
            wrong |= tag[at] ^ right[at]
        return not wrong

    def _tag(self, nonce, buffer, front, end):
        work = self._work
        size = end - front
        work[0] = _MAC_FLAGS | (_ADATA if front else 0)
        work[1:14] = nonce
        work[14] = size >> 8
        work[15] = size & 0xFF
        at = _BLOCK
        if front:
            work[16] = 0
            work[17] = front
            work[18 : 18 + front] = buffer[:front]
            at = self._fill(18 + front)
        work[at : at + size] = buffer[front:end]
        view = self._view[: self._fill(at + size)]
        aes(self._key, _CBC, _NO_IV).encrypt(view, view)
        return bytearray(view[-_BLOCK : -_BLOCK + TAG])

    def _fill(self, end):
        """Zeros up to a whole block; its end."""
        work = self._work
        while end & (_BLOCK - 1):
            work[end] = 0
            end += 1
        return end

    def _apply(self, nonce, buffer, front, end, tag):
        """Xor the key stream into text and tag."""
        work = self._work
        size = end - front
        most = _BLOCK + self._round(size)
        work[0] = _STREAM_FLAGS
        work[1:14] = nonce
        work[14] = work[15] = 0
        for at in range(_BLOCK, most, _BLOCK):
            work[at : at + _BLOCK] = self._view[:_BLOCK]
            work[at + 15] = at >> 4
        stream = self._view[:most]
        self._stream.encrypt(stream, stream)
        _xor(tag, 0, TAG, stream)
        _xor(buffer, front, end, stream[_BLOCK:])

    def _round(self, size):
        return (size + _BLOCK - 1) & -_BLOCK


def _xor(buffer, at, end, stream):
    size = end - at
    if size:
        mixed = int.from_bytes(buffer[at:end], "little")
        mixed ^= int.from_bytes(stream[:size], "little")
        buffer[at:end] = mixed.to_bytes(size, "little")
