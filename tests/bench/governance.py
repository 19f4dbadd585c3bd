"""What it costs a call to find out who calls, whether they may, and how often they did: CPU time, steps apart.

The interceptors are the product's own, with everything in memory that is there in steady state, and a real Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from realmultillm.auth.v1.token_service_pb2 import Principal

from libs import tokens
from libs.ratelimit import RateLimiter, connect_limiter, limits_of
from libs.redaction import Secret
from libs.rpc.access_policy import SESSION_SCOPES
from libs.rpc.identity import Call, enter_call
from libs.rpc.interceptors.access import Access
from libs.rpc.interceptors.authentication import Authentication
from libs.rpc.interceptors.rate_limits import RateLimits
from libs.rpc.pipeline import Interceptor
from libs.rpc.remote_tokens import RemoteTokens
from libs.worker.access_policy import ACCESS_POLICY

_METHOD = "/realmultillm.chat.v1.ChatService/CreateChatCompletion"
_PEOPLE = 64


class _Auth:
    """Knows every token."""

    async def VerifyToken(self, request: Any, timeout: float) -> Principal:
        token_id = request.token_sha256.hex()[:32]
        return Principal(user_id=f"usr_{token_id}", role="user", token_id=token_id, scopes=SESSION_SCOPES)


def _context(token: str) -> Any:
    metadata = (
        ("user-agent", "bench/1.0"),
        ("x-request-id", "6f1c1f0e-1b7e-4a62-9b53-000000000000"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-envoy-external-address", "203.0.113.7"),
        ("x-envoy-original-path", "/api/chat/openai"),
        ("authorization", f"Bearer {token}"),
    )
    return SimpleNamespace(
        invocation_metadata=lambda: metadata, peer_identities=lambda: [b"spiffe://realmultillm/envoy"]
    )


async def _cpu_us(steps: Sequence[Interceptor], contexts: Sequence[Any], *, callers: int, calls: int) -> float:
    """Returns the CPU microseconds per call of these interceptors, one around the other."""

    async def answer() -> None:
        pass

    async def one(context: Any) -> None:
        call = Call(_METHOD, context)
        enter_call(call)
        proceed: Any = answer
        for step in reversed(steps):
            proceed = lambda step=step, inner=proceed: step(call, inner)  # noqa: E731
        await proceed()

    async def caller(number: int) -> None:
        for turn in range(calls // callers):
            await one(contexts[(number + turn) % len(contexts)])

    await asyncio.gather(*(caller(number) for number in range(callers)))  # everything is in memory after this
    begun = time.process_time()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    return (time.process_time() - begun) / calls * 1e6


async def governance_cost(redis_url: Secret, *, calls: int = 6_400) -> dict[str, float]:
    """Measures, and returns CPU microseconds per call: nothing, authentication and access, the limit on top."""
    contexts = [_context(tokens.mint(tokens.SESSION_PREFIX).reveal()) for _ in range(_PEOPLE)]
    authentication = Authentication(ACCESS_POLICY, RemoteTokens(_Auth()))
    access = Access(ACCESS_POLICY)
    async with connect_limiter(redis_url) as limiter:
        limit = _limit(limiter)
        result = {}
        for callers in (1, 32):
            nothing = await _cpu_us((), contexts, callers=callers, calls=calls)
            known = await _cpu_us((authentication, access), contexts, callers=callers, calls=calls)
            counted = await _cpu_us((authentication, access, limit), contexts, callers=callers, calls=calls)
            result[f"authentication_us_{callers}"] = known - nothing
            result[f"limit_us_{callers}"] = counted - known
        return result


def _limit(limiter: RateLimiter) -> RateLimits:
    return RateLimits(limits_of(ACCESS_POLICY, {"CreateChatCompletion": "1000000/minute"}), limiter)
