"""A channel whose calls are spans, where the call that is being served is one. Elsewhere they are as ever."""

from __future__ import annotations

from typing import Any

import grpc

from libs.rpc.identity import current_span
from libs.tracing import Span


class TracedChannel:
    """A channel of gRPC, as far as callers of methods that answer one request know it; the rest is the channel's own.

    Not an interceptor of gRPC, which would put a task and a queue around every call, also where nothing is traced.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def __aenter__(self) -> TracedChannel:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._channel.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> TracedMethod:
        """Makes a method that answers with one message."""
        return TracedMethod(method, self._channel.unary_unary(method, *arguments, **options))

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> TracedMethod:
        """Makes a method that answers with a stream of messages."""
        return TracedMethod(method, self._channel.unary_stream(method, *arguments, **options))


class TracedMethod:
    """A method of another service; calling it begins the call."""

    __slots__ = ("_call", "_method")

    def __init__(self, method: str, call: Any) -> None:
        self._method = method[1:]
        self._call = call

    def __call__(self, request: Any, **options: Any) -> Any:
        """Begins a call; the options are those of gRPC."""
        served = current_span()
        if served is None:
            return self._call(request, **options)
        span = served.begin(self._method, {"rpc.system.name": "grpc", "rpc.method": self._method})
        options["metadata"] = (*(options.get("metadata") or ()), *span.headers)
        call = self._call(request, **options)
        call.add_done_callback(lambda over: _end(span, over))
        return call


def _end(span: Span, call: Any) -> None:
    code = _code_of(call).name
    span.note("rpc.response.status_code", code)
    span.end("" if code == "OK" else code)


def _code_of(call: Any) -> grpc.StatusCode:
    """Returns the status of a call that is over: gRPC has it, and waits for nothing to tell it."""
    telling = call.code()
    try:
        telling.send(None)
    except StopIteration as told:
        return told.value
    telling.close()
    return grpc.StatusCode.UNKNOWN
