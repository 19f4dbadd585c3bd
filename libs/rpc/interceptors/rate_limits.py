"""Counts what people call against the limits of the methods, and says on every answer how much is left."""

from __future__ import annotations

from collections import Counter
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
    counted where it came in. Limits that are reached are audited.
    """

    def __init__(self, limits: Mapping[str, Limit], limiter: RateLimiter, audit: AuditTrail | None = None) -> None:
        self._limits = limits
        self._limiter = limiter
        self._audit = audit
        # How often a limit has let a call pass, and how often not, by method.
        self.decisions: Counter[tuple[str, bool]] = Counter()

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        try:
            await self._count(call)
            return await proceed()
        except LimitExceeded as error:
            # Also what a method itself has a limit for, whoever calls it.
            if self._audit is not None and error.reason == LimitExceeded.default_reason:
                note_exceeded(self._audit, call.method, error)
            raise

    async def _count(self, call: Call) -> None:
        limit = self._limits.get(call.method)
        if limit is None or call.peer != FRONT_DOOR:
            return
        standing = await self._limiter.hit(f"{call.method}:{_subject(call)}", limit)
        call.answer_headers += standing.headers
        self.decisions[call.method, standing.allowed] += 1
        if not standing.allowed:
            raise exceeded(limit, standing.reset_seconds)


def exceeded(limit: Limit, seconds: int) -> LimitExceeded:
    """Returns what somebody past a limit is told, who may try again in so many seconds."""
    return LimitExceeded(
        f"You have reached the limit of {limit} for this; try again in {seconds} second{'s' if seconds > 1 else ''}.",
        retry_after=seconds,
        limit=str(limit),
        seconds=str(seconds),
    )


def note_exceeded(audit: AuditTrail, resource: str, error: LimitExceeded) -> None:
    """Notes that the call has reached a limit."""
    audit.note(observed("rate_limit.exceeded", resource=resource, limit=error.metadata.get("limit", "")))


def _subject(call: Call) -> str:
    return call.principal.user_id if call.principal is not None else address_of(call)


def address_of(call: Call) -> str:
    """Returns the network that a call comes from; all that come from none are one."""
    return network_of(call.origin().address) or "nowhere"
