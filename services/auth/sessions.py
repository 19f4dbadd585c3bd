"""Sign-in sessions: opened with a token, known by its digest, ended by their person or by time."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession

from libs import tokens
from libs.database import Transactions
from libs.redaction import Secret
from libs.rpc.identity import Principal
from libs.rpc.remote_tokens import invalid_token
from services.auth import repository
from services.auth.models import Session, User
from services.auth.revocations import Revocations, TokenRevoked


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session just opened, with the only copy of its token."""

    user: User
    token: Secret
    expire_time: datetime


class Sessions:
    """The sessions in the database, which last for `lifetime`. Verifies the tokens of this service's own callers."""

    def __init__(self, transactions: Transactions, revocations: Revocations, *, lifetime: timedelta) -> None:
        self._transactions = transactions
        self._revocations = revocations
        self._lifetime = lifetime

    async def open(self, tx: AsyncSession, user: User) -> NewSession:
        """Opens a session as part of a transaction."""
        token = tokens.mint(tokens.SESSION_PREFIX)
        expire_time = await repository.add_session(
            tx,
            id=f"ses_{uuid.uuid4().hex}",
            user_id=user.id,
            token_sha256=tokens.digest(token.reveal()),
            lifetime=self._lifetime,
        )
        return NewSession(user, token, expire_time)

    async def verify(self, token: str) -> Principal:
        """Returns the principal of a token. Raises Unauthenticated when it is not valid now."""
        if not tokens.well_formed(token):
            raise invalid_token()
        return await self.principal(tokens.digest(token))

    async def principal(self, token_sha256: bytes) -> Principal:
        """Returns the principal of the token with this digest. Raises Unauthenticated when it is not valid now."""
        session = await self._find(Session.token_sha256 == token_sha256)
        return Principal(session.user.id, session.user.role, session.id, session.expire_time.timestamp())

    async def get(self, session_id: str) -> Session:
        """Returns an open session with its user. Raises Unauthenticated when it has ended."""
        return await self._find(Session.id == session_id)

    async def _find(self, criterion: ColumnElement[bool]) -> Session:
        async with self._transactions() as tx:
            session = await repository.find_open_session(tx, criterion)
        if session is None:
            raise invalid_token()
        return session

    async def end(self, session_id: str) -> None:
        """Ends a session, everywhere. Does nothing when it has ended already."""
        async with self._transactions() as tx:
            await repository.remove_session(tx, session_id)
            await self._revocations.announce(tx, TokenRevoked(session_id))
