"""Chats that leave the choice of the provider to the platform, which tries one after the other until one answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.router.v1.routed_request_pb2 import RoutedRequest

from libs.errors import InvalidRequest, Violation, refuse_any
from libs.rpc.delegation import for_the_caller
from libs.rpc.identity import current_call
from services.provider_router.attempts import Begun, first_to_begin
from services.provider_router.candidates import CandidateSearch
from services.provider_router.chat_workers import ChatWorker
from services.provider_router.first_message import FirstMessage, first_message
from services.provider_router.model_names import Target
from services.provider_router.provider_health import ProviderHealth
from services.provider_router.relaying import SayLast, relay, understood
from services.provider_router.routed_answers import answer_metadata, tell_in_headers
from services.provider_router.routing import Routes
from services.provider_router.string_fields import string_field

T = TypeVar("T")

_PROVIDER, _MODEL = 1, 2
_MOST_FALLBACKS = 10
_LONGEST_MODEL = 200


@dataclass(frozen=True, slots=True)
class _Asked:
    """A chat: the model it is to be answered by, where to turn else, and the rest of the request as it is written."""

    model: str
    fallbacks: Sequence[Target]
    rest: bytes

    def put_to(self, target: Target) -> bytes:
        """Serializes the request for one target."""
        return (
            string_field(_PROVIDER, target.provider)
            + (string_field(_MODEL, target.model) if target.model else b"")
            + self.rest
        )


class AutoChats:
    """Chooses the workers of chats, and turns to the next when one fails before its first output."""

    def __init__(self, workers: Routes[ChatWorker], search: CandidateSearch, health: ProviderHealth) -> None:
        self._workers = workers
        self._search = search
        self._health = health

    async def create(self, request: bytes) -> bytes:
        """Returns the whole answer of the first target that gives one."""
        asked = self._read(request)

        async def begin(target: Target, seconds: float) -> bytes:
            worker = self._workers.worker_of(target.provider)
            call = worker.create(asked.put_to(target), **for_the_caller(seconds))
            try:
                answer: bytes = await call
            except grpc.aio.AioRpcError as error:
                raise understood(error, target.provider) from None
            current_call().answer_headers += await call.initial_metadata()
            return answer

        begun = await self._first(asked, begin)
        tell_in_headers(begun)
        # Behind a message, another of its kind is a part of it.
        return begun.answer + chat.ChatCompletion(metadata=answer_metadata(begun)).SerializeToString()

    async def stream(self, request: bytes, context: Any, say_last: SayLast) -> None:
        """Writes the answer of the first target that begins one."""
        asked = self._read(request)

        async def begin(target: Target, seconds: float) -> FirstMessage:
            worker = self._workers.worker_of(target.provider)
            return await first_message(worker.stream, asked.put_to(target), target.provider, seconds)

        begun: Begun[FirstMessage] = await self._first(asked, begin)
        tell_in_headers(begun)
        first = begun.answer.message + chat.ChatCompletionChunk(metadata=answer_metadata(begun)).SerializeToString()
        await relay(begun.answer.call, begun.target.provider, context, say_last, first=first)

    async def _first(self, asked: _Asked, begin: Callable[[Target, float], Awaitable[T]]) -> Begun[T]:
        found = await self._search.candidates(asked.model, asked.fallbacks)
        return await first_to_begin(found.arranged(self._health), begin, self._health)

    def _read(self, request: bytes) -> _Asked:
        """Reads what the choice needs; all else stays in the bytes it came in. Raises InvalidRequest."""
        try:
            routed = RoutedRequest.FromString(request)
        except DecodeError:
            raise InvalidRequest([Violation("request", "must be a CreateChatCompletionRequest.")]) from None
        refuse_any(self._problems(routed))
        model, fallbacks = routed.model, [Target(each.provider, each.model) for each in routed.fallbacks]
        for name in ("provider", "model", "fallbacks"):
            routed.ClearField(name)
        return _Asked(model, fallbacks, routed.SerializeToString())

    def _problems(self, routed: RoutedRequest) -> Iterator[Violation]:
        if len(routed.model) > _LONGEST_MODEL:
            yield Violation("model", f"must have at most {_LONGEST_MODEL} characters.")
        if len(routed.fallbacks) > _MOST_FALLBACKS:
            yield Violation("fallbacks", f"must be at most {_MOST_FALLBACKS}.")
        for place, fallback in enumerate(routed.fallbacks[:_MOST_FALLBACKS]):
            if fallback.provider not in self._workers.known:
                known = ", ".join(self._workers.known)
                yield Violation(f"fallbacks[{place}].provider", f"must be one of {known}.")
            if len(fallback.model) > _LONGEST_MODEL:
                yield Violation(f"fallbacks[{place}].model", f"must have at most {_LONGEST_MODEL} characters.")
