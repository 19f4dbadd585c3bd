"""Sign-in sessions: opened with a token, known by its digest, ended by their person or by time."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from libs import tokens
from libs.audit import observed
from libs.database import Transactions
from libs.errors import NotFound
from libs.pagination import Place, cut_page
from libs.redaction import Secret
from libs.rpc.identity import Origin, Principal
from services.auth import token_repository
from services.auth.audit_log import AuditLog
from services.auth.callers import lock_caller
from services.auth.models import Session, User
from services.auth.revocations import Revocations, TokenRevoked

# Nobody is signed in at more places; a program that signs in again and again must not fill the table.
MOST_SESSIONS = 100

_ID = re.compile(r"ses_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long sessions last: `absolute` after sign-in, and `idle` after the last use, whichever ends first."""

    absolute: timedelta
    idle: timedelta

    def end(self, session: Session, last_use_time: datetime) -> datetime:
        """Returns when a session ends that is not used any more."""
        return min(session.expire_time, last_use_time + self.idle)


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session just opened, with the only copy of its token."""

    user: User
    token: Secret
    expire_time: datetime


class Sessions:
    """The sessions in the database."""

    def __init__(
        self, transactions: Transactions, revocations: Revocations, audit: AuditLog, lifetimes: Lifetimes
    ) -> None:
        self.lifetimes = lifetimes
        self._transactions = transactions
        self._revocations = revocations
        self._audit = audit

    async def open(self, tx: AsyncSession, user: User, origin: Origin) -> NewSession:
        """Opens a session as part of a transaction, which must hold the lock of the account.

        Ends the session that was not used for longest when there are too many, and appends that to the audit log: what
        comes after it in the transaction should not take long.
        """
        token = tokens.mint(tokens.SESSION_PREFIX)
        surplus = await token_repository.remove_unused_sessions(
            tx, user.id, self.lifetimes.idle, keep=MOST_SESSIONS - 1
        )
        await self._revocations.announce(tx, *map(TokenRevoked, surplus))
        session = await token_repository.add_session(
            tx,
            id=f"ses_{uuid.uuid4().hex}",
            user_id=user.id,
            token_sha256=tokens.digest(token.reveal()),
            ip_address=origin.address,
            user_agent=origin.user_agent,
            lifetime=self.lifetimes.absolute,
        )
        if surplus:
            events = (
                observed("auth.session_ended", resource=f"session/{ended}", user_id=user.id, cause="surplus")
                for ended in surplus
            )
            await self._audit.append(tx, *events)
        return NewSession(user, token, self.lifetimes.end(session, session.last_use_time))

    async def find_page(
        self, user_id: str, *, after: Place | None, size: int
    ) -> tuple[Sequence[Session], Place | None]:
        """Returns a page of a person's open sessions, the most recently used first, and where the next one begins."""
        async with self._transactions() as tx:
            sessions = await token_repository.find_sessions(
                tx, user_id, self.lifetimes.idle, after=after, limit=size + 1
            )
        return cut_page(sessions, size, lambda session: Place(session.last_use_time, session.id))

    async def end(self, caller: Principal, session_id: str, *, action: str = "auth.session_ended") -> None:
        """Ends a session of a person, everywhere.

        Raises NotFound when they have none with this id, and Unauthenticated when the one by which they end another
        has ended meanwhile.
        """
        if not _ID.fullmatch(session_id):
            raise _no_such_session()
        async with self._transactions() as tx:
            if session_id != caller.token_id:
                await lock_caller(tx, caller)
            if not await token_repository.remove_session(tx, caller.user_id, session_id):
                raise _no_such_session()
            await self._revocations.announce(tx, TokenRevoked(session_id))
            await self._audit.append(tx, observed(action, resource=f"session/{session_id}"))

    async def end_others(self, caller: Principal) -> int:
        """Ends all sessions of a person but the one that calls, everywhere, and returns how many.

        Raises Unauthenticated when that has ended meanwhile.
        """
        async with self._transactions() as tx:
            await lock_caller(tx, caller)
            ended = await self.end_all(tx, caller.user_id, but=caller.token_id)
            if ended:
                await self._audit.append(
                    tx, observed("auth.sessions_ended", resource=f"user/{caller.user_id}", count=str(ended))
                )
        return ended

    async def end_all(self, tx: AsyncSession, user_id: str, *, but: str = "") -> int:
        """Ends the sessions of a person, but one, as part of a transaction, which must hold the lock of the account.

        Returns how many.
        """
        ended = await token_repository.remove_sessions(tx, user_id, but=but)
        await self._revocations.announce(tx, *map(TokenRevoked, ended))
        return len(ended)


def _no_such_session() -> NotFound:
    return NotFound("You have no open session with this id; list your sessions to see those you have.")
