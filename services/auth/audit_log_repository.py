"""Reads the audit log and adds to it. Each function works inside the caller's transaction."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Text, case, cast, func, insert, literal_column, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from libs.pagination import Place
from services.auth.audit_chain import BEGINNING, Head, Link
from services.auth.models import AuditEntry

_CHAIN = zlib.crc32(b"services.auth.audit_log")

# Nothing of it can fail to be read, whatever somebody has made of the entry.
_CONTENT = (
    AuditEntry.seq,
    cast(AuditEntry.event_id, Text),
    case((func.isfinite(AuditEntry.time), cast(func.extract("epoch", AuditEntry.time) * 1_000_000, BigInteger))),
    AuditEntry.service,
    AuditEntry.user_id,
    AuditEntry.action,
    AuditEntry.resource,
    AuditEntry.ip_address,
    AuditEntry.user_agent,
    AuditEntry.request_id,
    AuditEntry.details,
)


# The times that Python knows. Of others there may be such as were put in before the table refused them.
_READABLE_TIME = case(
    (
        AuditEntry.time.between(
            literal_column("timestamptz '0001-01-01 00:00:00+00'"),
            literal_column("timestamptz '9999-12-31 23:59:59.999999+00'"),
        ),
        AuditEntry.time,
    )
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is found in the log, whoever has put it in: `details` should be JSON, and may be anything.

    `time` is None when it is none.
    """

    seq: int
    time: datetime | None
    service: str
    user_id: str
    action: str
    resource: str
    ip_address: str
    user_agent: str
    request_id: str
    details: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries are asked for; empty or None is all. `start` belongs to the span of time, `end` does not."""

    user_id: str = ""
    action: str = ""
    start: datetime | None = None
    end: datetime | None = None


async def lock_chain(tx: AsyncSession) -> None:
    """Keeps everyone else from adding until the transaction ends. A statement of its own: the next sees what is new."""
    await tx.execute(text("SELECT pg_advisory_xact_lock(:chain)"), {"chain": _CHAIN})


async def find_head(tx: AsyncSession) -> Head:
    """Returns the place and hash of the last entry."""
    row = (await tx.execute(select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1))).first()
    return BEGINNING if row is None else Head(row.seq, row.hash)


async def find_known(tx: AsyncSession, event_ids: Collection[UUID]) -> set[UUID]:
    """Returns those of the events that have an entry."""
    return set(await tx.scalars(select(AuditEntry.event_id).where(AuditEntry.event_id.in_(event_ids))))


async def add(tx: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Adds entries."""
    await tx.execute(insert(AuditEntry), rows)


async def find_page(tx: AsyncSession, filters: Filters, *, after: Place | None, limit: int) -> Sequence[Entry]:
    """Returns entries, the newest first, beginning behind one.

    Ordered by time and not by place, so that a span of time is found by the same index as the order.
    """
    query = (
        select(
            AuditEntry.seq,
            _READABLE_TIME,
            AuditEntry.service,
            AuditEntry.user_id,
            AuditEntry.action,
            AuditEntry.resource,
            AuditEntry.ip_address,
            AuditEntry.user_agent,
            AuditEntry.request_id,
            AuditEntry.details,
            AuditEntry.hash,
        )
        .order_by(AuditEntry.time.desc(), AuditEntry.seq.desc())
        .limit(limit)
    )
    if filters.user_id:
        query = query.where(AuditEntry.user_id == filters.user_id)
    if filters.action:
        query = query.where(AuditEntry.action == filters.action)
    if filters.start is not None:
        query = query.where(AuditEntry.time >= filters.start)
    if filters.end is not None:
        query = query.where(AuditEntry.time < filters.end)
    if after is not None:
        last = aliased(AuditEntry)
        # Its time as it lies in the table: that of the place may have been one that Python does not know.
        time = select(last.time).where(last.seq == int(after.id)).scalar_subquery()
        query = query.where(tuple_(AuditEntry.time, AuditEntry.seq) < tuple_(time, int(after.id)))
    return [Entry(*row) for row in await tx.execute(query)]


async def find_links(tx: AsyncSession, *, start: int | None, limit: int) -> list[Link]:
    """Returns at most `limit` entries from a place on, or from the very beginning, in the order of their places."""
    query = select(*_CONTENT, AuditEntry.previous_hash, AuditEntry.hash).order_by(AuditEntry.seq).limit(limit)
    if start is not None:
        query = query.where(AuditEntry.seq >= start)
    links = []
    for *content, previous_hash, own_hash in await tx.execute(query):
        links.append(Link(content[0], tuple(content), previous_hash, own_hash))
    return links
