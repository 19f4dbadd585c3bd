"""When sessions and API tokens were last used: noted in memory, written in one statement for many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import structlog

from libs.background import beside
from libs.database import Transactions
from libs.errors import PlatformError
from services.auth import token_repository

log = structlog.get_logger()

# What is not written yet is lost with the process.
_INTERVAL_SECONDS = 15
# Written in one statement, well within its time limit.
_BATCH = 5_000


class LastUses:
    """The uses this replica has seen and not written yet, by the ids of the tokens.

    No more of them than can be verified between two writes: without the database nothing is verified.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._unwritten: dict[str, datetime] = {}

    def note(self, token_id: str, time: datetime) -> None:
        """Notes that a session or API token is used, at a time of the database's clock."""
        self._unwritten[token_id] = time

    async def write(self) -> None:
        """Writes what was noted. Raises Unavailable when the database is away; what is left is written next time."""
        uses, self._unwritten = self._unwritten, {}
        rows = list(uses.items())
        try:
            for start in range(0, len(rows), _BATCH):
                async with self._transactions() as tx:
                    await token_repository.record_uses(tx, dict(rows[start : start + _BATCH]))
        except BaseException:
            self._unwritten = uses | self._unwritten
            raise


async def _try_to_write(last_uses: LastUses) -> None:
    try:
        await last_uses.write()
    except PlatformError as error:
        log.warning("last uses not written", error=error.message)


async def _write_again_and_again(last_uses: LastUses) -> None:
    while True:
        await asyncio.sleep(_INTERVAL_SECONDS)
        await _try_to_write(last_uses)


@asynccontextmanager
async def recording_uses(transactions: Transactions) -> AsyncIterator[LastUses]:
    """Writes down what is noted, every quarter of a minute, for the time of the block and once more at its end."""
    last_uses = LastUses(transactions)
    async with beside({"writing of last uses": _write_again_and_again(last_uses)}):
        yield last_uses
    await _try_to_write(last_uses)
