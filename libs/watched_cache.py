"""A cache of what another service knows, kept true by that service's stream of changes.

While the stream is up, an entry lives for `ttl`; changes remove it at once. While it is down, changes would pass
unseen, so every entry lives for `unwatched_ttl` only, also those loaded before. After each (re)connection the cache
starts empty.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
import structlog

from libs.background import beside

log = structlog.get_logger()

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Event = TypeVar("Event")

_RECONNECT_SECONDS = 0.2
_RECONNECT_LIMIT = 2.0


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    loaded_at: float


class WatchedCache(Generic[K, V]):
    """At most `size` values, least recently used first out; loads of one key are shared by all who wait for it.

    `load` fetches a value and may raise: failures are not kept. `ttl` and `unwatched_ttl` are in seconds.
    """

    def __init__(self, load: Callable[[K], Awaitable[V]], *, size: int, ttl: float, unwatched_ttl: float) -> None:
        self._load = load
        self._size = size
        self._ttls = {True: ttl, False: unwatched_ttl}
        self._watched = False
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._loads: dict[K, asyncio.Task[V]] = {}
        self._changes = 0

    async def get(self, key: K) -> V:
        """Returns the value of a key, loading it when it is missing or too old.

        What a change overtook on the way is loaded anew: nobody who asks is told what was true before.
        """
        while True:
            entry = self._entries.get(key)
            if entry is not None and time.monotonic() - entry.loaded_at < self._ttls[self._watched]:
                self._entries.move_to_end(key)
                return entry.value
            load = self._loads.get(key)
            if load is None:
                load = self._loads[key] = asyncio.create_task(self._fetch(key))
                load.add_done_callback(lambda task: self._forget_load(key, task))
            changes = self._changes
            # One impatient caller must not take the load away from the others.
            value = await asyncio.shield(load)
            if changes == self._changes:
                return value

    async def _fetch(self, key: K) -> V:
        started = time.monotonic()
        value = await self._load(key)
        # A change that arrived during the load removed it from the table: the value may be the one before.
        if self._loads.get(key) is asyncio.current_task():
            self._entries[key] = _Entry(value, started)
            self._entries.move_to_end(key)
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)
        return value

    def _forget_load(self, key: K, task: asyncio.Task[V]) -> None:
        if self._loads.get(key) is task:
            del self._loads[key]
        if not task.cancelled():
            task.exception()  # was raised to whoever waited; nobody may have

    def discard(self, key: K) -> None:
        """Forgets one key."""
        self._changes += 1
        self._entries.pop(key, None)
        self._loads.pop(key, None)

    def discard_where(self, matches: Callable[[V], bool]) -> None:
        """Forgets the values that match. Loads under way are not kept either: they may match too."""
        self._changes += 1
        for key in [key for key, entry in self._entries.items() if matches(entry.value)]:
            del self._entries[key]
        self._loads.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._changes += 1
        self._entries.clear()
        self._loads.clear()

    def __len__(self) -> int:
        return len(self._entries)

    @asynccontextmanager
    async def watching(
        self,
        subscribe: Callable[[], grpc.aio.UnaryStreamCall[object, Event]],
        apply: Callable[[Event], None],
        synchronized: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[None]:
        """Follows a stream of changes for the time of the block, resubscribing after every loss.

        `apply` forgets what an event names. An event with `synchronized` set is handled here, and told.
        """
        async with beside({"cache watch": self._watch(subscribe, apply, synchronized)}):
            yield

    async def _watch(
        self,
        subscribe: Callable[[], grpc.aio.UnaryStreamCall[object, Event]],
        apply: Callable[[Event], None],
        synchronized: Callable[[], None],
    ) -> None:
        delay = _RECONNECT_SECONDS
        while True:
            try:
                async for event in subscribe():
                    if getattr(event, "synchronized", False):
                        self.clear()
                        self._watched = True
                        synchronized()
                        delay = _RECONNECT_SECONDS
                    else:
                        apply(event)
                log.info("change stream ended; subscribing again")
            except grpc.aio.AioRpcError as error:
                log.warning("change stream lost; subscribing again", code=error.code().name)
            except Exception:  # a bug in `apply`; without the stream, changes would pass unseen for good
                log.exception("change stream failed; subscribing again")
            finally:
                self._watched = False
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RECONNECT_LIMIT)
