"""The analytics service over a real Postgres, called as workers and people call it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.analytics.v1.analytics_service_pb2 import GetUsageRequest, UsageReport
from realmultillm.analytics.v1.analytics_service_pb2_grpc import (
    AnalyticsServiceStub,
    add_AnalyticsServiceServicer_to_server,
)
from realmultillm.analytics.v1.usage_ingest_service_pb2 import IngestUsageRequest, IngestUsageResponse, UsageRecord
from realmultillm.analytics.v1.usage_ingest_service_pb2_grpc import (
    UsageIngestServiceStub,
    add_UsageIngestServiceServicer_to_server,
)
from sqlalchemy import select, text

from libs.database import Transactions, connect
from libs.rpc.channel import open_channel
from services.analytics.access_policy import ACCESS_POLICY
from services.analytics.models import metadata, usage_records
from services.analytics.repository import UsageRepository
from services.analytics.servicer import AnalyticsServicer, UsageIngestServicer, to_record
from tests.support.postgres import PostgresServer
from tests.support.rpc import Identities, KnownTokens, bearer, error_info, running, violations
from tests.support.waiting import eventually

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LARGEST_COUNT = 2**31 - 1


class Analytics:
    """The running service and its callers."""

    def __init__(
        self,
        transactions: Transactions,
        address: str,
        tokens: KnownTokens,
        identity: Identities,
        channels: AsyncExitStack,
    ) -> None:
        self.transactions = transactions
        self._address = address
        self._tokens = tokens
        self._identity = identity
        self._channels = channels

    async def channel(self, service: str) -> grpc.aio.Channel:
        """Opens a channel as a service."""
        return await self._channels.enter_async_context(
            open_channel(self._address, "analytics", self._identity(service))
        )

    async def ingest(self, *records: UsageRecord, worker: str = "worker-openai") -> IngestUsageResponse:
        stub = UsageIngestServiceStub(await self.channel(worker))
        response: IngestUsageResponse = await stub.IngestUsage(IngestUsageRequest(records=records), timeout=10)
        return response

    async def usage(self, user_id: str, **span: datetime | Timestamp) -> UsageReport:
        stub = AnalyticsServiceStub(await self.channel("envoy"))
        report: UsageReport = await stub.GetUsage(
            GetUsageRequest(**span), metadata=bearer(self._tokens.issue(user_id)), timeout=10
        )
        return report


@pytest.fixture(scope="module")
async def analytics(postgres: PostgresServer, identity: Identities) -> AsyncIterator[Analytics]:
    tokens = KnownTokens()
    async with AsyncExitStack() as stack:
        transactions = await stack.enter_async_context(connect(postgres.fresh_database("analytics")))
        usage = UsageRepository(transactions)
        address = await stack.enter_async_context(
            running(
                identity("analytics"),
                partial(add_UsageIngestServiceServicer_to_server, UsageIngestServicer(usage)),
                partial(add_AnalyticsServiceServicer_to_server, AnalyticsServicer(usage, clock=lambda: NOW)),
                policy=ACCESS_POLICY,
                tokens=tokens,
                probes={"database": transactions.ping},
            )
        )
        channels = await stack.enter_async_context(AsyncExitStack())
        yield Analytics(transactions, address, tokens, identity, channels)


@pytest.fixture
def user_id() -> str:
    return str(uuid4())


@pytest.fixture
def record(user_id: str) -> Callable[..., UsageRecord]:
    """Makes a well-formed record with a new id."""

    def make(**fields: Any) -> UsageRecord:
        defaults: dict[str, Any] = {
            "id": str(uuid4()),
            "user_id": user_id,
            "provider": "openai",
            "model_requested": "gpt-5.5",
            "model_served": "gpt-5.5-2026-04-23",
            "end_state": UsageRecord.COMPLETED,
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "cached_tokens": 4,
            "reasoning_tokens": 7,
            "streamed": True,
            "start_time": NOW - timedelta(hours=1),
            "latency_ms": 900,
            "time_to_first_token_ms": 80,
            "attempts": 1,
            "request_id": "request-1",
        }
        return UsageRecord(**(defaults | fields))

    return make


Make = Callable[..., UsageRecord]


class TestSchema:
    async def test_the_migrations_make_the_tables_of_the_models(self, analytics: Analytics) -> None:
        async with analytics.transactions() as session:
            connection = await session.connection()
            differences = await connection.run_sync(
                lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
            )

        assert differences == []


class TestIngest:
    async def test_stored_records_show_in_the_totals(self, analytics: Analytics, record: Make, user_id: str) -> None:
        states = UsageRecord.EndState
        records = [
            record(
                end_state=states.values()[1 + number % 6],
                prompt_tokens=number,
                completion_tokens=3 * number,
                cached_tokens=number // 2,
                reasoning_tokens=2 * number,
                start_time=NOW - timedelta(minutes=1 + number),
            )
            for number in range(1_000)
        ]

        response = await analytics.ingest(*records)
        totals = (await analytics.usage(user_id)).totals

        assert (response.accepted, response.duplicates) == (1_000, 0)
        assert totals.requests == 1_000
        for count in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"):
            assert getattr(totals, count) == sum(getattr(record, count) for record in records)
        assert totals.requests_by_end_state == Counter(states.Name(record.end_state).lower() for record in records)

    async def test_what_prices_depend_on_is_kept_to_the_last_digit(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        facts = {
            "cache_write_tokens": 3,
            "cache_write_1h_tokens": 2,
            "tool_use_tokens": 4,
            "reported_cost_picos": 37_756_000_000_001,
            "service_tier": "priority",
        }
        early, late = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
        await analytics.ingest(record(start_time=late, **facts), record(start_time=early))

        async with analytics.transactions() as session:
            columns = [usage_records.c[name] for name in facts]
            query = select(*columns).where(usage_records.c.user_id == user_id).order_by(usage_records.c.start_time)
            without, with_facts = (await session.execute(query)).all()
        assert without == (0, 0, 0, None, "")
        assert with_facts == tuple(facts.values())

    async def test_records_sent_again_count_once_and_stay_as_they_are(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        first, second = record(), record()
        altered = UsageRecord()
        altered.CopyFrom(first)
        altered.prompt_tokens = 999
        await analytics.ingest(first)

        response = await analytics.ingest(altered, second)

        assert (response.accepted, response.duplicates) == (1, 1)
        assert (await analytics.usage(user_id)).totals.prompt_tokens == 20

    async def test_a_record_twice_in_one_batch_counts_once(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        twice = record()

        response = await analytics.ingest(twice, twice)

        assert (response.accepted, response.duplicates) == (1, 1)
        assert (await analytics.usage(user_id)).totals.requests == 1

    async def test_the_same_batch_from_several_senders_at_once_counts_once(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        records = [record() for _ in range(1_000)]
        # The senders have opposite orders and meet at the record in the middle: each then holds what the others want.
        middle = asdict(to_record(records[500]))
        async with analytics.transactions() as session, asyncio.TaskGroup() as senders:
            await session.execute(usage_records.insert(), middle)
            sent = [senders.create_task(analytics.ingest(*records[::step])) for step in (1, -1, 1, -1)]
            await eventually(
                partial(session.scalar, text("SELECT count(*) FROM pg_locks WHERE NOT granted")),
                lambda waiting: waiting == len(sent),
            )
            await session.rollback()

        responses = [sender.result() for sender in sent]
        assert sum(response.accepted for response in responses) == 1_000
        assert sum(response.duplicates for response in responses) == 3_000
        assert (await analytics.usage(user_id)).totals.requests == 1_000

    async def test_another_providers_record_is_refused_with_the_whole_batch(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await analytics.ingest(record(), record(provider="anthropic"))

        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert error_info(refused.value).metadata["provider"] == "anthropic"
        assert (await analytics.usage(user_id)).totals.requests == 0

    async def test_a_worker_of_whatever_provider_is_bound_to_its_own(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await analytics.ingest(record(provider="openai"), worker="worker-our-vllm")
        await analytics.ingest(record(provider="our-vllm"), worker="worker-our-vllm")

        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert (await analytics.usage(user_id)).totals.requests == 1

    @pytest.mark.parametrize("peer", ["envoy", "operator", "provider-router", "worker-auto"])
    async def test_only_workers_may_report(self, analytics: Analytics, record: Make, peer: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await analytics.ingest(record(), worker=peer)

        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

    async def test_a_text_the_table_cannot_hold_does_not_keep_a_chat_out(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        await analytics.ingest(record(conversation_id="c\0", model_served="m" * 100_000))

        async with analytics.transactions() as session:
            stored = (await session.execute(usage_records.select().filter_by(user_id=user_id))).one()
        assert stored.conversation_id == "c\ufffd"
        assert stored.model_served == "m" * 1_000

    @pytest.mark.parametrize(
        ("field", "value", "name"),
        [
            ("id", "", "id"),
            ("id", "not-a-uuid", "id"),
            ("user_id", "", "userId"),
            ("user_id", "u" * 129, "userId"),
            ("user_id", "u\0", "userId"),
            ("provider", "", "provider"),
            ("model_requested", "", "modelRequested"),
            ("end_state", UsageRecord.END_STATE_UNSPECIFIED, "endState"),
            ("end_state", 99, "endState"),
            ("prompt_tokens", -1, "promptTokens"),
            ("time_to_first_token_ms", -1, "timeToFirstTokenMs"),
            ("start_time", None, "startTime"),
            ("start_time", Timestamp(seconds=2**40), "startTime"),
            ("start_time", Timestamp(nanos=-1), "startTime"),
        ],
    )
    async def test_a_malformed_record_is_refused_by_index_and_field(
        self, analytics: Analytics, record: Make, user_id: str, field: str, value: object, name: str
    ) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await analytics.ingest(record(), record(**{field: value}))

        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(refused.value) == [f"records[1].{name}"]
        assert (await analytics.usage(user_id)).totals.requests == 0

    async def test_every_broken_rule_is_told_at_once(self, analytics: Analytics) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await analytics.ingest(UsageRecord(), UsageRecord(id=str(uuid4()), attempts=-1))

        required = ["userId", "provider", "modelRequested"]
        assert violations(refused.value) == [
            *(f"records[0].{name}" for name in ["id", *required, "endState", "startTime"]),
            *(f"records[1].{name}" for name in [*required, "attempts", "endState", "startTime"]),
        ]

    @pytest.mark.parametrize("count", [0, 1_001])
    async def test_a_batch_has_1_to_1000_records(self, analytics: Analytics, record: Make, count: int) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await analytics.ingest(*[record()] * count)

        assert violations(refused.value) == ["records"]


class TestGetUsage:
    async def test_a_person_sees_nobody_elses_usage(self, analytics: Analytics, record: Make, user_id: str) -> None:
        await analytics.ingest(record(), record(user_id=str(uuid4()), prompt_tokens=5_000))

        totals = (await analytics.usage(user_id)).totals

        assert (totals.requests, totals.prompt_tokens) == (1, 10)

    async def test_the_span_is_30_days_up_to_now_by_default(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        month = timedelta(days=30)
        inside, outside = [NOW - month, NOW - timedelta(microseconds=1)], [NOW - month - timedelta(seconds=1), NOW]
        await analytics.ingest(*(record(start_time=time) for time in inside + outside))

        report = await analytics.usage(user_id)

        assert report.totals.requests == len(inside)
        assert getattr(report, "from").ToDatetime(UTC) == NOW - month
        assert report.to.ToDatetime(UTC) == NOW

    async def test_the_start_belongs_to_the_span_and_the_end_does_not(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        start, end = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
        await analytics.ingest(record(start_time=start, prompt_tokens=1), record(start_time=end, prompt_tokens=2))

        report = await analytics.usage(user_id, **{"from": start, "to": end})

        assert report.totals.prompt_tokens == 1

    async def test_sums_larger_than_the_wire_allows_stay_at_the_largest(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        await analytics.ingest(record(prompt_tokens=LARGEST_COUNT), record(prompt_tokens=1))

        assert (await analytics.usage(user_id)).totals.prompt_tokens == LARGEST_COUNT

    @pytest.mark.parametrize(
        ("span", "field"),
        [
            ({"from": NOW, "to": NOW}, "from"),
            ({"from": NOW + timedelta(seconds=1)}, "from"),
            ({"from": NOW - timedelta(days=366, microseconds=1), "to": NOW}, "from"),
            ({"to": datetime(1969, 1, 1, tzinfo=UTC)}, "to"),
            ({"from": Timestamp(seconds=-(2**40))}, "from"),
            ({"to": Timestamp(nanos=2_000_000_000)}, "to"),
        ],
    )
    async def test_an_impossible_span_is_refused(
        self, analytics: Analytics, user_id: str, span: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await analytics.usage(user_id, **span)

        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(refused.value) == [field]

    async def test_366_days_are_allowed(self, analytics: Analytics, user_id: str) -> None:
        report = await analytics.usage(user_id, **{"from": NOW - timedelta(days=366), "to": NOW})

        assert report.totals.requests == 0

    async def test_nobody_sees_anything_without_a_token(self, analytics: Analytics) -> None:
        stub = AnalyticsServiceStub(await analytics.channel("envoy"))

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetUsage(GetUsageRequest(), timeout=10)

        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_workers_may_not_ask_for_usage(self, analytics: Analytics) -> None:
        stub = AnalyticsServiceStub(await analytics.channel("worker-openai"))

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetUsage(GetUsageRequest(), timeout=10)

        assert refused.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
