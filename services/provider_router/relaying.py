"""Hands what a worker streams on to the caller, message by message, and ends the call as the worker ended it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc

from libs.errors import PlatformError
from libs.providers import worker_service
from libs.rpc.error_bodies import relayed_error_headers
from libs.rpc.identity import current_call
from libs.rpc.status import from_rpc_error

_STATUS_DETAILS = "grpc-status-details-bin"

# Tells a caller who has had a part of an answer why it ends here: the error, what writes a message, and the request id.
SayLast = Callable[[PlatformError, Callable[[bytes], Awaitable[None]], str], Awaitable[None]]


async def relay(call: Any, provider: str, context: Any, say_last: SayLast, *, first: bytes | None = None) -> None:
    """Writes `first` and then every message of a call to a worker, each when it arrives.

    When the caller leaves, this is where the worker hears of it.
    """
    served, begun = current_call(), False
    try:
        served.answer_headers += await call.initial_metadata()
        message = await call.read() if first is None else first
        while message is not grpc.aio.EOF:
            # The caller may have it before the write returns.
            begun = True
            await context.write(message)
            message = await call.read()
        context.set_trailing_metadata(tuple(await call.trailing_metadata()))
    except grpc.aio.AioRpcError as error:
        # A worker says itself, in the answer, how it breaks off; one that is killed cannot.
        if begun and not is_told(error):
            await say_last(from_rpc_error(error, service=worker_service(provider)), context.write, served.request_id)
        await end_like(error, provider, context)
    except asyncio.CancelledError:
        if begun and served.ended_by is not None:
            await say_last(served.ended_by, context.write, served.request_id)
        raise
    finally:
        call.cancel()  # without effect on one that is over


def understood(error: grpc.aio.AioRpcError, provider: str) -> PlatformError:
    """Returns why a worker does not answer, in our words. Raises the error itself when it is a bug of the worker."""
    if error.code() is grpc.StatusCode.INTERNAL and is_told(error):
        raise error
    return from_rpc_error(error, service=worker_service(provider))


def is_told(error: grpc.aio.AioRpcError) -> bool:
    """Tells whether the worker has given the status itself."""
    return _STATUS_DETAILS in dict(error.trailing_metadata())


async def end_like(error: grpc.aio.AioRpcError, provider: str, context: Any) -> NoReturn:
    """Ends the call as the worker ended it. What gRPC itself says in place of a worker is put into our words."""
    trailing = tuple(error.trailing_metadata())
    details = dict(trailing).get(_STATUS_DETAILS)
    if not isinstance(details, bytes):
        raise from_rpc_error(error, service=worker_service(provider)) from None
    call = current_call()
    call.facts["code"] = error.code().name
    headers = relayed_error_headers(call, details)
    await context.abort(error.code(), error.details(), (*call.answer_headers, *headers, *trailing))
    raise AssertionError("abort always raises")
