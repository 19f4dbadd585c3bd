"""Services that answer what a test tells them to, behind the real bootstrap, and remember what they were asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from libs.rpc.access_policy import UNBOUNDED, open_to
from libs.rpc.identity import current_call
from libs.rpc.tls import TlsIdentity
from tests.support.rpc import running


@dataclass(frozen=True)
class Asked:
    """A call as it arrived."""

    method: str
    request: Any
    metadata: dict[str, str]
    peer: str


class StandIn:
    """One service, of any number of protobuf services.

    `answers` maps names of methods to coroutine functions (or, for streaming methods, async generator functions) from
    the request and the context to the answer; a method without one answers an empty message, a stream of none.
    """

    def __init__(self, *services: ServiceDescriptor) -> None:
        self._services = services
        self.answers: dict[str, Callable[[Any, Any], Any]] = {}
        self.asked: list[Asked] = []

    def forget(self) -> None:
        """Makes it as new."""
        self.answers.clear()
        self.asked.clear()

    @asynccontextmanager
    async def running(
        self,
        tls: TlsIdentity,
        port: int = 0,
        *,
        limits: Mapping[str, str] | None = None,
        allowed_origins: tuple[str, ...] = (),
    ) -> AsyncIterator[str]:
        """Serves Envoy, for everyone, and yields the address. A port of 0 chooses a free one.

        `limits` are those of methods by their name, for each address; the others have none.
        """
        limits = limits or {}
        methods = [method for service in self._services for method in service.methods]
        policy = {
            _path(method): open_to({"envoy"}, deadline=UNBOUNDED, limit=limits.get(method.name)) for method in methods
        }
        service = running(
            tls,
            self._register,
            policy=policy,
            port=port,
            drain_seconds=0.1,
            rate_limits={},
            allowed_origins=allowed_origins,
        )
        async with service as address:
            yield address

    def _register(self, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    service.full_name, {method.name: self._handler(method) for method in service.methods}
                )
                for service in self._services
            ]
        )

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler:
        streaming = method.server_streaming
        make = grpc.unary_stream_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
        return make(
            partial(self._stream if streaming else self._answer, method),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )

    async def _answer(self, method: MethodDescriptor, request: Message, context: Any) -> Message:
        self._remember(method, request, context)
        if method.name in self.answers:
            answer: Message = await self.answers[method.name](request, context)
            return answer
        return GetMessageClass(method.output_type)()

    async def _stream(self, method: MethodDescriptor, request: Message, context: Any) -> AsyncIterator[Message]:
        self._remember(method, request, context)
        if method.name in self.answers:
            async for message in self.answers[method.name](request, context):
                yield message

    def _remember(self, method: MethodDescriptor, request: Message, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        self.asked.append(Asked(method.name, request, metadata, current_call().peer))


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"
