"""Tells every replica of a service what one of them changed, through Postgres LISTEN and NOTIFY.

A change is announced inside the transaction that makes it, so it is heard exactly when it is visible. After a lost
connection nothing can be known about the gap: subscriptions end, and the next ones begin with SYNCHRONIZED, at which
a subscriber must forget what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.background import beside
from libs.database import libpq_url
from libs.redaction import Secret

log = structlog.get_logger()


class _Synchronized:
    """Everything that happens from here on will be heard."""


class _Alive:
    """Nothing was announced for a while."""


SYNCHRONIZED: Final = _Synchronized()
ALIVE: Final = _Alive()

# A subscriber this far behind is cut off; it reconnects and starts afresh.
_BACKLOG = 10_000
_RECONNECT_SECONDS = 0.5
# How often the connection is tried while nothing is announced, in seconds.
_PULSE_SECONDS = 5.0


class ChangeFeed:
    """Announces and hears changes on one channel. A payload is text of at most 7,999 bytes."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._subscribers: set[asyncio.Queue[str | _Synchronized | None]] = set()
        self._listening = False

    async def announce(self, session: AsyncSession, *payloads: str) -> None:
        """Announces changes when the session's transaction commits, and not at all when it does not."""
        await session.execute(
            text("SELECT pg_notify(:channel, payload) FROM unnest(CAST(:payloads AS text[])) AS payload"),
            {"channel": self._channel, "payloads": list(payloads)},
        )

    async def subscribe(self, *, pulse: float | None = None) -> AsyncGenerator[str | _Synchronized | _Alive, None]:
        """Yields SYNCHRONIZED as soon as changes are heard, then payloads as they are announced.

        When there is nothing to tell for `pulse`, in seconds, yields ALIVE.
        Ends when changes cannot be heard any more, or when the subscriber fell too far behind: subscribe again.
        """
        queue: asyncio.Queue[str | _Synchronized | None] = asyncio.Queue(_BACKLOG)
        self._subscribers.add(queue)
        try:
            if self._listening:
                yield SYNCHRONIZED
            while True:
                try:
                    async with asyncio.timeout(pulse):
                        change = await queue.get()
                except TimeoutError:
                    yield ALIVE
                    continue
                if change is None:
                    return
                yield change
        finally:
            self._subscribers.discard(queue)

    def _publish(self, change: str | _Synchronized) -> None:
        for queue in tuple(self._subscribers):
            try:
                queue.put_nowait(change)
            except asyncio.QueueFull:
                self._cut_off(queue)

    def _cut_off(self, queue: asyncio.Queue[str | _Synchronized | None]) -> None:
        """Ends a subscription at once: what it has not taken yet is worth nothing with a gap behind it."""
        self._subscribers.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def listen(self, url: Secret) -> None:
        """Listens until cancelled, reconnecting after every loss."""
        while True:
            try:
                await self._listen_once(url)
            except (psycopg.Error, TimeoutError) as error:
                log.warning("change feed interrupted", channel=self._channel, error=type(error).__name__)
            except Exception:  # a bug; without the feed, changes would pass unseen for good
                log.exception("change feed failed; listening again", channel=self._channel)
            finally:
                self._listening = False
                # Who holds an open subscription believes that it hears everything.
                for queue in tuple(self._subscribers):
                    self._cut_off(queue)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen_once(self, url: Secret) -> None:
        connection = await psycopg.AsyncConnection.connect(libpq_url(url), autocommit=True, connect_timeout=3)
        async with connection:
            await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(self._channel)))
            self._listening = True
            self._publish(SYNCHRONIZED)
            while True:
                async for notice in connection.notifies(timeout=_PULSE_SECONDS):
                    self._publish(notice.payload)
                async with asyncio.timeout(_PULSE_SECONDS):
                    await connection.execute("SELECT 1")


@asynccontextmanager
async def listening(feed: ChangeFeed, url: Secret) -> AsyncIterator[ChangeFeed]:
    """Runs the listener of a feed for the time of the block."""
    async with beside({"change feed": feed.listen(url)}):
        yield feed
