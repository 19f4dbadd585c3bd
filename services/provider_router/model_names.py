"""What a caller means by the name of a model, where the call names no provider."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.errors import NotFound

AUTOMATIC = "auto"

# What was sent may be anything, and long; a status has room for a few KB.
_LONGEST_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Target:
    """A provider to ask, and the model to ask it for by the provider's own name; the configured one when empty."""

    provider: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The targets a name may stand for. `exact` when the caller has named the provider: there is nothing to choose."""

    targets: tuple[Target, ...]
    exact: bool = False


class KnownModels(Protocol):
    """Knows which providers have a model."""

    def providers_of(self, name: str) -> Sequence[tuple[str, str]]:
        """Returns who has the model of a bare name or alias, each with its own name for it; nobody when unknown."""
        ...

    def model_of(self, provider: str, name: str) -> str:
        """Returns a provider's own name for a model, of which this may be an alias; else the name itself."""
        ...


class ModelNames:
    """Reads names of models; `providers` are the ids of all providers, in the order of the catalogue."""

    def __init__(self, providers: Collection[str], models: KnownModels) -> None:
        self._providers = frozenset(providers)
        self._anything = Meaning(tuple(Target(provider) for provider in providers))
        self._models = models

    def meaning(self, name: str) -> Meaning:
        """Returns what a name stands for: `provider/model`, a name or alias of the catalogue, `auto`, or none.

        `provider/auto` is that provider with the model of its configuration.

        Only the part before the first `/` can be a provider, so that OpenRouter's `anthropic/claude-x` is told by
        `openrouter/anthropic/claude-x`, and `anthropic/claude-x` is Anthropic's own. Raises NotFound for a name that
        means nothing.
        """
        if name in ("", AUTOMATIC):
            return self._anything
        provider, slash, model = name.partition("/")
        if slash and model and provider in self._providers:
            return Meaning(
                (Target(provider, "" if model == AUTOMATIC else self._models.model_of(provider, model)),), exact=True
            )
        known = self._models.providers_of(name)
        targets = tuple(Target(owner, own_name) for owner, own_name in known if owner in self._providers)
        if not targets:
            shown = name[:_LONGEST_SHOWN]
            raise NotFound(
                f"No provider is known to have the model {shown!r}; name the provider too, as in openai/{shown}, or"
                " choose a model of GET /api/models.",
                reason="MODEL_NOT_FOUND",
                model=shown,
            )
        return Meaning(targets)
