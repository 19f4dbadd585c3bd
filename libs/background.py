"""Work that goes on beside a service for as long as it runs: every task has an owner and none dies unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from libs.errors import PlatformError

log = structlog.get_logger()


@asynccontextmanager
async def beside(work: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Runs endless work, by its names, for the time of the block. Work that ends before is a bug, and is logged."""
    tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in work.items()]
    for task in tasks:
        task.add_done_callback(_tell)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def attempt(what: str, work: Callable[[], Awaitable[object]], *, seconds: float) -> None:
    """Does some work, in so many seconds at most. Whatever it fails with is logged, and never raised."""
    try:
        async with asyncio.timeout(seconds):
            await work()
    except PlatformError as error:
        log.warning("background work not done", work=what, error=error.message)
    except TimeoutError:
        log.warning("background work not done in time", work=what, seconds=seconds)
    except Exception:  # a bug, or something of its own that is not there yet; the work must not end with it, unseen
        log.exception("background work failed", work=what)


async def repeat(
    what: str, work: Callable[[], Awaitable[object]], *, pause: Callable[[], float], seconds: float
) -> None:
    """Does some work, in so many seconds at most, after each pause, whose seconds it asks for; until cancelled.

    What is not done is logged and tried again after the next pause.
    """
    while True:
        await asyncio.sleep(pause())
        await attempt(what, work, seconds=seconds)


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        log.error("background work has ended", work=task.get_name(), exc_info=task.exception())
