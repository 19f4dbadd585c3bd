"""Claude's thinking blocks as the sealed notes that callers send back with the message.

Newer models refuse a block that stands elsewhere in its turn than it stood, so a note also tells what came before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from realmultillm.chat.v1 import json_object_pb2

from libs.worker.json_object import json_object
from libs.worker.reasoning_notes import own_notes

_FORMAT = "anthropic-claude-v1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block stands in its turn: behind so many characters of text and so many tool calls."""

    characters: int = 0
    calls: int = 0


def thinking_note(text: str, signature: str, place: Place) -> json_object_pb2.JsonObject:
    """Makes the note of a thinking block; its text is empty when Claude kept it back."""
    return _note({"type": "reasoning.text", "text": text, "signature": signature, "format": _FORMAT}, place)


def redacted_note(data: str, place: Place) -> json_object_pb2.JsonObject:
    """Makes the note of a thinking block that came encrypted."""
    return _note({"type": "reasoning.encrypted", "data": data, "format": _FORMAT}, place)


def _note(members: dict[str, Any], place: Place) -> json_object_pb2.JsonObject:
    if place.characters:
        members["after_characters"] = place.characters
    if place.calls:
        members["after_calls"] = place.calls
    return json_object(members)


def thinking_blocks(details: Iterable[json_object_pb2.JsonObject]) -> list[tuple[Place, dict[str, Any]]]:
    """Turns the notes of this provider back into blocks and their places."""
    found = []
    for note in own_notes(details, _FORMAT):
        block = _block(note)
        if block is not None:
            found.append((Place(_number(note, "after_characters"), _number(note, "after_calls")), block))
    return found


def _block(note: dict[str, Any]) -> dict[str, Any] | None:
    match note:
        case {"type": "reasoning.text", "signature": str(signature)} if signature:
            text = note.get("text")
            return {"type": "thinking", "thinking": text if isinstance(text, str) else "", "signature": signature}
        case {"type": "reasoning.encrypted", "data": str(data)} if data:
            return {"type": "redacted_thinking", "data": data}
        case _:
            return None


def _number(note: dict[str, Any], name: str) -> int:
    value = note.get(name)
    return value if isinstance(value, int) and value > 0 else 0
