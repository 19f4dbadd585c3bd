"""Gives every call an end: the caller's deadline or the method's own, whichever comes first."""

from __future__ import annotations

import asyncio
from typing import Any

from libs.errors import DeadlineExceeded, Unavailable
from libs.rpc.access_policy import DEFAULT_DEADLINE, UNBOUNDED, AccessPolicy
from libs.rpc.identity import Call
from libs.rpc.pipeline import Proceed


class Deadline:
    """Cancels the method at its deadline and answers DEADLINE_EXCEEDED; one without deadline ends with the server.

    A call that is ended before, by `Call.end`, answers what it was ended by.
    """

    def __init__(self, policy: AccessPolicy) -> None:
        self._limits = {method: rule.deadline for method, rule in policy.items()}
        self._lasting: set[asyncio.Timeout] = set()
        self._draining = False

    def drain(self) -> None:
        """Ends the calls that would never end by themselves, and those that still come. Their callers call again."""
        self._draining = True
        now = asyncio.get_running_loop().time()
        for timeout in self._lasting:
            if not timeout.expired():
                timeout.reschedule(now)

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        limit = self._limits.get(call.method, DEFAULT_DEADLINE)
        lasting = limit == UNBOUNDED
        if lasting and self._draining:
            raise _stopping()
        remaining = call.context.time_remaining()
        if remaining is not None:
            limit = min(limit, remaining)
        call.deadline = asyncio.get_running_loop().time() + limit
        timeout = call.timeout = asyncio.timeout_at(None if call.deadline == UNBOUNDED else call.deadline)
        try:
            async with timeout:
                if lasting:
                    self._lasting.add(timeout)
                return await proceed()
        except TimeoutError:
            if not timeout.expired():
                raise  # somebody else's, and a bug if it came this far
            if call.ended_by is not None:
                raise call.ended_by from None
            if lasting and self._draining:
                raise _stopping() from None
            raise DeadlineExceeded(
                "The call took longer than its deadline; try again with a smaller request or a longer deadline."
            ) from None
        finally:
            call.timeout = None  # what is over cannot be ended
            self._lasting.discard(timeout)


def _stopping() -> Unavailable:
    return Unavailable("This server is stopping; call again to reach another.", retry_after=1)
