"""Makes the partitions of the days to come and lets go of what is too old: beside the service, every ten minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog
from sqlalchemy import delete, func, select

from libs.background import attempt, repeat
from libs.database import Transactions
from services.analytics.models import (
    platform_hourly,
    platform_quarter_hourly,
    usage_hourly,
    usage_quarter_hourly,
    user_daily,
)
from services.analytics.partitions import PartitionedTable, Partitions

log = structlog.get_logger()

_PAUSE_SECONDS = 600.0
# What upkeep may take at most, and a statement of it: a day's sums are deleted in one.
_RUN_SECONDS = 3600.0
_STATEMENT_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept, in whole days before today: facts, their sums by the hour, and what was said."""

    facts: int
    rollups: int
    contents: int


def first_moment(now: datetime, days: int) -> datetime:
    """Returns the beginning, in UTC, of the earliest day that is kept for so many days."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days)


class Upkeep:
    """Keeps partitions ahead of time, and tables from growing for ever. Several replicas may do so at once."""

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

    async def run(self) -> None:
        """Does what is due, at once and from time to time, until cancelled. What fails is logged and tried again."""
        await attempt("upkeep of analytics", self.run_once, seconds=_RUN_SECONDS)
        await repeat("upkeep of analytics", self.run_once, pause=lambda: _PAUSE_SECONDS, seconds=_RUN_SECONDS)

    async def run_once(self) -> None:
        """Does all that is due now. Raises Unavailable when somebody holds a table; what is done stays done."""
        now = self._clock()
        today = now.astimezone(UTC).date()
        kept: dict[PartitionedTable, int] = {
            "usage_records": self._retention.facts,
            "chat_contents": self._retention.contents,
        }
        for table in kept:
            await self._partitions.make_ahead(table, today)
        for table, days in kept.items():
            await self._drop(table, before=first_moment(now, days).date())
        await self._delete_sums(before=first_moment(now, self._retention.rollups))

    async def _drop(self, table: PartitionedTable, *, before: date) -> None:
        for day in await self._partitions.days(table):
            if day < before:
                await self._partitions.drop(table, day)
                log.info("partition dropped", table=table, day=day.isoformat())

    async def _delete_sums(self, *, before: datetime) -> None:
        """Deletes the sums of old hours, a day at a time. The sums over all people go last: they tell what is there."""
        while True:
            async with self._transactions(statement_seconds=_STATEMENT_SECONDS) as session:
                oldest = (await session.execute(select(func.min(platform_hourly.c.hour)))).scalar_one()
                if oldest is None or oldest >= before:
                    return
                start = first_moment(oldest, 0)
                end = start + timedelta(days=1)
                day = start.date()
                await session.execute(delete(usage_quarter_hourly).where(usage_quarter_hourly.c.quarter_hour < end))
                await session.execute(delete(usage_hourly).where(usage_hourly.c.hour < end))
                await session.execute(delete(user_daily).where(user_daily.c.day <= day))
                quarters = platform_quarter_hourly
                await session.execute(delete(quarters).where(quarters.c.quarter_hour < end))
                await session.execute(delete(platform_hourly).where(platform_hourly.c.hour < end))
            log.info("sums deleted", day=day.isoformat())
