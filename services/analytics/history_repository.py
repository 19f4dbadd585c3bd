"""The rows of what was said, each person's own: every statement names whose they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, Row, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.pagination import Place
from services.analytics.models import chat_contents, history_erasures

_chat = chat_contents.c
_erasure = history_erasures.c
# All that is shown; of what was said its size alone, which Postgres knows without reading it.
_SHOWN = [
    *(column for column in chat_contents.columns if column is not _chat.sealed),
    func.octet_length(_chat.sealed).label("sealed_bytes"),
]
# Between this and the end of the transaction nobody stores contents, nor is between having looked and storing them.
_KEEP_CONTENTS_OUT = text("LOCK TABLE history_erasures IN EXCLUSIVE MODE")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which chats are asked for: all that agree with what is not empty or None. `start` belongs to the span."""

    provider: str = ""
    model: str = ""
    conversation_id: str = ""
    start: datetime | None = None
    end: datetime | None = None


async def find_page(
    session: AsyncSession, user_id: str, wanted: Wanted, *, after: Place | None, size: int
) -> Sequence[Row[Any]]:
    """Lists the first chats behind a place, the latest first, and one more if there is one; without what was said."""
    query = select(*_SHOWN).where(_chat.user_id == user_id)
    for column, text_ in (
        (_chat.provider, wanted.provider),
        (_chat.model_requested, wanted.model),
        (_chat.conversation_id, wanted.conversation_id),
    ):
        if text_:
            query = query.where(column == text_)
    start = _later(wanted.start, await erased_before(session, user_id))
    if start is not None:
        query = query.where(_chat.start_time >= start)
    if wanted.end is not None:
        query = query.where(_chat.start_time < wanted.end)
    if after is not None:
        # The time alone as well: by that, partitions are left out.
        query = query.where(
            _chat.start_time <= after.time, tuple_(_chat.start_time, _chat.id) < tuple_(after.time, UUID(after.id))
        )
    query = query.order_by(_chat.start_time.desc(), _chat.id.desc()).limit(size + 1)
    return (await session.execute(query)).all()


async def find_one(session: AsyncSession, user_id: str, record_id: UUID) -> Row[Any] | None:
    """Returns a chat without what was said; None when there is none of that id and person."""
    query = select(*_SHOWN).where(_chat.user_id == user_id, _chat.id == record_id)
    erased = await erased_before(session, user_id)
    if erased is not None:
        query = query.where(_chat.start_time >= erased)
    return (await session.execute(query)).first()


async def read_sealed(session: AsyncSession, user_id: str, chats: Collection[Row[Any]]) -> dict[UUID, bytes]:
    """Reads what was said in chats, sealed; of those that are still there."""
    times = [chat.start_time for chat in chats]
    query = select(_chat.id, _chat.sealed).where(
        _chat.user_id == user_id,
        _chat.start_time >= min(times),
        _chat.start_time <= max(times),
        _chat.id.in_([chat.id for chat in chats]),
    )
    return {row.id: row.sealed for row in await session.execute(query)}


async def erase_one(session: AsyncSession, user_id: str, record_id: UUID) -> bool:
    """Erases what was said in a chat. False when there is nothing of that id and person."""
    erased = await session.execute(delete(chat_contents).where(_chat.user_id == user_id, _chat.id == record_id))
    return _rows_of(erased) > 0


async def erased_before(session: AsyncSession, user_id: str) -> datetime | None:
    """Returns before when a person has erased everything; None when never."""
    before: datetime | None = await session.scalar(select(_erasure.before).where(_erasure.user_id == user_id))
    return before


async def note_erasure(session: AsyncSession, user_id: str, before: datetime) -> None:
    """Has nothing of before that time stored or shown any more, from the end of the transaction on.

    Waits for those who are storing contents, and keeps others from it: the transaction is to be short.
    """
    await session.execute(_KEEP_CONTENTS_OUT)
    noted = insert(history_erasures).values(user_id=user_id, before=before)
    later = func.greatest(_erasure.before, noted.excluded.before)
    await session.execute(noted.on_conflict_do_update(index_elements=[_erasure.user_id], set_={"before": later}))


async def erase_some(session: AsyncSession, user_id: str, before: datetime, most: int) -> int:
    """Erases some of what a person said before that time, the earliest first, and returns of how many chats."""
    earliest = (
        select(_chat.start_time, _chat.id)
        .where(_chat.user_id == user_id, _chat.start_time < before)
        .order_by(_chat.start_time, _chat.id)
        .limit(most)
        .cte("earliest")
    )
    chosen = delete(chat_contents).where(
        _chat.user_id == user_id, _chat.start_time == earliest.c.start_time, _chat.id == earliest.c.id
    )
    return _rows_of(await session.execute(chosen))


async def find_unfinished(session: AsyncSession) -> Sequence[tuple[str, datetime]]:
    """Lists erasures of which something is left, by whose they are and before when."""
    left = (
        select(_chat.id).where(_chat.user_id == _erasure.user_id, _chat.start_time < _erasure.before).limit(1).exists()
    )
    return [(row.user_id, row.before) for row in await session.execute(select(history_erasures).where(left))]


async def forget_erasures(session: AsyncSession, before: datetime) -> None:
    """Forgets erasures that hold for nothing any more, since contents of that time are not kept anyway."""
    await session.execute(delete(history_erasures).where(_erasure.before <= before))


def _later(first: datetime | None, second: datetime | None) -> datetime | None:
    times = [time for time in (first, second) if time is not None]
    return max(times, default=None)


def _rows_of(result: object) -> int:
    return result.rowcount if isinstance(result, CursorResult) else 0
