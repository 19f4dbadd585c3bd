"""What xAI's models take. https://docs.x.ai/docs/guides/reasoning

A model nobody here has heard of is taken for one of the newest family.
"""

from __future__ import annotations

import re

from libs.worker.openai_dialect import ModelRules

_WITHOUT_REASONING = re.compile(r"grok-(2|3(?!-mini))|.*non-reasoning")

# The first that matches counts. Most models think as they see fit, and refuse to be told how much.
_EFFORTS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"grok-3-mini"), ("low", "high")),
    (re.compile(r"grok-4\.3"), ("none", "low", "medium", "high")),
    (re.compile(r"grok-4\.5"), ("low", "medium", "high")),
    (re.compile(r"grok-4\.20-multi-agent"), ("low", "medium", "high", "xhigh")),
    (re.compile(r"grok-(2|3|4(-|$)|4\.1|4\.20|code|build)|.*non-reasoning"), ()),
)
_NEWEST = ("low", "medium", "high", "xhigh")


def rules_of(model: str, effort: str) -> ModelRules:  # noqa: ARG001 - a model that can think refuses stop texts always
    """Returns what a model takes."""
    return ModelRules(
        # Refused by all models there are today, even when they are 0.
        penalties=False,
        stop=_WITHOUT_REASONING.match(model) is not None,
        most_stops=4,
        efforts=next((efforts for family, efforts in _EFFORTS if family.match(model)), _NEWEST),
    )
