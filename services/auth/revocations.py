"""Tells every replica, and through them every service, which tokens are not to be believed any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from libs.change_feed import ALIVE, SYNCHRONIZED, ChangeFeed
from libs.rpc.identity import current_call

CHANNEL = "auth_revocations"

# Tokens told of at once: their ids of 36 characters fit into a payload.
_MOST_TOKENS = 200
# Who follows hears something at least this often, in seconds.
_PULSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Synchronized:
    """From here on every revocation will be heard; what was believed before may have been revoked unheard."""


@dataclass(frozen=True, slots=True)
class Alive:
    """There was nothing to tell for a while."""


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """One token has ended."""

    token_id: str


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """The role of an account, or whether it may sign in, is another now; ask again about each of its tokens."""

    user_id: str


Revocation = Synchronized | Alive | TokenRevoked | AccountChanged


class Revocations:
    """Announces and follows revocations on the service's change feed."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed

    async def announce(self, tx: AsyncSession, *revocations: TokenRevoked | AccountChanged) -> None:
        """Announces revocations when the transaction commits, and spares the call that does so.

        Who hears of it and asks again sees the database after the commit. An answer that was on its way already
        may be older; that is why caches drop what they were still waiting for (`libs.watched_cache`).
        """
        if not revocations:
            return
        with suppress(LookupError):
            current_call().spare()
        await self._feed.announce(tx, *_payloads(revocations))

    async def follow(self) -> AsyncGenerator[Revocation]:
        """Yields revocations as they happen. Ends when the follower fell too far behind to be told all of them."""
        async with aclosing(self._feed.subscribe(pulse=_PULSE_SECONDS)) as changes:
            async for change in changes:
                if change is SYNCHRONIZED:
                    yield Synchronized()
                elif change is ALIVE:
                    yield Alive()
                else:
                    kind, _, names = str(change).partition(":")
                    for name in names.split(","):
                        yield TokenRevoked(name) if kind == "token" else AccountChanged(name)


def _payloads(revocations: Sequence[TokenRevoked | AccountChanged]) -> Iterator[str]:
    token_ids = [revocation.token_id for revocation in revocations if isinstance(revocation, TokenRevoked)]
    for start in range(0, len(token_ids), _MOST_TOKENS):
        yield f"token:{','.join(token_ids[start : start + _MOST_TOKENS])}"
    for revocation in revocations:
        if isinstance(revocation, AccountChanged):
            yield f"user:{revocation.user_id}"
