"""Whom to ask for a chat, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from libs.errors import FailedPrecondition, PermissionDenied, PlatformError
from services.provider_router.model_names import ModelNames, Target
from services.provider_router.provider_states import UNTOUCHED, ProviderState


class Standing(Protocol):
    """Knows how the providers answer at the moment. Does no I/O."""

    def rank(self, provider: str) -> int:
        """Returns the place of a provider among those a chat may try, the lowest first."""
        ...


class States(Protocol):
    """Knows what the person of the current call may use of each provider, by its id."""

    async def known(self) -> Mapping[str, ProviderState]:
        """Returns the states as they are remembered. Raises PlatformError."""
        ...

    async def fresh(self) -> Mapping[str, ProviderState]:
        """Returns the states of this moment. Raises PlatformError."""
        ...


@dataclass(frozen=True, slots=True)
class Candidates:
    """The targets that may serve a chat, in the order of preference: those found, then the fallbacks."""

    found: tuple[Target, ...]
    fallbacks: tuple[Target, ...] = ()

    def arranged(self, standing: Standing) -> Sequence[Target]:
        """Returns the targets in the order in which to ask them, each once: who fails at the moment comes last."""
        targets = dict.fromkeys((*self.found, *self.fallbacks))
        return sorted(targets, key=lambda target: standing.rank(target.provider))


class CandidateSearch:
    """Finds the candidates for the chats of everybody."""

    def __init__(self, names: ModelNames, states: States) -> None:
        self._names = names
        self._states = states

    async def candidates(self, model: str, fallbacks: Sequence[Target] = ()) -> Candidates:
        """Returns who may serve a chat that asks for a model by any of its names, or for none.

        What the person has not configured, or may not use, is left out, except where they have named it themselves.
        Raises NotFound for an unknown model, FailedPrecondition or PermissionDenied when the person can use nobody who
        has it, and Unavailable when the key vault cannot tell.
        """
        meaning = self._names.meaning(model)
        if meaning.exact:
            return Candidates(meaning.targets, tuple(fallbacks))
        states = await self._states.known()
        usable = _usable(meaning.targets, states)
        if not usable:
            # A key stored a moment ago is used at once.
            states = await self._states.fresh()
            usable = _usable(meaning.targets, states)
        if not usable and not fallbacks:
            raise _none_usable(meaning.targets, states)
        return Candidates(usable, tuple(fallbacks))


def _usable(targets: Sequence[Target], states: Mapping[str, ProviderState]) -> tuple[Target, ...]:
    usable = [target for target in targets if _may_use(target, states.get(target.provider, UNTOUCHED))]
    # Sorting keeps the order of the catalogue among equals.
    usable.sort(key=lambda target: _priority(states[target.provider]))
    return tuple(usable)


def _may_use(target: Target, state: ProviderState) -> bool:
    return state.enabled and state.configured and _is_allowed(target.model, state)


def _is_allowed(model: str, state: ProviderState) -> bool:
    return not model or not state.allowed_models or model in state.allowed_models


def _priority(state: ProviderState) -> float:
    return inf if state.priority is None else state.priority


def _none_usable(targets: Sequence[Target], states: Mapping[str, ProviderState]) -> PlatformError:
    configured = [target for target in targets if states.get(target.provider, UNTOUCHED).configured]
    if not configured:
        providers = ", ".join(dict.fromkeys(target.provider for target in targets))
        return FailedPrecondition(
            "No provider that can serve this chat is configured for you; store a key with"
            f" POST /api/provider-config/{{provider}} for one of {providers}.",
            reason="PROVIDER_NOT_CONFIGURED",
            providers=providers,
        )
    providers = ", ".join(dict.fromkeys(target.provider for target in configured))
    if any(states[target.provider].enabled for target in configured):
        return PermissionDenied(
            f"Administrators do not allow this model at {providers}; choose another model.",
            reason="MODEL_NOT_ALLOWED",
            providers=providers,
        )
    return PermissionDenied(
        f"Administrators have switched {providers} off; configure another provider.",
        reason="PROVIDER_DISABLED",
        providers=providers,
    )
