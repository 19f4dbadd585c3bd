"""Usage as the dialect reports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

LARGEST_COUNT = 2**31 - 1

# Reads a usage object.
ReadUsage = Callable[[Any], chat.Usage]
# Reads from a usage object what the answer cost, in US dollars; None where the provider does not say.
ReadCost = Callable[[Any], float | None]


def read_usage(usage: Any) -> chat.Usage:
    """Reads a usage object: prompt tokens include cached ones and completion tokens include reasoning."""
    sent, received = member(usage, "prompt_tokens_details"), member(usage, "completion_tokens_details")
    return usage_of(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        cached=count(sent, "cached_tokens"),
        cache_write=count(sent, "cache_write_tokens"),
        reasoning=count(received, "reasoning_tokens"),
    )


def usage_of(prompt: int, completion: int, *, cached: int, cache_write: int, reasoning: int) -> chat.Usage:
    """Makes the usage of counts that include each other as the hub's do."""
    usage = chat.Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=min(prompt + completion, LARGEST_COUNT),
        prompt_tokens_details=chat.PromptTokensDetails(cached_tokens=cached),
        completion_tokens_details=chat.CompletionTokensDetails(reasoning_tokens=reasoning),
    )
    if cache_write:
        usage.prompt_tokens_details.cache_write_tokens = cache_write
    return usage


def no_cost(usage: Any) -> float | None:  # noqa: ARG001 - the signature of ReadCost
    """Of a provider that does not say what an answer cost."""
    return None


def count(counts: Any, name: str) -> int:
    """Returns a count; 0 where the provider gives none or nonsense, which must not cost the caller the answer."""
    value = member(counts, name)
    return int(value) if isinstance(value, int | float) and 0 <= value <= LARGEST_COUNT else 0


def member(value: Any, name: str) -> Any:
    """Returns a member of what should be an object; None where it is not."""
    return value.get(name) if isinstance(value, dict) else None
