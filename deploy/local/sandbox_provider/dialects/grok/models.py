"""xAI's models, as far as the sandbox knows them, and what each takes.

Source: xAI's API reference and its guide to reasoning; for models that refuse `reasoning_effort`, also the answers
of its API quoted in public issue threads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from deploy.local.sandbox_provider.dialects.openai.wire import CREATED


@dataclass(frozen=True, slots=True)
class Model:
    """`efforts` are the values it takes for `reasoning_effort`, the first by default; none where it has no such dial.

    Prices are in ticks (1e-10 US dollars) a token, which is the listing's cents per 100 million tokens. Only old
    models tell what they thought.
    """

    aliases: tuple[str, ...] = ()
    reasons: bool = True
    efforts: tuple[str, ...] = ()
    tells_thoughts: bool = False
    prompt_price: int = 20_000
    completion_price: int = 60_000


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "grok-4.6": Model(("grok-latest",), efforts=("high", "low", "medium", "xhigh")),
        "grok-4.5": Model(efforts=("high", "low", "medium")),
        "grok-4.3": Model(efforts=("low", "none", "medium", "high"), prompt_price=12_500, completion_price=25_000),
        "grok-4.20-0309-reasoning": Model(("grok-4.20", "grok-4.20-reasoning")),
        "grok-4.20-0309-non-reasoning": Model(("grok-4.20-non-reasoning",), reasons=False),
        "grok-4.20-multi-agent-0309": Model(("grok-4.20-multi-agent",), efforts=("low", "medium", "high", "xhigh")),
        "grok-4-1-fast-reasoning": Model(("grok-4-1-fast",), prompt_price=2_000, completion_price=5_000),
        "grok-4-1-fast-non-reasoning": Model(reasons=False, prompt_price=2_000, completion_price=5_000),
        "grok-build-0.1": Model(("grok-code-fast-1", "grok-code-fast"), prompt_price=10_000, completion_price=20_000),
        "grok-3-mini": Model(("grok-3-mini-latest",), efforts=("low", "high"), tells_thoughts=True),
    }
)
_IDS = {alias: name for name, model in MODELS.items() for alias in (name, *model.aliases)}
EFFORT_TOKENS: Mapping[str, int] = MappingProxyType({"none": 0, "low": 16, "medium": 64, "high": 256, "xhigh": 512})
"""Tokens the sandbox spends on reasoning, by effort."""
_TOKENS_WITHOUT_DIAL = 64


def resolve(name: str) -> str | None:
    """Finds the model that answers to a name; None when there is no such model."""
    return _IDS.get(name)


def reasoning_tokens(name: str, effort: str | None) -> int:
    """Tells how much a model thinks."""
    model = MODELS[_IDS[name]]
    if not model.reasons:
        return 0
    return EFFORT_TOKENS[effort or model.efforts[0]] if model.efforts else _TOKENS_WITHOUT_DIAL


def language_model(name: str) -> dict[str, Any]:
    """Describes a model with its prices, as `GET /language-models` does."""
    model = MODELS[name]
    return {
        "id": name,
        "fingerprint": "fp_sandbox",
        "created": CREATED,
        "object": "model",
        "owned_by": "xai",
        "version": "1.0",
        "input_modalities": ["text", "image"],
        "output_modalities": ["text"],
        "prompt_text_token_price": model.prompt_price,
        "cached_prompt_text_token_price": model.prompt_price // 4,
        "prompt_image_token_price": model.prompt_price,
        "completion_text_token_price": model.completion_price,
        "search_price": 250_000_000,
        "aliases": list(model.aliases),
    }
