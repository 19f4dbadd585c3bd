"""OpenRouter's models, as far as the sandbox knows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from deploy.local.sandbox_provider.dialects.openai.wire import CREATED

EFFORT_TOKENS: Mapping[str, int] = MappingProxyType(
    {"none": 0, "minimal": 8, "low": 16, "medium": 64, "high": 256, "xhigh": 512, "max": 1024}
)
"""Tokens the sandbox spends on reasoning, by effort."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes models, and how its provider says why an answer ended."""

    name: str
    reasoning_format: str
    finish_reasons: Mapping[str, str]


_OPENAI_WORDS = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}
_RESPONSES_WORDS = {"stop": "completed", "length": "max_output_tokens", "tool_calls": "completed"}

AUTHORS: Mapping[str, Author] = MappingProxyType(
    {
        "anthropic": Author(
            "Anthropic",
            "anthropic-claude-v1",
            {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"},
        ),
        "deepseek": Author("DeepSeek", "unknown", _OPENAI_WORDS),
        "google": Author(
            "Google",
            "google-gemini-v1",
            {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"},
        ),
        "moonshotai": Author("Moonshot AI", "unknown", _OPENAI_WORDS),
        "openai": Author("OpenAI", "openai-responses-v1", _RESPONSES_WORDS | {"content_filter": "content_filter"}),
        "x-ai": Author("xAI", "xai-responses-v1", _RESPONSES_WORDS | {"content_filter": "content_filter"}),
        "z-ai": Author("Z.AI", "unknown", _OPENAI_WORDS),
    }
)

PROMPT_PRICE = 0.000002
COMPLETION_PRICE = 0.00001
"""US dollars a token, for every model."""

_SIZES = {
    "anthropic/claude-opus-5.5": 1_000_000,
    "anthropic/claude-sonnet-5.5": 1_000_000,
    "deepseek/deepseek-v4.1-flash": 1_000_000,
    "google/gemini-4-argon": 1_048_576,
    "google/gemini-3.8-flash": 1_048_576,
    "moonshotai/kimi-k3": 262_144,
    "openai/gpt-6.1-sol": 1_050_000,
    "openai/gpt-6.1-terra": 1_050_000,
    "openai/gpt-4o-mini": 128_000,
    "x-ai/grok-4.3": 1_000_000,
    "z-ai/glm-5.3": 202_752,
}
CATALOGUE = frozenset(_SIZES)
_WITHOUT_REASONING = frozenset({"openai/gpt-4o-mini"})
_WITHOUT_STOP = frozenset({"openai/gpt-6.1-sol", "openai/gpt-6.1-terra"})
_PARAMETERS = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "response_format",
    "structured_outputs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
)


def author(model: str) -> Author:
    """Finds who makes a model of the catalogue."""
    return AUTHORS[model.partition("/")[0]]


def reasons(model: str) -> bool:
    """Tells whether a model reasons when it is asked to; by itself none does here."""
    return model not in _WITHOUT_REASONING


def parameters(model: str) -> list[str]:
    """Lists what a model takes; the rest is passed over, unless the request forbids that."""
    taken = [*_PARAMETERS]
    if model not in _WITHOUT_STOP:
        taken.append("stop")
    if reasons(model):
        taken.append("reasoning")
    return taken


def listing() -> dict[str, Any]:
    """Lists all models, as `GET /models` does."""
    data = [_entry(model) for model in sorted(CATALOGUE)]
    return {"data": data, "total_count": len(data), "links": {"next": None}}


def _entry(model: str) -> dict[str, Any]:
    maker, _, name = model.partition("/")
    entry: dict[str, Any] = {
        "id": model,
        "canonical_slug": f"{model}-20260101",
        "name": f"{AUTHORS[maker].name}: {name}",
        "created": CREATED,
        "description": "A model of the sandbox.",
        "context_length": _SIZES[model],
        "architecture": {
            "modality": "text+image->text",
            "input_modalities": ["text", "image"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {"prompt": f"{PROMPT_PRICE:.6f}", "completion": f"{COMPLETION_PRICE:.5f}", "request": "0"},
        "top_provider": {"context_length": _SIZES[model], "max_completion_tokens": 128_000, "is_moderated": False},
        "per_request_limits": None,
        "supported_parameters": parameters(model),
        "default_parameters": None,
        "supported_voices": None,
        "links": {"details": f"/api/v1/models/{model}/endpoints"},
    }
    if reasons(model):
        entry["reasoning"] = {"mandatory": False, "default_enabled": False, "supported_efforts": None}
    return entry
