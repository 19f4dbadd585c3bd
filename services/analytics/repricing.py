"""Prices facts anew: for prices that were wrong, or not known, when chats were accounted for.

What providers reported themselves stays, and so does what a chat cost by a price that is not known any more. A batch of
facts, what is shown of them in the history, and all sums that they are part of change in one transaction, so that sums
are those of the facts at every moment, also when this ends in the middle. To do it again changes nothing more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    case,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.schema import CreateTable

from libs.database import Transactions
from libs.database_copy import copy_rows
from services.analytics.models import (
    chat_contents,
    platform_hourly,
    platform_quarter_hourly,
    usage_hourly,
    usage_quarter_hourly,
    usage_records,
    user_daily,
)
from services.analytics.rollups import numbers, rollup_key
from services.analytics.usage import Span

# How many facts at a time: whoever takes in others waits for so long.
_BATCH = 1_000
_DAY = timedelta(days=1)

# Prices a fact, with its tokens by the names of `chat.v1.Usage`: trillionths of a US dollar and the price as text, or
# None when no price is known.
Price = Callable[[Row[Any], Any], tuple[int, str] | None]
_Cost = tuple[int, str]

_fact = usage_records.c
_KEY = (_fact.user_id, _fact.start_time, _fact.id)
_SHARED = ("user_id", "start_time", "id", "provider", "model_requested", "estimated")

# Facts with their new prices, and what that changes.
_repriced = Table(
    "repriced_usage",
    MetaData(),
    *(Column(name, _fact[name].type) for name in (*_SHARED, "cost_picos", "cost_source", "price")),
    Column("more_picos", BigInteger),
    Column("more_unpriced", Integer),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)
_MAKE_REPRICED = CreateTable(_repriced, if_not_exists=True)
_new = _repriced.c


@dataclass(slots=True)
class Repriced:
    """What repricing has changed, or would: of a model, or of all. Costs in trillionths of a US dollar.

    `unpriced` counts the chats whose price is still not known.
    """

    chats: int = 0
    changed: int = 0
    unpriced: int = 0
    before: int = 0
    after: int = 0

    def add(self, fact: Row[Any], new: _Cost | None) -> None:
        """Counts a fact with what it costs now, as far as that is known."""
        before = fact.cost_picos or 0
        self.chats += 1
        self.changed += _differs(fact, new)
        self.unpriced += new is None and fact.cost_picos is None
        self.before += before
        self.after += before if new is None else new[0]


@dataclass(slots=True)
class Progress:
    """How far repricing is: `reached` says up to where all is done, `models` what came of it, by provider and model."""

    reached: datetime
    models: dict[tuple[str, str], Repriced] = field(default_factory=dict)

    @property
    def all(self) -> Repriced:
        """The sum over all models."""
        total = Repriced()
        for model in self.models.values():
            for name in Repriced.__slots__:
                setattr(total, name, getattr(total, name) + getattr(model, name))
        return total


class Repricing:
    """Prices the facts of a span of time anew: all of them, or those of a provider, or of a model."""

    def __init__(
        self, transactions: Transactions, price: Price, *, provider: str | None = None, model: str | None = None
    ) -> None:
        self._transactions = transactions
        self._price = price
        self._conditions: list[ColumnElement[bool]] = [_fact.cost_source.in_(["priced", "unpriced"])]
        if provider is not None:
            self._conditions.append(_fact.provider == provider)
        if model is not None:
            self._conditions.append(_fact.model_requested == model)

    async def run(self, span: Span, *, apply: bool) -> AsyncIterator[Progress]:
        """Goes through the facts day by day, and tells after each batch how far it is.

        Changes nothing unless `apply`. Raises Unavailable; what was done until then is done, and may be done again.
        """
        progress = Progress(span.start)
        day = span.start
        while day < span.end:
            midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
            end = min(midnight + _DAY, span.end)
            after: tuple[Any, ...] | None = None
            while facts := await self._batch(Span(day, end), after, progress, apply=apply):
                yield progress
                after = (facts[-1].user_id, facts[-1].start_time, facts[-1].id)
            progress.reached = day = end
            yield progress

    async def _batch(
        self, day: Span, after: tuple[Any, ...] | None, progress: Progress, *, apply: bool
    ) -> Sequence[Row[Any]]:
        """Prices the next facts of a day, and returns them as they were."""
        async with self._transactions() as session:
            facts: Sequence[Row[Any]] = (await session.execute(self._next(day, after, lock=apply))).all()
            news = [self._price(fact, tokens_of(fact)) for fact in facts]
            changes = [(fact, new) for fact, new in zip(facts, news, strict=True) if new and _differs(fact, new)]
            if apply and changes:
                await _write(session, day, changes)
        for fact, new in zip(facts, news, strict=True):
            progress.models.setdefault((fact.provider, fact.model_requested), Repriced()).add(fact, new)
        return facts

    def _next(self, day: Span, after: tuple[Any, ...] | None, *, lock: bool) -> Select[Any]:
        query = select(usage_records).where(_fact.start_time >= day.start, _fact.start_time < day.end)
        query = query.where(*self._conditions).order_by(*_KEY).limit(_BATCH)
        if after is not None:
            key = [bindparam(None, value, type_=column.type) for value, column in zip(after, _KEY, strict=True)]
            query = query.where(tuple_(*_KEY) > tuple_(*key))
        return query.with_for_update() if lock else query


def tokens_of(fact: Row[Any]) -> Any:
    """Returns the tokens of a fact by the names by which prices ask for them."""
    return SimpleNamespace(
        prompt_tokens=fact.prompt_tokens,
        completion_tokens=fact.completion_tokens,
        prompt_tokens_details=fact,
        completion_tokens_details=fact,
    )


def _differs(fact: Row[Any], new: _Cost | None) -> bool:
    return new is not None and (fact.cost_picos, fact.price) != new


async def _write(session: AsyncSession, day: Span, changes: Sequence[tuple[Row[Any], _Cost]]) -> None:
    rows = [
        (
            *(getattr(fact, name) for name in _SHARED),
            *(picos, "priced", price),
            *(picos - (fact.cost_picos or 0), -(fact.cost_source == "unpriced")),
        )
        for fact, (picos, price) in changes
    ]
    await session.execute(_MAKE_REPRICED)
    await copy_rows(session, _repriced, rows)
    for table, names in ((usage_records, ("cost_picos", "cost_source", "price")), (chat_contents, ("cost_picos",))):
        same = and_(*(table.c[name] == _new[name] for name in ("user_id", "start_time", "id")))
        # The day again, so that one partition is looked at and not all.
        on_day = and_(table.c.start_time >= day.start, table.c.start_time < day.end)
        await session.execute(update(table).values({name: _new[name] for name in names}).where(same, on_day))
    sums: dict[str, ColumnElement[Any]] = {
        "cost_picos": func.sum(_new.more_picos),
        "estimated_picos": func.sum(case((_new.estimated, _new.more_picos), else_=0)),
        "unpriced": func.sum(_new.more_unpriced),
    }
    # In the order of ingest.
    for rollup in (usage_quarter_hourly, usage_hourly, user_daily, platform_quarter_hourly, platform_hourly):
        await _add(session, rollup, {name: sum_ for name, sum_ in sums.items() if name in rollup.c})


async def _add(session: AsyncSession, rollup: Table, sums: dict[str, ColumnElement[Any]]) -> None:
    """Adds changes to the rows of a rollup, as far as these are still kept."""
    names, key = rollup.primary_key.columns.keys(), rollup_key(rollup, _repriced)
    parts = [part.label(name) for part, name in zip(key, names, strict=True)]
    changes = select(*parts, *(sum_.label(name) for name, sum_ in sums.items())).group_by(*numbers(key)).subquery()
    same = and_(*(rollup.c[name] == changes.c[name] for name in names))
    # In the order of the key, as ingest takes them: an UPDATE has none.
    await session.execute(
        select(rollup.c[names[0]]).where(same).order_by(*(rollup.c[name] for name in names)).with_for_update(of=rollup)
    )
    await session.execute(update(rollup).values({name: rollup.c[name] + changes.c[name] for name in sums}).where(same))
