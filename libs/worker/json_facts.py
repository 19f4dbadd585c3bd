"""Facts from the JSON a provider sent, in which anything may stand where they should."""

from __future__ import annotations

from typing import Any

import orjson

# Of a text that is only looked through, so that no pattern has long to search. What it is about stands at its head.
_MOST_WORDS = 4_096
# More pieces than an event or an answer is made of; each costs more here than it costs the provider to send.
_MOST_PIECES = 10_000


def parsed(body: bytes) -> Any:
    """Returns the JSON of a body; None where it is none, for errors that come as whatever."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def text(value: Any) -> str:
    """Returns a text; empty where it is none, for what an answer or an error can do without."""
    return value if isinstance(value, str) else ""


def needed_text(value: Any) -> str:
    """Returns a text. Raises TypeError where it is none, for what an answer makes no sense without."""
    if not isinstance(value, str):
        raise TypeError("no text where there must be one")
    return value


def words(value: Any) -> str:
    """Returns a text to be looked through for words, 4,096 characters at most; empty where it is none."""
    return value[:_MOST_WORDS] if isinstance(value, str) else ""


def pieces(value: Any) -> Any:
    """Returns the pieces an answer is made of. Raises ValueError for more than make sense."""
    if len(value) > _MOST_PIECES:
        raise ValueError("more pieces than make sense")
    return value
