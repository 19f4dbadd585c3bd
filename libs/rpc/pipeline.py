"""Runs a chain of interceptors around every method of a server, whatever kind of method it is.

gRPC for asyncio decides by inspection whether a handler is a coroutine or a generator, and a wrapper of the other
colour breaks it. Here every method becomes a coroutine first (a streaming one writes its messages to the context),
so an interceptor is written once and never asks which kind it is around.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from libs.errors import InvalidRequest, Violation
from libs.rpc.identity import Call, enter_call

Proceed = Callable[[], Awaitable[Any]]


class Interceptor(Protocol):
    """One step around a call. Calls `proceed` once to go on, or raises."""

    async def __call__(self, call: Call, proceed: Proceed) -> Any: ...


class Pipeline(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Applies interceptors, outermost first. Wraps each method once, not at every call."""

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self._innermost_first = tuple(reversed(interceptors))
        self._wrapped: dict[str, grpc.RpcMethodHandler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None  # gRPC answers UNIMPLEMENTED; unknown names must not fill the table
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        behavior = _as_coroutine(getattr(handler, kind))
        deserializer = handler.request_deserializer
        if not handler.request_streaming:
            behavior, deserializer = _reading(behavior, deserializer), None

        async def run(request: Any, context: Any) -> Any:
            call = Call(method, context, kind=kind)
            enter_call(call)
            proceed: Proceed = partial(
                behavior, request, _HeadersFirst(call) if handler.response_streaming else context
            )
            for interceptor in self._innermost_first:
                proceed = partial(interceptor, call, proceed)
            answer = await proceed()
            if call.answer_headers:
                await _send_headers(call)
            return answer

        # gRPC would wait for the one message of a request before anything here runs: without a deadline, for anybody.
        make = getattr(grpc, f"stream_{kind.partition('_')[2]}_rpc_method_handler")
        wrapped: grpc.RpcMethodHandler = make(
            run,
            request_deserializer=deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped


class _HeadersFirst:
    """The context of a call whose answer is streamed: what it answers with goes out before the first message.

    Not earlier, since until then the answer may become an error, which only headers not yet sent can tell.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._context = call.context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        """Writes a message."""
        if self._call.answer_headers:
            await _send_headers(self._call)
        await self._context.write(message)


async def _send_headers(call: Call) -> None:
    # Sending costs about 0.1 ms, so all of them go at once.
    headers, call.answer_headers = call.answer_headers, []
    await call.context.send_initial_metadata(tuple(headers))


def _reading(
    behavior: Callable[..., Awaitable[Any]], deserialize: Callable[[bytes], Any] | None
) -> Callable[..., Awaitable[Any]]:
    """Reads the request inside the interceptors: nobody unknown has it read, and what is none is answered as such.

    gRPC itself would tell the caller the text of the exception.
    """

    async def run(_requests: Any, context: Any) -> Any:
        request = await context.read()
        if request is grpc.aio.EOF:
            raise InvalidRequest([Violation("request", "must be one message of this method, not none.")])
        if deserialize is not None:
            try:
                request = deserialize(request)
            except DecodeError:  # not protobuf, text that is not UTF-8, or nested deeper than protobuf goes
                raise InvalidRequest(
                    [Violation("request", "must be a message of this method, nested less than 100 deep.")]
                ) from None
        return await behavior(request, context)

    return run


def _as_coroutine(behavior: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    if not inspect.isasyncgenfunction(behavior):
        return behavior

    async def write_all(request: Any, context: Any) -> None:
        # Closing the generator here runs its `finally` when the caller leaves, not when it is collected.
        async with aclosing(behavior(request, context)) as messages:
            async for message in messages:
                await context.write(message)

    return write_all
