"""What counts in Redis: never more than the amount in any window, over all processes, and never fewer."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.ratelimit import Limit, RateLimiter
from libs.sliding_log import SCRIPT, Count
from tests.integration.rate_limits.conftest import HOUR, PREFIX, allowed, an_hour
from tests.support.redis import RedisServer
from tests.support.waiting import eventually

SECOND = 1_000_000
WINDOW = 60 * SECOND
# What is this far from the edge of the window stays on its side of it while a test runs.
INSIDE, OUTSIDE = st.integers(0, WINDOW - 20 * SECOND), st.integers(WINDOW + SECOND, 10 * WINDOW)


def now(redis: RedisServer) -> int:
    seconds, microseconds = redis.call("TIME")
    return int(seconds) * SECOND + int(microseconds)


def write_down(redis: RedisServer, key: str, times: list[int]) -> None:
    """Makes it so that a key was hit at these times."""
    redis.call("DEL", PREFIX + key)
    if times:
        redis.call("RPUSH", PREFIX + key, *sorted(times, reverse=True))


def written_down(redis: RedisServer, key: str) -> list[int]:
    """Returns when a key was hit, the newest first."""
    return [int(time) for time in redis.call("LRANGE", PREFIX + key, 0, -1)]


def forgotten(redis: RedisServer, key: str) -> int:
    """Returns when Redis forgets a key, or a millisecond later."""
    script = "return {redis.call('PTTL', KEYS[1]), redis.call('TIME')}"
    left, (seconds, microseconds) = redis.call("EVAL", script, 1, PREFIX + key)
    return (int(seconds) * 1_000 + int(microseconds) // 1_000 + int(left)) * 1_000


def count(redis: RedisServer, key: str, amount: int) -> Count:
    """Hits a key in a window of a minute, and returns what the script answers."""
    return Count(*redis.call("EVAL", SCRIPT, 1, PREFIX + key, amount, WINDOW))


class TestConcurrentClients:
    @pytest.mark.parametrize("amount", [1, 2, 19, 20, 21, 100, 997])
    async def test_exactly_the_amount_passes(self, limiter: RateLimiter, other: RateLimiter, amount: int):
        limit = an_hour(amount)

        async def client(number: int) -> list[int]:
            each = [await (limiter, other)[number % 2].hit("a", limit) for _ in range(amount // 20 + 2)]
            return [standing.remaining for standing in each if standing.allowed]

        left = await asyncio.gather(*map(client, range(20)))
        # Nobody was told what somebody else was told.
        assert sorted(remaining for each in left for remaining in each) == list(range(amount))

    @pytest.mark.parametrize("free", [0, 1, 7, 19])
    async def test_at_the_edge_as_many_pass_as_are_free(self, limiter: RateLimiter, other: RateLimiter, free: int):
        limit = an_hour(100)
        assert await allowed(limiter, "a", limit, 100 - free) == 100 - free
        standings = await asyncio.gather(*((limiter, other)[n % 2].hit("a", limit) for n in range(20)))
        assert sum(standing.allowed for standing in standings) == free

    async def test_no_key_counts_for_another(self, limiter: RateLimiter):
        keys = ["/a/B:1", "/a/B:11", "/a/B:1 ", "/a/B:1:", "/a/b:1", "/a/BB:1", "B:1", "", "é", "\0", "\r\n"]
        standings = await asyncio.gather(*(limiter.hit(key, an_hour(3)) for key in keys * 2))
        assert [standing.remaining for standing in standings] == [2] * len(keys) + [1] * len(keys)


class TestWindow:
    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(amount=st.integers(1, 9), inside=st.lists(INSIDE, max_size=12), outside=st.lists(OUTSIDE, max_size=40))
    def test_slides(self, redis_server: RedisServer, amount: int, inside: list[int], outside: list[int]):
        """One hit after any history is allowed when fewer than the amount are younger than the window."""
        redis, key = redis_server, uuid.uuid4().hex
        began = now(redis)
        write_down(redis, key, [began - age for age in inside + outside])
        counting = sorted((began - age for age in inside), reverse=True)
        before = now(redis)
        counted = count(redis, key, amount)
        after = now(redis)
        if len(inside) < amount:
            hit, *rest = written_down(redis, key)
            assert before <= hit <= after
            assert rest == counting
            assert counted == (1, amount - len(inside) - 1, [hit, *counting][-1] + WINDOW - hit)
            assert forgotten(redis, key) >= hit + WINDOW
        else:
            assert written_down(redis, key) == counting
            assert counted[:2] == (0, 0)
            # Then one fewer than the amount is left of the newest.
            free = counting[amount - 1] + WINDOW
            assert free - after <= counted.reset <= free - before

    def test_ends_to_the_microsecond(self, redis: RedisServer):
        """What is as old as the window does not count. The clock stands still, since it was set back."""
        future = now(redis) + WINDOW // 2
        write_down(redis, "a", [future, future - WINDOW + 1])
        assert count(redis, "a", 2) == (0, 0, 1)
        write_down(redis, "a", [future, future - WINDOW])
        assert count(redis, "a", 2) == (1, 0, WINDOW)

    def test_a_clock_set_back_keeps_nobody_out_for_long(self, redis: RedisServer):
        write_down(redis, "a", [now(redis) + 10 * WINDOW] * 10)
        assert count(redis, "a", 10)[:2] == (1, 9)
        assert redis.call("LLEN", f"{PREFIX}a") == 1


class TestReset:
    async def test_is_rounded_up_to_seconds(self, limiter: RateLimiter, redis: RedisServer):
        assert (await limiter.hit("a", an_hour(2))).reset_seconds == HOUR
        future = now(redis) + WINDOW // 2
        write_down(redis, "b:60", [future, future - WINDOW + 1])
        assert (await limiter.hit("b", Limit(2, 60))).reset_seconds == 1


class TestCost:
    @pytest.mark.parametrize("amount", [1, 100, 10_000])
    def test_is_the_same_for_every_amount(self, redis: RedisServer, amount: int):
        began = now(redis)
        write_down(redis, "a", [began - WINDOW // 2 - n for n in range(amount)])
        assert self._commands(redis, amount) <= 6
        # One has left and one has come: as it is with somebody who goes on and on at their limit.
        write_down(redis, "a", [began - WINDOW - n for n in range(1)] + [began - n for n in range(amount - 1)])
        assert self._commands(redis, amount) <= 11

    def test_grows_with_the_logarithm_of_what_has_left_the_window(self, redis: RedisServer):
        began = now(redis)
        write_down(redis, "a", [began - 2 * WINDOW - n for n in range(9_990)] + [began - n for n in range(9)])
        assert self._commands(redis, 10_000) < 60
        assert redis.call("LLEN", f"{PREFIX}a") == 10

    def _commands(self, redis: RedisServer, amount: int) -> int:
        """Hits, and returns how many commands the script has called."""
        redis.call("CONFIG", "RESETSTAT")
        count(redis, "a", amount)
        lines = [line for line in redis.call("INFO", "commandstats").splitlines() if line.startswith("cmdstat_")]
        calls = {line.partition(":")[0]: int(line.partition("calls=")[2].partition(",")[0]) for line in lines}
        return sum(calls.values()) - sum(calls.get(f"cmdstat_{name}", 0) for name in ("auth", "eval", "config", "info"))

    async def test_redis_keeps_no_more_than_the_amount_and_not_for_longer_than_the_window(
        self, limiter: RateLimiter, redis: RedisServer
    ):
        await allowed(limiter, "a", an_hour(50), 200)
        assert redis.call("LLEN", f"{PREFIX}a:{HOUR}") == 50
        assert 0 < redis.call("PTTL", f"{PREFIX}a:{HOUR}") <= HOUR * 1_000 + 1


class TestDifferentLimits:
    async def test_of_one_key_with_other_windows_leave_each_other_alone(self, limiter: RateLimiter, other: RateLimiter):
        hour, second = an_hour(20), Limit(10, 1)
        passed = 0
        for _ in range(30):
            passed += (await limiter.hit("a", hour)).allowed
            await other.hit("a", second)
        assert passed == 20

    async def test_a_shorter_window_does_not_make_a_longer_one_forget(self, limiter: RateLimiter, other: RateLimiter):
        assert await allowed(limiter, "a", an_hour(5), 10) == 5
        for key in "ab":
            await other.hit(key, Limit(10, 1))
        once = Limit(1, 1)
        await eventually(lambda: other.hit("b", once), lambda standing: standing.allowed)  # the second is over
        assert await allowed(limiter, "a", an_hour(5), 10) == 0

    async def test_a_smaller_amount_takes_nothing_from_a_larger_one(self, limiter: RateLimiter, other: RateLimiter):
        passed = 0
        for _ in range(30):
            passed += (await limiter.hit("a", an_hour(20))).allowed
            assert not (await other.hit("a", an_hour(3))).allowed or passed < 3
        assert await allowed(limiter, "a", an_hour(20), 5) == 0
        assert passed == 19  # one of the other's came between, while there was room for three
