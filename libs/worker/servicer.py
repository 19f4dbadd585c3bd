"""The gRPC face of a worker: check, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceServicer
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2
from realmultillm.provider.v1.provider_service_pb2_grpc import ProviderServiceServicer

from libs.errors import InvalidRequest, Violation
from libs.provider_keys import ProviderKey, broken_key_rule
from libs.rpc.identity import caller, current_call
from libs.worker.adapter import Adapter
from libs.worker.answer_headers import tell
from libs.worker.chats import Chats
from libs.worker.key_test import try_key
from libs.worker.model_listing import Models
from libs.worker.own_provider import check_provider
from libs.worker.provider_health import WINDOW_SECONDS, Health, ProviderHealth
from libs.worker.request_amounts import check_amounts
from libs.worker.request_check import check_chat_request, check_page, unfold_tool_calls
from libs.worker.upstream import Upstream


class WorkerChatServicer(ChatServiceServicer):
    """Chats with this worker's provider."""

    def __init__(self, chats: Chats, adapter: Adapter) -> None:
        self._chats = chats
        self._adapter = adapter

    async def CreateChatCompletion(
        self, request: chat.CreateChatCompletionRequest, _context: Any
    ) -> chat.ChatCompletion:
        self._take(request, streaming=False)
        call = current_call()
        completed = await self._chats.complete(request, call)
        cost_usd = completed.completion.cost_usd if completed.completion.HasField("cost_usd") else None
        tell(call, total_ms=completed.total_ms, provider_ms=completed.provider_ms, cost_usd=cost_usd)
        return completed.completion

    async def StreamChatCompletion(self, request: chat.CreateChatCompletionRequest, context: Any) -> None:
        self._take(request, streaming=True)
        await self._chats.stream(request, context.write, current_call())

    def _take(self, request: chat.CreateChatCompletionRequest, *, streaming: bool) -> None:
        check_provider(request.provider, self._adapter.provider)
        check_amounts(request)
        unfold_tool_calls(request)
        check_chat_request(request, streaming=streaming)


class WorkerProviderServicer(ProviderServiceServicer):
    """Answers questions about this worker's provider."""

    def __init__(self, adapter: Adapter, upstream: Upstream, models: Models, health: ProviderHealth) -> None:
        self._adapter = adapter
        self._upstream = upstream
        self._models = models
        self._health = health

    async def TestKey(self, request: provider_pb2.TestKeyRequest, _context: Any) -> provider_pb2.TestKeyResponse:
        if rule := broken_key_rule(request.api_key):
            raise InvalidRequest([Violation("apiKey", rule)])
        key = ProviderKey(request.api_key)
        result = await try_key(self._adapter, self._upstream, key, request.model, endpoint=request.endpoint)
        return provider_pb2.TestKeyResponse(
            success=not result.reason, latency_ms=result.latency_ms, message=result.message, reason=result.reason
        )

    async def ListModels(
        self, request: provider_pb2.ListModelsRequest, _context: Any
    ) -> provider_pb2.ListModelsResponse:
        check_page(request)
        page, next_token = await self._models.page(caller().user_id, request.page_size, request.page_token)
        return provider_pb2.ListModelsResponse(models=page, next_page_token=next_token)

    async def WatchProviderHealth(
        self, _request: provider_pb2.WatchProviderHealthRequest, _context: Any
    ) -> AsyncIterator[provider_pb2.ProviderHealth]:
        async with aclosing(self._health.follow()) as news:
            async for health in news:
                yield _health(health)


def _health(health: Health) -> provider_pb2.ProviderHealth:
    return provider_pb2.ProviderHealth(
        state=health.state.name,
        chats=health.chats,
        failures=health.failures,
        latency_p50_ms=health.latency_p50_ms,
        latency_p95_ms=health.latency_p95_ms,
        window_seconds=WINDOW_SECONDS,
    )
