"""The models of all providers the caller may use, as one list."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from libs.pagination import rows_per_page
from libs.provider_catalog import Catalog
from libs.recent import Recent
from libs.rpc.identity import caller
from services.provider_router.model_lists import Listing, Model, ModelLists
from services.provider_router.provider_states import UNTOUCHED, ProviderState, ProviderStates

# All providers are asked for it, some for a thousand models. A change of what is configured is seen at once.
_KEEP_SECONDS = 30.0
# A list may have more than a thousand models.
_MOST_KEPT = 100

# The provider the next page begins with, and how many of its models have been shown.
_TOKEN = re.compile(r"([a-z][a-z0-9-]*):(\d{1,9})")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A list, perhaps still on its way, what it was made for, and when it is to be forgotten."""

    listings: asyncio.Task[Sequence[Listing]]
    states: Mapping[str, ProviderState]
    until: float


class EveryModel:
    """Lists the models of all providers; a person's list is kept for half a minute."""

    def __init__(self, catalog: Catalog, lists: ModelLists, states: ProviderStates) -> None:
        self._catalog = catalog
        self._lists = lists
        self._states = states
        self._kept: Recent[str, _Kept | None] = Recent(_MOST_KEPT)

    async def listings(self) -> Sequence[Listing]:
        """Returns the list of each provider that has a worker and is not switched off, ordered by id.

        A provider that cannot be asked is there with what the catalogue knows. Raises Unavailable when the key vault
        cannot say what is allowed.
        """
        person = caller().user_id
        states = await self._states.by_provider()
        kept = self._kept.get(person, None)
        if kept is None or kept.until <= time.monotonic() or kept.states != states:
            task = asyncio.create_task(self._list(states), name="list every model")
            kept = _Kept(task, states, time.monotonic() + _KEEP_SECONDS)
            self._kept.tell(person, kept)
            task.add_done_callback(lambda done: self._drop_failed(person, done))
        # One impatient caller must not take the list away from the others.
        return await asyncio.shield(kept.listings)

    async def page(self, *, page_size: int, page_token: str) -> tuple[Sequence[Model], str, Sequence[Listing]]:
        """Returns one page, the token of the next, and the lists it is cut from.

        Raises InvalidRequest for an impossible page, and what `listings` raises.
        """
        size = rows_per_page(page_size, page_token, tokens=_Tokens())
        listings = await self.listings()
        models = [model for listing in listings for model in listing.models]
        start = _start(models, page_token)
        end = start + size
        return models[start:end], _token(models, end) if end < len(models) else "", listings

    async def _list(self, states: Mapping[str, ProviderState]) -> Sequence[Listing]:
        rows = [(row, states.get(row.id, UNTOUCHED)) for row in self._catalog.values()]
        return await asyncio.gather(
            *(self._lists.whole(row, state) for row, state in rows if state.enabled and self._lists.has_worker(row.id))
        )

    def _drop_failed(self, person: str, task: asyncio.Task[Sequence[Listing]]) -> None:
        if task.cancelled() or task.exception() is not None:
            kept = self._kept.get(person, None)
            if kept is not None and kept.listings is task:
                self._kept.forget(person)


def _start(models: Sequence[Model], token: str) -> int:
    began = _TOKEN.fullmatch(token)
    if began is None:
        return 0
    provider, shown = began[1], int(began[2])
    # The provider may be gone since: the list goes on with the one after it.
    first = next((place for place, model in enumerate(models) if model.provider >= provider), len(models))
    return first + shown if first < len(models) and models[first].provider == provider else first


def _token(models: Sequence[Model], end: int) -> str:
    provider = models[end].provider
    return f"{provider}:{sum(model.provider == provider for model in models[:end])}"


class _Tokens(Container[str]):
    """All tokens that an answer could have given."""

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and _TOKEN.fullmatch(token) is not None
