"""Tells every replica, and through them every service, which tokens are not to be believed any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from libs.change_feed import SYNCHRONIZED, ChangeFeed

CHANNEL = "auth_revocations"


@dataclass(frozen=True, slots=True)
class Synchronized:
    """From here on every revocation will be heard; what was believed before may have been revoked unheard."""


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """One token has ended."""

    token_id: str


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """The role of an account, or whether it may sign in, is another now; ask again about each of its tokens."""

    user_id: str


Revocation = Synchronized | TokenRevoked | AccountChanged


class Revocations:
    """Announces and follows revocations on the service's change feed."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed

    async def announce(self, tx: AsyncSession, *revocations: TokenRevoked | AccountChanged) -> None:
        """Announces revocations when the transaction commits.

        Who hears of it and asks again sees the database after the commit. An answer that was on its way already
        may be older; that is why caches drop what they were still waiting for (`libs.watched_cache`).
        """
        await self._feed.announce(tx, *map(_payload, revocations))

    async def follow(self) -> AsyncGenerator[Revocation]:
        """Yields revocations as they happen. Ends when the follower fell too far behind to be told all of them."""
        async with aclosing(self._feed.subscribe()) as changes:
            async for change in changes:
                if change is SYNCHRONIZED:
                    yield Synchronized()
                    continue
                kind, _, name = str(change).partition(":")
                yield TokenRevoked(name) if kind == "token" else AccountChanged(name)


def _payload(revocation: TokenRevoked | AccountChanged) -> str:
    match revocation:
        case TokenRevoked(token_id):
            return f"token:{token_id}"
        case AccountChanged(user_id):
            return f"user:{user_id}"
