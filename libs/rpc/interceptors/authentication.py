"""Finds out who is calling: the service by its certificate, the person by the token."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from libs.errors import Unauthenticated
from libs.rpc import session_cookie
from libs.rpc.access_policy import AccessPolicy, changes_state
from libs.rpc.identity import FRONT_DOOR, Call, Principal, peer_service
from libs.rpc.live_calls import LiveCalls
from libs.rpc.pipeline import Proceed

_BEARER = "bearer "


class TokenVerifier(Protocol):
    """Knows whom a token speaks for, and ends the calls of one that is revoked."""

    live_calls: LiveCalls

    async def verify(self, token: str) -> Principal:
        """Returns the principal of a token. Raises Unauthenticated when it is not valid now."""
        ...


class Authentication:
    """Every peer needs a certificate of the platform; a person is looked up where the method's rule asks for one.

    `allowed_origins` are those of web pages that may call by cookie, besides the called host's own.
    """

    def __init__(self, policy: AccessPolicy, tokens: TokenVerifier, allowed_origins: Collection[str] = ()) -> None:
        self._tokens = tokens
        self._personal = frozenset(method for method, rule in policy.items() if rule.role is not None)
        self._allowed_origins = frozenset(origin.lower() for origin in allowed_origins)

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        call.peer = peer_service(call.context)
        if not call.peer:
            raise Unauthenticated("Connect with a client certificate of this platform.")
        if call.method not in self._personal:
            self._check_page(call)
            return await proceed()
        token = self._token(call)
        call.principal = await self._tokens.verify(token)
        call.authorization = f"Bearer {token}"
        live_calls = self._tokens.live_calls
        live_calls.add(call)
        try:
            return await proceed()
        finally:
            live_calls.discard(call)

    def _check_page(self, call: Call) -> None:
        """Keeps pages of elsewhere from signing a browser in, to an account that is theirs to read later."""
        if call.peer == FRONT_DOOR and changes_state(call.method):
            metadata = dict(call.context.invocation_metadata())
            if "origin" in metadata:
                session_cookie.check_origin(metadata, self._allowed_origins)

    def _token(self, call: Call) -> str:
        cookies, authorization = "", None
        for name, value in call.context.invocation_metadata():
            if name == "authorization":
                if authorization is not None:
                    raise _nobody()  # who sends two may mean either
                authorization = str(value)
            elif name == "cookie":  # HTTP/1.1 and HTTP/2 divide them as they like
                cookies += f";{value}"
        if authorization is not None:
            if authorization[: len(_BEARER)].lower() != _BEARER:
                raise _nobody()
            return authorization[len(_BEARER) :]
        token = session_cookie.token_in(cookies) if cookies and call.peer == FRONT_DOOR else None
        if token is None:
            raise _nobody()
        if changes_state(call.method):
            session_cookie.check_origin(dict(call.context.invocation_metadata()), self._allowed_origins)
        return token


def _nobody() -> Unauthenticated:
    return Unauthenticated("Sign in first: send `Authorization: Bearer <token>`.")
