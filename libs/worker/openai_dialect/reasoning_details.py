"""Notes about reasoning that come in fragments, put together.

Providers that route to others send, beside the plain reasoning, an array of objects they want back unchanged. Streamed,
an object is cut into fragments with the same `index`: pieces of its text, then what seals it.
https://openrouter.ai/docs/guides/best-practices/reasoning-tokens
"""

from __future__ import annotations

from typing import Any

# Members that grow from fragment to fragment. What is sealed (`data`) always comes whole.
_GROWING = ("text", "summary")


class ReasoningDetails:
    """Collects the fragments of one answer."""

    __slots__ = ("_whole",)

    def __init__(self) -> None:
        self._whole: list[dict[str, Any]] = []

    def add(self, fragment: dict[str, Any]) -> None:
        """Adds a fragment to the object it belongs to, or begins a new one."""
        begun = next((each for each in reversed(self._whole) if _continues(fragment, each)), None)
        if begun is None:
            self._whole.append(dict(fragment))
            return
        for name, value in fragment.items():
            if name in _GROWING and value and begun.get(name):
                begun[name] += value
            elif value is not None:
                begun[name] = value

    def take(self) -> list[dict[str, Any]]:
        """Returns the objects, in the order in which they began, once."""
        whole, self._whole = self._whole, []
        return whole


def _continues(fragment: dict[str, Any], begun: dict[str, Any]) -> bool:
    """Tells whether a fragment goes on with an object: same kind, same place, and no other name."""
    if "data" in fragment or any(fragment.get(name) != begun.get(name) for name in ("type", "index")):
        return False
    return not (fragment.get("id") and begun.get("id")) or fragment["id"] == begun["id"]
