"""Notes about reasoning that callers send back with a message, and whose they are.

A format tells whose model made a note. OpenRouter speaks of the models of others in the same formats, but gives every
note a place (`index`) or a name (`id`); those of the providers themselves are without. What one has sealed, the other
cannot open. https://openrouter.ai/docs/guides/best-practices/reasoning-tokens
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from realmultillm.chat.v1 import json_object_pb2

from libs.worker.json_object import plain

_FORMAT, _PLACE, _NAME = "format", "index", "id"


def came_routed(note: Mapping[str, Any]) -> bool:
    """Tells whether a note came through a provider that routes to others, and not from the model's own."""
    return _PLACE in note or _NAME in note


def own_notes(details: Iterable[json_object_pb2.JsonObject], form: str) -> Iterator[dict[str, Any]]:
    """Finds the notes that a provider with a format of its own has given; those of others mean nothing to it."""
    for detail in details:
        # Those of others may be long, and are not worth reading.
        if _format(detail) == form and not came_routed(note := plain(detail)):
            yield note


def _format(detail: json_object_pb2.JsonObject) -> str:
    """Finds the format of a note; of several the last, as `plain` does."""
    return next((member.value.string_value for member in reversed(detail.members) if member.name == _FORMAT), "")
