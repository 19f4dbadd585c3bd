"""Waiting in tests, never longer than a bound that only a hanging test reaches."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

BOUND_SECONDS = 20.0
_INTERVAL_SECONDS = 0.02


async def eventually(
    ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool], *, seconds: float = BOUND_SECONDS
) -> T:
    """Asks again and again until the answer is as it should be, and returns it. For what tells of no event."""
    answer = await ask()
    try:
        async with asyncio.timeout(seconds):
            while not holds(answer):
                await asyncio.sleep(_INTERVAL_SECONDS)
                answer = await ask()
    except TimeoutError:
        raise AssertionError(f"never came to be; the last answer was {answer!r}") from None
    return answer


async def within_bound(awaitable: Awaitable[T]) -> T:
    """Awaits what must happen, and fails when it does not."""
    async with asyncio.timeout(BOUND_SECONDS):
        return await awaitable
