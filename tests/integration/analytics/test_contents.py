"""What was said is stored once, sealed as it came, with what is shown of its chat, and not when its owner erased it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

from realmultillm.analytics.v1.usage_ingest_service_pb2 import SealedContent, UsageRecord
from sqlalchemy import Row, text

from services.analytics.ingest_servicer import to_record
from services.analytics.models import chat_contents, history_erasures
from tests.integration.analytics.deployment import NOW, Analytics, Make
from tests.support.waiting import eventually

CONTENT = SealedContent(sealed=bytes(range(256)) * 40, wrapped_key="vault:v1:key")


async def contents(analytics: Analytics, user_id: str) -> list[Row[tuple[object, ...]]]:
    """Reads what is stored of a person, the earliest first."""
    async with analytics.transactions() as session:
        rows = await session.execute(
            chat_contents.select().filter_by(user_id=user_id).order_by(chat_contents.c.start_time)
        )
        return list(rows.all())


class TestContents:
    async def test_are_stored_with_what_is_shown_of_their_chats(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        sent = record(
            content=CONTENT,
            conversation_id="c",
            error_reason="PROVIDER_UNAVAILABLE",
            cost_source=UsageRecord.PRICED,
            cost_picos=5,
            cache_write_tokens=3,
        )
        await analytics.ingest(sent, record())

        (row,) = await contents(analytics, user_id)
        fact = to_record(sent)
        shared = [name for name in row._fields if name not in ("sealed", "wrapped_key")]
        assert [getattr(row, name) for name in shared] == [getattr(fact, name) for name in shared]
        assert (row.sealed, row.wrapped_key) == (CONTENT.sealed, CONTENT.wrapped_key)

    async def test_of_a_record_that_was_there_are_not_stored_again(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        sent, other = record(content=CONTENT), record(content=CONTENT)
        await analytics.ingest(sent)
        async with analytics.transactions() as session:
            # Its owner has erased it since.
            await session.execute(chat_contents.delete().filter_by(user_id=user_id))

        await analytics.ingest(sent, other)

        assert [str(row.id) for row in await contents(analytics, user_id)] == [other.id]

    async def test_too_old_to_be_kept_are_left_out_and_their_chats_counted(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        oldest = NOW.replace(hour=0) - timedelta(days=90)
        times = [oldest - timedelta(microseconds=1), oldest]
        response = await analytics.ingest(*(record(start_time=time, content=CONTENT) for time in times))

        assert response.accepted == 2
        assert [row.start_time for row in await contents(analytics, user_id)] == [oldest]


class TestErasures:
    async def test_contents_of_before_are_not_stored_when_they_arrive(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        before = NOW - timedelta(minutes=30)
        async with analytics.transactions() as session:
            await session.execute(history_erasures.insert().values(user_id=user_id, before=before))

        times = [before - timedelta(microseconds=1), before]
        response = await analytics.ingest(*(record(start_time=time, content=CONTENT) for time in times))

        assert response.accepted == 2
        assert [row.start_time for row in await contents(analytics, user_id)] == [before]

    async def test_wait_for_contents_on_their_way_and_let_none_of_before_come_after(
        self, analytics: Analytics, record: Make, user_id: str
    ) -> None:
        sent = record(content=CONTENT)
        async with analytics.transactions() as blocking:
            # Ingest has read of no erasure, has written the content, and cannot commit yet.
            await blocking.execute(text("LOCK TABLE usage_hourly IN EXCLUSIVE MODE"))
            sending = asyncio.create_task(analytics.ingest(sent))
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            await eventually(partial(blocking.scalar, waiting), lambda count: count == 1)

            async def erase() -> None:
                async with analytics.transactions() as session:
                    await session.execute(text("LOCK TABLE history_erasures IN EXCLUSIVE MODE"))
                    await session.execute(history_erasures.insert().values(user_id=user_id, before=NOW))
                async with analytics.transactions() as session:
                    await session.execute(chat_contents.delete().filter_by(user_id=user_id))

            erasing = asyncio.create_task(erase())
            await eventually(partial(blocking.scalar, waiting), lambda count: count == 2)
        await sending
        await erasing

        assert await contents(analytics, user_id) == []
