"""What facts add up to in the database, against the same sums in plain Python."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from sqlalchemy import Double, Numeric, Table, bindparam, select

from services.analytics.histograms import histogram_of, merged, one
from services.analytics.models import (
    MEASURES,
    TOKEN_MEASURES,
    platform_hourly,
    platform_quarter_hourly,
    usage_hourly,
    usage_quarter_hourly,
    usage_records,
    user_daily,
)
from services.analytics.rollups import measures
from tests.integration.analytics.deployment import NOW, Analytics

Sums = dict[tuple[Any, ...], dict[str, Any]]


def random_record(user_id: str, provider: str, chance: random.Random) -> UsageRecord:
    """Makes a chat, or call for embeddings, of the last three days."""
    states = UsageRecord.EndState
    end_state = chance.choice(["COMPLETED"] * 4 + states.keys()[1:])
    prompt_tokens, completion_tokens = chance.choice([0, 1, 2_000, 2**31 - 1]), chance.choice([0, 1, 300, 2**31 - 1])
    source = chance.choice(UsageRecord.CostSource.keys())
    latency = chance.choice([0, 1, 80, 900, 30_000, 2**31 - 1])
    record = UsageRecord(
        id=str(UUID(int=chance.getrandbits(128))),
        user_id=user_id,
        provider=provider,
        model_requested=chance.choice(["small", "large", "\u00fcber-large"]),
        end_state=end_state,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=prompt_tokens // 2,
        cache_write_tokens=prompt_tokens // 3,
        reasoning_tokens=completion_tokens // 2,
        estimated=chance.random() < 0.2,
        streamed=chance.random() < 0.7,
        latency_ms=latency,
        kind=chance.choice([UsageRecord.KIND_UNSPECIFIED, UsageRecord.CHAT, UsageRecord.EMBEDDINGS]),
        cost_source=source,
    )
    record.start_time.FromDatetime(NOW - timedelta(microseconds=chance.randrange(3 * 86_400 * 1_000_000)))
    if source in ("REPORTED", "PRICED"):
        record.cost_picos = chance.choice([0, 1, 123_456_789, 2**63 - 1])
    if chance.random() < 0.8:
        record.time_to_first_token_ms = chance.choice([0, latency // 3, latency])
    return record


def summed(records: Iterable[UsageRecord]) -> dict[str, Any]:
    """Adds up facts by the words of the design, not by the code."""
    sums: dict[str, Any] = dict.fromkeys(MEASURES, 0)
    histograms: dict[str, list[Decimal]] = {"latency": [], "first_output": [], "speed": []}
    for record in records:
        state = UsageRecord.EndState.Name(record.end_state).lower()
        source = record.cost_source
        used = bool(record.prompt_tokens or record.completion_tokens)
        unpriced = source == UsageRecord.UNPRICED or (source == UsageRecord.COST_SOURCE_UNSPECIFIED and used)
        sums["requests"] += 1
        sums["embeddings"] += record.kind == UsageRecord.EMBEDDINGS
        sums["estimated"] += record.estimated
        sums["unpriced"] += unpriced
        sums[state] += 1
        for name in TOKEN_MEASURES:
            sums[name] += getattr(record, name)
        sums["cost_picos"] += record.cost_picos
        sums["reported_picos"] += record.cost_picos if source == UsageRecord.REPORTED else 0
        sums["estimated_picos"] += record.cost_picos if record.estimated else 0
        if state == "completed":
            histograms["latency"].append(one(record.latency_ms))
        if record.streamed and record.HasField("time_to_first_token_ms"):
            histograms["first_output"].append(one(record.time_to_first_token_ms))
            writing = (record.latency_ms - record.time_to_first_token_ms) / 1000
            if state == "completed" and writing > 0 and record.completion_tokens:
                histograms["speed"].append(one(10 * record.completion_tokens / writing))
    return sums | {name: merged(values) for name, values in histograms.items()}


def grouped(records: Iterable[UsageRecord], *key: str) -> Sums:
    """Adds up facts in groups: by fields of theirs, by `hour`, `quarter_hour` or `day`."""
    groups = defaultdict(list)
    for record in records:
        start = record.start_time.ToDatetime(UTC)
        quarter = start.replace(minute=start.minute // 15 * 15, second=0, microsecond=0)
        parts = {"quarter_hour": quarter, "hour": quarter.replace(minute=0), "day": start.date()}
        groups[tuple(parts.get(part) or getattr(record, part) for part in key)].append(record)
    return {key: summed(group) for key, group in groups.items()}


async def stored(analytics: Analytics, rollup: Table, **of: str) -> Sums:
    """Reads the rows of a rollup, by their keys."""
    names = rollup.primary_key.columns.keys()
    async with analytics.transactions() as session:
        rows = (await session.execute(select(rollup).filter_by(**of))).mappings().all()
    assert rows
    return {tuple(row[name] for name in names): {k: row[k] for k in row if k not in names} for row in rows}


class TestRollups:
    async def test_are_the_sums_of_the_facts_however_the_facts_came(self, analytics: Analytics) -> None:
        chance = random.Random(7)
        provider, people = "rollups", [str(uuid4()) for _ in range(3)]
        records = [random_record(chance.choice(people), provider, chance) for _ in range(1_200)]
        # Each chat in two batches or more, which arrive at once and in orders of their own.
        batches = [chance.sample(records, 400) for _ in range(6)] + [records[start::3] for start in range(3)]

        async with asyncio.TaskGroup() as senders:
            for batch in batches:
                senders.create_task(analytics.ingest(*batch, worker=f"worker-{provider}"))

        for unit, over_all in (("hour", platform_hourly), ("quarter_hour", platform_quarter_hourly)):
            sums = grouped(records, unit, "provider", "model_requested")
            assert await stored(analytics, over_all, provider=provider) == sums
        for person in people:
            own = [record for record in records if record.user_id == person]
            for unit, of_person in (("hour", usage_hourly), ("quarter_hour", usage_quarter_hourly)):
                sums = grouped(own, "user_id", unit, "provider", "model_requested")
                assert await stored(analytics, of_person, user_id=person) == sums
            by_day = {
                key: {
                    "requests": sums["requests"],
                    "total_tokens": sums["prompt_tokens"] + sums["completion_tokens"],
                    "cost_picos": sums["cost_picos"],
                }
                for key, sums in grouped(own, "day", "user_id").items()
            }
            assert await stored(analytics, user_daily, user_id=person) == by_day

    async def test_sums_over_facts_are_those_of_rollups(self, analytics: Analytics, user_id: str) -> None:
        chance = random.Random(11)
        records = [random_record(user_id, "openai", chance) for _ in range(300)]
        await analytics.ingest(*records)

        sums = [aggregate.label(name) for name, aggregate in measures(usage_records).items()]
        async with analytics.transactions() as session:
            found = (await session.execute(select(*sums).where(usage_records.c.user_id == user_id))).mappings().one()

        assert dict(found) == summed(records)

    async def test_nothing_is_left_of_a_batch_that_fails_in_the_end(self, analytics: Analytics, user_id: str) -> None:
        first, second = (random_record(user_id, "full", random.Random(13)) for _ in range(2))
        second.id = str(uuid4())
        await analytics.ingest(first, worker="worker-full")
        before = await stored(analytics, usage_hourly, user_id=user_id)
        async with analytics.transactions() as session:
            # One more does not fit, and this is the last of all that a batch writes.
            await session.execute(platform_hourly.update().filter_by(provider="full").values(requests=2**31 - 1))

        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await analytics.ingest(second, worker="worker-full")

        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert await stored(analytics, usage_hourly, user_id=user_id) == before
        async with analytics.transactions() as session:
            facts = (await session.execute(select(usage_records.c.id).filter_by(user_id=user_id))).scalars().all()
        assert facts == [UUID(first.id)]


class TestHistogramsInTheDatabase:
    @pytest.mark.parametrize("kind", [Double, Numeric])
    async def test_are_those_of_python(self, analytics: Analytics, kind: type[Double[Any] | Numeric[Any]]) -> None:
        borders = [1.05 ** (index + 0.5) for index in range(330)]
        values = [
            0,
            0.5,
            *range(1, 500),
            *(b * 0.999_999 for b in borders),
            *(b * 1.000_001 for b in borders),
            2**31 - 1,
        ]
        statement = select(histogram_of(bindparam("value", type_=kind())))
        async with analytics.transactions() as session:
            for value in values:
                assert (await session.execute(statement, {"value": value})).scalar_one() == one(float(value))
