"""What the families of Google's models take.

Sources: https://ai.google.dev/gemini-api/docs/thinking and the developer guides of the models; effort in tokens is
what Google's own OpenAI-compatible API makes of it. A model nobody here has heard of is taken for one of the newest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """The rules of one model.

    `efforts` are those it has, in the words of `libs.worker.reasoning_effort`; empty for a model that cannot be told.
    `budgets` are the tokens of each for a model that takes a budget, None for one that takes a level.
    `signs_calls` is for models that refuse a call of theirs without its thought signature; these also take pictures
    in results and JSON together with tools.
    """

    efforts: tuple[str, ...] = ("low", "medium", "high")
    budgets: Mapping[str, int] | None = None
    signs_calls: bool = True


_FROM_MINIMAL = ("minimal", "low", "medium", "high")
_BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
_BUDGETS_WITH_NONE = {"none": 0, **_BUDGETS}

_WITHOUT_THINKING = ModelRules(efforts=(), signs_calls=False)
_NEWEST = ModelRules()

# The first that matches holds.
_FAMILIES = (
    # What is tuned, answers in pictures or in sound was made of models that do not think, or cannot be told how long.
    (re.compile(r"tunedModels/|gemini-(1|2\.0)|gemma-[123]|gemini-2\.5-.*-(image|tts)"), _WITHOUT_THINKING),
    (re.compile(r"gemini-3\.1-flash(-lite)?-image"), ModelRules(efforts=("minimal", "high"))),
    (re.compile(r"gemini-3.*-(image|tts)"), ModelRules(efforts=())),
    (re.compile(r"gemma-4"), ModelRules(efforts=("minimal", "high"), signs_calls=False)),
    (re.compile(r"gemini-2\.5-pro"), ModelRules(efforts=tuple(_BUDGETS), budgets=_BUDGETS, signs_calls=False)),
    (
        re.compile(r"gemini-2\.5"),
        ModelRules(efforts=tuple(_BUDGETS_WITH_NONE), budgets=_BUDGETS_WITH_NONE, signs_calls=False),
    ),
    (re.compile(r"gemini-3-pro"), ModelRules(efforts=("low", "high"))),
    (re.compile(r"gemini-3(\.[156])?-flash|gemini-(3.*-)?flash-lite"), ModelRules(efforts=_FROM_MINIMAL)),
)


def rules_of(model: str) -> ModelRules:
    """Returns what a model takes."""
    name = model.removeprefix("models/")
    return next((rules for family, rules in _FAMILIES if family.match(name)), _NEWEST)
