"""Counts of tokens as providers report them, made into usage that means the same whoever counted."""

from __future__ import annotations

from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

# What a field of the protos holds.
LARGEST_COUNT = 2**31 - 1


def member(value: Any, name: str) -> Any:
    """Returns a member of what should be an object; None where it is not."""
    return value.get(name) if isinstance(value, dict) else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def tells(counts: Any, *names: str) -> bool:
    """Tells whether any of these is a count. What tells neither of the prompt nor of the completion is no usage."""
    return any(_is_count(member(counts, name)) for name in names)


def count(counts: Any, name: str) -> int:
    """Returns a count; 0 where the provider gives none or nonsense, which must not cost the caller the answer."""
    value = member(counts, name)
    return int(value) if _is_count(value) else 0


def size(value: Any) -> int | None:
    """Returns how many tokens a model takes; None for what is no such number."""
    return value if isinstance(value, int) and 0 < value <= LARGEST_COUNT else None


def usage_of(
    prompt: int,
    completion: int,
    *,
    cached: int,
    reasoning: int,
    cache_write: int = 0,
    cache_write_1h: int = 0,
    tool_use: int = 0,
) -> chat.Usage:
    """Makes the usage of counts that include each other as the hub's do: the others are part of the first two."""
    prompt, completion = min(prompt, LARGEST_COUNT), min(completion, LARGEST_COUNT)
    return chat.Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=min(prompt + completion, LARGEST_COUNT),
        prompt_tokens_details=chat.PromptTokensDetails(
            cached_tokens=min(cached, prompt),
            # Kinds that most providers do not have are told only where there were any.
            cache_write_tokens=cache_write or None,
            cache_write_1h_tokens=cache_write_1h or None,
            tool_use_tokens=tool_use or None,
        ),
        completion_tokens_details=chat.CompletionTokensDetails(reasoning_tokens=min(reasoning, completion)),
    )
