"""Lists of models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.worker.adapter import MOST_MODELS
from libs.worker.token_counts import size

# What a listed model may call its context; the dialect has no name for it.
_CONTEXT_NAMES = ("context_length", "max_model_len", "context_window")


def models_in_data(answer: dict[str, Any]) -> Iterable[provider_pb2.Model]:
    """Reads the list in OpenAI's form."""
    return map(listed_model, answer["data"][:MOST_MODELS])


def listed_model(listed: dict[str, Any]) -> provider_pb2.Model:
    """Reads one entry of a list."""
    return provider_pb2.Model(
        id=listed["id"],
        display_name=listed.get("name") or listed["id"],
        context_length=next((found for name in _CONTEXT_NAMES if (found := size(listed.get(name)))), None),
    )
