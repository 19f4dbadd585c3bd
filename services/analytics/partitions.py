"""The partitions of facts and contents, one for each UTC day: made before they are needed, dropped when old."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from sqlalchemy import ARRAY, Date, Text, bindparam, func, select, text

from libs.database import Transactions

PartitionedTable = Literal["usage_records", "chat_contents"]

# How many days ahead partitions are made. As long may whoever makes them be ill.
DAYS_AHEAD = 7

# Functions of the owner of the tables: the service itself may make and drop nothing else.
_MAKE = select(func.make_partitions(bindparam("parent", type_=Text), bindparam("days", type_=ARRAY(Date))))
_DROP = select(func.drop_partition(bindparam("parent", type_=Text), bindparam("day", type_=Date)))
_NAMES = text("SELECT CAST(CAST(inhrelid AS regclass) AS text) FROM pg_inherits WHERE inhparent = to_regclass(:parent)")


class Partitions:
    """Makes and drops the partitions of both tables. Remembers which are there."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._known: dict[PartitionedTable, set[date]] = {"usage_records": set(), "chat_contents": set()}

    async def cover(self, table: PartitionedTable, times: Iterable[datetime]) -> None:
        """Makes the partitions that rows of these times need. Asks the database only about days it did not know.

        In a transaction of its own: one that is to write rows must not hold the locks of this as well.
        """
        missing = {time.astimezone(UTC).date() for time in times} - self._known[table]
        if missing:
            await self.make(table, missing)

    async def make(self, table: PartitionedTable, days: Iterable[date]) -> None:
        """Makes the partitions of some days, those that are there left as they are."""
        wanted = sorted(days)
        async with self._transactions() as session:
            await session.execute(_MAKE, {"parent": table, "days": wanted})
        self._known[table].update(wanted)

    async def make_ahead(self, table: PartitionedTable, today: date) -> None:
        """Makes those of today and of the days to come."""
        await self.make(table, [today + timedelta(days=number) for number in range(DAYS_AHEAD + 1)])

    async def days(self, table: PartitionedTable) -> list[date]:
        """Lists the days that have a partition, the earliest first."""
        async with self._transactions() as session:
            names = (await session.execute(_NAMES, {"parent": table})).scalars().all()
        return sorted(datetime.strptime(name.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC).date() for name in names)

    async def drop(self, table: PartitionedTable, day: date) -> None:
        """Drops the partition of a day with all that is in it. Waits for whoever reads the table, some seconds at most.

        Raises Unavailable when somebody reads for longer.
        """
        self._known[table].discard(day)
        async with self._transactions() as session:
            await session.execute(_DROP, {"parent": table, "day": day})

    def forget(self) -> None:
        """Forgets which are there: somebody else may have dropped some."""
        for days in self._known.values():
            days.clear()
