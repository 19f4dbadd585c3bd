"""The models of a provider to choose from: live where the caller's key opens the list, else the catalogue's.

Who asks for models wants to choose one. With a key that is refused, or on a bad day of the provider, the well-known
models and a sentence that says why they are not live serve them better than an error: the chat they choose for will
fail or not for its own reasons. A list that has begun live goes on live or fails, though: the rest of another list
would leave models out and show others twice.

What administrators do not allow is in neither: workers leave it out of live lists, this module out of the others.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.errors import DeadlineExceeded, FailedPrecondition, PermissionDenied, ProviderError, Unavailable
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model. Lengths are in tokens, None where they are not known."""

    id: str
    provider: str
    display_name: str
    context_length: int | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ModelPage:
    """One page of a list. The token of the next is empty at the end; `notice` says why a list is not live."""

    models: Sequence[Model]
    next_page_token: str
    source: str
    notice: str = ""


class LiveModels(Protocol):
    """Knows the models that one provider offers to the caller."""

    async def page(self, page_size: int, page_token: str) -> tuple[Sequence[Model], str]:
        """Returns a page, which may be longer than asked for, and the token of the next. Raises PlatformError."""
        ...


class ModelLists:
    """Lists the models of the providers in the catalogue, live through their workers."""

    def __init__(self, catalog: Catalog, workers: Routes[LiveModels], states: ProviderStates) -> None:
        self._catalog = catalog
        self._workers = workers
        self._states = states

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
                return _from_catalogue(row, state, size, 0, error.message)
        source, shown, token = began.groups()
        if source == LIVE:
            return await self._live(row.id, size, int(shown), token)
        return _from_catalogue(row, state, size, int(shown), _GOES_ON)

    async def _live(self, provider: str, size: int, shown: int, token: str) -> ModelPage:
        models, next_token = await self._workers.worker_of(provider).page(size, token)
        # Some providers have one page only, however long.
        end = shown + size
        if end < len(models):
            return ModelPage(models[shown:end], f"{LIVE}:{end}:{token}", LIVE)
        return ModelPage(models[shown:], f"{LIVE}:0:{next_token}" if next_token else "", LIVE)


def _from_catalogue(row: Provider, state: ProviderState, size: int, shown: int, reason: str) -> ModelPage:
    models = well_known_models(row, state)
    end = shown + size
    return ModelPage(
        [Model(id=model, provider=row.id, display_name=model) for model in models[shown:end]],
        f"{CATALOGUE}:{end}:" if end < len(models) else "",
        CATALOGUE,
        f"This list is not live: {reason}",
    )


def well_known_models(row: Provider, state: ProviderState) -> tuple[str, ...]:
    """Returns the models to tell of without asking the provider: those administrators allow, else the catalogue's."""
    return state.allowed_models or row.models


class _Tokens(Container[str]):
    """All tokens that an answer could have given."""

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and _TOKEN.fullmatch(token) is not None
