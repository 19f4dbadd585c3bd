"""Reads and writes the accounts and the counts of failures. Each function works inside the caller's transaction."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth import emails
from services.auth.models import FailureCount, User

# Removed in one statement, so that a large backlog cannot run into the statement's time limit.
_BATCH = 5_000


async def add_user(tx: AsyncSession, *, email: str, name: str, role: str, password_hash: str) -> User | None:
    """Adds an account; None when its email is taken. An empty name becomes the email's local part."""
    columns = {"email": email, "name": name or emails.local_part(email), "role": role, "password_hash": password_hash}
    return await tx.scalar(
        insert(User)
        .values(id=f"usr_{uuid.uuid4().hex}", **columns)
        .on_conflict_do_nothing(index_elements=[User.email])
        .returning(User)
    )


async def find_user(tx: AsyncSession, email: str) -> User | None:
    """Returns the account with an email in normal form."""
    return await tx.scalar(select(User).where(User.email == email))


async def get_user(tx: AsyncSession, user_id: str) -> User | None:
    """Returns the account with an id."""
    return await tx.get(User, user_id)


async def lock_user(tx: AsyncSession, user_id: str) -> User | None:
    """Returns the account with an id as it is now, and keeps it from others until the transaction ends."""
    return await tx.scalar(
        select(User).where(User.id == user_id).with_for_update(key_share=True).execution_options(populate_existing=True)
    )


async def replace_password_hash(tx: AsyncSession, user_id: str, password_hash: str) -> None:
    """Stores another hash of the same password."""
    await tx.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


async def replace_password(tx: AsyncSession, user_id: str, password_hash: str) -> None:
    """Stores the hash of another password."""
    await tx.execute(
        update(User).where(User.id == user_id).values(password_hash=password_hash, password_set_time=func.now())
    )


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
    passed = (
        select(FailureCount.subject)
        .where(FailureCount.forget_time <= func.now())
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    removed = await tx.scalars(
        delete(FailureCount).where(FailureCount.subject.in_(passed)).returning(FailureCount.subject)
    )
    return len(removed.all())
