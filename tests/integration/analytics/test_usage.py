"""What people are told of their usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.analytics.v1.analytics_service_pb2 import GetUsageRequest
from realmultillm.analytics.v1.analytics_service_pb2_grpc import AnalyticsServiceStub

from tests.integration.analytics.deployment import NOW, Analytics, Make
from tests.support.rpc import violations

LARGEST_COUNT = 2**31 - 1


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

    async def test_sums_of_tokens_are_exact_beyond_what_one_chat_can_have(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        await analytics.ingest(*(record(prompt_tokens=LARGEST_COUNT) for _ in range(3)), record(prompt_tokens=1))

        assert (await analytics.usage(user_id)).totals.prompt_tokens == 3 * LARGEST_COUNT + 1

    @pytest.mark.parametrize(
        ("span", "field"),
        [
            ({"from": NOW, "to": NOW}, "from"),
            ({"from": NOW + timedelta(seconds=1)}, "from"),
            ({"from": NOW - timedelta(days=366, microseconds=1), "to": NOW}, "from"),
            ({"to": datetime(1969, 1, 1, tzinfo=UTC)}, "to"),
            ({"from": Timestamp(seconds=-(2**40))}, "from"),
            ({"to": Timestamp(nanos=2_000_000_000)}, "to"),
            ({"to": NOW + timedelta(days=367)}, "to"),
            ({"to": datetime.max.replace(tzinfo=UTC)}, "to"),
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
