"""Has the data keys of contents wrapped anew by the latest version of their encryption key; nothing is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Integer, bindparam, cast, func, select, tuple_, update

from libs.database import Transactions
from services.analytics.models import chat_contents
from services.analytics.partitions import Partitions

log = structlog.get_logger()

# Rows at a time; so many keys are wrapped by one call at most.
_BATCH = 500
_COUNT_SECONDS = 300
_DAY = timedelta(days=1)

_chat = chat_contents.c
_KEY = (_chat.user_id, _chat.start_time, _chat.id)
# 0 for what does not say.
_VERSION: ColumnElement[int] = cast(
    func.coalesce(func.substring(_chat.wrapped_key, "^vault:v([0-9]{1,9}):"), "0"), Integer
)
_REPLACE = (
    update(chat_contents)
    .where(
        _chat.user_id == bindparam("of_user"),
        _chat.start_time == bindparam("of_time"),
        _chat.id == bindparam("of_id"),
    )
    .values(wrapped_key=bindparam("fresh"))
)

# Wraps data keys anew, each given by account and wrapped key; answers in their order, empty for one that does not open.
Rewrap = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[str]]]


@dataclass(slots=True)
class Progress:
    """How far it is: contents rewrapped, those whose key does not open, and how many there were to do in all.

    `target` is the version that all shall have, 0 while it is not known.
    """

    total: int
    target: int = 0
    day: date | None = None
    rewrapped: int = 0
    failed: int = 0


class HistoryRewrapping:
    """Goes through all contents. What is wrapped by the latest version already is passed over."""

    def __init__(self, transactions: Transactions, rewrap: Rewrap) -> None:
        self._transactions = transactions
        self._partitions = Partitions(transactions)
        self._rewrap = rewrap

    async def run(self) -> AsyncIterator[Progress]:
        """Does all there is to do, day by day, and tells how far it is after each batch.

        Raises Unavailable; what was done until then is done, and is passed over when this runs again.
        """
        progress = Progress(total=0, target=await self._latest())
        if not progress.target:
            yield progress
            return
        async with self._transactions(statement_seconds=_COUNT_SECONDS) as session:
            outdated = select(func.count()).select_from(chat_contents).where(progress.target > _VERSION)
            progress.total = await session.scalar(outdated) or 0
        yield progress
        for progress.day in await self._partitions.days("chat_contents"):
            after: tuple[Any, ...] | None = None
            while rows := await self._batch(progress.day, after, progress.target):
                after = (rows[-1].user_id, rows[-1].start_time, rows[-1].id)
                await self._wrap(rows, progress)
                yield progress

    async def _latest(self) -> int:
        """Learns the latest version from wrapping one key anew; 0 when there is none that opens."""
        async with self._transactions() as session:
            newest = select(_chat.user_id, _chat.wrapped_key).order_by(_chat.start_time.desc()).limit(_BATCH)
            rows = (await session.execute(newest)).all()
        pairs = list(dict.fromkeys((row.user_id, row.wrapped_key) for row in rows))
        return max((version_of(key) for key in await self._rewrap(pairs)), default=0) if pairs else 0

    async def _batch(self, day: date, after: tuple[Any, ...] | None, target: int) -> Sequence[Any]:
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        query = select(*_KEY, _chat.wrapped_key).where(
            _chat.start_time >= start, _chat.start_time < start + _DAY, target > _VERSION
        )
        if after is not None:
            place = [bindparam(None, value, type_=column.type) for value, column in zip(after, _KEY, strict=True)]
            query = query.where(tuple_(*_KEY) > tuple_(*place))
        async with self._transactions(statement_seconds=_COUNT_SECONDS) as session:
            return (await session.execute(query.order_by(*_KEY).limit(_BATCH))).all()

    async def _wrap(self, rows: Sequence[Any], progress: Progress) -> None:
        pairs = list(dict.fromkeys((row.user_id, row.wrapped_key) for row in rows))
        fresh = dict(zip(pairs, await self._rewrap(pairs), strict=True))
        changes = []
        for row in rows:
            wrapped = fresh[row.user_id, row.wrapped_key]
            if wrapped:
                changes.append({"of_user": row.user_id, "of_time": row.start_time, "of_id": row.id, "fresh": wrapped})
            else:
                log.error("data key of a chat does not open", user=row.user_id, record=str(row.id))
        if changes:
            async with self._transactions() as session:
                connection = await session.connection()
                await connection.execute(_REPLACE, changes)
        progress.rewrapped += len(changes)
        progress.failed += len(rows) - len(changes)


def version_of(wrapped_key: str) -> int:
    """Returns the version of the encryption key that wrapped a data key, 0 when it does not say."""
    head, _, rest = wrapped_key.partition(":v")
    number = rest.partition(":")[0]
    return int(number) if head == "vault" and number.isdecimal() else 0
