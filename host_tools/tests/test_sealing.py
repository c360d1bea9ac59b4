"""What the pump seals with against ``cryptography``: CCM, HKDF, key agreement, and the AES that a
board without ``cryptolib`` brings."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from pump_wire.session import hkdf

ROOT = Path(__file__).parents[2]

sealing = settings(deadline=None, derandomize=True, max_examples=60)
keys = st.binary(min_size=16, max_size=16)
nonces = st.binary(min_size=13, max_size=13)


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["cryptography", "boards/pybv11"])
def ccm(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The pump's ``Ccm`` class over the AES of ``cryptography``, and over the pyboard's."""
    shim = ROOT / "firmware" / "tests" / "cpython" / "cryptolib.py"
    if request.param != "cryptography":
        shim = ROOT / request.param / "cryptolib.py"
    before = sys.modules.get("cryptolib")
    sys.modules["cryptolib"] = load(shim, "cryptolib")
    try:
        yield load(ROOT / "firmware" / "pump" / "ccm.py", "ccm_under_test").Ccm
    finally:
        if before is None:
            del sys.modules["cryptolib"]
        else:
            sys.modules["cryptolib"] = before


@pytest.mark.requirement("SEC-3")
def test_the_pumps_ccm_is_that_of_cryptography(ccm: Any) -> None:
    @sealing
    @given(keys, nonces, st.binary(max_size=14), st.binary(max_size=240))
    def check(key: bytes, nonce: bytes, front: bytes, text: bytes) -> None:
        theirs = AESCCM(key, tag_length=8).encrypt(nonce, text, front)
        buffer = bytearray(front + text + bytes(8))
        end = ccm(key).seal(nonce, buffer, len(front), len(front) + len(text))
        assert bytes(buffer[:end]) == front + theirs
        assert ccm(key).open(nonce, buffer, len(front), len(front) + len(text))
        assert bytes(buffer[: len(front) + len(text)]) == front + text

    check()


@pytest.mark.requirement("SEC-3")
def test_what_was_changed_is_refused(ccm: Any) -> None:
    @sealing
    @given(keys, nonces, st.binary(min_size=1, max_size=60), st.data())
    def check(key: bytes, nonce: bytes, text: bytes, data: st.DataObject) -> None:
        front = b"header7"
        sealed = bytearray(front + AESCCM(key, tag_length=8).encrypt(nonce, text, front))
        at = data.draw(st.integers(0, len(sealed) - 1))
        sealed[at] ^= data.draw(st.integers(1, 255))
        assert not ccm(key).open(nonce, sealed, 7, len(sealed) - 8)

    check()


@sealing
@given(st.binary(min_size=1, max_size=64), st.binary(max_size=64), st.binary(max_size=80))
def test_the_pumps_hkdf_is_that_of_cryptography(secret: bytes, salt: bytes, info: bytes) -> None:
    assert hkdf(secret, salt, info) == HKDF(SHA256(), 32, salt, info).derive(secret)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_the_pumps_key_agreement_is_that_of_cryptography(ours: bytes, theirs: bytes) -> None:
    source = (ROOT / "firmware" / "pump" / "pairing.py").read_text(encoding="utf-8")
    start, end = source.index("_P = "), source.index("async def agree")
    made: dict[str, Any] = {"asyncio": asyncio}
    exec(source[start:end].replace("asyncio.sleep_ms(0)", "asyncio.sleep(0)"), made)  # noqa: S102
    other = X25519PrivateKey.from_private_bytes(theirs)
    public = other.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    scalar = made["clamped"](ours)

    def multiply(u: int) -> bytes:
        return asyncio.run(made["multiply"](scalar, u)).to_bytes(32, "little")

    mine = X25519PrivateKey.from_private_bytes(ours)
    assert multiply(9) == mine.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    agreed = mine.exchange(X25519PublicKey.from_public_bytes(public))
    assert multiply(int.from_bytes(public, "little") & ((1 << 255) - 1)) == agreed


@sealing
@given(keys, st.lists(keys, min_size=1, max_size=4), keys)
def test_the_pyboards_aes_is_that_of_cryptography(
    key: bytes, blocks: list[bytes], iv: bytes
) -> None:
    own = load(ROOT / "boards" / "pybv11" / "cryptolib.py", "pybv11_cryptolib")
    text = b"".join(blocks)
    for mode, chosen in ((1, modes.ECB()), (2, modes.CBC(iv))):
        theirs = Cipher(algorithms.AES(key), chosen).encryptor().update(text)
        assert own.aes(key, mode, iv).encrypt(text) == theirs
        buffer = bytearray(text)
        own.aes(key, mode, iv).encrypt(buffer, buffer)
        assert bytes(buffer) == theirs
