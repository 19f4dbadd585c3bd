"""The calls under way for people, so that one whose token is revoked ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

from libs.background import beside
from libs.errors import PlatformError, Unauthenticated
from libs.rpc.identity import Call, Principal

# Of the tokens of calls under way that may have ended: how many are asked about at a time, and the pause in seconds
# before one is asked about again that could not be verified.
_ASKED_AT_ONCE = 16
_ASK_AGAIN_SECONDS = 1.0


class LiveCalls:
    """Holds the calls for as long as they are served, and finds those of a token or of an account."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._by_id: dict[str, set[Call]] = {}
        self._doubted: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def add(self, call: Call) -> None:
        """Holds an authenticated call."""
        self._calls.add(call)
        for name in _ids(call):
            self._by_id.setdefault(name, set()).add(call)

    def discard(self, call: Call) -> None:
        """Lets go of a call that is over."""
        self._calls.discard(call)
        for name in _ids(call):
            calls = self._by_id.get(name, set())
            calls.discard(call)
            if not calls:
                self._by_id.pop(name, None)

    def of(self, name: str) -> tuple[Call, ...]:
        """Returns the calls made with the token, or for the account, that has this id."""
        return tuple(self._by_id.get(name, ()))

    def end(self, token_id: str, error: PlatformError) -> None:
        """Ends the calls made with a token, with this error as their answer."""
        for call in self.of(token_id):
            call.end(error)

    def doubt(self, calls: Iterable[Call]) -> None:
        """Has the tokens of these calls verified anew, once each, and the calls of those ended that are not valid now.

        Which tokens a change ended, if any, only who verifies them knows. While that is away its word of before holds.
        """
        for token in {(call.principal.token_id, call.authorization) for call in calls if call.principal is not None}:
            self._doubted.put_nowait(token)

    @asynccontextmanager
    async def settling_doubts(self, verify: Callable[[str], Awaitable[Principal]]) -> AsyncIterator[None]:
        """Verifies what is doubted, for the time of the block."""
        async with beside({f"doubted tokens {n}": self._settle(verify) for n in range(_ASKED_AT_ONCE)}):
            yield

    async def _settle(self, verify: Callable[[str], Awaitable[Principal]]) -> None:
        while True:
            token_id, authorization = await self._doubted.get()
            try:
                await verify(authorization.removeprefix("Bearer "))
            except Unauthenticated as error:
                self.end(token_id, error)
            except PlatformError:
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
                self.doubt(self.of(token_id))

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls))

    def __len__(self) -> int:
        return len(self._calls)


def _ids(call: Call) -> tuple[str, ...]:
    return () if call.principal is None else (call.principal.token_id, call.principal.user_id)
