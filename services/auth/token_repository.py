"""Reads and writes the sessions and API tokens. Each function works inside the caller's transaction.

Whatever removes several rows of one account, or counts them, first locks the account (`repository.lock_user`); what
looks at rows of many accounts takes those that nobody holds. So nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ARRAY, ColumnElement, DateTime, Select, Text, delete, func, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, contains_eager

from libs.pagination import Place
from services.auth.models import ApiToken, Session, User

_Row = TypeVar("_Row", Session, ApiToken)

# Removed in one statement, so that a large backlog cannot run into the statement's time limit.
_BATCH = 5_000


async def add_session(tx: AsyncSession, *, lifetime: timedelta, **columns: Any) -> Session:
    """Adds a session that begins now."""
    session: Session | None = await tx.scalar(
        insert(Session).values(**columns, expire_time=func.now() + lifetime).returning(Session)
    )
    assert session is not None
    return session


async def find_session(tx: AsyncSession, token_sha256: bytes, idle: timedelta) -> tuple[Session, datetime] | None:
    """Returns an open session with its user, and the time; None also when the account is disabled."""
    row = (
        await tx.execute(
            select(Session, func.now())
            .join(Session.user)
            .options(contains_eager(Session.user))
            .where(Session.token_sha256 == token_sha256, *open_now(idle), User.disabled_at.is_(None))
        )
    ).one_or_none()
    return None if row is None else (row[0], row[1])


async def find_sessions(
    tx: AsyncSession, user_id: str, idle: timedelta, *, after: Place | None, limit: int
) -> Sequence[Session]:
    """Returns the open sessions of an account behind a place, the most recently used first."""
    sessions = select(Session).where(Session.user_id == user_id, *open_now(idle))
    return (await tx.scalars(_behind(after, sessions, Session.last_use_time, Session.id).limit(limit))).all()


async def remove_session(tx: AsyncSession, user_id: str, session_id: str) -> bool:
    """Deletes a session of an account; tells whether there was one."""
    removed = await tx.scalar(
        delete(Session).where(Session.user_id == user_id, Session.id == session_id).returning(Session.id)
    )
    return removed is not None


async def remove_sessions(tx: AsyncSession, user_id: str, *, but: str = "") -> Sequence[str]:
    """Deletes the sessions of an account, but one if it is named, and returns their ids."""
    removed = delete(Session).where(Session.user_id == user_id, Session.id != but).returning(Session.id)
    return (await tx.scalars(removed)).all()


async def remove_unused_sessions(tx: AsyncSession, user_id: str, idle: timedelta, *, keep: int) -> Sequence[str]:
    """Deletes the open sessions of an account but so many, the least recently used first, and returns their ids."""
    surplus = (
        select(Session.id)
        .where(Session.user_id == user_id, *open_now(idle))
        .order_by(Session.last_use_time.desc(), Session.id.desc())
        .offset(keep)
    )
    return (await tx.scalars(delete(Session).where(Session.id.in_(surplus)).returning(Session.id))).all()


async def remove_ended_sessions(tx: AsyncSession, idle: timedelta) -> int:
    """Deletes some of the sessions that have ended, and returns how many."""
    ended = (
        select(Session.id)
        .where(or_(Session.expire_time <= func.now(), Session.last_use_time <= func.now() - idle))
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    return len((await tx.scalars(delete(Session).where(Session.id.in_(ended)).returning(Session.id))).all())


async def hold_token(tx: AsyncSession, token_id: str) -> bool:
    """Tells whether a session or API token has not been removed, and keeps it until the transaction ends."""
    for table in (Session, ApiToken):
        held = select(table.id).where(table.id == token_id).with_for_update(read=True, key_share=True)
        if await tx.scalar(held) is not None:
            return True
    return False


async def add_api_token(tx: AsyncSession, **columns: Any) -> ApiToken:
    """Adds an API token."""
    token: ApiToken | None = await tx.scalar(insert(ApiToken).values(**columns).returning(ApiToken))
    assert token is not None
    return token


async def count_api_tokens(tx: AsyncSession, user_id: str) -> int:
    """Returns how many API tokens an account has, with those that have ended and are still listed."""
    return await tx.scalar(select(func.count()).where(ApiToken.user_id == user_id)) or 0


async def find_api_token(tx: AsyncSession, token_sha256: bytes) -> tuple[ApiToken, datetime] | None:
    """Returns an API token with its user, and the time; None also when it has ended or the account is disabled."""
    row = (
        await tx.execute(
            select(ApiToken, func.now())
            .join(ApiToken.user)
            .options(contains_eager(ApiToken.user))
            .where(
                ApiToken.token_sha256 == token_sha256,
                or_(ApiToken.expire_time.is_(None), ApiToken.expire_time > func.now()),
                User.disabled_at.is_(None),
            )
        )
    ).one_or_none()
    return None if row is None else (row[0], row[1])


async def find_api_tokens(tx: AsyncSession, user_id: str, *, after: Place | None, limit: int) -> Sequence[ApiToken]:
    """Returns the API tokens of an account behind a place, the newest first."""
    tokens = select(ApiToken).where(ApiToken.user_id == user_id)
    return (await tx.scalars(_behind(after, tokens, ApiToken.create_time, ApiToken.id).limit(limit))).all()


async def remove_api_token(tx: AsyncSession, user_id: str, token_id: str) -> bool:
    """Deletes an API token of an account; tells whether there was one."""
    removed = await tx.scalar(
        delete(ApiToken).where(ApiToken.user_id == user_id, ApiToken.id == token_id).returning(ApiToken.id)
    )
    return removed is not None


async def remove_api_tokens(tx: AsyncSession, user_id: str) -> Sequence[str]:
    """Deletes the API tokens of an account, and returns their ids."""
    return (await tx.scalars(delete(ApiToken).where(ApiToken.user_id == user_id).returning(ApiToken.id))).all()


async def remove_ended_api_tokens(tx: AsyncSession, listed: timedelta) -> int:
    """Deletes some of the API tokens that ended longer ago than they are to be listed, and returns how many."""
    ended = (
        select(ApiToken.id)
        .where(ApiToken.expire_time <= func.now() - listed)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    return len((await tx.scalars(delete(ApiToken).where(ApiToken.id.in_(ended)).returning(ApiToken.id))).all())


async def record_uses(tx: AsyncSession, uses: Mapping[str, datetime]) -> None:
    """Moves the last use of sessions and API tokens, by their ids, forward to these times.

    One that somebody holds at this moment is being removed, or moved by another replica, and is left alone.
    """
    used = select(
        func.unnest(literal(list(uses), ARRAY(Text))).label("id"),
        func.unnest(literal(list(uses.values()), ARRAY(DateTime(timezone=True)))).label("time"),
    ).cte("used")
    for table in (Session, ApiToken):
        held = (
            select(table.id, used.c.time)
            .join(used, used.c.id == table.id)
            .where(or_(table.last_use_time.is_(None), table.last_use_time < used.c.time))
            .with_for_update(of=table, key_share=True, skip_locked=True)
            .cte("held")
        )
        await tx.execute(
            update(table)
            .where(table.id == held.c.id)
            .values(last_use_time=held.c.time)
            .execution_options(synchronize_session=False)
        )


def open_now(idle: timedelta) -> tuple[ColumnElement[bool], ...]:
    """Holds for sessions that have not ended; `idle` is how long one lasts after its last use."""
    return Session.expire_time > func.now(), Session.last_use_time > func.now() - idle


def _behind(
    after: Place | None,
    rows: Select[_Row],
    time: InstrumentedAttribute[datetime],
    row_id: InstrumentedAttribute[str],
) -> Select[_Row]:
    """Orders rows by a time, the newest first, and lets them begin behind a place."""
    ordered = rows.order_by(time.desc(), row_id.desc())
    return ordered if after is None else ordered.where(tuple_(time, row_id) < (after.time, after.id))
