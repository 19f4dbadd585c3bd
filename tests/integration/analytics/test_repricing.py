"""Repricing changes facts and all their sums alike, and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import SealedContent
from sqlalchemy import Table, select

from libs.database import Transactions, connect
from libs.redaction import Secret
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
from services.analytics.repricing import Progress, Repricing
from services.analytics.rollups import measures, numbers, rollup_key
from services.analytics.usage import Span
from tests.integration.analytics.deployment import NOW, RETENTION
from tests.integration.analytics.test_rollups import random_record
from tests.support.postgres import PostgresServer

SPAN = Span(NOW - timedelta(days=4), NOW)
DEARER = """
[[models]]
provider = "openai"
model = "small"
[models.prices]
input = 2.5
cached_input = 1.25
output = 10.0
"""


@pytest.fixture
def database_url(postgres: PostgresServer) -> Secret:
    return postgres.fresh_database("analytics")


@pytest.fixture
async def transactions(database_url: Secret) -> AsyncIterator[Transactions]:
    """A database with some thousand chats of three days, some with contents."""
    chance = random.Random(5)
    async with connect(database_url) as transactions:
        ingest = UsageIngest(transactions, Partitions(transactions), retention=RETENTION, clock=lambda: NOW)
        for _ in range(3):
            records = [random_record(chance.choice(["usr_1", "usr_2"]), "openai", chance) for _ in range(1_000)]
            for record in records[::10]:
                record.content.CopyFrom(SealedContent(sealed=b"sealed", wrapped_key="key"))
            await ingest.store([to_record(record) for record in records])
        yield transactions


async def rows(transactions: Transactions, table: Table) -> list[dict[str, Any]]:
    """Reads a table, in the order of its key."""
    async with transactions() as session:
        found = await session.execute(select(table).order_by(*table.primary_key.columns))
        return [dict(row) for row in found.mappings()]


async def check_sums(transactions: Transactions) -> None:
    """Fails unless the rollups are what the facts add up to."""
    sums = measures(usage_records)
    of_a_day = {"requests": sums["requests"], "cost_picos": sums["cost_picos"]}
    for rollup in (usage_hourly, usage_quarter_hourly, platform_hourly, platform_quarter_hourly, user_daily):
        key, its = rollup_key(rollup, usage_records), of_a_day if rollup is user_daily else sums
        query = select(*key, *its.values()).group_by(*numbers(key))
        kept = select(*rollup.primary_key.columns, *(rollup.c[name] for name in its))
        async with transactions() as session:
            assert {*(await session.execute(query)).all()} == {*(await session.execute(kept)).all()}


async def run(repricing: Repricing, *, apply: bool) -> Progress:
    """Runs it to the end, and returns what it told last."""
    async for told in repricing.run(SPAN, apply=apply):
        progress = told
    return progress


def per_token(fact: Any, tokens: Any) -> tuple[int, str] | None:
    """Prices the small models only: a picodollar for each token sent, three for each received."""
    if fact.model_requested != "small":
        return None
    return tokens.prompt_tokens + 3 * tokens.completion_tokens, "input=1 output=3"


class TestRepricing:
    async def test_facts_contents_and_sums_change_alike(self, transactions: Transactions) -> None:
        before = await rows(transactions, usage_records)

        progress = await run(Repricing(transactions, per_token), apply=True)

        after = await rows(transactions, usage_records)
        expected = []
        for row in before:
            if row["model_requested"] == "small" and row["cost_source"] in ("priced", "unpriced"):
                picos = row["prompt_tokens"] + 3 * row["completion_tokens"]
                row = row | {"cost_picos": picos, "cost_source": "priced", "price": "input=1 output=3"}
            expected.append(row)
        assert after == expected
        assert progress.all.changed == sum(row not in before for row in after) > 100
        assert progress.all.chats == sum(row["cost_source"] in ("priced", "unpriced") for row in before)
        assert progress.all.after - progress.all.before == sum(
            (new["cost_picos"] or 0) - (old["cost_picos"] or 0) for old, new in zip(before, after, strict=True)
        )
        await check_sums(transactions)
        costs = {row["id"]: row["cost_picos"] for row in after}
        contents = await rows(transactions, chat_contents)
        assert len(contents) == 300
        assert all(row["cost_picos"] == costs[row["id"]] for row in contents)

        again = await run(Repricing(transactions, per_token), apply=True)
        assert again.all.changed == 0

    async def test_without_apply_it_says_the_same_and_changes_nothing(self, transactions: Transactions) -> None:
        before = [await rows(transactions, table) for table in (usage_records, usage_hourly, chat_contents)]

        told = await run(Repricing(transactions, per_token), apply=False)

        assert [await rows(transactions, table) for table in (usage_records, usage_hourly, chat_contents)] == before
        assert told == await run(Repricing(transactions, per_token), apply=True)

    async def test_interrupted_it_leaves_sums_right_and_goes_on(self, transactions: Transactions) -> None:
        async for _ in Repricing(transactions, per_token).run(SPAN, apply=True):
            break
        await check_sums(transactions)

        await run(Repricing(transactions, per_token), apply=True)

        await check_sums(transactions)
        assert (await run(Repricing(transactions, per_token), apply=True)).all.changed == 0

    async def test_chats_come_in_meanwhile(self, transactions: Transactions) -> None:
        chance = random.Random(17)
        ingest = UsageIngest(transactions, Partitions(transactions), retention=RETENTION, clock=lambda: NOW)

        async def take_in() -> None:
            for _ in range(6):
                records = [random_record(chance.choice(["usr_1", "usr_2"]), "openai", chance) for _ in range(200)]
                await ingest.store([to_record(record) for record in records])

        async with asyncio.TaskGroup() as both:
            both.create_task(take_in())
            both.create_task(run(Repricing(transactions, per_token), apply=True))

        await check_sums(transactions)

    async def test_others_than_those_asked_for_stay(self, transactions: Transactions) -> None:
        for unlike in ({"provider": "anthropic"}, {"model": "large"}):
            assert (await run(Repricing(transactions, per_token, **unlike), apply=True)).all.changed == 0


class TestCommand:
    @pytest.fixture
    def models(self, tmp_path: Path) -> Path:
        path = tmp_path / "models.toml"
        path.write_text(DEARER)
        return path

    async def _run(self, database_url: Secret, *options: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.analytics.reprice", "--from=2026-11-18", "--to=2026-11-22T12:00:00Z"),
            *options,
            env={"PATH": os.defpath, "ANALYTICS_DATABASE_URL": database_url.reveal()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def test_says_what_would_change_and_then_changes_it_by_the_catalogues_prices(
        self, transactions: Transactions, database_url: Secret, models: Path
    ) -> None:
        before = await rows(transactions, usage_records)

        status, said = await self._run(database_url, f"--models={models}")
        assert status == 0
        assert "Nothing is changed: say --apply to change it." in said
        assert await rows(transactions, usage_records) == before

        status, said = await self._run(database_url, f"--models={models}", "--apply")
        assert status == 0
        assert "up to 2026-11-20 00:00" in said
        changed = [
            new
            for old, new in zip(before, await rows(transactions, usage_records), strict=True)
            if (old["cost_picos"], old["price"]) != (new["cost_picos"], new["price"])
        ]
        assert f"{len(changed)}" in said
        for row in changed:
            # Trillionths of a dollar for a token: a millionth of the price of a million.
            plain = row["prompt_tokens"] - row["cached_tokens"]
            cost = plain * Decimal("2.5") + row["cached_tokens"] * Decimal("1.25") + row["completion_tokens"] * 10
            assert row["cost_picos"] == cost * 1_000_000
            assert row["price"] == "input=2.5 cached_input=1.25 output=10.0"
        await check_sums(transactions)
        assert changed

    async def test_without_a_database_it_says_where_to_go_on(self) -> None:
        nowhere = Secret("postgresql+psycopg://analytics:x@127.0.0.1:9/nowhere")

        status, said = await self._run(nowhere)

        assert status == os.EX_TEMPFAIL
        assert "Go on with --from 2026-11-18T00:00:00Z" in said
