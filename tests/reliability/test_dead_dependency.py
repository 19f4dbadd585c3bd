"""The degraded modes of the architecture, each with the real component stopped, and the way back from each."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from deploy.local.stack import LocalStack
from tests.e2e.conftest import HELLO, PASSWORD, Person, Platform, error_of
from tests.reliability.outages import frozen, halted, sealed

Away = Callable[[LocalStack, str], AbstractAsyncContextManager[None]]


async def eventually(
    ask: Callable[[], Awaitable[httpx.Response]], status: int, holds: Callable[[Any], bool] = lambda _body: True
) -> httpx.Response:
    """Asks until the answer has this status, and its body is as it should be."""
    async with asyncio.timeout(20):
        while (response := await ask()).status_code != status or not holds(response.json()):
            await asyncio.sleep(0.1)
    return response


async def health(person: Person) -> httpx.Response:
    return await person.http.get("/api/health")


class TestAnalytics:
    async def test_chats_go_on_and_their_records_arrive_later(self, platform: Platform, person: Person):
        async with halted(platform.stack, "analytics"):
            for _ in range(5):
                assert (await person.chat()).status_code == 200
            response = await person.http.get("/api/analytics/usage")
            assert error_of(response)[0] == 503
            degraded = await eventually(lambda: health(person), 200)
            assert degraded.json()["status"] == "degraded"
            assert degraded.json()["services"]["analytics"] == "unavailable"
        totals = await person.usage_when(lambda totals: totals["requests"] == 5)
        assert totals["requestsByEndState"] == {"completed": 5}


class TestVault:
    @pytest.mark.parametrize("away", [halted, sealed, frozen])
    async def test_cached_keys_go_on_and_new_ones_wait(self, platform: Platform, person: Person, away: Away):
        # The change that stored the key takes up to a second to reach the worker, and makes it forget what it holds.
        await asyncio.sleep(1)
        assert (await person.chat()).status_code == 200
        key_vault = await platform.stack.pid("key-vault")
        async with platform.person(with_key=False) as newcomer, platform.person() as stranger:
            body = {"apiKey": newcomer.key}
            await asyncio.sleep(1)
            async with away(platform.stack, "vault"):
                refused = await asyncio.gather(
                    newcomer.http.post("/api/provider-config/openai", json=body),
                    newcomer.http.put("/api/provider-config/openai", json=body),
                    # Whose key no worker has in memory.
                    stranger.chat(),
                    stranger.http.post("/api/provider-config/test", json={"provider": "openai"}),
                )
                for answer in refused:
                    assert error_of(answer) == (503, "SERVICE_UNAVAILABLE")
                    assert answer.headers["retry-after"]
                    assert stranger.key not in answer.text
                degraded = await eventually(lambda: health(person), 200, lambda told: told["status"] == "degraded")
                assert degraded.json()["services"]["vault"] == "unavailable"
                assert degraded.json()["services"]["keyVault"] == "ok"
                assert (await person.chat()).status_code == 200
                async with person.stream() as response:
                    assert '"finish_reason":"stop"' in (await response.aread()).decode()
                # What needs no Vault goes on, and nothing was half-stored.
                path = "/api/provider-config/openai"
                assert error_of(await newcomer.http.get(path)) == (404, "NOT_FOUND")
                assert (await stranger.http.put(path, json={"model": "gpt-4o"})).status_code == 200
            # Nobody had to help it, nor to start the key vault again.
            await eventually(lambda: newcomer.http.post("/api/provider-config/openai", json=body), 200)
            assert (await newcomer.chat()).status_code == 200
            assert (await stranger.chat()).status_code == 200
        await eventually(lambda: health(person), 200, lambda told: told["status"] == "ok")
        assert await platform.stack.pid("key-vault") == key_vault


class TestKeyVault:
    async def test_cached_keys_go_on_for_a_moment_and_the_rest_waits(self, platform: Platform, person: Person):
        await asyncio.sleep(1)
        assert (await person.chat()).status_code == 200
        async with platform.person() as stranger:
            async with halted(platform.stack, "key-vault"):
                assert (await person.chat()).status_code == 200
                assert error_of(await stranger.chat())[0] == 503
                assert error_of(await person.http.get("/api/provider-config/openai"))[0] == 503
                degraded = await eventually(lambda: health(person), 200, lambda told: told["status"] == "degraded")
                assert degraded.json()["services"]["keyVault"] == "unavailable"
            await eventually(stranger.chat, 200)


class TestAuth:
    async def test_known_callers_go_on_for_a_moment_and_unknown_ones_are_told(self, platform: Platform, person: Person):
        assert (await person.chat()).status_code == 200
        async with platform.person() as stranger, halted(platform.stack, "auth"):
            assert (await person.chat()).status_code == 200
            assert error_of(await stranger.chat())[0] == 503
            response = await person.http.post("/api/auth/signin", json={"email": "a@example.com", "password": PASSWORD})
            assert error_of(response)[0] == 503
            await eventually(lambda: health(person), 503)
            # Not for ever: a revocation could not be heard any more.
            await eventually(person.chat, 503)
        await eventually(person.chat, 200)
        assert (await eventually(lambda: health(person), 200)).status_code == 200


class TestPostgres:
    @pytest.mark.parametrize("away", [halted, frozen])
    async def test_chats_go_on_and_the_rest_says_so(self, platform: Platform, person: Person, away: Away):
        assert (await person.chat()).status_code == 200
        # Analytics knows the caller from here on, and asks nobody who it is.
        assert (await person.http.get("/api/analytics/usage")).status_code == 200
        async with away(platform.stack, "postgres"):
            assert (await person.chat()).status_code == 200
            body = {"email": f"late-{away.__name__}@example.com", "password": PASSWORD}
            # More than there are connections.
            signups = (person.http.post("/api/auth/signup", json=body) for _ in range(15))
            for response in await asyncio.gather(*signups, person.http.get("/api/analytics/usage")):
                assert error_of(response) == (503, "SERVICE_UNAVAILABLE")
                assert response.headers["retry-after"]
        # Nothing was half-written: the same sign-up passes now.
        await eventually(lambda: person.http.post("/api/auth/signup", json=body), 200)
        await person.usage_when(lambda totals: totals["requests"] == 2)


class TestProviderRouter:
    async def test_chats_with_a_named_provider_do_not_need_it(self, platform: Platform, person: Person):
        async with halted(platform.stack, "provider-router"):
            assert (await person.chat()).status_code == 200
            assert error_of(await health(person))[0] == 503
        await eventually(lambda: health(person), 200)


class TestWorker:
    async def test_killed_right_after_an_answer_loses_no_record(self, platform: Platform, person: Person):
        for _ in range(3):
            for _ in range(7):
                assert (await person.chat()).status_code == 200
            await platform.stack.kill("worker-openai")
            await platform.stack.wait_ready("worker-openai")
            await eventually(person.chat, 200)
        totals = await person.usage_when(lambda totals: totals["requests"] >= 24)
        assert totals["requestsByEndState"] == {"completed": 24}

    async def test_killed_in_mid_stream_ends_the_stream_as_broken(self, platform: Platform, person: Person):
        await platform.bad_day(person, chunk_delay_ms=50, chunk_count=200)
        try:
            async with person.stream() as response:
                lines = response.aiter_lines()
                await anext(lines)
                await platform.stack.kill("worker-openai")
                rest = [line async for line in lines]
                assert not any('"finish_reason":"stop"' in line for line in rest)
        except httpx.RemoteProtocolError:
            pass  # cut off, which no client takes for a whole answer
        await platform.stack.wait_ready("worker-openai")

    async def test_stopped_gently_finishes_what_it_has_begun(self, platform: Platform, person: Person):
        await platform.bad_day(person, chunk_delay_ms=5, chunk_count=40)
        async with person.stream() as response:
            lines = response.aiter_lines()
            await anext(lines)
            stopping = asyncio.create_task(platform.stack.restart("worker-openai"))
            rest = [line async for line in lines]
        await stopping
        assert '"finish_reason":"stop"' in rest[-2] + rest[-1]


class TestProvider:
    async def test_gone_and_back(self, platform: Platform, person: Person):
        async with halted(platform.stack, "sandbox"):
            response = await person.http.post("/api/chat/openai", json={"messages": HELLO})
            assert error_of(response) == (503, "PROVIDER_UNAVAILABLE")
        assert (await person.chat()).status_code == 200
