"""Verifies tokens through `auth`, once, and remembers the answer until `auth` says otherwise."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
from realmultillm.auth.v1 import token_service_pb2, token_service_pb2_grpc

from libs import tokens
from libs.background import beside
from libs.errors import PlatformError, Unauthenticated
from libs.rpc.channel import open_channel
from libs.rpc.identity import Call, Principal
from libs.rpc.live_calls import LiveCalls
from libs.rpc.status import from_rpc_error
from libs.rpc.tls import TlsIdentity
from libs.watched_cache import WatchedCache

_CACHE_SIZE = 100_000
_TTL = 60.0
_UNWATCHED_TTL = 5.0
_VERIFY_SECONDS = 3.0
# Of the tokens of calls under way that may have ended: how many are asked about at a time, and the pause in seconds
# before one is asked about again that `auth` could not answer for.
_ASKED_AT_ONCE = 16
_ASK_AGAIN_SECONDS = 1.0


class RemoteTokens:
    """The TokenVerifier of every service but `auth` itself. Remembers digests of tokens, never tokens."""

    def __init__(self, stub: Any) -> None:
        self.live_calls = LiveCalls()
        self._stub = stub
        self._doubted: asyncio.Queue[str] = asyncio.Queue()
        self._principals: WatchedCache[bytes, Principal] = WatchedCache(
            self._ask, size=_CACHE_SIZE, ttl=_TTL, unwatched_ttl=_UNWATCHED_TTL
        )

    async def verify(self, token: str) -> Principal:
        """Returns the principal of a token. Raises Unauthenticated, or Unavailable while `auth` is away."""
        if not tokens.well_formed(token):
            raise invalid_token()
        principal = await self._principals.get(tokens.digest(token))
        if principal.expire_time <= time.time():
            raise invalid_token()
        return principal

    async def _ask(self, digest: bytes) -> Principal:
        try:
            answer = await self._stub.VerifyToken(
                # Not `within` the call that asks first: others with more time wait for the same answer.
                token_service_pb2.VerifyTokenRequest(token_sha256=digest),
                timeout=_VERIFY_SECONDS,
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="auth") from None
        return Principal(
            answer.user_id,
            answer.role,
            answer.token_id,
            answer.expire_time.seconds if answer.HasField("expire_time") else math.inf,
            frozenset(answer.scopes),
        )

    def _apply(self, event: token_service_pb2.RevocationEvent) -> None:
        if event.token_id:
            self._principals.discard_where(lambda principal: principal.token_id == event.token_id)
            self.live_calls.end(_made_for(lambda principal: principal.token_id == event.token_id), invalid_token())
        elif event.user_id:
            self._principals.discard_where(lambda principal: principal.user_id == event.user_id)
            self._doubt(_made_for(lambda principal: principal.user_id == event.user_id))

    def _doubt(self, matches: Callable[[Call], bool]) -> None:
        for authorization in self.live_calls.authorizations(matches):
            self._doubted.put_nowait(authorization)

    async def _ask_again(self) -> None:
        """Asks about the tokens of calls under way whose account has changed, and ends those that are not valid now.

        Which tokens a change ended, if any, only `auth` knows. While it is away its word of before holds.
        """
        while True:
            authorization = await self._doubted.get()
            of_this_token = partial(_made_with, authorization)
            try:
                await self.verify(authorization.removeprefix("Bearer "))
            except Unauthenticated as error:
                self.live_calls.end(of_this_token, error)
            except PlatformError:
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
                self._doubt(of_this_token)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follows the revocations for the time of the block."""
        request = token_service_pb2.WatchRevocationsRequest()
        questions = {f"questions about changed accounts {n}": self._ask_again() for n in range(_ASKED_AT_ONCE)}
        async with (
            beside(questions),
            self._principals.watching(
                lambda: self._stub.WatchRevocations(request, wait_for_ready=True), self._apply, self._synchronized
            ),
        ):
            yield

    def _synchronized(self) -> None:
        # Whose token was revoked while nothing was heard, nobody knows.
        self._doubt(lambda _call: True)


def _made_for(matches: Callable[[Principal], bool]) -> Callable[[Call], bool]:
    return lambda call: call.principal is not None and matches(call.principal)


def _made_with(authorization: str, call: Call) -> bool:
    return call.authorization == authorization


def invalid_token() -> Unauthenticated:
    """The one answer to every token that is not valid, whatever the cause."""
    return Unauthenticated("The token is not valid, or not any more; sign in again.")


@asynccontextmanager
async def connect_tokens(address: str, tls: TlsIdentity) -> AsyncIterator[RemoteTokens]:
    """Opens a channel to `auth` and verifies tokens through it."""
    async with open_channel(address, "auth", tls) as channel:
        verifier = RemoteTokens(token_service_pb2_grpc.TokenServiceStub(channel))
        async with verifier.watching():
            yield verifier
