"""Signatures of thoughts that led to text, as the sealed notes that callers send back with the message."""

from __future__ import annotations

from collections.abc import Iterable

from realmultillm.chat.v1 import json_object_pb2

from libs.worker.json_object import plain

_FORMAT = "google-gemini-v1"
# OpenRouter speaks of Gemini's signatures in the same format, but with these, and of accounts of its own.
_OPENROUTERS = ("id", "index")


def sealed(signature: str) -> dict[str, str]:
    """Makes the note of a signature."""
    return {"type": "reasoning.encrypted", "data": signature, "format": _FORMAT}


def signatures(details: Iterable[json_object_pb2.JsonObject]) -> list[str]:
    """Finds the signatures that were given by this provider; the notes of others mean nothing to it."""
    found = []
    for detail in details:
        note = plain(detail)
        if note.get("format") != _FORMAT or note.get("type") != "reasoning.encrypted":
            continue
        data = note.get("data")
        if isinstance(data, str) and data and not any(note.get(name) is not None for name in _OPENROUTERS):
            found.append(data)
    return found
