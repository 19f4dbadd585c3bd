"""Whom a token speaks for, be it a session's or an API token."""

from __future__ import annotations

import math

from libs import tokens
from libs.database import Transactions
from libs.rpc.access_policy import SESSION_SCOPES
from libs.rpc.identity import Principal
from libs.rpc.live_calls import LiveCalls
from libs.rpc.remote_tokens import invalid_token
from services.auth import token_repository
from services.auth.api_tokens import usable
from services.auth.last_uses import LastUses
from services.auth.sessions import Lifetimes


class TokenVerification:
    """Verifies tokens in the database: for the other services, and as the TokenVerifier of this one's own callers.

    Verifying a token is a use of it.
    """

    def __init__(self, transactions: Transactions, last_uses: LastUses, lifetimes: Lifetimes) -> None:
        self.live_calls = LiveCalls()
        self._transactions = transactions
        self._last_uses = last_uses
        self._lifetimes = lifetimes

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
                user, token_id, scopes = session.user, session.id, SESSION_SCOPES
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
