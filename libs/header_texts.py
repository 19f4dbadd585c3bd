"""Texts that travel in headers as JSON in ASCII, where a character may take six."""

from __future__ import annotations

import json


def shortened(text: str, most: int) -> str:
    """Cuts a text off where, written as JSON, it would have more than so many characters, and marks that it is."""
    if len(json.dumps(text)) <= most:
        return text
    kept, size = 0, 0
    for character in text:
        size += len(json.dumps(character)) - 2
        if size > most:
            break
        kept += 1
    return text[:kept] + "…"
