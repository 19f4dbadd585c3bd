"""A secret in memory that is overwritten as soon as nobody holds it any more."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NoReturn

from libs.redaction import REDACTED


class WipedSecret:
    """The bytes of a secret, for classes that say what it is and how it is given out.

    Does not show itself when printed, logged, formatted, copied or pickled by accident. docs/keys.md says what wiping
    can promise in Python, and what it cannot.
    """

    __slots__ = ("_bytes",)

    def __init__(self, secret: bytes) -> None:
        self._bytes = bytearray(secret)

    def __del__(self) -> None:
        with suppress(AttributeError):  # what could not be made holds nothing
            self._bytes[:] = bytes(len(self._bytes))

    def __len__(self) -> int:
        return len(self._bytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({REDACTED!r})"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"A {type(self).__name__} is not pickled or copied.")

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, WipedSecret) and self._bytes == other._bytes

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret would be one more thing to guess it by
