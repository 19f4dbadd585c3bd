"""What is told of a service's database: its transactions, those that fail, and the connections of its pool."""

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from libs.database import connect
from libs.errors import Unavailable
from tests.support.postgres import PostgresServer


async def test_transactions_and_connections_are_told(postgres: PostgresServer) -> None:
    registry = CollectorRegistry()

    def told(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"realmultillm_database_{name}", labels)

    async with connect(postgres.fresh_database("analytics"), pool_size=3) as transactions:
        registry.register(transactions.metrics)
        async with transactions() as session:
            await session.execute(text("SELECT 1"))
            assert (told("connections", state="in_use"), told("connections", state="limit")) == (1, 3)
            assert told("transaction_seconds_count") == 0
        assert (told("connections", state="in_use"), told("connections", state="idle")) == (0, 1)
        assert told("transaction_seconds_count") == 1
        # A row that is there already is no failure of the database.
        twice = text("DO $$ BEGIN CREATE TEMP TABLE one (it int PRIMARY KEY); INSERT INTO one VALUES (1), (1); END $$")
        with pytest.raises(IntegrityError):
            async with transactions() as session:
                await session.execute(twice)
        assert told("failures_total", cause="database") == 0
        with pytest.raises(Unavailable):
            async with transactions() as session:
                await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert (told("failures_total", cause="database"), told("failures_total", cause="pool")) == (1, 0)
        assert told("transaction_seconds_count") == 3
