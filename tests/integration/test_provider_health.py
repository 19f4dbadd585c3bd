"""From the chats of a worker to what the router makes of them: whom chats may try, and what people are told.

The worker, its provider and the router are real; the clock of the provider's health is the test's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub, add_ChatServiceServicer_to_server
from realmultillm.provider.v1.provider_service_pb2 import WatchProviderHealthRequest
from realmultillm.provider.v1.provider_service_pb2_grpc import (
    ProviderServiceStub,
    add_ProviderServiceServicer_to_server,
)
from realmultillm.router.v1.catalog_service_pb2 import ListProvidersRequest, ProviderPerformance
from realmultillm.router.v1.health_service_pb2 import GetPlatformHealthRequest

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour
from deploy.local.sandbox_provider.server import running as sandbox_running
from libs.errors import Unavailable
from libs.outbox import open_outbox
from libs.provider_catalog import load_catalog
from libs.provider_keys import ProviderKey
from libs.rpc.channel import open_channel
from libs.worker.access_policy import ACCESS_POLICY
from libs.worker.adapter import Credential
from libs.worker.chat_metrics import ChatMetrics
from libs.worker.chat_outcomes import ChatOutcomes
from libs.worker.chats import Chats
from libs.worker.model_listing import Models
from libs.worker.provider_health import ProviderHealth as CountedHealth
from libs.worker.servicer import WorkerChatServicer, WorkerProviderServicer
from libs.worker.upstream import connect_upstream
from services.provider_router.observation import observing
from services.provider_router.provider_health import ProviderHealth, watching_providers
from services.provider_router.provider_states import ProviderState
from services.provider_router.servicer import CatalogServicer, PlatformHealthServicer
from services.workers.openai.adapter import ADAPTER
from tests.support.rpc import Identities, KnownTokens, bearer, error_info, running
from tests.support.waiting import BOUND_SECONDS, eventually, within_bound
from tests.support.wire import LOCAL_RULES

WORKER = "worker-openai"
CHAT = chat.CreateChatCompletionRequest(provider="openai", messages=[chat.ChatMessage(role="user", content="Hello")])


class Keys:
    """Has one key for everybody."""

    async def of(self, _user_id: str) -> Credential:
        return Credential(ProviderKey("sk-sandbox-for-everybody"))


class States:
    """Everybody has a key for OpenAI."""

    async def by_provider(self) -> dict[str, ProviderState]:
        return {"openai": ProviderState(configured=True)}


class Platform:
    """A worker that can be stopped and started, its provider, and the router's view of both."""

    def __init__(self, identity: Identities, folder: Path, sandbox_url: str) -> None:
        self.now = 1_000.0
        self.tokens = KnownTokens()
        self.token = self.tokens.issue("ada")
        self.sandbox_url = sandbox_url
        self.stop_worker = AsyncExitStack()
        self.address = "127.0.0.1:0"
        self._identity = identity
        self._folder = folder
        self._answering: Any = None

    async def start_worker(self) -> None:
        """Starts the worker, where it was before."""
        counted = CountedHealth("openai", clock=lambda: self.now)
        outcomes = ChatOutcomes(counted, ChatMetrics("openai"), patience_seconds=20)
        outbox = await self.stop_worker.enter_async_context(open_outbox(self._folder, _unreachable))
        upstream = await self.stop_worker.enter_async_context(
            connect_upstream(ADAPTER, f"{self.sandbox_url}/openai/v1", stream_idle_seconds=9, rules=LOCAL_RULES)
        )
        chats = Chats(
            ADAPTER,
            upstream,
            Keys(),
            outbox,
            max_concurrent=9,
            max_of_one_person=9,
            answer_seconds=9,
            ended=outcomes.note,
        )
        provider = WorkerProviderServicer(ADAPTER, upstream, Models(ADAPTER, upstream, Keys()), counted)
        self.address = await self.stop_worker.enter_async_context(
            running(
                self._identity(WORKER),
                partial(add_ChatServiceServicer_to_server, WorkerChatServicer(chats, ADAPTER)),
                partial(add_ProviderServiceServicer_to_server, provider),
                policy=ACCESS_POLICY,
                tokens=self.tokens,
                port=int(self.address.rpartition(":")[2]),
            )
        )

    async def start_router(self, stack: AsyncExitStack) -> None:
        """Starts the router's watches, and what it tells of them."""
        tls = self._identity("provider-router")
        self.channel = await stack.enter_async_context(open_channel(self.address, WORKER, tls))
        observation = await stack.enter_async_context(observing({WORKER: self.channel}, {}))
        stubs = {"openai": ProviderServiceStub(self.channel)}
        self.health: ProviderHealth = await stack.enter_async_context(watching_providers(stubs, observation))
        states: Any = States()
        self.catalog = CatalogServicer(load_catalog(), offered=frozenset({"openai"}), states=states, health=self.health)
        observation_of_all: Any = AllHealthy()
        self.platform_health = PlatformHealthServicer(
            observation_of_all, self.health, providers=["openai"], version="1"
        )

    async def chat(self, *, streamed: bool = False) -> str:
        """Chats, and returns the reason when that fails."""
        stub = ChatServiceStub(self.channel)
        options: dict[str, Any] = {"metadata": bearer(self.token), "timeout": BOUND_SECONDS}
        try:
            if streamed:
                async for _ in stub.StreamChatCompletion(CHAT, **options):
                    pass
            else:
                await stub.CreateChatCompletion(CHAT, **options)
        except grpc.aio.AioRpcError as error:
            return str(error_info(error).reason)
        return ""

    async def told(self) -> tuple[bool, ProviderPerformance, str]:
        """Returns whether people are told that the provider is healthy, how it performs, and the platform's word."""
        listed = await self.catalog.ListProviders(ListProvidersRequest(), None)
        (row,) = [row for row in listed.providers if row.id == "openai"]
        platform = await self.platform_health.GetPlatformHealth(GetPlatformHealthRequest(), None)
        return row.healthy, row.performance, platform.providers["openai"]

    async def until(self, holds: Callable[[ProviderPerformance], bool]) -> tuple[bool, ProviderPerformance, str]:
        """Waits until the performance people are told of is as it should be."""
        return await eventually(self.told, lambda told: holds(told[1]))


class AllHealthy:
    """An observation of a platform on a good day."""

    def is_healthy(self, _service: str, _dependency: str = "") -> bool:
        return True


async def _unreachable(_facts: object) -> None:
    raise Unavailable("Nobody is there.")


@pytest.fixture
async def platform(identity: Identities, tmp_path: Path) -> AsyncIterator[Platform]:
    async with sandbox_running() as sandbox_url, AsyncExitStack() as stack:
        platform = Platform(identity, tmp_path, sandbox_url)
        await platform.start_worker()
        stack.push_async_callback(platform.stop_worker.aclose)
        await platform.start_router(stack)
        await platform.until(lambda performance: performance.state == "healthy")
        yield platform


async def test_a_provider_breaks_down_is_tried_by_one_chat_and_recovers(platform: Platform) -> None:
    async with SandboxControl(platform.sandbox_url) as sandbox:
        assert await platform.chat(streamed=True) == ""
        healthy, performance, word = await platform.until(lambda performance: performance.chats == 1)
        assert (healthy, performance.state, performance.error_rate, word) == (True, "healthy", 0, "ok")
        assert 0 < performance.latency_p50_ms <= performance.latency_p95_ms
        assert performance.window_seconds == 60
        assert platform.health.rank("openai") == 0

        # What is no failure of the provider does not count.
        await sandbox.behave(Behaviour(status=401, times=5))
        assert [await platform.chat() for _ in range(5)] == ["INVALID_API_KEY"] * 5
        # Not to be tried again by the worker: one each.
        await sandbox.behave(Behaviour(status=200, body={"hello": "world"}, times=5))
        ends = [await platform.chat(streamed=streamed) for streamed in (True, False, True, False)]
        assert set(ends) == {"PROVIDER_UNAVAILABLE"}
        healthy, performance, word = await platform.until(lambda performance: performance.state == "unhealthy")
        assert (healthy, word) == (False, "unavailable")
        assert (performance.chats, performance.error_rate) == (5, 0.8)
        assert platform.health.rank("openai") == 1

        platform.now += 10
        healthy, _, word = await platform.until(lambda performance: performance.state == "recovering")
        assert (healthy, word) == (False, "unavailable")
        platform.now += 1
        # One chat at a time takes it for healthy.
        assert platform.health.rank("openai") == 0
        with platform.health.attempt("openai"):
            assert platform.health.rank("openai") == 1
            assert await platform.chat() == "PROVIDER_UNAVAILABLE"
            await platform.until(lambda performance: performance.state == "unhealthy")

        platform.now += 20
        await platform.until(lambda performance: performance.state == "recovering")
        platform.now += 1
        assert platform.health.rank("openai") == 0, "an attempt that is over does not count"
        assert await platform.chat() == ""
        healthy, performance, word = await platform.until(lambda performance: performance.state == "healthy")
        assert (healthy, performance.chats, word) == (True, 1, "ok")


async def test_without_its_worker_nothing_is_known_of_a_provider_until_it_is_back(platform: Platform) -> None:
    await platform.stop_worker.aclose()
    # The router hears of it by two streams, one after the other.
    await eventually(platform.told, lambda told: told == (False, ProviderPerformance(), "unknown"))
    await eventually(lambda: _rank(platform), lambda rank: rank == 2)

    await platform.start_worker()
    await eventually(platform.told, lambda told: told[0] and told[1].state == "healthy")
    assert platform.health.rank("openai") == 0


async def _rank(platform: Platform) -> int:
    return platform.health.rank("openai")


async def test_only_the_router_hears_of_it(platform: Platform, identity: Identities) -> None:
    async with open_channel(platform.address, WORKER, identity("envoy")) as channel:
        call = ProviderServiceStub(channel).WatchProviderHealth(WatchProviderHealthRequest(), timeout=BOUND_SECONDS)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await within_bound(call.read())
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_watcher_that_leaves_is_forgotten(platform: Platform, identity: Identities) -> None:
    async with open_channel(platform.address, WORKER, identity("provider-router")) as channel:
        call = ProviderServiceStub(channel).WatchProviderHealth(WatchProviderHealthRequest())
        assert (await within_bound(call.read())).window_seconds == 60
        call.cancel()
    await asyncio.wait_for(platform.stop_worker.aclose(), BOUND_SECONDS)
