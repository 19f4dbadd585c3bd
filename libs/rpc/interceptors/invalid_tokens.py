"""Keeps those who make tokens up from having them verified without end."""

from __future__ import annotations

import asyncio
import math

from libs import tokens
from libs.audit import AuditTrail
from libs.ratelimit import INVALID_TOKENS, Limit, RateLimiter
from libs.recent import Recent
from libs.rpc.identity import FRONT_DOOR, Call
from libs.rpc.interceptors.rate_limits import address_of, exceeded, note_exceeded

_MOST_ADDRESSES = 10_000
_MOST_TOKENS = 100_000


class InvalidTokens:
    """Counts the tokens that were verified in vain, for each address that they came from through the front door."""

    def __init__(self, limit: Limit, limiter: RateLimiter, audit: AuditTrail | None = None) -> None:
        self._limit = limit
        self._limiter = limiter
        self._audit = audit
        # Until when each address is past the limit, by the clock of the event loop.
        self._past_limit: Recent[str, float] = Recent(_MOST_ADDRESSES)
        # Digests of tokens that were valid.
        self._cleared: Recent[bytes, None] = Recent(_MOST_TOKENS)
        # How many were counted, and how many refused unseen.
        self.counted = 0
        self.refused = 0

    def clear(self, token: str) -> None:
        """Notes that a token was valid: nobody has made it up, and it may be verified again from wherever."""
        self._cleared.tell(tokens.digest(token), None)

    def check(self, call: Call, token: str) -> None:
        """Raises LimitExceeded when the address of a call is past the limit, and nothing is known of the token."""
        if not self._past_limit or call.peer != FRONT_DOOR or tokens.digest(token) in self._cleared:
            return
        address = address_of(call)
        left = self._past_limit.get(address, 0.0) - asyncio.get_running_loop().time()
        if left > 0:
            self.refused += 1
            error = exceeded(self._limit, math.ceil(left))
            if self._audit is not None:
                note_exceeded(self._audit, INVALID_TOKENS, error)
            raise error
        self._past_limit.forget(address)

    async def count(self, call: Call) -> None:
        """Counts a token of this call that was not valid."""
        if call.peer != FRONT_DOOR:
            return
        self.counted += 1
        address = address_of(call)
        standing = await self._limiter.hit(f"{INVALID_TOKENS}:{address}", self._limit)
        if not standing.remaining:
            self._past_limit.tell(address, asyncio.get_running_loop().time() + standing.reset_seconds)
