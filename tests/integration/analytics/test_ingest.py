"""What workers report, over a real Postgres: each chat once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.analytics.v1.usage_ingest_service_pb2 import SealedContent, UsageRecord
from sqlalchemy import select, text

from libs.database_copy import copy_rows
from libs.errors import Unavailable
from services.analytics.ingest_servicer import to_record
from services.analytics.models import history_erasures, usage_records
from tests.integration.analytics.deployment import NOW, Analytics, Make
from tests.support.rpc import error_info, violations
from tests.support.waiting import eventually, within_bound


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
        await analytics.ingest(record(user_id=str(uuid4())))  # there is a partition from here on
        records = [record() for _ in range(1_000)]
        # The senders have opposite orders and meet at the record in the middle: each then holds what the others want.
        middle = _row(records[500])
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

    async def test_a_batch_cut_off_in_the_middle_is_not_there_and_is_taken_when_sent_again(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        await analytics.ingest(record(user_id=str(uuid4())))  # there is a partition from here on
        records = [record() for _ in range(10)]
        async with analytics.transactions() as session:
            await session.execute(usage_records.insert(), _row(records[5]))
            sending = asyncio.create_task(analytics.ingest(*records))
            waiting = text("SELECT pid FROM pg_locks WHERE NOT granted")
            pid = await eventually(partial(session.scalar, waiting), lambda pid: pid is not None)
            await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            with pytest.raises(grpc.aio.AioRpcError) as cut_off:
                await sending
            await session.rollback()

        assert cut_off.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await analytics.usage(user_id)).totals.requests == 0
        assert (await analytics.ingest(*records)).accepted == 10

    async def test_a_connection_lost_while_rows_are_copied_is_the_database_away(
        self, analytics: Analytics, user_id: str
    ) -> None:
        async def kill(pid: int) -> None:
            async with analytics.transactions() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

        def rows() -> Iterator[tuple[str, datetime]]:
            for number in itertools.count():
                yield f"{user_id} {number}", NOW

        with pytest.raises(Unavailable):  # noqa: PT012 - what came before it counts
            async with analytics.transactions() as session:
                pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                killing = asyncio.create_task(kill(pid))
                await copy_rows(session, history_erasures, rows())
        await killing
        async with analytics.transactions() as session:
            stored = select(history_erasures).where(history_erasures.c.user_id.startswith(user_id))
            assert (await session.execute(stored)).all() == []

    async def test_copying_that_is_cancelled_ends_in_the_database_too(self, analytics: Analytics, user_id: str) -> None:
        def rows() -> Iterator[tuple[str, datetime]]:
            for number in itertools.count():
                yield f"{user_id} {number}", NOW

        async def copy() -> None:
            async with analytics.transactions() as session:
                await copy_rows(session, history_erasures, rows())

        async def states() -> list[str]:
            query = text("SELECT state FROM pg_stat_activity WHERE query LIKE 'COPY history_erasures%'")
            async with analytics.transactions() as other:  # a new one each time: a transaction sees one state of it
                return list((await other.execute(query)).scalars())

        copying = asyncio.create_task(copy())
        await eventually(states, lambda found: found == ["active"])
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying

        await eventually(states, lambda found: not {*found} & {"active", "idle in transaction"})

    async def test_copying_into_a_frozen_database_can_be_cancelled(self, analytics: Analytics, user_id: str) -> None:
        pids, under_way = [], asyncio.Event()

        def rows() -> Iterator[tuple[str, datetime]]:
            for number in itertools.count():
                if number == 10_000:
                    under_way.set()
                yield f"{user_id} {number}", NOW

        async def copy() -> None:
            async with analytics.transactions() as session:
                pids.append((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
                await copy_rows(session, history_erasures, rows())

        copying = asyncio.create_task(copy())
        await under_way.wait()
        os.kill(pids[0], signal.SIGSTOP)
        try:
            copying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within_bound(copying)
        finally:
            os.kill(pids[0], signal.SIGCONT)

    async def test_what_costs_were_known_by_is_kept(self, analytics: Analytics, record: Make, user_id: str) -> None:
        known: dict[str, dict[str, Any]] = {
            "reported": {"cost_source": UsageRecord.REPORTED, "cost_picos": 7, "reported_cost_picos": 7},
            "priced": {"cost_source": UsageRecord.PRICED, "cost_picos": 2**63 - 1, "price": "input=2.5 output=10"},
            "unpriced": {"cost_source": UsageRecord.UNPRICED, "kind": UsageRecord.EMBEDDINGS},
            "none": {"prompt_tokens": 0, "completion_tokens": 0},
            "unpriced, of a worker of before": {},
            "reported, of a worker of before": {"reported_cost_picos": 5},
        }
        records = [record(request_id=name, **fields) for name, fields in known.items()]
        await analytics.ingest(*records)

        async with analytics.transactions() as session:
            columns = [usage_records.c[name] for name in ("request_id", "kind", "cost_source", "cost_picos", "price")]
            found = (await session.execute(select(*columns).filter_by(user_id=user_id))).all()
        assert {name: tuple(cost) for name, *cost in found} == {
            "reported": ("chat", "reported", 7, ""),
            "priced": ("chat", "priced", 2**63 - 1, "input=2.5 output=10"),
            "unpriced": ("embeddings", "unpriced", None, ""),
            "none": ("chat", "none", None, ""),
            "unpriced, of a worker of before": ("chat", "unpriced", None, ""),
            "reported, of a worker of before": ("chat", "reported", 5, ""),
        }

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
        longest = "\U0001f600" * 100_000
        await analytics.ingest(
            record(conversation_id="c\0", model_served="m" * 100_000),
            # In keys, of which Postgres takes 2,704 bytes.
            record(
                conversation_id=longest,
                model_requested=longest,
                content=SealedContent(sealed=b".", wrapped_key="w"),
                start_time=NOW,
            ),
        )

        async with analytics.transactions() as session:
            of_person = usage_records.select().filter_by(user_id=user_id).order_by(usage_records.c.start_time)
            stored, in_keys = (await session.execute(of_person)).all()
        assert stored.conversation_id == "c\ufffd"
        assert stored.model_served == "m" * 1_000
        assert in_keys.conversation_id == in_keys.model_requested == "\U0001f600" * 256

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
            ("start_time", NOW + timedelta(days=1), "startTime"),
            ("start_time", datetime(2025, 10, 17, 23, 59, 59, 999_999, tzinfo=UTC), "startTime"),
            ("kind", 99, "kind"),
            ("cost_source", 99, "costSource"),
            ("cost_source", UsageRecord.PRICED, "costPicos"),
            ("cost_picos", 0, "costPicos"),
            ("reported_cost_picos", -1, "reportedCostPicos"),
            ("content", SealedContent(sealed=b"...."), "content"),
            ("content", SealedContent(wrapped_key="vault:v1:..."), "content"),
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


def _row(record: UsageRecord) -> dict[str, Any]:
    """Returns the row that a record becomes."""
    row = asdict(to_record(record))
    del row["content"]
    return row
