"""Partitions are there before they are needed, and what is too old goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import SealedContent
from sqlalchemy import Table, func, select, text

from libs.database import Transactions, connect
from libs.errors import Unavailable
from services.analytics.ingest import UsageIngest
from services.analytics.ingest_servicer import to_record
from services.analytics.models import (
    chat_contents,
    platform_hourly,
    platform_quarter_hourly,
    usage_hourly,
    usage_quarter_hourly,
    usage_records,
    user_daily,
)
from services.analytics.partitions import Partitions
from services.analytics.retention import Upkeep
from tests.integration.analytics.deployment import NOW, RETENTION, Make
from tests.support.postgres import PostgresServer

TODAY = NOW.date()
CONTENT = SealedContent(sealed=b"sealed", wrapped_key="vault:v1:key")


class Storage:
    """What stores facts, at a time of its own."""

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions
        self.now = NOW
        self.partitions = Partitions(transactions)
        self.ingest = self._with(UsageIngest)
        self.upkeep = self._with(Upkeep)

    def _with(self, kind: Any) -> Any:
        return kind(self.transactions, self.partitions, retention=RETENTION, clock=lambda: self.now)

    async def days(self, table: Table, time: str = "start_time") -> list[date]:
        """Lists the days of which a table has rows."""
        day = func.date(func.timezone("UTC", table.c[time])) if time != "day" else table.c.day
        async with self.transactions() as session:
            return list((await session.execute(select(day).distinct().order_by(day))).scalars())


@pytest.fixture
async def storage(postgres: PostgresServer) -> AsyncIterator[Storage]:
    async with connect(postgres.fresh_database("analytics")) as transactions:
        yield Storage(transactions)


class TestUpkeep:
    async def test_partitions_of_today_and_a_week_ahead_are_there(self, storage: Storage) -> None:
        await storage.upkeep.run_once()
        storage.now += timedelta(days=1)
        await storage.upkeep.run_once()

        for table in ("usage_records", "chat_contents"):
            assert await storage.partitions.days(table) == [TODAY + timedelta(days=number) for number in range(9)]

    async def test_what_is_older_than_it_is_kept_goes(self, storage: Storage, record: Make) -> None:
        ages = [0, 90, 91, 400]
        records = [to_record(record(start_time=NOW - timedelta(days=age), content=CONTENT)) for age in ages]
        await storage.ingest.store(records)
        midnight = NOW.replace(hour=0)
        # The first moment that is kept, and the last that is not.
        storage.now = midnight - timedelta(days=1100 - 400)
        edges = [midnight - timedelta(days=1100), midnight - timedelta(days=1100, microseconds=1)]
        await storage.ingest.store([to_record(record(start_time=edge)) for edge in edges])
        storage.now = NOW

        await storage.upkeep.run_once()

        assert await storage.days(chat_contents) == [TODAY - timedelta(days=90), TODAY]
        assert await storage.days(usage_records) == [TODAY - timedelta(days=age) for age in reversed(ages)]
        for rollup, time in (
            (usage_hourly, "hour"),
            (platform_hourly, "hour"),
            (usage_quarter_hourly, "quarter_hour"),
            (platform_quarter_hourly, "quarter_hour"),
            (user_daily, "day"),
        ):
            kept = [TODAY - timedelta(days=age) for age in (1100, *reversed(ages))]
            assert await storage.days(rollup, time) == kept

    async def test_nobody_who_reads_or_writes_waits_while_partitions_are_made(
        self, storage: Storage, record: Make
    ) -> None:
        await storage.ingest.store([to_record(record())])
        async with storage.transactions() as writer:
            await writer.execute(usage_records.delete())

            await storage.partitions.make("usage_records", [TODAY + timedelta(days=1)])

    async def test_who_reads_for_long_keeps_a_partition_and_upkeep_from_no_more(
        self, storage: Storage, record: Make, postgres: PostgresServer
    ) -> None:
        await storage.partitions.make("usage_records", [TODAY - timedelta(days=500)])
        async with storage.transactions() as reader:
            await reader.execute(select(usage_records.c.id))

            with pytest.raises(Unavailable):
                await storage.upkeep.run_once()

        await storage.upkeep.run_once()
        assert await storage.partitions.days("usage_records") == [TODAY + timedelta(days=n) for n in range(8)]


class TestLateRecords:
    async def test_a_day_without_a_partition_gets_one(self, storage: Storage, record: Make) -> None:
        late = [to_record(record(start_time=NOW - timedelta(days=age))) for age in (1, 30, 400)]

        assert await storage.ingest.store(late) == 3

    async def test_so_does_one_whose_partition_somebody_else_has_dropped(self, storage: Storage, record: Make) -> None:
        await storage.ingest.store([to_record(record())])
        async with storage.transactions() as session:
            await session.execute(text("SELECT drop_partition('usage_records', :day)"), {"day": TODAY})

        assert await storage.ingest.store([to_record(record())]) == 1
