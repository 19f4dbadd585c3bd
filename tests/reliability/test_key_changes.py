"""What becomes of a key, in every worker within a second: two replicas of one worker, and chats with each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import pytest
from realmultillm.chat.v1.chat_service_pb2 import ChatMessage, CreateChatCompletionRequest
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub

from libs.rpc.channel import open_channel
from tests.e2e.conftest import Person, Platform, running_platform
from tests.e2e.people import administrator
from tests.reliability.test_rate_limits import second_worker
from tests.support.rpc import error_info
from tests.support.waiting import eventually

OWN = "/api/provider-config/openai"
EVERYBODY = "/api/admin/providers/config"
# What a change may take to be everywhere.
SECONDS = 1.0


@dataclass(frozen=True)
class Workers:
    """A platform whose worker-openai has two replicas, and both of them at hand."""

    platform: Platform
    stubs: tuple[Any, ...]

    async def outcomes(self, person: Person, model: str = "") -> list[str]:
        """Chats with each replica, and returns the last characters of the key it used, or why it failed."""
        return list(await asyncio.gather(*(self._outcome(stub, person, model) for stub in self.stubs)))

    async def _outcome(self, stub: Any, person: Person, model: str) -> str:
        after = max((request.id for request in await self.platform.sandbox.requests()), default=0)
        request = CreateChatCompletionRequest(
            provider="openai", model=model, messages=[ChatMessage(role="user", content=f"Hello {id(stub)}")]
        )
        metadata = (("authorization", f"Bearer {person.token}"),)
        try:
            await stub.CreateChatCompletion(request, metadata=metadata, timeout=20, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            return str(error_info(error).reason)
        received = await self.platform.sandbox.requests(after=after)
        (own,) = [each for each in received if f"Hello {id(stub)}" in str(each.body)]
        return str(own.key)

    async def settled(self, person: Person, outcome: str) -> None:
        """Waits until both replicas have what is needed in memory."""
        await eventually(partial(self.outcomes, person), lambda found: found == [outcome] * len(self.stubs))


@pytest.fixture(scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(
            running_platform(tmp_path_factory.mktemp("stack"), only=["worker-openai", "envoy"])
        )
        second = await stack.enter_async_context(second_worker(platform.stack, tmp_path_factory.mktemp("second")))
        addresses = (platform.stack.address("worker-openai"), second.address)
        envoy = platform.stack.tls("envoy")
        channels = [
            await stack.enter_async_context(open_channel(address, "worker-openai", envoy)) for address in addresses
        ]
        yield Workers(platform, tuple(map(ChatServiceStub, channels)))


@pytest.fixture
async def person(workers: Workers) -> AsyncIterator[Person]:
    async with workers.platform.person() as somebody:
        await workers.settled(somebody, somebody.key)
        yield somebody


class TestWithinASecond:
    async def test_a_deleted_key_is_used_by_none(self, workers: Workers, person: Person) -> None:
        assert (await person.http.delete(OWN)).status_code == 200
        await asyncio.sleep(SECONDS)
        assert await workers.outcomes(person) == ["PROVIDER_NOT_CONFIGURED"] * 2

    @pytest.mark.parametrize("verb", ["POST", "PUT"])
    async def test_a_replaced_key_is_used_by_all(self, workers: Workers, person: Person, verb: str) -> None:
        key = f"{person.key}-{verb}"
        stored = await person.http.request(verb, OWN, json={"apiKey": key})
        assert stored.json()["success"], stored.text
        await asyncio.sleep(SECONDS)
        assert await workers.outcomes(person) == [key] * 2

    async def test_what_administrators_change_holds_for_all(self, workers: Workers, person: Person) -> None:
        async with administrator(workers.platform) as admin, workers.platform.person(with_key=False) as stranger:

            async def everybody(**fields: Any) -> None:
                changed = await admin.http.post(EVERYBODY, json={"provider": "openai", **fields})
                assert changed.json()["success"], changed.text
                await asyncio.sleep(SECONDS)

            first, second = f"{stranger.key}-first", f"{stranger.key}-second"
            assert await workers.outcomes(stranger) == ["PROVIDER_NOT_CONFIGURED"] * 2
            await everybody(apiKey=first)
            assert await workers.outcomes(stranger) == [first] * 2
            await everybody(apiKey=second)
            assert await workers.outcomes(stranger) == [second] * 2
            await everybody(enabled=False)
            assert await workers.outcomes(stranger) == ["PROVIDER_DISABLED"] * 2
            assert await workers.outcomes(person) == ["PROVIDER_DISABLED"] * 2
            await everybody(enabled=True, allowedModels=["gpt-4.1"])
            assert await workers.outcomes(person, "gpt-4o") == ["MODEL_NOT_ALLOWED"] * 2
            await everybody(clear=["apiKey", "allowedModels"])
            assert await workers.outcomes(stranger) == ["PROVIDER_NOT_CONFIGURED"] * 2
            assert await workers.outcomes(person) == [person.key] * 2
