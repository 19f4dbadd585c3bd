"""Counts what people call against the limits of the methods, and says on every answer how much is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.audit import AuditTrail, observed
from libs.errors import LimitExceeded
from libs.network_addresses import network_of
from libs.ratelimit import Limit, RateLimiter
from libs.rpc.identity import FRONT_DOOR, Call
from libs.rpc.pipeline import Proceed


class RateLimits:
    """Counts the calls that come through the front door, `limits` by method, for each person.

    Where the method needs no person each address counts instead. What a service calls on behalf of a person has been
    counted where it came in.
    """

    def __init__(self, limits: Mapping[str, Limit], limiter: RateLimiter, audit: AuditTrail | None = None) -> None:
        self._limits = limits
        self._limiter = limiter
        self._audit = audit

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        limit = self._limits.get(call.method)
        if limit is None or call.peer != FRONT_DOOR:
            return await proceed()
        standing = await self._limiter.hit(f"{call.method}:{_subject(call)}", limit)
        call.answer_headers += standing.headers
        if not standing.allowed:
            if self._audit is not None:
                self._audit.note(observed("rate_limit.exceeded", resource=call.method, limit=str(limit)))
            seconds = standing.reset_seconds
            raise LimitExceeded(
                f"You have reached the limit of {limit} for this; "
                f"try again in {seconds} second{'s' if seconds > 1 else ''}.",
                retry_after=seconds,
                limit=str(limit),
                seconds=str(seconds),
            )
        return await proceed()


def _subject(call: Call) -> str:
    return call.principal.user_id if call.principal is not None else network_of(call.origin().address) or "nowhere"
