"""Usage as the dialect reports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.token_counts import count, member, tells, usage_of

# Reads a usage object; None where it tells no usage.
ReadUsage = Callable[[Any], chat.Usage | None]
# Reads from a usage object what the answer cost, in US dollars; None where the provider does not say.
ReadCost = Callable[[Any], float | None]


def read_usage(usage: Any) -> chat.Usage | None:
    """Reads a usage object: prompt tokens include cached ones and completion tokens include reasoning."""
    if not tells(usage, "prompt_tokens", "completion_tokens"):
        return None
    sent, received = member(usage, "prompt_tokens_details"), member(usage, "completion_tokens_details")
    return usage_of(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        cached=count(sent, "cached_tokens"),
        cache_write=count(sent, "cache_write_tokens"),
        reasoning=count(received, "reasoning_tokens"),
    )


def no_cost(usage: Any) -> float | None:  # noqa: ARG001 - the signature of ReadCost
    """Of a provider that does not say what an answer cost."""
    return None
