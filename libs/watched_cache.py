"""A cache of what another service knows, kept true by that service's stream of changes.

While the stream is up, an entry lives for `ttl`; changes remove it at once. While it is down, changes would pass
unseen: an entry is known to be true at the time of what was heard last, or of its load if that was later, and lives for
`unwatched_ttl` from then on, and for `ttl` in all. After each (re)connection the cache starts empty. What is too old is
swept out also when nobody asks for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable
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
_SWEEP_SECONDS = 1.0
# Entries swept out at a time; calls go on in between.
_SWEPT_AT_ONCE = 500
# A load during which more than this changes counts as overtaken.
_MOST_CHANGES = 10_000


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    loaded_at: float


@dataclass(frozen=True, slots=True)
class _Key:
    """Tells a key from a tag of the same text."""

    key: Hashable


@dataclass(slots=True)
class _Load(Generic[V]):
    """A load under way; `changes` had been heard when it began."""

    changes: int
    task: asyncio.Task[V]


class _Changes:
    """When something was last forgotten, by the count of all changes. What is not remembered counts as forgotten."""

    def __init__(self) -> None:
        self.count = 0
        self._last: OrderedDict[Hashable, int] = OrderedDict()
        self._everything = 0

    def note(self, name: Hashable) -> None:
        self.count += 1
        self._last[name] = self.count
        self._last.move_to_end(name)
        if len(self._last) > _MOST_CHANGES:
            _, self._everything = self._last.popitem(last=False)

    def note_everything(self) -> None:
        self.count += 1
        self._last.clear()
        self._everything = self.count

    def any_since(self, count: int, names: Collection[Hashable]) -> bool:
        return self._everything > count or any(self._last.get(name, 0) > count for name in names)


class WatchedCache(Generic[K, V]):
    """At most `size` values, least recently used first out; loads of one key are shared by all who wait for it.

    `load` fetches a value and may raise: failures are not kept. `ttl` and `unwatched_ttl` are in seconds. `tags` are
    what a value may be forgotten by besides its key, in a time that does not depend on how many there are.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        *,
        size: int,
        ttl: float,
        unwatched_ttl: float,
        tags: Callable[[V], Collection[str]] = lambda _value: (),
    ) -> None:
        self._load = load
        self._size = size
        self._ttl = ttl
        self._unwatched_ttl = unwatched_ttl
        self._tags = tags
        # How often a value was here, and how often it had to be waited for.
        self.hits = 0
        self.misses = 0
        self._follows = False
        self._watched = False
        # When something was heard last: what was in the cache then and is now was true.
        self._heard_at = float("-inf")
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        # In the order they were loaded in, where the others are in that of their last use.
        self._by_age: OrderedDict[K, None] = OrderedDict()
        self._tagged: dict[str, set[K]] = {}
        self._loads: dict[K, _Load[V]] = {}
        self._changes = _Changes()

    async def get(self, key: K) -> V:
        """Returns the value of a key, loading it when it is missing or too old.

        What a change overtook on the way is loaded anew: nobody who asks is told what was true before.
        """
        while True:
            entry = self._fresh(key)
            if entry is not None:
                self.hits += 1
                return entry.value
            self.misses += 1
            load = self._loads.get(key)
            if load is None:
                load = self._begin(key)
            # One impatient caller must not take the load away from the others.
            value = await asyncio.shield(load.task)
            if not self._overtaken(load.changes, key, value):
                return value

    def peek(self, key: K) -> V | None:
        """Returns the value of a key if it is here and young enough. What is not, `get` counts as missed."""
        entry = self._fresh(key)
        if entry is None:
            return None
        self.hits += 1
        return entry.value

    @property
    def watched(self) -> bool | None:
        """True while changes are heard of; None where none are followed."""
        return self._watched if self._follows else None

    def _fresh(self, key: K) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry is None or self._too_old(entry.loaded_at, time.monotonic()):
            return None
        self._entries.move_to_end(key)
        return entry

    def _too_old(self, loaded_at: float, now: float) -> bool:
        if now - loaded_at >= self._ttl:
            return True
        return not self._watched and now - max(loaded_at, self._heard_at) >= self._unwatched_ttl

    def _begin(self, key: K) -> _Load[V]:
        changes = self._changes.count
        task = asyncio.create_task(self._fetch(key, changes))
        load = self._loads[key] = _Load(changes, task)
        task.add_done_callback(lambda _task: self._forget_load(key, load))
        return load

    async def _fetch(self, key: K, changes: int) -> V:
        started = time.monotonic()
        value = await self._load(key)
        if not self._overtaken(changes, key, value):
            self._remove(key)
            self._entries[key] = _Entry(value, started)
            self._by_age[key] = None
            for tag in self._tags(value):
                self._tagged.setdefault(tag, set()).add(key)
            if len(self._entries) > self._size:
                self._remove(next(iter(self._entries)))
        return value

    def _overtaken(self, changes: int, key: K, value: V) -> bool:
        """Tells whether a value was forgotten since so many changes: it may be the one of before."""
        return self._changes.any_since(changes, (_Key(key), *self._tags(value)))

    def _forget_load(self, key: K, load: _Load[V]) -> None:
        if self._loads.get(key) is load:
            del self._loads[key]
        if not load.task.cancelled():
            load.task.exception()  # was raised to whoever waited; nobody may have

    def _remove(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        self._by_age.pop(key, None)
        for tag in self._tags(entry.value) if entry is not None else ():
            keys = self._tagged[tag]
            keys.discard(key)
            if not keys:
                del self._tagged[tag]

    def discard(self, key: K) -> None:
        """Forgets one key."""
        self._changes.note(_Key(key))
        self._remove(key)
        self._loads.pop(key, None)

    def discard_tagged(self, tag: str) -> None:
        """Forgets the values with a tag, and those on their way that turn out to have it."""
        self._changes.note(tag)
        for key in tuple(self._tagged.get(tag, ())):
            self._remove(key)

    def clear(self) -> None:
        """Forgets everything."""
        self._changes.note_everything()
        self._entries.clear()
        self._by_age.clear()
        self._tagged.clear()
        self._loads.clear()

    def __len__(self) -> int:
        return len(self._entries)

    @asynccontextmanager
    async def watching(
        self,
        subscribe: Callable[[], grpc.aio.UnaryStreamCall[object, Event]],
        apply: Callable[[Event], None],
        synchronized: Callable[[], None] = lambda: None,
        *,
        longest_silence: float | None = None,
    ) -> AsyncIterator[None]:
        """Follows a stream of changes for the time of the block, resubscribing after every loss.

        `apply` forgets what an event names. Events with `synchronized` or `alive` set are handled here, the former
        told. A stream that is up and says nothing for `longest_silence`, in seconds, is lost.
        """
        self._follows = True
        watch = self._watch(subscribe, apply, synchronized, longest_silence)
        async with beside({"cache watch": watch, "cache sweep": self._sweep_on()}):
            yield

    async def _sweep_on(self) -> None:
        while True:
            more = self.sweep(_SWEPT_AT_ONCE)
            await asyncio.sleep(0 if more else _SWEEP_SECONDS)

    def sweep(self, most: int) -> bool:
        """Forgets the oldest entries as far as they are too old; returns whether there may be more than so many."""
        now = time.monotonic()
        for _ in range(most):
            key = next(iter(self._by_age), None)
            if key is None or not self._too_old(self._entries[key].loaded_at, now):
                return False
            self._remove(key)
        return True

    async def _watch(
        self,
        subscribe: Callable[[], grpc.aio.UnaryStreamCall[object, Event]],
        apply: Callable[[Event], None],
        synchronized: Callable[[], None],
        longest_silence: float | None,
    ) -> None:
        delay = _RECONNECT_SECONDS
        while True:
            try:
                events = aiter(subscribe())
                # What is not up yet may take its time.
                while (event := await _next(events, longest_silence if self._watched else None)) is not None:
                    if getattr(event, "synchronized", False):
                        self.clear()
                        self._watched = True
                        synchronized()
                        delay = _RECONNECT_SECONDS
                    elif not getattr(event, "alive", False):
                        apply(event)
                    if self._watched:
                        self._heard_at = time.monotonic()
                log.info("change stream ended; subscribing again")
            except grpc.aio.AioRpcError as error:
                log.warning("change stream lost; subscribing again", code=error.code().name)
            except _Silent:
                log.warning("change stream silent; subscribing again", seconds=longest_silence)
            except Exception:  # a bug in `apply`; without the stream, changes would pass unseen for good
                log.exception("change stream failed; subscribing again")
            finally:
                self._watched = False
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RECONNECT_LIMIT)


class _Silent(Exception):
    """A stream says nothing any more, not even that it is alive."""


async def _next(events: AsyncIterator[Event], longest_silence: float | None) -> Event | None:
    """Returns the next event, None at the end. Raises _Silent when there is none for so many seconds."""
    try:
        async with asyncio.timeout(longest_silence) as silence:
            return await anext(events, None)
    except TimeoutError:
        if not silence.expired():
            raise
        raise _Silent from None
