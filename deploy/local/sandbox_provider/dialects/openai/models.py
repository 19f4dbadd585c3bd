"""OpenAI's models, as far as the sandbox knows them."""

import re

SNAPSHOTS = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-5.1": "gpt-5.1-2025-11-13",
    "gpt-5.2": "gpt-5.2-2025-12-11",
    "gpt-5.4": "gpt-5.4",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.4-nano": "gpt-5.4-nano-2026-03-17",
    "gpt-5.5": "gpt-5.5-2026-04-23",
    "gpt-5.6-sol": "gpt-5.6-sol",
    "gpt-5.6-terra": "gpt-5.6-terra",
    "gpt-5.6-luna": "gpt-5.6-luna",
    "gpt-6-astra": "gpt-6-astra",
    "gpt-6-sol": "gpt-6-sol",
    "gpt-6-luna": "gpt-6-luna",
    "gpt-6.1-sol": "gpt-6.1-sol",
    "gpt-6.1-terra": "gpt-6.1-terra",
    "gpt-6.2-astra": "gpt-6.2-astra",
    "gpt-6.2-sol": "gpt-6.2-sol",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "o3-mini": "o3-mini-2025-01-31",
    "o4-mini": "o4-mini-2025-04-16",
}
"""The snapshot that answers for each alias; the answer names the snapshot, not the alias."""

CATALOGUE = frozenset({*SNAPSHOTS, *SNAPSHOTS.values()})

_REASONING = re.compile(r"o\d|gpt-[5-9]")

REASONING_TOKENS = {
    "none": 0,
    "minimal": 8,
    "low": 16,
    "medium": 64,
    "high": 256,
    "xhigh": 512,
    "max": 1024,
}
"""Tokens the sandbox spends on reasoning, by effort."""


def snapshot(model: str) -> str | None:
    """Finds the snapshot that answers for a model; None when there is no such model."""
    return SNAPSHOTS.get(model, model if model in CATALOGUE else None)


def reasons(model: str) -> bool:
    """Tells whether a model reasons, and so refuses `max_tokens` and sampling parameters."""
    return _REASONING.match(model) is not None
