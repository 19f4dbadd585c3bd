"""Verifies tokens through `auth`, once, and remembers the answer until `auth` says otherwise."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from realmultillm.auth.v1 import token_service_pb2, token_service_pb2_grpc

from libs import tokens
from libs.rpc.channel import open_channel
from libs.rpc.identity import Principal, invalid_token
from libs.rpc.live_calls import LiveCalls
from libs.rpc.status import from_rpc_error
from libs.rpc.tls import TlsIdentity
from libs.watched_cache import WatchedCache

_CACHE_SIZE = 100_000
_TTL = 60.0
_UNWATCHED_TTL = 5.0
_VERIFY_SECONDS = 3.0
# `auth` says every second that it is there.
_LONGEST_SILENCE = 5.0


class RemoteTokens:
    """The TokenVerifier of every service but `auth` itself. Remembers digests of tokens, never tokens."""

    def __init__(self, stub: Any) -> None:
        self.live_calls = LiveCalls()
        self._stub = stub
        self._principals: WatchedCache[bytes, Principal] = WatchedCache(
            self._ask, size=_CACHE_SIZE, ttl=_TTL, unwatched_ttl=_UNWATCHED_TTL, tags=_ids
        )

    @property
    def cache(self) -> WatchedCache[bytes, Principal]:
        """What is remembered."""
        return self._principals

    def remembered(self, token: str) -> Principal | None:
        """Returns the principal of a token that is known to be valid, without asking anybody."""
        principal = self._principals.peek(tokens.digest(token)) if tokens.well_formed(token) else None
        return principal if principal is not None and principal.expire_time > time.time() else None

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
            self._principals.discard_tagged(event.token_id)
            self.live_calls.end(event.token_id, invalid_token())
        elif event.user_id:
            self._principals.discard_tagged(event.user_id)
            self.live_calls.doubt(self.live_calls.of(event.user_id))

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follows the revocations for the time of the block."""
        request = token_service_pb2.WatchRevocationsRequest()
        async with (
            self.live_calls.settling_doubts(self.verify),
            self._principals.watching(
                lambda: self._stub.WatchRevocations(request, wait_for_ready=True),
                self._apply,
                self._synchronized,
                longest_silence=_LONGEST_SILENCE,
            ),
        ):
            yield

    def _synchronized(self) -> None:
        # Whose token was revoked while nothing was heard, nobody knows.
        self.live_calls.doubt(self.live_calls)


def _ids(principal: Principal) -> tuple[str, str]:
    return principal.token_id, principal.user_id


@asynccontextmanager
async def connect_tokens(address: str, tls: TlsIdentity) -> AsyncIterator[RemoteTokens]:
    """Opens a channel to `auth` and verifies tokens through it."""
    async with open_channel(address, "auth", tls) as channel:
        verifier = RemoteTokens(token_service_pb2_grpc.TokenServiceStub(channel))
        async with verifier.watching():
            yield verifier
