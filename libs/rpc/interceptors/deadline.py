"""Gives every call an end: the caller's deadline or the method's own, whichever comes first."""

from __future__ import annotations

import asyncio
from typing import Any

from libs.errors import DeadlineExceeded
from libs.rpc.access_policy import DEFAULT_DEADLINE, AccessPolicy
from libs.rpc.identity import Call
from libs.rpc.pipeline import Proceed


class Deadline:
    """Cancels the method at its deadline and answers DEADLINE_EXCEEDED."""

    def __init__(self, policy: AccessPolicy) -> None:
        self._limits = {method: rule.deadline for method, rule in policy.items()}

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        limit = self._limits.get(call.method, DEFAULT_DEADLINE)
        remaining = call.context.time_remaining()
        if remaining is not None:
            limit = min(limit, remaining)
        if limit == float("inf"):
            return await proceed()
        call.deadline = asyncio.get_running_loop().time() + limit
        try:
            async with asyncio.timeout_at(call.deadline) as timeout:
                return await proceed()
        except TimeoutError:
            if not timeout.expired():
                raise  # somebody else's, and a bug if it came this far
            raise DeadlineExceeded(
                "The call took longer than its deadline; try again with a smaller request or a longer deadline."
            ) from None
