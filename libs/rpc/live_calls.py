"""The calls under way for people, so that one whose token is revoked ends with it."""

from __future__ import annotations

from collections.abc import Callable

from libs.errors import PlatformError
from libs.rpc.identity import Call


class LiveCalls:
    """Holds the calls for as long as they are served."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()

    def add(self, call: Call) -> None:
        """Holds an authenticated call."""
        self._calls.add(call)

    def discard(self, call: Call) -> None:
        """Lets go of a call that is over."""
        self._calls.discard(call)

    def authorizations(self, matches: Callable[[Call], bool]) -> set[str]:
        """Returns the authorizations of the calls that match."""
        return {call.authorization for call in self._calls if matches(call)}

    def end(self, matches: Callable[[Call], bool], error: PlatformError) -> None:
        """Ends the calls that match, with this error as their answer."""
        for call in [call for call in self._calls if matches(call)]:
            call.end(error)

    def __len__(self) -> int:
        return len(self._calls)
