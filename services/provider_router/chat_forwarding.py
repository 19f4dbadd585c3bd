"""A ChatService over the workers' ChatServices: it reads who a chat is for, and passes the bytes on untouched."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from realmultillm.chat.v1 import chat_service_pb2

from libs.providers import worker_service
from libs.rpc.identity import current_call
from libs.rpc.status import from_rpc_error
from libs.worker.access_policy import CHAT_DEADLINE
from libs.worker.last_words import say_last
from services.provider_router.delegation import for_the_caller
from services.provider_router.routing import Routes, named_provider

_SERVICE = chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name
_STATUS_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class ChatWorker:
    """The methods of one provider's worker, from bytes to bytes."""

    provider: str
    create: grpc.aio.UnaryUnaryMultiCallable
    stream: grpc.aio.UnaryStreamMultiCallable

    @classmethod
    def on(cls, channel: grpc.aio.Channel, provider: str) -> ChatWorker:
        """The worker at the other end of a channel."""
        return cls(
            provider,
            channel.unary_unary(f"/{_SERVICE}/CreateChatCompletion"),
            channel.unary_stream(f"/{_SERVICE}/StreamChatCompletion"),
        )


class ChatForwarder:
    """Forwards each chat to the worker of the provider it names, and everything the worker says back."""

    def __init__(self, routes: Routes[ChatWorker]) -> None:
        self._routes = routes

    async def create(self, request: bytes, context: Any) -> bytes:
        """Forwards a chat that is answered whole."""
        worker = self._routes.worker_of(named_provider(request))
        call = worker.create(request, **for_the_caller(CHAT_DEADLINE))
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            await _end_like(error, worker, context)
        current_call().answer_headers += await call.initial_metadata()
        context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        return answer

    async def stream(self, request: bytes, context: Any) -> None:
        """Forwards a chat that is streamed, each message when it arrives."""
        worker = self._routes.worker_of(named_provider(request))
        call = worker.stream(request, **for_the_caller(CHAT_DEADLINE))
        served, begun = current_call(), False
        try:
            served.answer_headers += await call.initial_metadata()
            async for chunk in call:
                await context.write(chunk)
                begun = True
            context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        except grpc.aio.AioRpcError as error:
            await _end_like(error, worker, context)
        except asyncio.CancelledError:
            if begun and served.ended_by is not None:
                await say_last(
                    served.ended_by,
                    lambda chunk: context.write(chunk.SerializeToString()),
                    request_id=served.request_id,
                )
            raise
        finally:
            # When the caller leaves, this is where the worker hears of it. Without effect on a call that is over.
            call.cancel()


async def _end_like(error: grpc.aio.AioRpcError, worker: ChatWorker, context: Any) -> NoReturn:
    """Ends the call as the worker ended it. What gRPC itself says in place of a worker is put into our words."""
    trailing = tuple(error.trailing_metadata())
    if _STATUS_DETAILS not in dict(trailing):
        raise from_rpc_error(error, service=worker_service(worker.provider)) from None
    call = current_call()
    call.facts["code"] = error.code().name
    await context.abort(error.code(), error.details(), (*call.answer_headers, *trailing))
    raise AssertionError("abort always raises")


def add_chat_forwarder_to_server(forwarder: ChatForwarder, server: grpc.aio.Server) -> None:
    """Registers the forwarder as the ChatService, without the serializers of the generated registration."""
    handlers = {
        "CreateChatCompletion": grpc.unary_unary_rpc_method_handler(forwarder.create),
        "StreamChatCompletion": grpc.unary_stream_rpc_method_handler(forwarder.stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
