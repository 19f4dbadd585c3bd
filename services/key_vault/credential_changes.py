"""Tells workers which credentials have changed, as soon as they have, on the service's change feed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from libs.change_feed import ALIVE, SYNCHRONIZED, ChangeFeed

# How long a follower is told nothing, in seconds: with what the way takes it is a second at most. Shorter than that,
# since changes of other providers keep the feed from telling that it is alive.
_QUIET_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Synchronized:
    """From here on every change will be heard; anything may have changed unheard until now."""


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing changed for a while."""


@dataclass(frozen=True, slots=True)
class PersonChanged:
    """The credential of one account is another, or gone."""

    user_id: str


@dataclass(frozen=True, slots=True)
class EverybodyChanged:
    """The credentials of all accounts are others, or gone."""


Change = Synchronized | Alive | PersonChanged | EverybodyChanged


class CredentialChanges:
    """Announces changes and follows them. `clock` counts seconds and never goes back."""

    def __init__(self, feed: ChangeFeed, clock: Callable[[], float] = time.monotonic) -> None:
        self._feed = feed
        self._clock = clock

    async def announce(self, session: AsyncSession, user_id: str, provider: str) -> None:
        """Announces, when the transaction commits, that a person's credential of a provider has changed."""
        await self._feed.announce(session, f"{user_id} {provider}")

    async def announce_everybody(self, session: AsyncSession, provider: str) -> None:
        """Announces, when the transaction commits, that everybody's credentials of a provider have changed."""
        await self._feed.announce(session, f" {provider}")

    async def follow(self, provider: str) -> AsyncGenerator[Change]:
        """Yields changes of a provider's credentials as they happen, and Alive within a second of silence.

        Begins with Synchronized: while nothing can be heard nothing is told either. Ends when changes cannot be heard
        any more: follow again.
        """
        synchronized, told = False, self._clock()
        async with aclosing(self._feed.subscribe(pulse=_QUIET_SECONDS)) as announcements:
            async for announcement in announcements:
                change = _read(announcement, provider)
                synchronized |= isinstance(change, Synchronized)
                if not synchronized or (isinstance(change, Alive) and self._clock() - told < _QUIET_SECONDS):
                    continue
                told = self._clock()
                yield change


def _read(announcement: object, provider: str) -> Change:
    if announcement is SYNCHRONIZED:
        return Synchronized()
    if announcement is ALIVE:
        return Alive()
    user_id, _, changed_provider = str(announcement).rpartition(" ")
    if changed_provider != provider:
        return Alive()
    return PersonChanged(user_id) if user_id else EverybodyChanged()
