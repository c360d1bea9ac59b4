"""What the firmware imports from MicroPython's ``cryptolib``, for tests that run it under CPython:
AES-128, encryption only, through ``cryptography``."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class aes:  # noqa: N801 (the name that MicroPython's module has)
    """``aes(key, mode[, iv])``: mode 1 is ECB, 2 CBC."""

    def __init__(self, key, mode, iv=None):
        chosen = modes.ECB() if mode == 1 else modes.CBC(bytes(iv))
        self._encryptor = Cipher(algorithms.AES(bytes(key)), chosen).encryptor()

    def encrypt(self, source, out=None):
        octets = self._encryptor.update(bytes(source))
        if out is None:
            return octets
        out[:] = octets
        return None
