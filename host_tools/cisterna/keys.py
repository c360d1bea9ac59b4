"""The keys a programmer holds, and what it has told a pump and not heard back: one folder, a file
a pump, readable by its owner only.

The folder is CISTERNA_KEYS if that is set, else in the user's data folder. A key that is lost is
lost: the pump gives none back, it must be paired again.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import hashlib
import json
import os
import platform
import secrets
import struct
from binascii import crc32
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import platformdirs

from cisterna.errors import CisternaError
from cisterna.own_files import make_own_folder, open_own
from pump_wire import messages
from pump_wire.session import KEY

VARIABLE = "CISTERNA_KEYS"

# Role's name -> its bit in the message table, the one that can do most first.
ROLES = {
    "clinician": messages.CLINICIAN,
    "service": messages.SERVICE,
    "patient": messages.PATIENT,
}
ROLE_NAMES = {bit: name for name, bit in ROLES.items()}

_OTHERS = 0o077  # rights of anybody but the owner
_WHO_OCTETS = 24  # what OPEN_SESSION carries
_TOKEN_OCTETS = 8  # of a prepared command


class BadKeyStore(CisternaError):
    """The key store cannot be trusted, read or written."""


@dataclass(frozen=True)
class HeldKey:
    """A key. ``pump``: the pump's id; ``generation``: the how many-th key of its role;
    ``paired_at``: when, UTC, as ISO 8601."""

    pump: bytes
    role: str
    key: bytes
    generation: int
    paired_at: str

    def __repr__(self) -> str:
        return f"HeldKey({self.pump.hex()}, {self.role}, generation {self.generation})"


def who_asks() -> str:
    """Who this programmer says it is: user and machine, cut to what a message carries."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name
        user = "somebody"
    text = f"{user}@{platform.node() or 'somewhere'}"
    while len(text.encode()) > _WHO_OCTETS:
        text = text[:-1]
    return text


def factory_keys(seed: int | None) -> dict[str, bytes]:
    """Keys for every role of a simulated pump that is provisioned before its first start. They
    follow from the bench's seed, so that a run can be repeated, and are nobody's secret; with None
    they are random."""
    if seed is None:
        return {role: secrets.token_bytes(KEY) for role in ROLES}
    return {
        role: hashlib.sha256(b"cisterna key %d %d" % (seed, bit)).digest()[:KEY]
        for role, bit in ROLES.items()
    }


def factory_files(keys: dict[str, bytes]) -> dict[str, bytes]:
    """The pump's key files in its ``root``, as its firmware writes them after a first pairing of
    every role: ``pump.sessions`` and ``pump.journal.TwoCopies``."""
    payload = b""
    for _, role in sorted((bit, role) for role, bit in ROLES.items()):
        payload += struct.pack(f"<H{KEY}s", 1, keys[role])
    record = struct.pack("<IH", 1, len(payload)) + payload
    record += crc32(record).to_bytes(4, "little")
    return {"keys.0": record, "keys.1": record}


def _make_durable(folder: Path) -> None:
    """The names in ``folder`` outlive a power cut, where the system can promise that."""
    if os.name != "posix":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_command(row: Any) -> bool:
    """True for what ``KeyStore.pending`` describes."""
    if not isinstance(row, dict):
        return False
    found = cast("dict[str, Any]", row)
    try:
        octets = len(bytes.fromhex(found["token"]))
        number, sent_at = found["next_event"], found.get("sent_at", 0)
        request = found.get("request", {})
    except (KeyError, TypeError, ValueError):
        return False
    numbers = type(number) is int and type(sent_at) is int and min(number, sent_at) >= 0
    words = isinstance(found.get("command"), str) and isinstance(request, dict)
    return octets == _TOKEN_OCTETS and numbers and words


class KeyStore:
    """Keys in ``folder``, which is made when the first is kept; None: in memory only."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._here: dict[bytes, dict[str, Any]] = {}

    @property
    def folder(self) -> Path:
        """Where the keys are. Raises BadKeyStore for a store that is in memory only."""
        if self._folder is None:
            raise BadKeyStore("these keys are in memory only")
        return self._folder

    @classmethod
    def of_user(cls) -> KeyStore:
        """The store of whoever runs this program."""
        named = os.environ.get(VARIABLE)
        if named:
            return cls(Path(named))
        return cls(Path(platformdirs.user_data_dir("cisterna")) / "keys")

    def get(self, pump: bytes, role: str) -> HeldKey | None:
        """The key of ``role`` for a pump; None when there is none. Raises BadKeyStore."""
        row = self._read(pump).get("roles", {}).get(role)
        if row is None:
            return None
        try:
            key = bytes.fromhex(row["key"])
            if len(key) != KEY:
                raise ValueError(f"a key of {len(key)} octets")
            return HeldKey(pump, role, key, int(row["generation"]), str(row["paired_at"]))
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(self._path(pump)) from error

    def roles(self, pump: bytes) -> list[str]:
        """Roles there is a key of for a pump, the one that can do most first."""
        return [role for role in ROLES if self.get(pump, role) is not None]

    def put(self, pump: bytes, role: str, key: bytes, generation: int) -> HeldKey:
        """Keep a key, in the place of one there may be. Raises BadKeyStore."""
        values = self._read(pump)
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        row = {"key": key.hex(), "generation": generation, "paired_at": now}
        values.setdefault("roles", {})[role] = row
        self._write(pump, values)
        return HeldKey(pump, role, key, generation, now)

    def drop(self, pump: bytes, role: str) -> None:
        """Forget a key; nothing when there is none."""
        values = self._read(pump)
        if values.get("roles", {}).pop(role, None) is not None:
            self._write(pump, values)

    def all(self) -> list[HeldKey]:
        """Every key in the store, by pump and role."""
        found: list[HeldKey] = []
        for pump in self._pumps():
            found += [held for role in ROLES if (held := self.get(pump, role)) is not None]
        return found

    def _pumps(self) -> list[bytes]:
        if self._folder is None:
            return sorted(self._here)
        pumps: list[bytes] = []
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
            with contextlib.suppress(ValueError):
                pumps.append(bytes.fromhex(path.stem))
        return pumps

    # -- what was told and not heard back -------------------------------------------------------

    def pending(self, pump: bytes) -> dict[str, Any] | None:
        """The command whose outcome is not known; None when there is none: "command", its name;
        "token"; "next_event", number of the event that was the next before it. Since when there
        is more, "request" and "sent_at". Raises BadKeyStore."""
        command = self._read(pump).get("pending")
        if command is not None and not _is_command(command):
            raise BadKeyStore(
                f"the key file {self._path(pump)} is damaged: a pump was told something whose "
                "outcome is not known, and what it was cannot be read",
                remedy="remove it and pair again: cisterna pair; then compare the pump's "
                "prescription and account (cisterna status) before you repeat a command",
            )
        return command

    def all_pending(self) -> dict[bytes, dict[str, Any]]:
        """Of every pump, the command whose outcome is not known; what cannot be read is left
        out."""
        found: dict[bytes, dict[str, Any]] = {}
        for pump in self._pumps():
            with contextlib.suppress(BadKeyStore):
                command = self.pending(pump)
                if command is not None:
                    found[pump] = command
        return found

    def set_pending(self, pump: bytes, command: dict[str, Any] | None) -> None:
        """Keep a command before it is sent, or forget it when its outcome is known; durable on
        return."""
        values = self._read(pump)
        if values.get("pending") != command:
            values["pending"] = command
            self._write(pump, values)

    def settle_by_hand(self, pump: bytes, command: dict[str, Any]) -> bool:
        """Forget ``command``: somebody has compared. False when it is not that which is kept."""
        if self.pending(pump) != command:
            return False
        self.set_pending(pump, None)
        return True

    # -- files ----------------------------------------------------------------------------------

    def _path(self, pump: bytes) -> Path:
        return self.folder / f"{pump.hex()}.json"

    def _read(self, pump: bytes) -> dict[str, Any]:
        if self._folder is None:
            return cast("dict[str, Any]", json.loads(json.dumps(self._here.get(pump, {}))))
        path = self._path(pump)
        if not self.folder.is_dir() or not path.is_file():
            return {}
        for each in (self.folder, path):
            self._check_rights(each)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadKeyStore(f"the key file {path}: {error.strerror}") from error
        except ValueError as error:
            raise self._damaged(path) from error
        if not isinstance(values, dict):
            raise self._damaged(path)
        found = cast("dict[str, Any]", values)
        if not isinstance(found.get("roles", {}), dict):
            raise self._damaged(path)
        return found

    def _damaged(self, path: Path) -> BadKeyStore:
        return BadKeyStore(
            f"the key file {path} is damaged: whether the pump was told something that it did not "
            "answer cannot be read either",
            remedy="remove it and pair again: cisterna pair; then compare the pump's "
            "prescription, account and log (cisterna status, cisterna log) before you repeat a "
            "command",
        )

    def _check_rights(self, path: Path) -> None:
        """Raise BadKeyStore when others than this user have a right on ``path``."""
        if os.name != "posix":
            return
        found = path.stat()
        if found.st_uid != os.getuid():
            raise BadKeyStore(f"{path} belongs to another user", f"use another {VARIABLE}")
        if found.st_mode & _OTHERS:
            raise BadKeyStore(
                f"others can use {path} (mode {found.st_mode & 0o777:o}): its keys are no secret",
                remedy=f"chmod go-rwx {path}; if somebody may have read it, revoke and pair again",
            )

    def _write(self, pump: bytes, values: dict[str, Any]) -> None:
        if self._folder is None:
            self._here[pump] = values
            return
        path = self._path(pump)
        try:
            if not self.folder.is_dir():
                make_own_folder(self.folder)
            self._check_rights(self.folder)
            new = path.with_suffix(f".{os.getpid()}.new")
            try:
                with os.fdopen(open_own(new), "w", encoding="utf-8") as file:
                    json.dump(values, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)
            _make_durable(self.folder)
        except OSError as error:
            raise BadKeyStore(f"the key file {path}: {error.strerror}") from error
