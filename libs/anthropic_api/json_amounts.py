"""How much JSON of one request is looked at. A worker serves its calls in turns: nobody else is served meanwhile."""

from __future__ import annotations

from typing import Any

import orjson

from libs.errors import InvalidRequest, Violation
from libs.worker.request_amounts import MAX_JSON_VALUES

# What may begin an object or a list; each takes orjson up to 350 ns, and some stand in texts.
_MOST_BRACKETS = 1_000_000


class JsonAmounts:
    """What may still be read of a request, and how many values of it made into others, at about 1 µs each."""

    __slots__ = ("_brackets_left", "_values_left")

    def __init__(self) -> None:
        self._brackets_left = _MOST_BRACKETS
        self._values_left = MAX_JSON_VALUES

    def read(self, text: bytes, at: str) -> Any:
        """Returns what JSON says. Raises InvalidRequest for more than may be read, and ValueError for what is none."""
        self._brackets_left -= text.count(b"{") + text.count(b"[")
        if self._brackets_left < 0:
            rule = f"must have at most {_MOST_BRACKETS} opening brackets; leave out older turns."
            raise InvalidRequest([Violation(at, rule)])
        return orjson.loads(text)

    def use(self, value: Any, at: str) -> None:
        """Counts the members and list values at all levels. Raises InvalidRequest where they are too many."""
        rest = [value]
        while rest:
            held = rest.pop()
            if isinstance(held, dict | list):
                self._values_left -= len(held)
                if self._values_left < 0:
                    rule = f"must have, with what is before it, at most {MAX_JSON_VALUES} members and list values."
                    raise InvalidRequest([Violation(at, rule)])
                rest.extend(held.values() if isinstance(held, dict) else held)
