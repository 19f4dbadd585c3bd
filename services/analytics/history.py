"""What people have said and were answered: stored sealed, opened for its owner alone, erased on request.

An erasure of everything first becomes true and then takes place: from one moment on nothing of before is shown any
more, nor stored when it arrives later, and then the rows go, some at a time. If that is broken off, upkeep ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row

from libs.audit import AuditTrail, observed
from libs.background import attempt, repeat
from libs.database import Transactions
from libs.errors import NotFound
from libs.pagination import Place
from libs.sealed_content import ContentDoesNotOpen, unseal
from services.analytics import history_repository as repository
from services.analytics.history_repository import Wanted
from services.analytics.opened_keys import OpenedKeys
from services.analytics.retention import first_moment

log = structlog.get_logger()

# A page ends when so much was said in its chats. Each may have 1 MiB, and a page has one at least.
_PAGE_BYTES = 2 * 1024 * 1024
# Rows erased in one transaction.
_ERASED_AT_ONCE = 1_000
_UPKEEP_PAUSE_SECONDS = 3600.0
_UPKEEP_SECONDS = 1800.0
_STATEMENT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class PastChat:
    """A chat of the past: the columns of `chat_contents`, and what was said, opened; None when it does not open."""

    row: Row[Any]
    content: bytes | None = field(repr=False)


class History:
    """The history of all people. `contents` is how many days it is kept; `clock` tells the time."""

    def __init__(
        self,
        transactions: Transactions,
        keys: OpenedKeys,
        audit: AuditTrail,
        *,
        contents: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._transactions = transactions
        self._keys = keys
        self._audit = audit
        self._contents = contents
        self._clock = clock

    async def page(
        self, user_id: str, wanted: Wanted, *, after: Place | None, size: int
    ) -> tuple[Sequence[PastChat], Place | None]:
        """Returns the chats behind a place, the latest first, and the place of the last one; None at the end.

        At most `size`, and fewer when much was said in them. Raises Unavailable.
        """
        async with self._transactions() as session:
            rows = await repository.find_page(session, user_id, wanted, after=after, size=size)
            page = _first_of(rows[:size])
            sealed = await repository.read_sealed(session, user_id, page) if page else {}
        last = Place(page[-1].start_time, str(page[-1].id)) if len(page) < len(rows) else None
        return await self._opened(user_id, page, sealed), last

    async def get(self, user_id: str, record_id: UUID) -> PastChat:
        """Returns a chat. Raises NotFound when there is none of that id and person, Unavailable."""
        async with self._transactions() as session:
            row = await repository.find_one(session, user_id, record_id)
            sealed = {} if row is None else await repository.read_sealed(session, user_id, [row])
        if row is None or not sealed:
            raise no_such_chat()
        (chat,) = await self._opened(user_id, [row], sealed)
        return chat

    async def erase_one(self, user_id: str, record_id: UUID) -> None:
        """Erases what was said in a chat. Raises NotFound like `get`, Unavailable."""
        async with self._transactions() as session:
            if not await repository.erase_one(session, user_id, record_id):
                raise no_such_chat()

    async def erase_all(self, user_id: str) -> int:
        """Erases all that a person has said up to now, and returns in how many chats. Raises Unavailable."""
        now = self._clock()
        async with self._transactions() as session:
            await repository.note_erasure(session, user_id, now)
            self._audit.record(observed("chat_history.erased", resource=f"chat-history/{user_id}"))
        return await self._erase(user_id, now)

    async def keep_erasing(self) -> None:
        """Ends erasures that were broken off, at once and from time to time, until cancelled."""
        await attempt("erasure of histories", self.finish_erasures, seconds=_UPKEEP_SECONDS)
        await repeat(
            "erasure of histories",
            self.finish_erasures,
            pause=lambda: _UPKEEP_PAUSE_SECONDS,
            seconds=_UPKEEP_SECONDS,
        )

    async def finish_erasures(self) -> None:
        """Ends erasures that were broken off. Raises Unavailable; what is done stays done."""
        async with self._transactions(statement_seconds=_STATEMENT_SECONDS) as session:
            await repository.forget_erasures(session, first_moment(self._clock(), self._contents))
            unfinished = await repository.find_unfinished(session)
        for user_id, before in unfinished:
            erased = await self._erase(user_id, before)
            log.info("erasure of a history ended", user=user_id, chats=erased)

    async def _erase(self, user_id: str, before: datetime) -> int:
        erased = 0
        while True:
            async with self._transactions() as session:
                some = await repository.erase_some(session, user_id, before, _ERASED_AT_ONCE)
            erased += some
            if some < _ERASED_AT_ONCE:
                return erased

    async def _opened(self, user_id: str, rows: Sequence[Row[Any]], sealed: dict[UUID, bytes]) -> list[PastChat]:
        """Opens what was said in chats; those erased since they were found are left out."""
        rows = [row for row in rows if row.id in sealed]
        keys = await self._keys.open(user_id, {row.wrapped_key for row in rows}) if rows else {}
        chats = []
        for row in rows:
            content = None
            try:
                if (key := keys.get(row.wrapped_key)) is not None:
                    content = unseal(key, sealed[row.id], record_id=str(row.id), user_id=user_id)
            except ContentDoesNotOpen:
                pass
            chats.append(PastChat(row, content))
        closed = [str(chat.row.id) for chat in chats if chat.content is None]
        if closed:
            log.error("contents of chats do not open", user=user_id, records=len(closed), first=closed[0])
        return chats


def no_such_chat() -> NotFound:
    """What everybody is told about a chat that is not theirs, whether there is one or not."""
    return NotFound("There is no chat of this id in your history.")


def _first_of(rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Returns as many of the rows as have room on a page, one at least."""
    size = 0
    for index, row in enumerate(rows):
        size += row.sealed_bytes
        if index and size > _PAGE_BYTES:
            return rows[:index]
    return rows
