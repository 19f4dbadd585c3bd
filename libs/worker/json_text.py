"""JSON objects that callers send as text: the arguments of tool calls and, often, what the tools gave back.

It is read only to find out that it is one, and then sent as it stands.
"""

from __future__ import annotations

import orjson

# What is read of one request. orjson takes up to 20 ns for a character, and 350 ns more for an object or a list; nobody
# else is served meanwhile. So much text is half a million tokens and more.
MOST_CHARACTERS = 2_000_000
MOST_BRACKETS = 100_000
# orjson reads 1,024 levels, and writes as many as this.
MOST_LEVELS = 254


def begins_object(text: str) -> bool:
    """Tells whether a text may be a JSON object, without reading it."""
    return text.lstrip().startswith("{")


def as_object(text: str) -> orjson.Fragment | None:
    """Takes a JSON object as it stands, digits and all; None for anything else, and for more than MOST_LEVELS."""
    if not begins_object(text):
        return None
    try:
        members = orjson.loads(text)
        if _brackets(text) > MOST_LEVELS:
            orjson.dumps(members)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return orjson.Fragment(text)


class Reading:
    """How much JSON text of one request has been read."""

    __slots__ = ("_brackets", "_characters")

    def __init__(self) -> None:
        self._characters = self._brackets = 0

    def allows(self, text: str) -> bool:
        """Adds a text, and tells whether it may still be read. After one that may not, none may."""
        self._characters += len(text)
        if self._characters > MOST_CHARACTERS:
            return False
        self._brackets += _brackets(text)
        return self._brackets <= MOST_BRACKETS


def _brackets(text: str) -> int:
    """Counts what may begin an object or a list; some of it may stand in strings."""
    return text.count("{") + text.count("[")
