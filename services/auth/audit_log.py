"""The audit log: what happened in all services, in one chain that shows when somebody has changed it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from libs.audit import AuditEvent
from libs.database import Transactions
from libs.errors import Unavailable
from libs.pagination import Place, cut_page
from libs.received_values import fitting
from services.auth import audit_log_repository as repository
from services.auth.audit_chain import BEGINNING, Findings, Head, Link, entry_hash, follow
from services.auth.audit_log_repository import Entry, Filters

_OWN_SERVICE = "auth"

# In characters. What is longer is cut: an event must not be lost for what somebody else wrote into it.
_LONGEST_NAME = 200
_LONGEST_TEXT = 500
_MOST_DETAILS = 30

# Entries read at once, and looked at in one call; the latter takes a few seconds.
_BATCH = 1_000
_MOST_LOOKED_AT = 100_000

# No caller's deadline ends what this service stores of its own.
_STORE_SECONDS = 20
# Less than the deadline of the methods that ask for a list.
_LIST_SECONDS = 20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class AuditLog:
    """The log in the database, which can only grow."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def append(self, tx: AsyncSession, *events: AuditEvent) -> None:
        """Adds events of this service as part of a transaction: they happened exactly when that commits.

        Call it last. Until the transaction ends nobody else can add anything.
        """
        await self._append(tx, _OWN_SERVICE, events)

    async def store(self, service: str, events: Sequence[AuditEvent]) -> int:
        """Stores events that a service has seen, all or none, and returns how many of them were not stored before."""
        async with self._transactions() as tx:
            return await self._append(tx, service, events)

    async def store_own(self, events: Sequence[AuditEvent]) -> int:
        """Stores events that this service has seen outside of a transaction. Raises Unavailable, after a while too."""
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                return await self.store(_OWN_SERVICE, events)
        except TimeoutError:
            raise Unavailable("The audit log did not answer in time; try again in a moment.", retry_after=2) from None

    async def _append(self, tx: AsyncSession, service: str, events: Sequence[AuditEvent]) -> int:
        await repository.lock_chain(tx)
        ids = [UUID(event.id) for event in events]
        known = await repository.find_known(tx, ids)
        head = await repository.find_head(tx)
        rows = []
        for event_id, event in zip(ids, events, strict=True):
            if event_id not in known:
                known.add(event_id)
                row, head = _chained(head, _columns(event_id, service, event))
                rows.append(row)
        if rows:
            await repository.add(tx, rows)
        return len(rows)

    async def find_page(
        self, filters: Filters, *, after: Place | None, size: int
    ) -> tuple[Sequence[Entry], Place | None]:
        """Returns a page of entries, the newest first, and where the next one begins; None at the end.

        Raises DeadlineExceeded when there is too much to look through.
        """
        async with self._transactions(statement_seconds=_LIST_SECONDS) as tx:
            entries = await repository.find_page(tx, filters, after=after, limit=size + 1)
        return cut_page(entries, size, lambda entry: Place(entry.time or _EPOCH, str(entry.seq)))

    async def head(self) -> Head:
        """Returns the place and hash of the last entry."""
        async with self._transactions() as tx:
            return await repository.find_head(tx)

    async def holds(self, head: Head) -> bool:
        """Tells whether the log has an entry at this place, with this hash."""
        async with self._transactions() as tx:
            return _begins_with(head, await repository.find_links(tx, start=head.seq, limit=1))

    async def verify(self, after: Head = BEGINNING) -> Findings:
        """Looks at the entries behind one that must be there as it was, or from the beginning; at 100,000 in one call.

        Each step begins with the entry at which the one before ended, so that nothing can hide in between.
        """
        head, looked_at = after, 0
        while looked_at < _MOST_LOOKED_AT:
            overlap = 0 if head == BEGINNING else 1
            async with self._transactions() as tx:
                links = await repository.find_links(tx, start=head.seq or None, limit=overlap + _BATCH)
            if overlap:
                if not _begins_with(head, links):
                    return Findings(BEGINNING, looked_at, first_invalid=head.seq)
                del links[0]
            found = follow(head, links)
            head = found.head
            looked_at += found.looked_at
            if found.first_invalid is not None or len(links) < _BATCH:
                return Findings(head, looked_at, found.first_invalid)
        return Findings(head, looked_at, more=True)


def _begins_with(head: Head, links: Sequence[Link]) -> bool:
    return bool(links) and Head(links[0].seq, links[0].hash) == head


def _columns(event_id: UUID, service: str, event: AuditEvent) -> dict[str, Any]:
    """Returns the columns of an entry in the order in which they are hashed, those of the chain excepted."""
    details = sorted(event.details.items())[:_MOST_DETAILS]
    return {
        "event_id": event_id,
        "time": event.time,
        "service": fitting(service, _LONGEST_NAME),
        "user_id": fitting(event.user_id, _LONGEST_NAME),
        "action": fitting(event.action, _LONGEST_NAME),
        "resource": fitting(event.resource, _LONGEST_NAME),
        "ip_address": fitting(event.address, _LONGEST_NAME),
        "user_agent": fitting(event.user_agent, _LONGEST_TEXT),
        "request_id": fitting(event.request_id, _LONGEST_NAME),
        "details": orjson.dumps(
            {fitting(name, _LONGEST_NAME): fitting(text, _LONGEST_TEXT) for name, text in details}
        ).decode(),
    }


def _chained(head: Head, columns: dict[str, Any]) -> tuple[dict[str, Any], Head]:
    """Returns the row of the next entry, and the head it becomes."""
    seq = head.seq + 1
    hashed = {**columns, "event_id": str(columns["event_id"]), "time": (columns["time"] - _EPOCH) // _MICROSECOND}
    own_hash = entry_hash(head.hash, (seq, *hashed.values()))
    return {"seq": seq, **columns, "previous_hash": head.hash, "hash": own_hash}, Head(seq, own_hash)
