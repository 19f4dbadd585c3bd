"""Signing out: whatever the token of the call is, it ends."""

from __future__ import annotations

from contextlib import suppress

from libs.errors import NotFound
from libs.rpc.access_policy import SESSION
from libs.rpc.identity import Principal
from services.auth.api_tokens import ApiTokens
from services.auth.sessions import Sessions


async def sign_out(caller: Principal, sessions: Sessions, api_tokens: ApiTokens) -> None:
    """Ends the session, or revokes the API token, that the caller has shown."""
    end = sessions.end if SESSION in caller.scopes else api_tokens.revoke
    with suppress(NotFound):  # somebody else has done it in this moment
        await end(caller, caller.token_id, action="auth.sign_out")
