"""How a session goes through a time without Vault: one finds out whether it is back, and nobody is lost on the way."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import hvac
import pytest
import requests
import requests.adapters

from libs.errors import Unavailable
from libs.provider_keys import ProviderKey
from libs.redaction import Secret
from services.key_vault import vault_session
from services.key_vault.transit import Transit
from services.key_vault.vault_login import AppRole
from services.key_vault.vault_session import VaultSession
from tests.unit.key_vault.test_transit_failures import Network

FINE: tuple[int, Any] = (200, {"data": {}})
SEALED: tuple[int, Any] = (503, {"errors": ["Vault is sealed"]})
DENIED: tuple[int, Any] = (403, {"errors": ["permission denied"]})
THREADS = 8


class HeldNetwork(Network):
    """Answers nobody before it is told to; counts who asks."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        super().__init__(*answers)
        self.asked = threading.Semaphore(0)
        self.goes_on = threading.Event()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Plays the next answer when it is time."""
        self.asked.release()
        assert self.goes_on.wait(20)
        return super().send(request, *args, **kwargs)

    async def was_asked(self) -> None:
        """Waits until one more has asked."""
        assert await asyncio.to_thread(self.asked.acquire, timeout=20)


@contextmanager
def session_over(network: Network, *, token: str = "canary-token") -> Iterator[VaultSession]:
    """A session that has a token already."""
    with requests.Session() as session, ThreadPoolExecutor(THREADS) as threads:
        session.mount("https://", network)
        client = hvac.Client("https://vault", token=token, session=session)
        yield VaultSession(client, threads, AppRole("role", Secret("canary-secret-id")))


async def refusal_of(session: VaultSession) -> str:
    """Asks in vain, and returns what is said."""
    with pytest.raises(Unavailable) as caught:
        await session.ping()
    return caught.value.message


class TestOutage:
    async def test_one_looks_whether_it_is_back_and_the_others_are_told_soon(self) -> None:
        network = HeldNetwork(SEALED, FINE, FINE)
        with session_over(network) as session:
            network.goes_on.set()
            assert "sealed" in await refusal_of(session)
            network.goes_on.clear()
            looker = asyncio.create_task(session.ping())
            for _ in range(2):
                await network.was_asked()
            refusals = await asyncio.gather(*(refusal_of(session) for _ in range(100)))
            assert all("sealed" in said for said in refusals)
            network.goes_on.set()
            await looker
            await session.ping()
        assert len(network.requests) == 3

    async def test_who_comes_while_somebody_looks_is_served_when_it_is_back(self) -> None:
        network = HeldNetwork(SEALED, *[FINE] * 21)
        with session_over(network) as session:
            network.goes_on.set()
            await refusal_of(session)
            network.goes_on.clear()
            looker = asyncio.create_task(session.ping())
            for _ in range(2):
                await network.was_asked()
            others = [asyncio.create_task(session.ping()) for _ in range(20)]
            await _settled()
            network.goes_on.set()
            await asyncio.gather(looker, *others)

    async def test_who_waits_for_a_thread_is_told_when_it_begins(self) -> None:
        network = HeldNetwork(*[SEALED] * THREADS)
        with session_over(network) as session:
            callers = [asyncio.create_task(refusal_of(session)) for _ in range(100)]
            for _ in range(THREADS):
                await network.was_asked()
            network.goes_on.set()
            assert all("sealed" in said for said in await asyncio.gather(*callers))
        assert len(network.requests) == THREADS

    async def test_somebody_else_looks_when_the_looker_leaves(self) -> None:
        network = HeldNetwork(SEALED, FINE, FINE)
        with session_over(network) as session:
            network.goes_on.set()
            await refusal_of(session)
            network.goes_on.clear()
            looker = asyncio.create_task(session.ping())
            for _ in range(2):
                await network.was_asked()
            looker.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looker
            network.goes_on.set()
            await session.ping()

    async def test_a_denied_right_is_an_answer(self) -> None:
        with session_over(Network(SEALED, DENIED, FINE, DENIED, FINE)) as session:
            assert "sealed" in await refusal_of(session)
            with pytest.raises(Unavailable, match="denies"):
                await session.get("transit/keys/provider-keys")
            assert not session._outage

    async def test_no_thread_to_ask_with_is_told_and_costs_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with session_over(Network(*[FINE] * 20)) as session:

            def submit(*_: Any) -> None:
                raise RuntimeError("can't start new thread")

            with monkeypatch.context() as patched:
                patched.setattr(session._threads, "submit", submit)
                for _ in range(2 * THREADS):
                    assert "limit of processes" in await refusal_of(session)
            await session.ping()


class TestToken:
    @pytest.mark.parametrize("auth", [None, {}, {"client_token": "x"}, {"client_token": "x", "lease_duration": "1h"}])
    async def test_an_answer_without_a_lease_ends_nothing(self, auth: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        renewed = asyncio.Event()
        monkeypatch.setattr(vault_session, "_RENEWAL_RETRY_SECONDS", 0.0)
        monkeypatch.setattr(VaultSession, "_until_renewal", lambda *_: _told(renewed))
        good = {"auth": {"client_token": "canary-token", "lease_duration": 3600}}
        with session_over(Network((200, {"auth": auth}), (204, ""), (200, good))) as session:
            keeper = asyncio.create_task(session.keep_token())
            async with asyncio.timeout(20):
                await renewed.wait()
            keeper.cancel()

    async def test_a_refused_login_is_not_repeated_for_a_while(self) -> None:
        network = Network((400, {"errors": ["invalid role or secret ID"]}))
        with session_over(network, token="") as session:
            for _ in range(5):
                assert "issues a new secret id" in await refusal_of(session)
        assert len(network.requests) == 1


class TestMemory:
    @pytest.mark.parametrize(
        "answer", [requests.ConnectTimeout("x"), SEALED, (400, {"errors": ["bad"]}), DENIED], ids=str
    )
    async def test_a_key_that_could_not_be_sealed_is_wiped_at_once(self, answer: Any) -> None:
        key = ProviderKey("canary-key-1234")
        view = memoryview(key._bytes)
        gc.disable()
        try:
            with session_over(Network(*[answer] * 3)) as session:
                holder = [key]
                del key
                with pytest.raises(Unavailable):
                    await Transit(session).seal(holder.pop(), user_id="usr_alice", provider="openai")
                await _settled()
                assert bytes(view) == bytes(len(view))
        finally:
            gc.enable()


async def _told(event: asyncio.Event) -> None:
    event.set()
    await asyncio.Event().wait()


async def _settled() -> None:
    """Lets callbacks of the loop run that hold what has ended."""
    for _ in range(10):
        await asyncio.sleep(0)
