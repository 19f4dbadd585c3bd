"""One conversation put to several workers at once: no target waits for another, and none fails another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import grpc
from google.protobuf.wrappers_pb2 import BytesValue
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1 import comparison_service_pb2 as comparison

from libs.errors import IncompleteResponse, PlatformError, ProviderTimeout
from libs.providers import worker_service
from libs.rpc.channel import MAX_MESSAGE_BYTES
from libs.rpc.delegation import for_the_caller
from libs.rpc.identity import current_call
from libs.rpc.status import from_rpc_error, internal_status
from libs.worker.last_words import in_band
from services.provider_router.chat_workers import ChatWorker
from services.provider_router.relaying import is_told
from services.provider_router.routing import Routes

DEFAULT_SECONDS = 120.0

# What the worker keeps back of its time to say how the chat ended, and a little for its way here.
_LAST_WORDS_SECONDS = 0.5
# How long the caller may take to take in why a comparison was ended.
_FAREWELL_SECONDS = 1.0
# Of what all answers together may have; a completion is not the whole of its result.
_MOST_ANSWER_BYTES = MAX_MESSAGE_BYTES - 1024 * 1024

Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Target:
    """One target: its place in the request, and the request its worker gets."""

    place: int
    provider: str
    model: str
    request: bytes


class Comparisons:
    """Compares what workers answer."""

    def __init__(self, workers: Routes[ChatWorker]) -> None:
        self._workers = workers

    async def whole(self, request: comparison.CompareChatCompletionsRequest) -> list[comparison.ComparisonResult]:
        """Returns what each target answered, in the order asked."""
        seconds = _seconds(request)
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._result(target, seconds)) for target in _targets(request)]
        return _fitting([task.result() for task in asked])

    async def streamed(self, request: comparison.CompareChatCompletionsRequest, write: Write) -> None:
        """Writes what the targets answer as it comes, each event as a serialized ComparisonEvent.

        While the caller does not read, no target is read either, so that each worker holds back its own provider.
        """
        seconds, targets, call = _seconds(request), _targets(request), current_call()
        left = {target.place for target in targets}
        events: asyncio.Queue[tuple[int, bytes, bool]] = asyncio.Queue(maxsize=1)
        try:
            async with asyncio.TaskGroup() as tasks:
                for target in targets:
                    tasks.create_task(self._relay(target, seconds, events))
                while left:
                    place, event, last = await events.get()
                    await write(event)
                    if last:
                        left.remove(place)
        except asyncio.CancelledError:
            if call.ended_by is not None:
                with suppress(Exception):
                    async with asyncio.timeout(_FAREWELL_SECONDS):
                        for place in sorted(left):
                            await write(_event(place, chunk=_broken_off(in_band(call.ended_by))))
            raise

    async def _result(self, target: _Target, seconds: float) -> comparison.ComparisonResult:
        started = time.perf_counter()
        result = comparison.ComparisonResult(provider=target.provider, model=target.model)
        try:
            worker = self._workers.worker_of(target.provider)
            answer = await _ask(worker, target, seconds)
            result.completion.ParseFromString(answer)
            result.model = target.model or result.completion.model
            if result.completion.HasField("cost_usd"):
                result.cost_usd = result.completion.cost_usd
        except PlatformError as error:
            result.error.CopyFrom(in_band(error))
        result.latency_ms = _milliseconds_since(started)
        return result

    async def _relay(self, target: _Target, seconds: float, events: asyncio.Queue[tuple[int, bytes, bool]]) -> None:
        """Hands on the events of one target; the last is marked as such, and there always is one."""
        started = time.perf_counter()
        place, latest, failure = target.place, b"", b""
        try:
            stream = self._workers.worker_of(target.provider).stream(target.request, **for_the_caller(seconds))
            try:
                async for latest in stream:
                    await events.put((place, _event(place, chunk=latest), False))
            except grpc.aio.AioRpcError as error:
                # After its first output a worker says itself, in the last chunk, how it ended.
                if not chat.ChatCompletionChunk.FromString(latest).HasField("error"):
                    failure = _broken_off(in_band(_failure_of(error, target, seconds)))
            finally:
                stream.cancel()
        except PlatformError as error:
            failure = _broken_off(in_band(error))
        await events.put((place, _event(place, chunk=failure, latency_ms=_milliseconds_since(started)), True))


async def _ask(worker: ChatWorker, target: _Target, seconds: float) -> bytes:
    call = worker.create(target.request, **for_the_caller(seconds))
    try:
        answer: bytes = await call
    except grpc.aio.AioRpcError as error:
        raise _failure_of(error, target, seconds) from None
    return answer


def _seconds(request: comparison.CompareChatCompletionsRequest) -> float:
    """Returns how long each target may take, at most what lets the others still be told of."""
    seconds = request.timeout_ms / 1000 if request.HasField("timeout_ms") else DEFAULT_SECONDS
    left = current_call().deadline - asyncio.get_running_loop().time() - _LAST_WORDS_SECONDS
    return max(0.0, min(seconds, left))


def _targets(request: comparison.CompareChatCompletionsRequest) -> list[_Target]:
    """Makes the request of each target. What they have in common is serialized once."""
    shared = chat.CreateChatCompletionRequest(
        messages=request.messages,
        options=request.options if request.HasField("options") else None,
        conversation_id=request.conversation_id,
        store=request.store if request.HasField("store") else None,
        metadata=request.metadata,
    ).SerializeToString()
    return [
        _Target(
            place,
            target.provider,
            target.model,
            chat.CreateChatCompletionRequest(provider=target.provider, model=target.model).SerializeToString() + shared,
        )
        for place, target in enumerate(request.targets)
    ]


def _event(place: int, *, chunk: bytes = b"", latency_ms: int | None = None) -> bytes:
    """Serializes an event around a serialized chunk: as field 1 a message is written as the bytes of BytesValue are."""
    rest = comparison.ComparisonEvent(target=place, latency_ms=latency_ms).SerializeToString()
    return BytesValue(value=chunk).SerializeToString() + rest


def _broken_off(error: chat.ChatError) -> bytes:
    return chat.ChatCompletionChunk(finish_reason="error", error=error).SerializeToString()


def _failure_of(error: grpc.aio.AioRpcError, target: _Target, seconds: float) -> PlatformError:
    """Tells why a target has no answer. A bug of its worker is told of as one, and costs the others nothing."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not is_told(error):
        return ProviderTimeout(
            f"{target.provider} did not answer within {seconds:.3g} seconds; allow it more with timeoutMs, or ask for "
            "a shorter answer.",
            provider=target.provider,
        )
    if error.code() is grpc.StatusCode.INTERNAL and is_told(error):
        return _Internal(internal_status(current_call().request_id).message)
    return from_rpc_error(error, service=worker_service(target.provider))


class _Internal(PlatformError):
    default_reason = "INTERNAL"


def _fitting(results: Sequence[comparison.ComparisonResult]) -> list[comparison.ComparisonResult]:
    """Leaves out the answers that one message has no room for beside those before them."""
    room = _MOST_ANSWER_BYTES
    for result in results:
        size = result.completion.ByteSize()
        if size <= room:
            room -= size
        else:
            result.ClearField("completion")
            error = IncompleteResponse(
                "The answers together are longer than one message may be; ask fewer targets, or stream the comparison.",
                provider=result.provider,
            )
            result.error.CopyFrom(in_band(error))
    return list(results)


def _milliseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
