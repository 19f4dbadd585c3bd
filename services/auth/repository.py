"""Reads and writes the tables. Each function works inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import contains_eager

from services.auth.models import FailureCount, Session, User

# Removed in one statement, so that a large backlog cannot run into the statement's time limit.
_BATCH = 5_000


async def add_user(tx: AsyncSession, **columns: Any) -> User | None:
    """Adds an account; None when its email is taken."""
    return await tx.scalar(
        insert(User).values(**columns).on_conflict_do_nothing(index_elements=[User.email]).returning(User)
    )


async def find_user(tx: AsyncSession, email: str) -> User | None:
    """Returns the account with an email in normal form."""
    return await tx.scalar(select(User).where(User.email == email))


async def change_role(tx: AsyncSession, user_id: str, role: str) -> None:
    """Gives an account another role."""
    await tx.execute(update(User).where(User.id == user_id).values(role=role))


async def replace_password_hash(tx: AsyncSession, user_id: str, *, old: str, new: str) -> None:
    """Stores another hash of the same password, unless the password was changed meanwhile."""
    await tx.execute(update(User).where(User.id == user_id, User.password_hash == old).values(password_hash=new))


async def add_session(tx: AsyncSession, *, lifetime: timedelta, **columns: Any) -> datetime:
    """Adds a session that begins now, and returns when it ends."""
    expire_time: datetime | None = await tx.scalar(
        insert(Session).values(**columns, expire_time=func.now() + lifetime).returning(Session.expire_time)
    )
    assert expire_time is not None
    return expire_time


async def find_open_session(tx: AsyncSession, criterion: ColumnElement[bool]) -> Session | None:
    """Returns a session with its user, unless it has ended or the account is disabled."""
    return await tx.scalar(
        select(Session)
        .join(Session.user)
        .options(contains_eager(Session.user))
        .where(criterion, Session.expire_time > func.now(), User.disabled_at.is_(None))
    )


async def remove_session(tx: AsyncSession, session_id: str) -> None:
    """Deletes a session, if there is one."""
    await tx.execute(delete(Session).where(Session.id == session_id))


async def remove_expired_sessions(tx: AsyncSession) -> int:
    """Deletes some of the sessions that have ended, and returns how many."""
    ended = select(Session.id).where(Session.expire_time <= func.now()).limit(_BATCH)
    return len((await tx.scalars(delete(Session).where(Session.id.in_(ended)).returning(Session.id))).all())


async def clock(tx: AsyncSession) -> datetime:
    """Returns the time at which the statement, not the transaction, began: it may have waited for a lock."""
    now: datetime | None = await tx.scalar(select(func.statement_timestamp()))
    assert now is not None
    return now


async def lock_failure_counts(tx: AsyncSession, subjects: Collection[bytes]) -> dict[bytes, FailureCount]:
    """Returns the counts that exist, by subject, and keeps them from others until the transaction ends.

    Everyone locks in the same order, so that nobody waits in a circle.
    """
    counts = await tx.scalars(
        select(FailureCount).where(FailureCount.subject.in_(subjects)).order_by(FailureCount.subject).with_for_update()
    )
    return {count.subject: count for count in counts}


async def count_failures(tx: AsyncSession, subjects: Collection[bytes]) -> Sequence[FailureCount]:
    """Adds one failure to each subject and returns the counts, to be blocked as they deserve."""
    rows = [
        {"subject": subject, "failures": 1, "blocked_until": func.now(), "forget_time": func.now()}
        for subject in sorted(subjects)
    ]
    statement = (
        insert(FailureCount)
        .values(rows)
        .on_conflict_do_update(index_elements=[FailureCount.subject], set_={"failures": FailureCount.failures + 1})
        .returning(FailureCount)
    )
    return (await tx.scalars(statement)).all()


async def clear_failure_count(tx: AsyncSession, subject: bytes, *, memory: timedelta) -> None:
    """Sets a count to zero, making it when there is none, and keeps it for the time of `memory`."""
    columns = {"failures": 0, "blocked_until": func.now(), "forget_time": func.now() + memory}
    await tx.execute(
        insert(FailureCount)
        .values(subject=subject, **columns)
        .on_conflict_do_update(index_elements=[FailureCount.subject], set_=columns)
    )


async def remove_forgotten_failure_counts(tx: AsyncSession) -> int:
    """Deletes some of the counts whose time has passed, and returns how many."""
    passed = select(FailureCount.subject).where(FailureCount.forget_time <= func.now()).limit(_BATCH)
    removed = await tx.scalars(
        delete(FailureCount).where(FailureCount.subject.in_(passed)).returning(FailureCount.subject)
    )
    return len(removed.all())
