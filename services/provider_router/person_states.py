"""What people may use of each provider, remembered for a few seconds: a chat need not ask the key vault first."""

from __future__ import annotations

from collections.abc import Mapping

from libs.rpc.identity import caller
from libs.watched_cache import WatchedCache
from services.provider_router.provider_states import ProviderState, ProviderStates

# How long a change of a person's keys may go unseen. One that takes a provider away is seen by its worker at once.
_SECONDS = 3.0
_PEOPLE = 10_000


class PersonStates:
    """The states of the providers for the person of the current call.

    They are kept by token, not by person: what one token may not see, no other has seen for it.
    """

    def __init__(self, states: ProviderStates) -> None:
        self._cache: WatchedCache[str, Mapping[str, ProviderState]] = WatchedCache(
            lambda _token_id: states.by_provider(), size=_PEOPLE, ttl=_SECONDS, unwatched_ttl=_SECONDS
        )

    @property
    def cache(self) -> WatchedCache[str, Mapping[str, ProviderState]]:
        """What is remembered."""
        return self._cache

    async def known(self) -> Mapping[str, ProviderState]:
        """Returns the states by provider id, of this moment or up to three seconds before. Raises PlatformError."""
        return await self._cache.get(caller().token_id)

    async def fresh(self) -> Mapping[str, ProviderState]:
        """Returns the states of this moment. Raises PlatformError."""
        self._cache.discard(caller().token_id)
        return await self.known()
