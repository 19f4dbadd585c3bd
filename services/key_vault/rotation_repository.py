"""Reads and writes rotations and what they seal anew. Each function works inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.key_vault.models import KeyRotationRow, PlatformConfigRow, ProviderConfigRow, RotationState

Sealed = type[ProviderConfigRow] | type[PlatformConfigRow]
# Whatever has a ciphertext of a provider's key. The platform's are few, and everybody's.
SEALED: tuple[Sealed, ...] = (PlatformConfigRow, ProviderConfigRow)


@dataclass(frozen=True, slots=True)
class SealedRow:
    """A stored ciphertext. `place` is the primary key of its row: the account, unless it is the platform's, and the
    provider.
    """

    place: tuple[str, ...]
    ciphertext: str

    @property
    def user_id(self) -> str | None:
        """Whose key it is; None for the platform's own."""
        return self.place[0] if len(self.place) > 1 else None

    @property
    def provider(self) -> str:
        """The provider whose key it is."""
        return self.place[-1]


@dataclass(frozen=True, slots=True)
class Lease:
    """A process's right to carry on a rotation. Another may take it when it has not been extended for `seconds`."""

    rotation_id: UUID
    holder: UUID
    seconds: float


async def count_sealed(session: AsyncSession, before: int) -> tuple[int, int]:
    """Counts the ciphertexts, and those that a version before this one has sealed."""
    total = outdated = 0
    for table in SEALED:
        counts = await session.execute(
            select(func.count(table.ciphertext), func.count().filter(_sealed_before(table, before)))
        )
        sealed, old = counts.one()
        total, outdated = total + sealed, outdated + old
    return total, outdated


async def find_outdated(
    session: AsyncSession, table: Sealed, before: int, *, after: tuple[str, ...] | None, size: int
) -> Sequence[SealedRow]:
    """Returns at most `size` ciphertexts of versions before this one, by place, from behind the place `after`."""
    place = tuple_(*_place(table))
    query = select(*_place(table), table.ciphertext).where(_sealed_before(table, before))
    if after is not None:
        query = query.where(place > after)
    rows = await session.execute(query.order_by(*_place(table)).limit(size))
    return [SealedRow(tuple(row[:-1]), row[-1]) for row in rows]


async def replace_ciphertexts(session: AsyncSession, table: Sealed, fresh: Collection[tuple[SealedRow, str]]) -> int:
    """Puts new ciphertexts in the place of those that are still the ones read, and returns how many that were."""
    if not fresh:
        return 0
    names = [column.name for column in _place(table)]
    statement = (
        update(table.__table__)  # type: ignore[arg-type]  # a mapped class's is always a Table
        .where(*(column == bindparam(f"at_{column.name}") for column in _place(table)))
        .where(table.ciphertext == bindparam("stale"))
        .values(ciphertext=bindparam("fresh"))
    )
    rows = [
        {
            **{f"at_{name}": part for name, part in zip(names, key.place, strict=True)},
            "stale": key.ciphertext,
            "fresh": new,
        }
        for key, new in fresh
    ]
    connection = await session.connection()
    return (await connection.execute(statement, rows)).rowcount


async def find_last(session: AsyncSession, purpose: str) -> KeyRotationRow | None:
    """Returns the latest rotation of a key, or None when there was none."""
    rotation: KeyRotationRow | None = await session.scalar(
        select(KeyRotationRow)
        .where(KeyRotationRow.purpose == purpose)
        .order_by(KeyRotationRow.start_time.desc())
        .limit(1)
    )
    return rotation


async def get(session: AsyncSession, rotation_id: UUID) -> KeyRotationRow:
    """Returns a rotation that there is; none is ever deleted."""
    return await session.get_one(KeyRotationRow, rotation_id)


async def begin(session: AsyncSession, purpose: str, *, target_version: int, started_by: str) -> KeyRotationRow | None:
    """Notes a rotation as begun; returns None when one of the same key is under way."""
    rotation: KeyRotationRow | None = await session.scalar(
        insert(KeyRotationRow)
        .values(
            purpose=purpose,
            state=RotationState.RUNNING,
            target_version=target_version,
            total=0,
            started_by=started_by,
            # Not of the transaction's beginning: it may have waited for the rotation before.
            start_time=func.clock_timestamp(),
            update_time=func.clock_timestamp(),
        )
        .on_conflict_do_nothing(index_elements=["purpose"], index_where=text("state = 'RUNNING'"))
        .returning(KeyRotationRow)
    )
    return rotation


async def claim(session: AsyncSession, holder: UUID, *, seconds: float) -> KeyRotationRow | None:
    """Gives a process the lease of a rotation that nobody carries on, and returns that; None when there is none.

    Failures are counted from the beginning again, as everything that still is to be done is looked at again.
    """
    waiting = (
        select(KeyRotationRow.id)
        .where(KeyRotationRow.state == RotationState.RUNNING)
        .where(
            KeyRotationRow.lease_until.is_(None)
            | (KeyRotationRow.lease_until < func.now())
            | (KeyRotationRow.lease_holder == holder)
        )
        .order_by(KeyRotationRow.start_time)
        .limit(1)
        # One that is locked is being carried on.
        .with_for_update(skip_locked=True)
    )
    rotation: KeyRotationRow | None = await session.scalar(
        update(KeyRotationRow)
        .where(KeyRotationRow.id == waiting.scalar_subquery())
        .values(lease_holder=holder, failed=0, **_extended(seconds))
        .returning(KeyRotationRow)
    )
    return rotation


async def proceed(session: AsyncSession, lease: Lease, *, failed: int = 0, message: str = "") -> bool:
    """Extends a lease, and notes how many failures there were since. False when somebody else has it by now.

    Nobody else can take it before the transaction ends.
    """
    return await _update(session, lease, message=message, failed=KeyRotationRow.failed + failed)


async def note_total(session: AsyncSession, lease: Lease, total: int) -> bool:
    """Notes how many there are to seal anew in all. False when somebody else has the lease by now."""
    return await _update(session, lease, total=total)


async def count_rewrapped(session: AsyncSession, lease: Lease, count: int) -> None:
    """Notes that so many more are sealed anew."""
    await _update(session, lease, rewrapped=KeyRotationRow.rewrapped + count)


async def end(session: AsyncSession, lease: Lease, state: RotationState, *, failed: int, message: str) -> bool:
    """Notes how a rotation ended. False when somebody else has the lease by now."""
    return await _update(session, lease, state=state, failed=failed, message=message, end_time=func.now())


async def release(session: AsyncSession, holder: UUID) -> None:
    """Gives up whatever a process has the lease of, so that others need not wait."""
    await session.execute(
        update(KeyRotationRow)
        .where(KeyRotationRow.lease_holder == holder, KeyRotationRow.state == RotationState.RUNNING)
        .values(lease_holder=None, lease_until=None)
    )


async def _update(session: AsyncSession, lease: Lease, **values: Any) -> bool:
    updated = await session.execute(
        update(KeyRotationRow)
        .where(
            KeyRotationRow.id == lease.rotation_id,
            KeyRotationRow.lease_holder == lease.holder,
            KeyRotationRow.state == RotationState.RUNNING,
        )
        .values(**_extended(lease.seconds), **values)
        .returning(KeyRotationRow.id)
    )
    return updated.first() is not None


def _extended(seconds: float) -> dict[str, Any]:
    return {"lease_until": func.now() + timedelta(seconds=seconds), "update_time": func.now()}


def _place(table: Sealed) -> tuple[ColumnElement[str], ...]:
    return tuple(table.__mapper__.primary_key)


def _sealed_before(table: Sealed, version: int) -> ColumnElement[bool]:
    # A ciphertext that names no version is none, and has to be heard of.
    return table.ciphertext.is_not(None) & (func.coalesce(table.key_version, 0) < version)
