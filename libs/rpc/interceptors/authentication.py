"""Finds out who is calling: the service by its certificate, the person by the token."""

from __future__ import annotations

from typing import Any, Protocol

from libs.errors import Unauthenticated
from libs.rpc.access_policy import AccessPolicy
from libs.rpc.identity import Call, Principal, peer_service
from libs.rpc.pipeline import Proceed

_BEARER = "bearer "


class TokenVerifier(Protocol):
    """Knows whom a token speaks for."""

    async def verify(self, token: str) -> Principal:
        """Returns the principal of a token. Raises Unauthenticated when it is not valid now."""
        ...


class Authentication:
    """Every peer needs a certificate of the platform; a person is looked up where the method's rule asks for one."""

    def __init__(self, policy: AccessPolicy, tokens: TokenVerifier) -> None:
        self._tokens = tokens
        self._personal = frozenset(method for method, rule in policy.items() if rule.role is not None)

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        call.peer = peer_service(call.context)
        if not call.peer:
            raise Unauthenticated("Connect with a client certificate of this platform.")
        if call.method in self._personal:
            call.principal = await self._tokens.verify(_bearer_token(call.context))
        return await proceed()


def _bearer_token(context: Any) -> str:
    for name, value in context.invocation_metadata():
        if name == "authorization" and value[: len(_BEARER)].lower() == _BEARER:
            return str(value[len(_BEARER) :])
    raise Unauthenticated("Sign in first: send `Authorization: Bearer <token>`.")
