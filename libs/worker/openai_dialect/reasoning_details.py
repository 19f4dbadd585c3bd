"""Notes about reasoning that come in fragments, put together.

Providers that route to others send, beside the plain reasoning, an array of objects they want back unchanged. Streamed,
an object is cut into fragments with the same `index`: pieces of its text, then what seals it.
https://openrouter.ai/docs/guides/best-practices/reasoning-tokens
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

# Members that grow from fragment to fragment. What is sealed (`data`) always comes whole.
_GROWING = ("text", "summary")

# More than any model thinks in one answer; the callers send all of it back.
_MOST_OBJECTS = 1_000
_MOST_CHARACTERS = 4 * 1024 * 1024

# Kind, index and name. With None for a name it is the object heard of last, whatever its name.
_Place = tuple[Any, Any, Any]


class _Detail:
    """An object that is being put together; what grows is kept in pieces and joined once."""

    __slots__ = ("growing", "members")

    def __init__(self) -> None:
        self.members: dict[str, Any] = {}
        self.growing: dict[str, list[str]] = {}

    def add(self, fragment: dict[str, Any]) -> int:
        """Takes in a fragment and returns the size of what is new in it, in characters."""
        size = 0
        for name, value in fragment.items():
            known = self.members.get(name)
            if name in _GROWING and known and isinstance(value, str):
                if value:
                    self.growing.setdefault(name, [known]).append(value)
                    size += len(value)
            elif value is None:
                self.members.setdefault(name, None)
            elif not (isinstance(value, str | int) and value == known):
                self.members[name] = value
                size += len(name) + (len(value) if isinstance(value, str) else len(orjson.dumps(value)))
        return size

    def whole(self) -> dict[str, Any]:
        return self.members | {name: "".join(pieces) for name, pieces in self.growing.items()}


class ReasoningDetails:
    """Collects the objects of one answer. Raises ValueError when they are more than any model thinks."""

    __slots__ = ("_at", "_begun", "_details", "_size")

    def __init__(self) -> None:
        self._details: list[_Detail] = []
        self._at: dict[_Place, _Detail] = {}
        self._begun = 0
        self._size = 0

    def add(self, fragment: dict[str, Any]) -> None:
        """Adds a fragment to the object it belongs to, or begins a new one."""
        kind, index, name = fragment.get("type"), fragment.get("index"), fragment.get("id") or None
        detail = None if "data" in fragment else self._named(kind, index, name)
        if detail is None:
            detail = self._begin()
        self._take_in(detail, fragment)
        self._at[kind, index, None] = self._at[kind, index, detail.members.get("id") or None] = detail

    def keep(self, whole: Iterable[dict[str, Any]]) -> ReasoningDetails:
        """Adds objects that came whole, and goes on with none of them."""
        for each in whole:
            self._take_in(self._begin(), each)
        return self

    def take(self) -> list[dict[str, Any]]:
        """Returns the objects, in the order in which they began, once."""
        details, self._details = self._details, []
        self._at.clear()
        return [detail.whole() for detail in details]

    def _named(self, kind: Any, index: Any, name: Any) -> _Detail | None:
        """Finds the object that a fragment goes on with: same kind, same place, and no other name."""
        found = self._at.get((kind, index, name))
        if found is None and name is not None:
            last = self._at.get((kind, index, None))
            if last is not None and not last.members.get("id"):
                found = last
        return found

    def _begin(self) -> _Detail:
        self._begun += 1
        if self._begun > _MOST_OBJECTS:
            raise ValueError("more notes about reasoning than make sense")
        detail = _Detail()
        self._details.append(detail)
        return detail

    def _take_in(self, detail: _Detail, fragment: dict[str, Any]) -> None:
        self._size += detail.add(fragment)
        if self._size > _MOST_CHARACTERS:
            raise ValueError("longer notes about reasoning than make sense")
