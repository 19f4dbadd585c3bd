"""Chats, embeddings and counts in OpenAI's and Anthropic's own words, over the workers: only the model is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import DecodeError
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.openai.v1.chat_completion_service_pb2 import CreateChatCompletionRequest

from libs.anthropic_api.answer import Events
from libs.errors import InvalidRequest, PlatformError, Violation, refuse_any
from libs.json_members import named_model
from libs.openai_api.answer import Chunks
from libs.rpc.delegation import for_the_caller
from libs.rpc.identity import current_call
from libs.worker.access_policy import CHAT_DEADLINE, COUNT_DEADLINE
from libs.worker.last_words import say_last
from services.provider_router.attempts import first_to_begin
from services.provider_router.candidates import CandidateSearch
from services.provider_router.chat_workers import EMBEDDINGS, MESSAGES, OPENAI_CHAT, ChatWorker
from services.provider_router.first_message import FirstMessage, first_message
from services.provider_router.model_names import AUTOMATIC, Target
from services.provider_router.provider_health import ProviderHealth
from services.provider_router.relaying import SayLast, end_like, relay
from services.provider_router.routed_answers import tell_in_headers
from services.provider_router.routing import Routes
from services.provider_router.string_fields import string_field

_PROVIDER, _MODEL = 1, 2
_EVENTS = "text/event-stream"
# What callers say of the version of Anthropic's API goes on to it.
_ANTHROPIC_HEADERS = ("anthropic-beta", "anthropic-version")

_Stream = Callable[[ChatWorker], grpc.aio.UnaryStreamMultiCallable]
_Unary = Callable[[ChatWorker], grpc.aio.UnaryUnaryMultiCallable]


def _name(asked: CreateChatCompletionRequest) -> str:
    name = asked.model or named_model(asked.body.data)
    if not name:
        raise InvalidRequest([Violation("model", f"must name a model, as provider/model for example, or {AUTOMATIC}.")])
    return name


def _embedding_name(asked: CreateChatCompletionRequest) -> str:
    name = _name(asked)
    if name == AUTOMATIC:  # which vectors they get, nobody wants to leave to chance
        raise InvalidRequest(
            [Violation("model", "must name an embedding model, such as openai/text-embedding-3-small.")]
        )
    return name


class DialectForwarder:
    """Finds the worker for the model a body names, and forwards the bytes of both sides.

    Where the path names the provider there is nothing to find, and nothing is read.
    """

    def __init__(self, routes: Routes[ChatWorker], search: CandidateSearch, health: ProviderHealth) -> None:
        self._routes = routes
        self._search = search
        self._health = health

    async def complete_as_openai(self, request: bytes, context: Any) -> None:
        """Forwards a chat in OpenAI's words."""
        await self._stream(request, context, lambda worker: worker.complete_as_openai, _say_last_as_openai)

    async def complete_as_anthropic(self, request: bytes, context: Any) -> None:
        """Forwards a chat in Anthropic's words."""
        await self._stream(
            request,
            context,
            lambda worker: worker.complete_as_anthropic,
            _say_last_as_anthropic,
            _headers(context, _ANTHROPIC_HEADERS),
        )

    async def embed(self, request: bytes, context: Any) -> bytes:
        """Forwards texts to embed. Only one provider is asked: the vectors of two do not go together."""
        return await self._unary(request, context, lambda worker: worker.embed, CHAT_DEADLINE, name=_embedding_name)

    async def count_tokens(self, request: bytes, context: Any) -> bytes:
        """Forwards a conversation to count the tokens of."""
        headers = _headers(context, _ANTHROPIC_HEADERS)
        return await self._unary(request, context, lambda worker: worker.count_tokens, COUNT_DEADLINE, headers)

    async def _stream(
        self,
        request: bytes,
        context: Any,
        method: _Stream,
        say_last: SayLast,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        asked = _read(request)
        if asked.provider not in ("", AUTOMATIC):
            worker = self._routes.worker_of(asked.provider)
            call = method(worker)(request, **for_the_caller(CHAT_DEADLINE, headers))
            await relay(call, worker.provider, context, say_last)
            return

        async def begin(target: Target, seconds: float) -> FirstMessage:
            worker = self._routes.worker_of(target.provider)
            return await first_message(method(worker), _put_to(target, request), target.provider, seconds, headers)

        begun = await first_to_begin(await self._targets(_name(asked)), begin, self._health)
        tell_in_headers(begun)
        await relay(begun.answer.call, begun.target.provider, context, say_last, first=begun.answer.message)

    async def _unary(
        self,
        request: bytes,
        context: Any,
        method: _Unary,
        seconds: float,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        name: Callable[[CreateChatCompletionRequest], str] = _name,
    ) -> bytes:
        asked = _read(request)
        if asked.provider in ("", AUTOMATIC):
            target = (await self._targets(name(asked)))[0]
            request = _put_to(target, request)
            worker = self._routes.worker_of(target.provider)
        else:
            worker = self._routes.worker_of(asked.provider)
        call = method(worker)(request, **for_the_caller(seconds, headers))
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            await end_like(error, worker.provider, context)
        current_call().answer_headers += (*await call.initial_metadata(), ("x-provider", worker.provider))
        return answer

    async def _targets(self, model: str) -> Sequence[Target]:
        return (await self._search.candidates(model)).arranged(self._health)


def _read(request: bytes) -> CreateChatCompletionRequest:
    """Reads a request; those of all these methods have the same fields."""
    try:
        return CreateChatCompletionRequest.FromString(request)
    except DecodeError:
        raise InvalidRequest([Violation("request", "must be the message of this method.")]) from None


def _put_to(target: Target, request: bytes) -> bytes:
    """Says whom a request is for, behind all it says itself. To a worker `auto` is the configured model."""
    return request + string_field(_PROVIDER, target.provider) + string_field(_MODEL, target.model or AUTOMATIC)


def _headers(context: Any, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Returns headers of the caller as gRPC can carry them, which takes no tabs. Raises InvalidRequest."""
    found = tuple(
        (name, str(value).replace("\t", " ")) for name, value in context.invocation_metadata() if name in names
    )
    refuse_any(
        Violation(name, "must be printable ASCII.")
        for name, value in found
        if not (value.isascii() and value.isprintable())
    )
    return found


async def _say_last_as_openai(error: PlatformError, write: Callable[[bytes], Awaitable[None]], request_id: str) -> None:
    await _say_last(error, write, request_id, Chunks(include_usage=False).events)


async def _say_last_as_anthropic(
    error: PlatformError, write: Callable[[bytes], Awaitable[None]], request_id: str
) -> None:
    await _say_last(error, write, request_id, Events().events)


async def _say_last(
    error: PlatformError,
    write: Callable[[bytes], Awaitable[None]],
    request_id: str,
    events: Callable[[chat.ChatCompletionChunk], bytes],
) -> None:
    async def write_events(chunk: chat.ChatCompletionChunk) -> None:
        await write(HttpBody(content_type=_EVENTS, data=events(chunk)).SerializeToString())

    await say_last(error, write_events, request_id=request_id)


def add_dialect_forwarder_to_server(forwarder: DialectForwarder, server: grpc.aio.Server) -> None:
    """Registers the forwarder for the services of both dialects, without serializers."""
    stream, unary = grpc.unary_stream_rpc_method_handler, grpc.unary_unary_rpc_method_handler
    services = {
        OPENAI_CHAT: {"CreateChatCompletion": stream(forwarder.complete_as_openai)},
        EMBEDDINGS: {"CreateEmbedding": unary(forwarder.embed)},
        MESSAGES: {
            "CreateMessage": stream(forwarder.complete_as_anthropic),
            "CountMessageTokens": unary(forwarder.count_tokens),
        },
    }
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(service, handlers) for service, handlers in services.items())
    )
