"""Which tool call a fragment belongs to. OpenAI says so by `index`; some that speak its dialect leave that out."""

from __future__ import annotations

from typing import Any


class CallPlaces:
    """Gives each tool call of one answer its place.

    A fragment with an id not heard before at its index, or with no index at all, begins a call of its own: so several
    whole calls are told apart even where all have the same index, or none. A fragment without id goes on with the
    call at its index, or with the last one.
    """

    __slots__ = ("_at", "_next")

    def __init__(self) -> None:
        self._at: dict[Any, tuple[int, str]] = {}
        self._next = 0

    @property
    def called(self) -> bool:
        """True when there was a call."""
        return self._next > 0

    def of(self, call: dict[str, Any]) -> int:
        """Returns the place of the call that a fragment belongs to, from 0."""
        index, name = call.get("index"), call.get("id") or ""
        place, known = self._at.get(index, (-1, ""))
        if place < 0 or (name and known and name != known):
            place = index if isinstance(index, int) and index >= self._next else self._next
            self._next = place + 1
        self._at[index] = (place, name or known)
        return place
