"""Limiters that share a real Redis, and what is in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from libs.ratelimit import Limit, RateLimiter, connect_limiter
from tests.support.redis import RedisServer

PREFIX = "realmultillm:hits:"
# Nothing leaves this window while a test runs.
HOUR = 3600


def an_hour(amount: int) -> Limit:
    """A limit whose window is longer than any test."""
    return Limit(amount, HOUR)


async def allowed(limiter: RateLimiter, key: str, limit: Limit, hits: int) -> int:
    """Hits a number of times, one after the other, and counts those that were allowed."""
    return sum([(await limiter.hit(key, limit)).allowed for _ in range(hits)])


async def is_shared(limiter: RateLimiter, redis: RedisServer) -> bool:
    """Tells whether a limiter counts in Redis at this moment."""
    redis.call("DEL", f"{PREFIX}shared?:{HOUR}")
    await limiter.hit("shared?", an_hour(10))
    return bool(redis.call("EXISTS", f"{PREFIX}shared?:{HOUR}"))


@pytest.fixture
async def limiter(redis: RedisServer) -> AsyncIterator[RateLimiter]:
    """A limiter of one process."""
    async with connect_limiter(redis.url) as limiter:
        yield limiter


@pytest.fixture
async def other(redis: RedisServer) -> AsyncIterator[RateLimiter]:
    """That of another process."""
    async with connect_limiter(redis.url) as limiter:
        yield limiter


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """The lines logged by the test so far."""
    with capture_logs() as lines:
        yield lines
