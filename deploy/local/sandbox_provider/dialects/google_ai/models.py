"""Gemini models, as far as the sandbox knows them.

Source: the API's pages on models, thinking and thought signatures, and refusals quoted by users in public threads.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemini:
    """What a model takes and does.

    `levels` are the thinking levels it knows, from Gemini 3 on. `budget` is the range of its thinking budget before
    that, -1 leaving it to the model, and `can_rest` tells whether a budget of 0 is allowed too. A model with neither
    does not think.
    """

    display_name: str
    levels: tuple[str, ...] = ()
    default_level: str = "MEDIUM"
    budget: tuple[int, int] | None = None
    default_budget: int = -1
    can_rest: bool = False
    methods: tuple[str, ...] = ("generateContent", "countTokens", "createCachedContent", "batchGenerateContent")
    input_tokens: int = 1_048_576
    output_tokens: int = 65_536

    @property
    def thinks(self) -> bool:
        """Whether the model can think at all."""
        return bool(self.levels or self.budget)

    @property
    def wants_signatures(self) -> bool:
        """Whether the model refuses a function call of the current turn without its thought signature."""
        return bool(self.levels)


_THREE = ("LOW", "MEDIUM", "HIGH")
_FOUR = ("MINIMAL", *_THREE)

CATALOGUE = {
    "gemini-4-argon": Gemini(display_name="Gemini 4 Argon", levels=_THREE),
    "gemini-3.8-flash": Gemini(display_name="Gemini 3.8 Flash", levels=_THREE),
    "gemini-3.7-flash": Gemini(display_name="Gemini 3.7 Flash", levels=_THREE),
    "gemini-3.6-flash": Gemini(display_name="Gemini 3.6 Flash", levels=_FOUR),
    "gemini-3.5-flash": Gemini(display_name="Gemini 3.5 Flash", levels=_FOUR),
    "gemini-3.5-flash-lite": Gemini(display_name="Gemini 3.5 Flash-Lite", levels=_FOUR, default_level="MINIMAL"),
    "gemini-3.1-pro-preview": Gemini(display_name="Gemini 3.1 Pro Preview", levels=_THREE, default_level="HIGH"),
    "gemini-3-pro-preview": Gemini(display_name="Gemini 3 Pro Preview", levels=("LOW", "HIGH"), default_level="HIGH"),
    "gemini-2.5-pro": Gemini(display_name="Gemini 2.5 Pro", budget=(128, 32_768)),
    "gemini-2.5-flash": Gemini(display_name="Gemini 2.5 Flash", budget=(1, 24_576), can_rest=True),
    "gemini-2.5-flash-lite": Gemini(
        display_name="Gemini 2.5 Flash-Lite", budget=(512, 24_576), can_rest=True, default_budget=0
    ),
    "gemini-2.0-flash": Gemini(display_name="Gemini 2.0 Flash", output_tokens=8_192),
    "gemini-embedding-001": Gemini(
        display_name="Gemini Embedding 001",
        methods=("embedContent", "countTextTokens", "countTokens"),
        input_tokens=2_048,
        output_tokens=1,
    ),
}
ALIASES = {"gemini-flash-latest": "gemini-3.8-flash"}
"""The model that answers for each alias; the answer names it, not the alias."""

THOUGHT_TOKENS = {"MINIMAL": 8, "LOW": 16, "MEDIUM": 64, "HIGH": 256, "XHIGH": 512}
"""Tokens the sandbox spends on thoughts, by level."""


def find(name: str) -> tuple[str, Gemini] | None:
    """Finds the model that answers for a name such as `gemini-2.5-pro`; None when there is no such model."""
    name = ALIASES.get(name, name)
    model = CATALOGUE.get(name)
    return None if model is None else (name, model)


def description(name: str) -> dict[str, Any]:
    """Describes a model as the API's model list does."""
    _, model = find(name) or (name, CATALOGUE[name])
    entry: dict[str, Any] = {
        "name": f"models/{name}",
        "version": "001",
        "displayName": model.display_name,
        "description": f"{model.display_name} in the sandbox",
        "inputTokenLimit": model.input_tokens,
        "outputTokenLimit": model.output_tokens,
        "supportedGenerationMethods": list(model.methods),
    }
    if "generateContent" in model.methods:
        entry |= {"temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2}
    if model.thinks:
        entry["thinking"] = True
    return entry
