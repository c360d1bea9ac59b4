# Types of codec.py for the host's strict check; MicroPython has no `typing` to say them with. A
# test holds both files to the same names and parameters.

from typing import Any, TypeAlias

MAX_BODY: int

Fields: TypeAlias = tuple[tuple[str, str, int | None, int | None, str], ...]

class FieldError(ValueError):
    field: str
    value: int
    limit: int | None
    def __init__(self, field: str, value: int, limit: int | None, text: str) -> None: ...

def encode(
    fields: Fields, values: dict[str, Any], out: bytearray | memoryview, at: int = 0
) -> int: ...
def decode(fields: Fields, data: bytes | bytearray | memoryview) -> dict[str, Any]: ...
