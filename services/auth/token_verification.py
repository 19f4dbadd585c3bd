"""Whom a token speaks for, be it a session's or an API token."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from libs import tokens
from libs.background import beside
from libs.database import Transactions
from libs.rpc.access_policy import SESSION_SCOPES
from libs.rpc.identity import Principal, invalid_token
from libs.rpc.live_calls import LiveCalls
from services.auth import token_repository
from services.auth.api_tokens import usable
from services.auth.last_uses import LastUses
from services.auth.revocations import AccountChanged, Revocations, Synchronized, TokenRevoked
from services.auth.sessions import Lifetimes

_FOLLOW_AGAIN_SECONDS = 0.2


class TokenVerification:
    """Verifies tokens in the database: for the other services, and as the TokenVerifier of this one's own callers.

    Verifying a token is a use of it.
    """

    def __init__(self, transactions: Transactions, last_uses: LastUses, lifetimes: Lifetimes) -> None:
        self.live_calls = LiveCalls()
        self._transactions = transactions
        self._last_uses = last_uses
        self._lifetimes = lifetimes

    def remembered(self, _token: str) -> Principal | None:
        """Returns None: what is valid now the database knows alone."""
        return None

    async def verify(self, token: str) -> Principal:
        """Returns the principal of a token. Raises Unauthenticated when it is not valid now."""
        if not tokens.well_formed(token):
            raise invalid_token()
        return await self.principal(tokens.digest(token))

    async def principal(self, token_sha256: bytes) -> Principal:
        """Returns the principal of the token with this digest. Raises Unauthenticated when it is not valid now."""
        async with self._transactions() as tx:
            if found := await token_repository.find_session(tx, token_sha256, self._lifetimes.idle):
                session, now = found
                user, token_id, scopes = session.user, session.id, usable(SESSION_SCOPES, session.user.role)
                # The use is not in the table yet.
                expire_time = self._lifetimes.end(session, now).timestamp()
            elif found_token := await token_repository.find_api_token(tx, token_sha256):
                api_token, now = found_token
                user, token_id, scopes = api_token.user, api_token.id, usable(api_token.scopes, api_token.user.role)
                expire_time = api_token.expire_time.timestamp() if api_token.expire_time else math.inf
            else:
                raise invalid_token()
        self._last_uses.note(token_id, now)
        return Principal(user.id, user.role, token_id, expire_time, scopes)

    @asynccontextmanager
    async def following(self, revocations: Revocations) -> AsyncIterator[None]:
        """Ends the calls under way of what is revoked, here or by another replica, for the time of the block."""
        async with (
            self.live_calls.settling_doubts(self.verify),
            beside({"own revocations": self._follow(revocations)}),
        ):
            yield

    async def _follow(self, revocations: Revocations) -> None:
        while True:
            async with aclosing(revocations.follow()) as events:
                async for event in events:
                    match event:
                        case Synchronized():
                            self.live_calls.doubt(self.live_calls)
                        case TokenRevoked(token_id):
                            self.live_calls.end(token_id, invalid_token())
                        case AccountChanged(user_id):
                            self.live_calls.doubt(self.live_calls.of(user_id))
            await asyncio.sleep(_FOLLOW_AGAIN_SECONDS)
