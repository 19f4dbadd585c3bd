"""What is known of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.model_catalog.prices import Prices

# What a model may be able to do: its answers can be streamed; it understands system messages, calls tools, sees
# pictures, answers in the form of a JSON schema, and thinks before it answers.
CAPABILITIES = ("streaming", "system_prompt", "tools", "vision", "json_schema", "reasoning")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a provider's model. Lengths are in tokens; what is not known is None, or absent.

    `model` is the name the provider knows it by, and `aliases` are further names that chats may ask for it by.
    """

    provider: str
    model: str
    display_name: str | None = None
    aliases: tuple[str, ...] = ()
    context_length: int | None = None
    max_output_tokens: int | None = None
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    prices: Prices | None = None
