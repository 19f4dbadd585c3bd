"""The models of a provider to choose from: live where the caller's key opens the list, else the catalogue's.

Who asks for models wants to choose one. With a key that is refused, or on a bad day of the provider, the well-known
models and a sentence that says why they are not live serve them better than an error: the chat they choose for will
fail or not for its own reasons. A list that has begun live goes on live or fails, though: the rest of another list
would leave models out and show others twice.

What administrators do not allow is in neither: workers leave it out of live lists, this module out of the others.

What the catalogue of models knows is added to both; where the provider itself says how long a model is, that stands.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from libs.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    PermissionDenied,
    PlatformError,
    ProviderError,
    Unavailable,
)
from libs.model_catalog import ModelCatalog
from libs.model_catalog.prices import Prices
from libs.pagination import rows_per_page
from libs.provider_catalog import Catalog, Provider
from services.provider_router.provider_states import UNTOUCHED, ProviderState, ProviderStates
from services.provider_router.routing import Routes, no_such_provider

LIVE = "live"
CATALOGUE = "catalogue"

# Where a list goes on: its source, how many models of the provider's page have been shown, and that page's own token.
_TOKEN = re.compile(rf"({LIVE}|{CATALOGUE}):(\d{{1,9}}):(.*)", re.DOTALL)
# No key, a key that is not good for it, or nobody there. What is wrong with the request itself is an error.
_NOT_LIVE = (ProviderError, FailedPrecondition, Unavailable, DeadlineExceeded)
_GOES_ON = "it began from the catalogue; ask again without a page token."
# Of one provider, where its whole list is wanted. OpenRouter, with the most, has a thousand models in one page.
_LARGEST_PAGE = 500
_MOST_PAGES = 10
# The facts of a model take 0.4 ms to find the first time; other calls go on in between.
_FOUND_AT_ONCE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model. Lengths are in tokens, None where they are not known. `source` is LIVE or CATALOGUE."""

    id: str
    provider: str
    display_name: str
    context_length: int | None = None
    max_output_tokens: int | None = None
    prices: Prices | None = None
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    aliases: Sequence[str] = ()
    source: str = LIVE


@dataclass(frozen=True, slots=True)
class ModelPage:
    """One page of a list. The token of the next is empty at the end; `notice` says why a list is not live."""

    models: Sequence[Model]
    next_page_token: str
    source: str
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All models of one provider; `notice` says why they are not live, `allowed` which may be used; any when empty."""

    provider: str
    models: Sequence[Model]
    source: str
    notice: str = ""
    allowed: Sequence[str] = ()


class LiveModels(Protocol):
    """Knows the models that one provider offers to the caller."""

    async def page(self, page_size: int, page_token: str) -> tuple[Sequence[Model], str]:
        """Returns a page, which may be longer than asked for, and the token of the next. Raises PlatformError."""
        ...


class ModelLists:
    """Lists the models of the providers in the catalogue, live through their workers."""

    def __init__(
        self, catalog: Catalog, workers: Routes[LiveModels], states: ProviderStates, known: ModelCatalog
    ) -> None:
        self._catalog = catalog
        self._workers = workers
        self._states = states
        self._known = known

    async def page(self, provider: str, *, page_size: int, page_token: str) -> ModelPage:
        """Returns one page.

        Raises NotFound when there is no such provider, PermissionDenied when it is switched off, InvalidRequest for an
        impossible page, Unavailable when the key vault cannot say what is allowed, and any PlatformError when a live
        list cannot be continued.
        """
        size = rows_per_page(page_size, page_token, tokens=_Tokens())
        row = self._catalog.get(provider)
        if row is None:
            raise no_such_provider(provider, self._catalog)
        state = (await self._states.by_provider()).get(row.id, UNTOUCHED)
        if not state.enabled:
            raise PermissionDenied(
                f"Administrators have switched {row.id} off; choose another provider.",
                reason="PROVIDER_DISABLED",
                provider=row.id,
            )
        began = _TOKEN.fullmatch(page_token)
        if began is None:
            try:
                return await self._live(row.id, size, 0, "")
            except _NOT_LIVE as error:
                return await self._from_catalogue(row, state, size, 0, error.message)
        source, shown, token = began.groups()
        if source == LIVE:
            return await self._live(row.id, size, int(shown), token)
        return await self._from_catalogue(row, state, size, int(shown), _GOES_ON)

    def has_worker(self, provider: str) -> bool:
        """Tells whether chats with a provider can be had at all in this deployment."""
        try:
            self._workers.worker_of(provider)
        except PlatformError:
            return False
        return True

    async def whole(self, row: Provider, state: ProviderState) -> Listing:
        """Returns all models of a provider: live, or the catalogue's whatever kept the provider from telling."""
        models: list[Model] = []
        token = ""
        try:
            for _ in range(_MOST_PAGES):
                page, token = await self._workers.worker_of(row.id).page(_LARGEST_PAGE, token)
                models += page
                if not token:
                    break
            return Listing(row.id, await self._with_facts(models), LIVE, allowed=state.allowed_models)
        except PlatformError as error:
            names = well_known_models(row, state)
            told = await self._told_of(row, names)
            return Listing(row.id, told, CATALOGUE, _not_live(error.message), allowed=state.allowed_models)

    async def _live(self, provider: str, size: int, shown: int, token: str) -> ModelPage:
        models, next_token = await self._workers.worker_of(provider).page(size, token)
        # Some providers have one page only, however long.
        end = shown + size
        page = await self._with_facts(models[shown:end])
        if end < len(models):
            return ModelPage(page, f"{LIVE}:{end}:{token}", LIVE)
        return ModelPage(page, f"{LIVE}:0:{next_token}" if next_token else "", LIVE)

    async def _from_catalogue(
        self, row: Provider, state: ProviderState, size: int, shown: int, reason: str
    ) -> ModelPage:
        models = well_known_models(row, state)
        end = shown + size
        return ModelPage(
            await self._told_of(row, models[shown:end]),
            f"{CATALOGUE}:{end}:" if end < len(models) else "",
            CATALOGUE,
            _not_live(reason),
        )

    async def _told_of(self, row: Provider, models: Sequence[str]) -> Sequence[Model]:
        return await self._with_facts(
            [Model(id=model, provider=row.id, display_name=model, source=CATALOGUE) for model in models]
        )

    async def _with_facts(self, models: Sequence[Model]) -> Sequence[Model]:
        completed = []
        for number, model in enumerate(models, start=1):
            completed.append(completed_by(model, self._known))
            if number % _FOUND_AT_ONCE == 0:
                await asyncio.sleep(0)
        return completed


def completed_by(model: Model, known: ModelCatalog) -> Model:
    """Adds what the catalogue of models knows of a model to what its list says."""
    facts = known.facts(model.provider, model.id)
    if facts is None:
        return model
    # A list that has no names for people tells the id in their place.
    named = model.display_name if model.display_name != model.id else facts.display_name or model.id
    return replace(
        model,
        display_name=named,
        context_length=model.context_length or facts.context_length,
        max_output_tokens=model.max_output_tokens or facts.max_output_tokens,
        prices=facts.prices,
        capabilities=facts.capabilities,
        aliases=facts.aliases,
    )


def _not_live(reason: str) -> str:
    return f"This list is not live: {reason}"


def well_known_models(row: Provider, state: ProviderState) -> tuple[str, ...]:
    """Returns the models to tell of without asking the provider: those administrators allow, else the catalogue's."""
    return state.allowed_models or row.models


class _Tokens(Container[str]):
    """All tokens that an answer could have given."""

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and _TOKEN.fullmatch(token) is not None
