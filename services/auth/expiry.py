"""Removes what time has ended: sessions, API tokens, and forgotten failures. Nothing depends on when."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import structlog

from libs.background import beside, repeat
from libs.database import Transactions
from services.auth import repository, token_repository
from services.auth.api_tokens import LISTED_AFTER_END

log = structlog.get_logger()

# Replicas take turns by chance.
_INTERVAL_SECONDS = 600
# How long a removal may take; what is left is removed by the next.
_REMOVAL_SECONDS = 300

_WORK = "removal of what has ended"


async def remove_ended(transactions: Transactions, idle: timedelta) -> int:
    """Removes everything that has ended, in small transactions, and returns how many rows that were.

    `idle` is how long a session lasts after its last use.
    """
    total = 0
    for remove in (
        partial(token_repository.remove_ended_sessions, idle=idle),
        partial(token_repository.remove_ended_api_tokens, listed=LISTED_AFTER_END),
        repository.remove_forgotten_failure_counts,
    ):
        removed = 1
        while removed:
            async with transactions() as tx:
                removed = await remove(tx)
            total += removed
    return total


def _pause() -> float:
    return random.uniform(0.5, 1.5) * _INTERVAL_SECONDS  # noqa: S311 - not a secret


@asynccontextmanager
async def removing_ended(transactions: Transactions, idle: timedelta) -> AsyncIterator[None]:
    """Removes what has ended, every ten minutes or so, for the time of the block."""

    async def remove() -> None:
        log.info("removed what had ended", rows=await remove_ended(transactions, idle))

    async with beside({_WORK: repeat(_WORK, remove, pause=_pause, seconds=_REMOVAL_SECONDS)}):
        yield
