"""Signatures of thoughts that led to text, as the sealed notes that callers send back with the message."""

from __future__ import annotations

from collections.abc import Iterable

from realmultillm.chat.v1 import json_object_pb2

from libs.worker.reasoning_notes import own_notes

_FORMAT = "google-gemini-v1"


def sealed(signature: str) -> dict[str, str]:
    """Makes the note of a signature."""
    return {"type": "reasoning.encrypted", "data": signature, "format": _FORMAT}


def signatures(details: Iterable[json_object_pb2.JsonObject]) -> list[str]:
    """Finds the signatures that were given by this provider."""
    sealed_by_google = (note for note in own_notes(details, _FORMAT) if note.get("type") == "reasoning.encrypted")
    return [data for note in sealed_by_google if isinstance(data := note.get("data"), str) and data]
