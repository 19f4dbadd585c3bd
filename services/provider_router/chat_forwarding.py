"""A ChatService over the workers' ChatServices: it reads who a chat is for, and passes the bytes on untouched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from libs.errors import PlatformError
from libs.rpc.delegation import for_the_caller
from libs.rpc.identity import current_call
from libs.worker.access_policy import CHAT_DEADLINE
from libs.worker.last_words import say_last
from services.provider_router.auto_chats import AutoChats
from services.provider_router.chat_workers import CHAT, ChatWorker
from services.provider_router.model_names import AUTOMATIC
from services.provider_router.relaying import end_like, relay
from services.provider_router.routing import Routes, named_provider


class ChatForwarder:
    """Forwards each chat to the worker of the provider it names, and everything the worker says back."""

    def __init__(self, routes: Routes[ChatWorker], auto: AutoChats) -> None:
        self._routes = routes
        self._auto = auto

    async def create(self, request: bytes, context: Any) -> bytes:
        """Forwards a chat that is answered whole."""
        provider = named_provider(request)
        if provider == AUTOMATIC:
            return await self._auto.create(request)
        worker = self._routes.worker_of(provider)
        call = worker.create(request, **for_the_caller(CHAT_DEADLINE))
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            await end_like(error, worker.provider, context)
        current_call().answer_headers += await call.initial_metadata()
        context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        return answer

    async def stream(self, request: bytes, context: Any) -> None:
        """Forwards a chat that is streamed, each message when it arrives."""
        provider = named_provider(request)
        if provider == AUTOMATIC:
            await self._auto.stream(request, context, _say_last)
            return
        worker = self._routes.worker_of(provider)
        call = worker.stream(request, **for_the_caller(CHAT_DEADLINE))
        await relay(call, worker.provider, context, _say_last)


async def _say_last(error: PlatformError, write: Callable[[bytes], Awaitable[None]], request_id: str) -> None:
    await say_last(error, lambda chunk: write(chunk.SerializeToString()), request_id=request_id)


def add_chat_forwarder_to_server(forwarder: ChatForwarder, server: grpc.aio.Server) -> None:
    """Registers the forwarder as the ChatService, without the serializers of the generated registration."""
    handlers = {
        "CreateChatCompletion": grpc.unary_unary_rpc_method_handler(forwarder.create),
        "StreamChatCompletion": grpc.unary_stream_rpc_method_handler(forwarder.stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(CHAT, handlers),))
