"""When sessions and API tokens were last used: noted in memory, written in one statement for many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from libs.background import attempt, beside, repeat
from libs.database import Transactions
from services.auth import token_repository

_WORK = "writing of last uses"
# What is not written yet is lost with the process.
_INTERVAL_SECONDS = 15
# How long a writing may take, that at the end of the process as well.
_WRITE_SECONDS = 15
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


@asynccontextmanager
async def recording_uses(transactions: Transactions) -> AsyncIterator[LastUses]:
    """Writes down what is noted, every quarter of a minute, for the time of the block and once more at its end."""
    last_uses = LastUses(transactions)
    writing = repeat(_WORK, last_uses.write, pause=lambda: _INTERVAL_SECONDS, seconds=_WRITE_SECONDS)
    async with beside({_WORK: writing}):
        yield last_uses
    await attempt(_WORK, last_uses.write, seconds=_WRITE_SECONDS)
