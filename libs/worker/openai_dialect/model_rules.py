"""What a model takes of the options that not every model takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelRules:
    """The rules of one model; by default everything is taken, and a wrong option is the provider's to refuse.

    `efforts` are those it has, in the words of `libs.worker.reasoning_effort`; empty for a model that does not reason.
    """

    system_role: Literal["system", "developer"] = "system"
    sampling: bool = True
    penalties: bool = True
    stop: bool = True
    most_stops: int | None = None
    efforts: tuple[str, ...] | None = None


# Finds the rules of a model when it is asked with an effort, empty for the model's own default.
RulesOf = Callable[[str, str], ModelRules]

_ANYTHING = ModelRules()


def takes_anything(model: str, effort: str) -> ModelRules:  # noqa: ARG001 - the signature of RulesOf
    """Rules of a provider whose models are not known here, or that sorts the options out by itself."""
    return _ANYTHING
