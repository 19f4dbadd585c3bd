"""Reads chats in pieces, for whoever writes them all out: bounded in memory, and in the time of each transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, Select, select, tuple_

from libs.database import Transactions
from services.analytics.buckets import hour_of
from services.analytics.csv_export import RECORD_COLUMNS
from services.analytics.models import platform_hourly, usage_records
from services.analytics.question import Question

_PIECE = 5_000
_HOUR = timedelta(hours=1)
_FACT = usage_records.c
# Unique, and for the chats of one person the order of the table's own key.
_ORDER = (_FACT.start_time, _FACT.user_id, _FACT.id)
_COLUMNS = [_FACT[name] for name in RECORD_COLUMNS]


class RecordPages:
    """The chats of people in pieces of 5,000, the earliest first."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def read(self, question: Question) -> AsyncIterator[Sequence[Row[Any]]]:
        """Yields the rows with RECORD_COLUMNS of the chats a question is about. Raises Unavailable."""
        if question.user_id is not None:
            chats = _chats(question).where(_FACT.user_id == question.user_id)
            async for piece in self._pieces(chats):
                yield piece
            return
        # Of all people by the hour: each is a short piece of an index.
        for hour in await self._hours(question):
            chats = _chats(question).where(_FACT.start_time >= hour, _FACT.start_time < hour + _HOUR)
            async for piece in self._pieces(chats):
                yield piece

    async def _hours(self, question: Question) -> Sequence[Any]:
        hour, span = platform_hourly.c.hour, question.span
        statement = select(hour).where(hour >= hour_of(span.start), hour < span.end).distinct().order_by(hour)
        async with self._transactions() as session:
            return (await session.execute(statement)).scalars().all()

    async def _pieces(self, chats: Select[Any]) -> AsyncIterator[Sequence[Row[Any]]]:
        after: tuple[Any, ...] | None = None
        while True:
            statement = chats if after is None else chats.where(tuple_(*_ORDER) > after)
            async with self._transactions() as session:
                rows = (await session.execute(statement)).all()
            if rows:
                yield rows
            if len(rows) < _PIECE:
                return
            last = rows[-1]
            after = (last.start_time, last.user_id, last.id)


def _chats(question: Question) -> Select[Any]:
    statement = select(*_COLUMNS).where(_FACT.start_time >= question.span.start, _FACT.start_time < question.span.end)
    if question.provider:
        statement = statement.where(_FACT.provider == question.provider)
    if question.model:
        statement = statement.where(_FACT.model_requested == question.model)
    return statement.order_by(*_ORDER).limit(_PIECE)
