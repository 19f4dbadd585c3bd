"""Takes in facts: each once, with all that they add up to, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, Column, LargeBinary, MetaData, Table, Text, Uuid, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.schema import CreateTable

from libs.database import Transactions
from libs.database_copy import copy_rows
from services.analytics.models import chat_contents, history_erasures, usage_records
from services.analytics.partitions import Partitions
from services.analytics.retention import Retention, first_moment
from services.analytics.rollups import additions, incoming_sums
from services.analytics.usage import Span, UsageRecord

# How far ahead of ours a worker's clock may be.
_AHEAD = timedelta(days=1)
_NO_PARTITION = "23514"  # check_violation

_FACT = tuple(usage_records.columns.keys())
_CONTENT = ("sealed", "wrapped_key")

# What a batch lies in first: COPY cannot leave out what is there already. It belongs to the connection, and is empty
# again after each transaction.
_incoming = Table(
    "incoming_usage",
    MetaData(),
    *(Column(column.name, column.type) for column in usage_records.columns),
    Column("sealed", LargeBinary),
    Column("wrapped_key", Text),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)
_MAKE_TABLES = [CreateTable(table, if_not_exists=True) for table in (_incoming, incoming_sums)]
_KEY = ("user_id", "start_time", "id")

# In the order of the key, as all statements here: two senders of the same records wait for each other row by row, and
# without a common order they could deadlock.
_STORE_FACTS = (
    insert(usage_records)
    .from_select(_FACT, select(*(_incoming.c[name] for name in _FACT)).order_by(*(_incoming.c[name] for name in _KEY)))
    .on_conflict_do_nothing()
    .returning(usage_records.c.id)
)
_LEAVE_OUT_KNOWN = delete(_incoming).where(
    _incoming.c.id != func.all_(bindparam("new", type_=ARRAY(Uuid))),
)
# See history_erasures: who erases waits for those who have read it and not committed yet.
_HOLD_ERASURES = text("LOCK TABLE history_erasures IN ROW SHARE MODE")
_STORED_WITH_CONTENT = tuple(chat_contents.columns.keys())
_STORE_CONTENTS = (
    insert(chat_contents)
    .from_select(
        _STORED_WITH_CONTENT,
        select(*(_incoming.c[name] for name in _STORED_WITH_CONTENT))
        .where(
            _incoming.c.sealed.is_not(None),
            ~select(history_erasures.c.user_id)
            .where(
                history_erasures.c.user_id == _incoming.c.user_id, history_erasures.c.before > _incoming.c.start_time
            )
            .exists(),
        )
        .order_by(*(_incoming.c[name] for name in _KEY)),
    )
    .on_conflict_do_nothing()
)
_ADDITIONS = additions(_incoming)


class UsageIngest:
    """Stores what workers recorded."""

    def __init__(
        self,
        transactions: Transactions,
        partitions: Partitions,
        *,
        retention: Retention,
        clock: Callable[[], datetime],
    ) -> None:
        self._transactions = transactions
        self._partitions = partitions
        self._retention = retention
        self._clock = clock

    def span(self) -> Span:
        """Returns within which time chats must have started: since the first day that is kept, up to a day from now."""
        now = self._clock()
        return Span(first_moment(now, self._retention.facts), now + _AHEAD)

    async def store(self, records: Sequence[UsageRecord]) -> int:
        """Stores facts, contents and sums of all records, or of none, and returns how many were not stored before.

        All must have started within `span`. Contents too old to be kept are left out. Raises Unavailable.
        """
        # By id: of two in one batch, the first counts.
        unique = {record.id: record for record in reversed(records)}
        batch = sorted(unique.values(), key=lambda record: (record.user_id, record.start_time, record.id))
        try:
            return await self._store(batch)
        except IntegrityError as error:
            if getattr(error.orig, "sqlstate", None) != _NO_PARTITION:
                raise
        # Another process, of other settings, has dropped a partition that was there.
        self._partitions.forget()
        return await self._store(batch)

    async def _store(self, batch: Sequence[UsageRecord]) -> int:
        kept_since = first_moment(self._clock(), self._retention.contents)
        with_content = [record.start_time for record in batch if record.content and record.start_time >= kept_since]
        await self._partitions.cover("usage_records", (record.start_time for record in batch))
        await self._partitions.cover("chat_contents", with_content)
        async with self._transactions() as session:
            for make_table in _MAKE_TABLES:
                await session.execute(make_table)
            await copy_rows(session, _incoming, _rows(batch, kept_since=kept_since))
            return await _add(session, len(batch), contents=bool(with_content))


async def _add(session: AsyncSession, copied: int, *, contents: bool) -> int:
    """Stores what was copied, and adds it up, as far as it is new."""
    new = (await session.execute(_STORE_FACTS)).scalars().all()
    if not new:
        return 0
    if len(new) < copied:
        await session.execute(_LEAVE_OUT_KNOWN, {"new": new})
    if contents:
        await session.execute(_HOLD_ERASURES)
        await session.execute(_STORE_CONTENTS)
    for addition in _ADDITIONS:
        await session.execute(addition)
    return len(new)


def _rows(batch: Iterable[UsageRecord], *, kept_since: datetime) -> Iterator[tuple[Any, ...]]:
    for record in batch:
        content = record.content if record.start_time >= kept_since else None
        sealed, wrapped_key = (content.sealed, content.wrapped_key) if content else (None, None)
        yield *(getattr(record, name) for name in _FACT), sealed, wrapped_key
