"""How revocations are told: many at once, and without the end of the call that tells them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from libs.change_feed import ALIVE, SYNCHRONIZED
from libs.rpc.identity import Call, enter_call
from services.auth.revocations import AccountChanged, Alive, Revocations, Synchronized, TokenRevoked


class Feed:
    """Tells what was announced."""

    def __init__(self) -> None:
        self.payloads: list[str] = []

    async def announce(self, _session: Any, *payloads: str) -> None:
        self.payloads += payloads

    async def subscribe(self, *, pulse: float) -> AsyncGenerator[Any, None]:
        assert pulse < 5
        for change in (SYNCHRONIZED, ALIVE, *self.payloads):
            yield change


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def revocations(feed: Feed) -> Revocations:
    return Revocations(feed)  # type: ignore[arg-type]


async def test_many_are_told_at_once(feed: Feed, revocations: Revocations) -> None:
    ended = [TokenRevoked(f"ses_{number:032x}") for number in range(450)]
    await revocations.announce(None, *ended, AccountChanged("usr_1"))  # type: ignore[arg-type]
    assert len(feed.payloads) == 4
    assert all(len(payload) < 8_000 for payload in feed.payloads)
    heard = [revocation async for revocation in revocations.follow()]
    assert heard == [Synchronized(), Alive(), *ended, AccountChanged("usr_1")]


async def test_the_call_that_tells_them_is_spared(revocations: Revocations) -> None:
    call = Call("/service/Method", None)
    enter_call(call)
    await revocations.announce(None)  # type: ignore[arg-type]
    assert not call.spared
    await revocations.announce(None, TokenRevoked("ses_1"))  # type: ignore[arg-type]
    assert call.spared
