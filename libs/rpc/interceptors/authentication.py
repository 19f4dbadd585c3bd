"""Finds out who is calling: the service by its certificate, the person by the token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from libs import tokens as token_format
from libs.audit import AuditTrail, observed
from libs.errors import PermissionDenied, Unauthenticated
from libs.rpc import session_cookie
from libs.rpc.access_policy import AccessPolicy, changes_state
from libs.rpc.identity import FRONT_DOOR, Call, Principal, invalid_token, peer_service
from libs.rpc.interceptors.invalid_tokens import InvalidTokens
from libs.rpc.live_calls import LiveCalls
from libs.rpc.pipeline import Proceed

_BEARER = "bearer "
# Where the SDKs of Anthropic call, which send their key as `x-api-key`.
_BY_KEY = ("/realmultillm.anthropic.v1.MessageService/", "/realmultillm.openai.v1.ModelService/")


class TokenVerifier(Protocol):
    """Knows whom a token speaks for, and ends the calls of one that is revoked."""

    live_calls: LiveCalls

    def remembered(self, token: str) -> Principal | None:
        """Returns the principal of a token that is known to be valid now, without asking anybody."""
        ...

    async def verify(self, token: str) -> Principal:
        """Returns the principal of a token. Raises Unauthenticated when it is not valid now."""
        ...


class Authentication:
    """Every peer needs a certificate of the platform; a person is looked up where the method's rule asks for one.

    `allowed_origins` are those of web pages that may call by cookie, besides the called host's own; what others are
    refused is audited. Who has too many `invalid_tokens` is let in by tokens that are known already alone.
    """

    def __init__(
        self,
        policy: AccessPolicy,
        tokens: TokenVerifier,
        allowed_origins: Collection[str] = (),
        *,
        invalid_tokens: InvalidTokens | None = None,
        audit: AuditTrail | None = None,
    ) -> None:
        self._tokens = tokens
        self._invalid_tokens = invalid_tokens
        self._audit = audit
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
        call.principal = self._tokens.remembered(token) or await self._verify(call, token)
        call.authorization = f"Bearer {token}"
        live_calls = self._tokens.live_calls
        live_calls.add(call)
        expiry = _end_with_token(call, call.principal.expire_time)
        try:
            return await proceed()
        finally:
            live_calls.discard(call)
            if expiry is not None:
                expiry.cancel()

    async def _verify(self, call: Call, token: str) -> Principal:
        # What is malformed is refused for nothing.
        if self._invalid_tokens is None or not token_format.well_formed(token):
            return await self._tokens.verify(token)
        self._invalid_tokens.check(call, token)
        try:
            principal = await self._tokens.verify(token)
        except Unauthenticated:
            await self._invalid_tokens.count(call)
            raise
        self._invalid_tokens.clear(token)
        return principal

    def _check_page(self, call: Call) -> None:
        """Keeps pages of elsewhere from signing a browser in, to an account that is theirs to read later."""
        if call.peer == FRONT_DOOR and changes_state(call.method):
            metadata = dict(call.context.invocation_metadata())
            if "origin" in metadata:
                self._check_origin(call, metadata)

    def _check_origin(self, call: Call, metadata: Mapping[str, str]) -> None:
        try:
            session_cookie.check_origin(metadata, self._allowed_origins)
        except PermissionDenied as error:
            if self._audit is not None:
                self._audit.note(observed("access.denied", resource=call.method, reason=error.reason))
            raise

    def _token(self, call: Call) -> str:
        cookies, authorization, key = "", None, None
        by_key = call.method.startswith(_BY_KEY)
        for name, value in call.context.invocation_metadata():
            if name == "authorization":
                if authorization is not None:
                    raise _nobody()  # who sends two may mean either
                authorization = str(value)
            elif name == "x-api-key" and by_key:
                if key is not None:
                    raise _nobody()
                key = str(value)
            elif name == "cookie":  # HTTP/1.1 and HTTP/2 divide them as they like
                cookies += f";{value}"
        if authorization is not None:
            token = authorization[len(_BEARER) :]
            if authorization[: len(_BEARER)].lower() != _BEARER or key not in (None, token):
                raise _nobody()
            return token
        if key is not None:
            return key
        session = session_cookie.token_in(cookies) if cookies and call.peer == FRONT_DOOR else None
        if session is None:
            raise _nobody()
        if changes_state(call.method):
            self._check_origin(call, dict(call.context.invocation_metadata()))
        return session


def _end_with_token(call: Call, expire_time: float) -> asyncio.TimerHandle | None:
    """Ends a call with its token, where that ends before the call must."""
    loop = asyncio.get_running_loop()
    expires_at = loop.time() + expire_time - time.time()
    return loop.call_at(expires_at, call.end, invalid_token()) if expires_at < call.deadline else None


def _nobody() -> Unauthenticated:
    return Unauthenticated("Sign in first: send `Authorization: Bearer <token>`.")
