"""The watched cache: shared loads, short memories without the stream, nothing stale after a change."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
from structlog.testing import capture_logs

from libs import watched_cache
from libs.errors import NotFound
from libs.watched_cache import WatchedCache
from tests.support.waiting import eventually, within_bound

TTL, UNWATCHED_TTL = 300.0, 30.0


class Source:
    """What the cache loads from: counts, and holds a load back while its gate is closed."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.loads: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.loading = asyncio.Event()

    async def load(self, key: str) -> str:
        self.loads.append(key)
        value = self.values.get(key)
        self.loading.set()
        await self.gate.wait()
        if value is None:
            raise NotFound(f"no {key}")
        return value


@dataclass
class Event:
    synchronized: bool = False
    alive: bool = False
    key: str = ""


class Stream:
    """A stream of changes the test writes; each subscription gets the next one."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
        self.subscriptions = 0

    async def subscribe(self) -> AsyncIterator[Event]:
        self.subscriptions += 1
        while (event := await self.events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event


def tags(value: str) -> tuple[str, str]:
    return f"is {value}", "is something"


def lost() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watched_cache, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_cache, "_RECONNECT_SECONDS", 0.001)


@pytest.fixture
async def source() -> Source:
    source = Source()
    source.values = {"a": "1", "b": "2"}
    return source


@pytest.fixture
async def cache(source: Source) -> WatchedCache[str, str]:
    return WatchedCache(source.load, size=3, ttl=TTL, unwatched_ttl=UNWATCHED_TTL, tags=tags)


@pytest.fixture
async def stream(cache: WatchedCache[str, str]) -> AsyncIterator[Stream]:
    """A stream that is up."""
    stream = Stream()
    async with cache.watching(stream.subscribe, lambda event: cache.discard(event.key)):  # type: ignore[attr-defined]
        stream.events.put_nowait(Event(synchronized=True))
        await settled(stream)
        yield stream


async def settled(stream: Stream) -> None:
    """Waits until the cache has taken every event."""

    async def waiting() -> int:
        return stream.events.qsize()

    await eventually(waiting, lambda size: size == 0)
    await asyncio.sleep(0)


async def resubscribed(stream: Stream, times: int) -> None:
    async def subscriptions() -> int:
        return stream.subscriptions

    await eventually(subscriptions, lambda count: count == times)


async def loading(source: Source, cache: WatchedCache[str, str], key: str = "a") -> asyncio.Task[str]:
    """Begins a load and holds it back after it has read its value."""
    source.gate.clear()
    source.loading.clear()
    task = asyncio.create_task(cache.get(key))
    await within_bound(source.loading.wait())
    return task


class TestSharedLoads:
    async def test_a_value_is_loaded_once(self, cache: WatchedCache[str, str], source: Source) -> None:
        assert [await cache.get("a") for _ in range(3)] == ["1", "1", "1"]
        assert source.loads == ["a"]

    async def test_all_who_wait_share_one_load(self, cache: WatchedCache[str, str], source: Source) -> None:
        first = await loading(source, cache)
        others = [asyncio.create_task(cache.get("a")) for _ in range(50)]
        await asyncio.sleep(0)
        source.gate.set()
        assert await asyncio.gather(first, *others) == ["1"] * 51
        assert source.loads == ["a"]

    async def test_keys_do_not_wait_for_each_other(self, cache: WatchedCache[str, str], source: Source) -> None:
        await cache.get("b")
        held = await loading(source, cache, "a")
        assert await within_bound(cache.get("b")) == "2"
        source.gate.set()
        await held

    async def test_one_who_leaves_does_not_take_the_load_away(
        self, cache: WatchedCache[str, str], source: Source
    ) -> None:
        first = await loading(source, cache)
        second = asyncio.create_task(cache.get("a"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
        source.gate.set()
        assert await within_bound(second) == "1"
        assert source.loads == ["a"]

    async def test_when_all_leave_the_load_still_serves_the_next(
        self, cache: WatchedCache[str, str], source: Source
    ) -> None:
        only = await loading(source, cache)
        only.cancel()
        await asyncio.gather(only, return_exceptions=True)
        source.gate.set()
        assert await within_bound(cache.get("a")) == "1"
        assert source.loads == ["a"]

    async def test_a_failure_reaches_all_and_is_not_kept(self, cache: WatchedCache[str, str], source: Source) -> None:
        first = await loading(source, cache, "c")
        second = asyncio.create_task(cache.get("c"))
        await asyncio.sleep(0)
        source.gate.set()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(result) for result in results] == [NotFound, NotFound]
        source.values["c"] = "3"
        assert await cache.get("c") == "3"

    async def test_a_failure_nobody_waits_for_is_quiet(self, cache: WatchedCache[str, str], source: Source) -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        only = await loading(source, cache, "c")
        only.cancel()
        await asyncio.gather(only, return_exceptions=True)
        source.gate.set()
        with pytest.raises(NotFound):
            await cache.get("c")
        del only
        asyncio.get_running_loop().set_exception_handler(None)
        assert complaints == []


class TestAge:
    async def test_watched_values_live_for_the_long_time(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock, stream: Stream
    ) -> None:
        await cache.get("a")
        clock.now += TTL - 1
        await cache.get("a")
        assert source.loads == ["a"]
        clock.now += 1
        await cache.get("a")
        assert source.loads == ["a", "a"]

    async def test_unwatched_values_live_for_the_short_time(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock
    ) -> None:
        await cache.get("a")
        clock.now += UNWATCHED_TTL - 1
        await cache.get("a")
        assert source.loads == ["a"]
        clock.now += 1
        await cache.get("a")
        assert source.loads == ["a", "a"]

    async def test_what_was_loaded_while_watched_lives_for_the_short_time_from_what_was_heard_last(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock, stream: Stream
    ) -> None:
        await cache.get("a")
        clock.now += 2 * UNWATCHED_TTL
        stream.events.put_nowait(Event(alive=True))
        await settled(stream)
        clock.now += UNWATCHED_TTL / 2  # of silence
        stream.events.put_nowait(lost())
        await resubscribed(stream, 2)
        await cache.get("a")
        clock.now += UNWATCHED_TTL / 2 - 1
        await cache.get("a")
        assert source.loads == ["a"]
        clock.now += 1
        await cache.get("a")
        assert source.loads == ["a", "a"]

    async def test_a_lost_stream_makes_nothing_live_longer_than_the_long_time(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock, stream: Stream
    ) -> None:
        await cache.get("a")
        clock.now += TTL - 1
        stream.events.put_nowait(Event(alive=True))
        await settled(stream)
        stream.events.put_nowait(lost())
        await resubscribed(stream, 2)
        await cache.get("a")
        clock.now += 1
        await cache.get("a")
        assert source.loads == ["a", "a"]

    async def test_reading_does_not_keep_a_value_young(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock
    ) -> None:
        for _ in range(4):
            await cache.get("a")
            clock.now += UNWATCHED_TTL / 3
        assert source.loads == ["a", "a"]

    async def test_a_value_is_as_old_as_the_beginning_of_its_load(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock
    ) -> None:
        slow = await loading(source, cache)
        clock.now += UNWATCHED_TTL
        source.gate.set()
        await slow
        await cache.get("a")
        assert source.loads == ["a", "a"]


class TestSize:
    async def test_the_least_recently_used_goes_first(self, cache: WatchedCache[str, str], source: Source) -> None:
        source.values = {key: key for key in "abcd"}
        for key in "abcad":
            await cache.get(key)
        assert len(cache) == 3
        source.loads.clear()
        for key in "acd":
            await cache.get(key)
        assert source.loads == []
        await cache.get("b")
        assert source.loads == ["b"]

    async def test_never_holds_more_than_its_size(self, cache: WatchedCache[str, str], source: Source) -> None:
        source.values = {str(number): "x" for number in range(100)}
        await asyncio.gather(*(cache.get(str(number)) for number in range(100)))
        assert len(cache) == 3


class TestChanges:
    async def test_a_change_is_loaded_anew(self, cache: WatchedCache[str, str], source: Source, stream: Stream) -> None:
        await cache.get("a")
        await cache.get("b")
        source.values["a"] = "new"
        stream.events.put_nowait(Event(key="a"))
        await settled(stream)
        assert await cache.get("a") == "new"
        await cache.get("b")
        assert source.loads == ["a", "b", "a"]

    @pytest.mark.parametrize("change", ["discard", "discard_tagged", "clear"])
    async def test_a_value_that_a_change_overtook_is_told_to_nobody(
        self, cache: WatchedCache[str, str], source: Source, change: str
    ) -> None:
        early = await loading(source, cache)
        source.values["a"] = "new"
        forget = {
            "discard": lambda: cache.discard("a"),
            "discard_tagged": lambda: cache.discard_tagged("is 1"),
            "clear": cache.clear,
        }
        forget[change]()
        late = asyncio.create_task(cache.get("a"))
        await asyncio.sleep(0)
        source.gate.set()
        assert await within_bound(early) == "new"
        assert await within_bound(late) == "new"
        assert await cache.get("a") == "new"
        assert source.loads == ["a", "a"]

    async def test_nor_one_overtaken_between_its_load_and_who_waited_for_it(self) -> None:
        values = iter(("1", "new"))

        async def load(key: str) -> str:
            # Runs after the load and before those who wait for it are woken.
            asyncio.get_running_loop().call_soon(lambda: changing.discard_tagged("is 1"))
            return next(values)

        changing: WatchedCache[str, str] = WatchedCache(load, size=3, ttl=TTL, unwatched_ttl=UNWATCHED_TTL, tags=tags)
        assert await within_bound(changing.get("a")) == "new"

    async def test_a_change_of_something_else_costs_no_second_load(self) -> None:
        loads: list[str] = []

        async def load(key: str) -> str:
            asyncio.get_running_loop().call_soon(lambda: changing.discard("b"))
            loads.append(key)
            return "1"

        changing: WatchedCache[str, str] = WatchedCache(load, size=3, ttl=TTL, unwatched_ttl=UNWATCHED_TTL)
        assert await within_bound(changing.get("a")) == "1"
        assert loads == ["a"]

    async def test_an_overtaken_load_that_ends_last_does_not_win(
        self, cache: WatchedCache[str, str], source: Source
    ) -> None:
        early = await loading(source, cache)
        held_gate, source.gate = source.gate, asyncio.Event()
        source.gate.set()
        source.values["a"] = "new"
        cache.discard("a")
        assert await cache.get("a") == "new"
        held_gate.set()
        source.gate = held_gate
        assert await early == "new"
        assert await cache.get("a") == "new"
        assert source.loads == ["a", "a"]

    async def test_only_matching_values_are_forgotten(self, cache: WatchedCache[str, str], source: Source) -> None:
        await cache.get("a")
        await cache.get("b")
        cache.discard_tagged("is 1")
        await cache.get("b")
        await cache.get("a")
        assert source.loads == ["a", "b", "a"]


class TestTags:
    async def test_all_that_have_one_are_forgotten(self, cache: WatchedCache[str, str], source: Source) -> None:
        for key in "ab":
            await cache.get(key)
        cache.discard_tagged("is something")
        assert len(cache) == 0

    async def test_one_is_found_without_looking_at_every_value(self) -> None:
        looked_at: list[int] = []

        async def load(key: int) -> int:
            return key

        def tags(value: int) -> list[str]:
            looked_at.append(value)
            return [str(value)]

        numbers = WatchedCache(load, size=500, ttl=TTL, unwatched_ttl=UNWATCHED_TTL, tags=tags)
        for number in range(500):
            await numbers.get(number)
        looked_at.clear()
        numbers.discard_tagged("7")
        assert set(looked_at) == {7}
        assert len(numbers) == 499

    async def test_a_value_loaded_anew_has_its_new_ones_alone(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock
    ) -> None:
        await cache.get("a")
        clock.now += TTL
        source.values["a"] = "new"
        await cache.get("a")
        cache.discard_tagged("is 1")
        assert cache.peek("a") == "new"
        cache.discard_tagged("is new")
        assert cache.peek("a") is None

    async def test_are_forgotten_with_their_values(self, cache: WatchedCache[str, str], source: Source) -> None:
        source.values = {key: key for key in "abcdef"}
        for key in "abcdef":
            await cache.get(key)
        assert set(vars(cache)["_tagged"]) == {"is d", "is e", "is f", "is something"}
        for key in "def":
            cache.discard(key)
        assert vars(cache)["_tagged"] == {}


class TestChangesDuringALoad:
    async def test_of_something_else_cost_no_second_one(self, cache: WatchedCache[str, str], source: Source) -> None:
        waiting = await loading(source, cache)
        for number in range(1_000):
            cache.discard_tagged(f"is other {number}")
            cache.discard(f"other {number}")
        source.gate.set()
        assert await within_bound(waiting) == "1"
        assert await cache.get("a") == "1"
        assert source.loads == ["a"]

    async def test_too_many_to_remember_count_as_ones_of_it(
        self, cache: WatchedCache[str, str], source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watched_cache, "_MOST_CHANGES", 2)
        waiting = await loading(source, cache)
        source.values["a"] = "new"
        for tag in ("is 1", "x", "y"):
            cache.discard_tagged(tag)
        source.gate.set()
        assert await within_bound(waiting) == "new"

    async def test_before_it_count_for_nothing(self, cache: WatchedCache[str, str], source: Source) -> None:
        cache.discard("a")
        cache.discard_tagged("is 1")
        cache.clear()
        assert await cache.get("a") == "1"
        assert source.loads == ["a"]


class TestPeek:
    async def test_tells_what_is_here_and_young_and_loads_nothing(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock
    ) -> None:
        assert cache.peek("a") is None
        await cache.get("a")
        assert cache.peek("a") == "1"
        clock.now += UNWATCHED_TTL
        assert cache.peek("a") is None
        assert source.loads == ["a"]


class TestSweep:
    async def test_takes_what_is_too_old_though_it_is_asked_for_often(
        self, cache: WatchedCache[str, str], stream: Stream, clock: Clock
    ) -> None:
        await cache.get("a")
        clock.now += TTL / 2
        await cache.get("b")
        await cache.get("a")
        clock.now += TTL / 2
        assert len(cache) == 2
        assert not cache.sweep(10)
        assert (len(cache), cache.peek("b")) == (1, "2")

    async def test_takes_no_more_than_it_may_at_a_time(self, cache: WatchedCache[str, str], clock: Clock) -> None:
        for key in "ab":
            await cache.get(key)
        clock.now += UNWATCHED_TTL
        assert cache.sweep(1)
        assert len(cache) == 1
        assert not cache.sweep(2)
        assert len(cache) == 0

    async def test_leaves_what_was_loaded_again(
        self, cache: WatchedCache[str, str], stream: Stream, clock: Clock
    ) -> None:
        await cache.get("a")
        clock.now += TTL
        assert await cache.get("a") == "1"
        cache.discard("a")
        await cache.get("a")
        assert not cache.sweep(10)
        assert cache.peek("a") == "1"

    async def test_goes_on_by_itself_while_the_cache_is_watched(
        self, cache: WatchedCache[str, str], clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watched_cache, "_SWEEP_SECONDS", 0.001)
        async with cache.watching(Stream().subscribe, lambda _: None):
            await cache.get("a")
            clock.now += UNWATCHED_TTL

            async def size() -> int:
                return len(cache)

            assert await eventually(size, lambda found: found == 0) == 0


class TestSilence:
    async def test_of_a_stream_that_is_up_is_the_loss_of_it(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock
    ) -> None:
        stream = Stream()
        async with cache.watching(stream.subscribe, lambda _: None, longest_silence=0.05):
            stream.events.put_nowait(Event(synchronized=True))
            await settled(stream)
            await cache.get("a")
            await resubscribed(stream, 2)
            clock.now += UNWATCHED_TTL
            assert cache.peek("a") is None

    async def test_of_one_that_is_not_up_yet_is_waited_for(self, cache: WatchedCache[str, str]) -> None:
        stream = Stream()
        async with cache.watching(stream.subscribe, lambda _: None, longest_silence=0.0):
            await resubscribed(stream, 1)
            await asyncio.sleep(0.02)
            assert stream.subscriptions == 1

    async def test_is_broken_by_a_sign_of_life_which_changes_nothing(self, cache: WatchedCache[str, str]) -> None:
        stream, applied = Stream(), list[Event]()
        async with cache.watching(stream.subscribe, applied.append, longest_silence=10):
            stream.events.put_nowait(Event(synchronized=True))
            await settled(stream)
            await cache.get("a")
            stream.events.put_nowait(Event(alive=True))
            await settled(stream)
            assert cache.peek("a") == "1"
        assert applied == []


class TestWatching:
    async def test_a_new_stream_empties_the_cache_when_it_is_complete(
        self, cache: WatchedCache[str, str], source: Source, stream: Stream
    ) -> None:
        await cache.get("a")
        stream.events.put_nowait(lost())
        await resubscribed(stream, 2)
        source.values["a"] = "changed unseen"
        assert await cache.get("a") == "1"  # within the short time
        stream.events.put_nowait(Event(synchronized=True))
        await settled(stream)
        assert await cache.get("a") == "changed unseen"

    async def test_a_load_from_before_the_new_stream_is_not_kept(
        self, cache: WatchedCache[str, str], source: Source, stream: Stream
    ) -> None:
        early = await loading(source, cache)
        stream.events.put_nowait(Event(synchronized=True))
        await settled(stream)
        source.gate.set()
        await early
        await cache.get("a")
        assert source.loads == ["a", "a"]

    @pytest.mark.parametrize("end", [lost(), None, RuntimeError("a bug in the stream")], ids=["lost", "ended", "bug"])
    async def test_subscribes_again_however_the_stream_ends(self, stream: Stream, end: BaseException | None) -> None:
        stream.events.put_nowait(end)
        await resubscribed(stream, 2)

    async def test_a_bug_in_applying_a_change_does_not_end_the_watch(
        self, cache: WatchedCache[str, str], source: Source, clock: Clock
    ) -> None:
        stream, applied = Stream(), asyncio.Event()

        def apply(event: Event) -> None:
            if not applied.is_set():
                applied.set()
                raise KeyError(event.key)
            cache.discard(event.key)

        with capture_logs() as logs:
            async with cache.watching(stream.subscribe, apply):
                stream.events.put_nowait(Event(key="a"))
                await within_bound(applied.wait())
                await resubscribed(stream, 2)
        assert [line["log_level"] for line in logs] == ["error"]

    async def test_each_completion_of_a_stream_is_told_after_the_cache_is_empty(
        self, cache: WatchedCache[str, str]
    ) -> None:
        stream = Stream()
        sizes: list[int] = []
        async with cache.watching(stream.subscribe, lambda _: None, lambda: sizes.append(len(cache))):
            await cache.get("a")
            stream.events.put_nowait(Event(synchronized=True))
            await settled(stream)
            await cache.get("a")
            stream.events.put_nowait(lost())
            await resubscribed(stream, 2)
            assert sizes == [0]  # a lost stream is not one that is complete
            stream.events.put_nowait(Event(synchronized=True))
            await settled(stream)
        assert sizes == [0, 0]

    async def test_the_watch_ends_with_the_block(self, cache: WatchedCache[str, str]) -> None:
        stream = Stream()
        async with cache.watching(stream.subscribe, lambda _: None):
            await resubscribed(stream, 1)
        assert "cache watch" not in {task.get_name() for task in asyncio.all_tasks()}
