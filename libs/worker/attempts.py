"""Tries a call to a provider again, where that can help and nothing has been sent to the caller yet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from libs.errors import ProviderError

log = structlog.get_logger()

T = TypeVar("T")

MAX_ATTEMPTS = 3
_FIRST_DELAY = 0.25
_MAX_DELAY = 4.0
# Longer than this the caller is told to come back rather than kept waiting.
_MAX_RETRY_AFTER = 10.0


class Attempts:
    """Counts the calls made to the provider for one chat."""

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made = 0

    async def run(self, call: Callable[[], Awaitable[T]], *, deadline: float) -> T:
        """Returns what `call` returns, trying again after retryable ProviderErrors with growing, jittered delays.

        `deadline` is a time of the event loop's clock; a wait that would pass it is not begun. A provider's own
        retry-after is honoured.
        """
        while True:
            self.made += 1
            try:
                return await call()
            except ProviderError as error:
                delay = self._delay(error)
                left = deadline - asyncio.get_running_loop().time()
                if not error.retryable or self.made >= MAX_ATTEMPTS or delay is None or delay >= left:
                    raise
                log.info("trying again", reason=error.reason, attempt=self.made, delay_seconds=round(delay, 2))
            await asyncio.sleep(delay)

    def _delay(self, error: ProviderError) -> float | None:
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= _MAX_RETRY_AFTER else None
        ceiling = min(_MAX_DELAY, _FIRST_DELAY * 2.0**self.made)
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret
