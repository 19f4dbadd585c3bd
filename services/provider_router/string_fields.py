"""Fields of a serialized message, written beside one that is not parsed: of two the last one counts."""

from __future__ import annotations

_LENGTH_DELIMITED = 2


def string_field(number: int, text: str) -> bytes:
    """Serializes a field that is a text, also an empty one. https://protobuf.dev/programming-guides/encoding/"""
    value = text.encode()
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
