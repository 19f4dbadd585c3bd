"""Chats whose provider the router chooses, `auto` and /v1, over servers that stand in for workers and key vault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from realmultillm.anthropic.v1 import message_service_pb2 as anthropic
from realmultillm.anthropic.v1.message_service_pb2_grpc import (
    MessageServiceServicer,
    MessageServiceStub,
    add_MessageServiceServicer_to_server,
)
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1.chat_service_pb2_grpc import (
    ChatServiceServicer,
    ChatServiceStub,
    add_ChatServiceServicer_to_server,
)
from realmultillm.keyvault.v1.credential_service_pb2 import ListProviderStatesResponse, ProviderState
from realmultillm.keyvault.v1.credential_service_pb2_grpc import (
    CredentialServiceServicer,
    CredentialServiceStub,
    add_CredentialServiceServicer_to_server,
)
from realmultillm.openai.v1 import chat_completion_service_pb2 as openai
from realmultillm.openai.v1 import embedding_service_pb2 as embeddings
from realmultillm.openai.v1.chat_completion_service_pb2_grpc import (
    ChatCompletionServiceServicer,
    ChatCompletionServiceStub,
    add_ChatCompletionServiceServicer_to_server,
)
from realmultillm.openai.v1.embedding_service_pb2_grpc import (
    EmbeddingServiceServicer,
    EmbeddingServiceStub,
    add_EmbeddingServiceServicer_to_server,
)
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2
from realmultillm.provider.v1.provider_service_pb2_grpc import (
    ProviderServiceServicer,
    ProviderServiceStub,
    add_ProviderServiceServicer_to_server,
)

from libs.errors import (
    FailedPrecondition,
    PlatformError,
    ProviderKeyRejected,
    ProviderRateLimited,
    ProviderRejectedRequest,
    ProviderTimeout,
    ProviderUnavailable,
)
from libs.model_catalog import ModelCatalog
from libs.provider_catalog import load_catalog
from libs.providers import worker_service
from libs.rpc.access_policy import AccessPolicy, for_role
from libs.rpc.channel import open_channel
from libs.rpc.identity import Call, enter_call, invalid_token
from libs.worker.access_policy import ACCESS_POLICY as WORKER_POLICY
from services.provider_router.access_policy import ACCESS_POLICY
from services.provider_router.auto_chats import AutoChats
from services.provider_router.backends import open_channels
from services.provider_router.candidates import CandidateSearch
from services.provider_router.chat_forwarding import ChatForwarder, add_chat_forwarder_to_server
from services.provider_router.chat_workers import ChatWorker
from services.provider_router.dialect_forwarding import DialectForwarder, add_dialect_forwarder_to_server
from services.provider_router.first_message import first_message
from services.provider_router.model_names import ModelNames
from services.provider_router.observation import observing
from services.provider_router.person_states import PersonStates
from services.provider_router.provider_health import State, watching_providers
from services.provider_router.provider_states import ProviderStates
from services.provider_router.routing import Routes
from tests.support.rpc import Identities, KnownTokens, bearer, error_info, running, violations
from tests.support.waiting import BOUND_SECONDS, eventually, within_bound

PROVIDERS = ("anthropic", "grok", "openai")
KEY_VAULT_POLICY: AccessPolicy = {
    "/realmultillm.keyvault.v1.CredentialService/ListProviderStates": for_role(
        "user", {"provider-router"}, scopes={"models:read", "chat"}
    )
}
MESSAGES = [chat.ChatMessage(role="user", content="Grüße")]
EVENTS = "text/event-stream"
# Spacing, order and fields are the caller's.
BODY = b'{ "stream":true,  "model":"%s", "unheard_of": 1.50, "messages":[] }'


class StandInWorker:
    """Answers in every dialect, or does what the test says, and remembers what it was asked."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.failure: Exception | None = None
        self.hangs = False
        # What a stream fails with after its first message; where it stays, when it does.
        self.breaks_off: PlatformError | None = None
        self.stays = False
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.health: asyncio.Queue[provider_pb2.ProviderHealth] = asyncio.Queue()

    async def begin(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.entered.set()
        if self.hangs:
            await self._never()
        if self.failure is not None:
            raise self.failure

    async def go_on(self) -> None:
        if self.breaks_off is not None:
            raise self.breaks_off
        if self.stays:
            await self._never()

    async def _never(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class NativeChats(ChatServiceServicer):
    def __init__(self, worker: StandInWorker) -> None:
        self._worker = worker

    async def CreateChatCompletion(self, request: Any, context: Any) -> chat.ChatCompletion:
        await self._worker.begin(request, context)
        await context.send_initial_metadata((("x-provider-latency-ms", "12"),))
        dropped = [chat.DroppedOption(option="options.seed")]
        return chat.ChatCompletion(
            id="answer", provider=self._worker.provider, metadata=chat.AnswerMetadata(dropped_options=dropped)
        )

    async def StreamChatCompletion(self, request: Any, context: Any) -> AsyncIterator[chat.ChatCompletionChunk]:
        await self._worker.begin(request, context)
        yield chat.ChatCompletionChunk(content="one ", provider=self._worker.provider)
        await self._worker.go_on()
        yield chat.ChatCompletionChunk(content="two", finish_reason="stop")


class Dialects(ChatCompletionServiceServicer, EmbeddingServiceServicer):
    def __init__(self, worker: StandInWorker) -> None:
        self._worker = worker

    async def CreateChatCompletion(self, request: Any, context: Any) -> AsyncIterator[HttpBody]:
        await self._worker.begin(request, context)
        yield HttpBody(content_type=EVENTS, data=b'data: {"of":"%s"}\n\n' % self._worker.provider.encode())
        await self._worker.go_on()
        yield HttpBody(content_type=EVENTS, data=b"data: [DONE]\n\n")

    async def CreateEmbedding(self, request: Any, context: Any) -> HttpBody:
        await self._worker.begin(request, context)
        return HttpBody(content_type="application/json", data=b'{"data":[]}')


class Messages(MessageServiceServicer):
    def __init__(self, worker: StandInWorker) -> None:
        self._worker = worker

    async def CreateMessage(self, request: Any, context: Any) -> AsyncIterator[HttpBody]:
        await self._worker.begin(request, context)
        yield HttpBody(content_type=EVENTS, data=b'event: message_start\ndata: {"of":1}\n\n')
        await self._worker.go_on()

    async def CountMessageTokens(self, request: Any, context: Any) -> HttpBody:
        await self._worker.begin(request, context)
        return HttpBody(content_type="application/json", data=b'{"input_tokens":3}')


class Health(ProviderServiceServicer):
    def __init__(self, worker: StandInWorker) -> None:
        self._worker = worker

    async def WatchProviderHealth(self, request: Any, context: Any) -> AsyncIterator[provider_pb2.ProviderHealth]:
        while True:
            yield await self._worker.health.get()


class StandInKeyVault(CredentialServiceServicer):
    def __init__(self) -> None:
        self.states: list[ProviderState] = []
        self.asked = 0

    async def ListProviderStates(self, request: Any, context: Any) -> ListProviderStatesResponse:
        self.asked += 1
        return ListProviderStatesResponse(states=self.states)


class Platform:
    """The router over three workers."""

    def __init__(self, identity: Identities) -> None:
        self._identity = identity
        self.tokens = KnownTokens()
        self.token = self.tokens.issue("ada", scopes={"chat"})
        self.key_vault = StandInKeyVault()
        self.workers = {provider: StandInWorker(provider) for provider in PROVIDERS}
        self.openai, self.anthropic, self.grok = (
            self.workers[provider] for provider in ("openai", "anthropic", "grok")
        )
        self.use("openai", "anthropic")

    def use(self, *providers: str) -> None:
        """Lets the person use these providers, in this order."""
        self.key_vault.states = [
            ProviderState(provider=provider, configured=True, enabled=True, priority=place)
            for place, provider in enumerate(providers, start=1)
        ]

    async def start(self, stack: AsyncExitStack) -> None:
        run = partial(running, tokens=self.tokens)
        addresses = {"auth": "127.0.0.1:1", "analytics": "127.0.0.1:1"}
        addresses["key-vault"] = await stack.enter_async_context(
            run(
                self._identity("key-vault"),
                partial(add_CredentialServiceServicer_to_server, self.key_vault),
                policy=KEY_VAULT_POLICY,
            )
        )
        for provider, worker in self.workers.items():
            name = worker_service(provider)
            registrations = (
                partial(add_ChatServiceServicer_to_server, NativeChats(worker)),
                partial(add_ChatCompletionServiceServicer_to_server, Dialects(worker)),
                partial(add_EmbeddingServiceServicer_to_server, Dialects(worker)),
                partial(add_MessageServiceServicer_to_server, Messages(worker)),
                partial(add_ProviderServiceServicer_to_server, Health(worker)),
            )
            addresses[name] = await stack.enter_async_context(
                run(self._identity(name), *registrations, policy=WORKER_POLICY)
            )
        tls = self._identity("provider-router")
        self.channels = await stack.enter_async_context(open_channels(addresses, tls))
        observation = await stack.enter_async_context(observing(self.channels, {}))
        stubs = {provider: ProviderServiceStub(self.channels[worker_service(provider)]) for provider in PROVIDERS}
        self.health = await stack.enter_async_context(watching_providers(stubs, observation))
        catalog = load_catalog()
        routes = Routes(
            {provider: ChatWorker.on(self.channels[worker_service(provider)], provider) for provider in PROVIDERS},
            known=catalog,
        )
        states = PersonStates(ProviderStates(CredentialServiceStub(self.channels["key-vault"])))
        search = CandidateSearch(ModelNames(PROVIDERS, ModelCatalog.load(catalog)), states)
        chats = ChatForwarder(routes, AutoChats(routes, search, self.health))
        dialects = DialectForwarder(routes, search, self.health)
        address = await stack.enter_async_context(
            run(
                tls,
                partial(add_chat_forwarder_to_server, chats),
                partial(add_dialect_forwarder_to_server, dialects),
                policy=ACCESS_POLICY,
            )
        )
        self.channel = await stack.enter_async_context(
            open_channel(address, "provider-router", self._identity("envoy"))
        )
        for provider in PROVIDERS:
            await eventually(partial(self._is_healthy, provider), bool)

    async def _is_healthy(self, provider: str) -> bool:
        return self.health.is_healthy(provider)

    async def tell_health(self, worker: StandInWorker, state: Any, expected: State) -> None:
        """Has a worker tell how its provider stands, and waits until the router knows."""
        worker.health.put_nowait(provider_pb2.ProviderHealth(state=state))

        async def known() -> Any:
            return self.health.performance(worker.provider)

        await eventually(known, lambda told: told is not None and told.state is expected)

    def create(self, *, metadata: Any = (), **request: Any) -> Any:
        return ChatServiceStub(self.channel).CreateChatCompletion(_auto(request), **self._options(metadata))

    def stream(self, *, metadata: Any = (), **request: Any) -> Any:
        return ChatServiceStub(self.channel).StreamChatCompletion(_auto(request), **self._options(metadata))

    def complete(self, model: str, *, provider: str = "") -> Any:
        """Asks for a streamed answer in OpenAI's words."""
        body = HttpBody(content_type="application/json", data=BODY % model.encode())
        request = openai.CreateChatCompletionRequest(provider=provider, body=body)
        return ChatCompletionServiceStub(self.channel).CreateChatCompletion(request, **self._options())

    def message(self, model: str, *, metadata: Any = ()) -> Any:
        """Asks for a streamed answer in Anthropic's words."""
        request = anthropic.CreateMessageRequest(body=HttpBody(data=BODY % model.encode()))
        return MessageServiceStub(self.channel).CreateMessage(request, **self._options(metadata))

    def options(self) -> dict[str, Any]:
        return self._options()

    def _options(self, metadata: Any = ()) -> dict[str, Any]:
        return {"metadata": (*bearer(self.token), *metadata), "timeout": 10 * BOUND_SECONDS}


def _auto(request: dict[str, Any]) -> chat.CreateChatCompletionRequest:
    return chat.CreateChatCompletionRequest(**{"provider": "auto", "messages": MESSAGES, **request})


@pytest.fixture
async def platform(identity: Identities) -> AsyncIterator[Platform]:
    platform = Platform(identity)
    async with AsyncExitStack() as stack:
        await platform.start(stack)
        yield platform


async def failure_of(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """Returns the error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await within_bound(call)
    return failed.value


async def whole(call: Any) -> list[Any]:
    """Reads a stream to its end."""
    return [message async for message in call]


async def headers_of(call: Any) -> dict[str, str]:
    return dict(tuple(await call.initial_metadata()))


def away(provider: str = "openai") -> ProviderUnavailable:
    return ProviderUnavailable("Away; try again in a moment.", provider=provider)


# A native chat, whole or streamed, to what it says and its headers.
Chat = Callable[..., Awaitable[tuple[chat.ChatCompletion | chat.ChatCompletionChunk, dict[str, str]]]]


@pytest.fixture(params=["whole", "streamed"])
def ask(request: pytest.FixtureRequest, platform: Platform) -> Chat:
    """Chats natively with `auto`, and returns the answer or the first chunk, and the headers."""

    async def chat_with(**fields: Any) -> tuple[chat.ChatCompletion | chat.ChatCompletionChunk, dict[str, str]]:
        call = platform.create(**fields) if request.param == "whole" else platform.stream(**fields)
        answer = await within_bound(call) if request.param == "whole" else (await within_bound(whole(call)))[0]
        return answer, await headers_of(call)

    return chat_with


class TestAuto:
    async def test_the_persons_first_provider_answers(self, platform: Platform, ask: Chat) -> None:
        answer, headers = await ask(options=chat.ChatOptions(seed=7))

        assert answer.provider == headers["x-provider"] == "openai"
        assert "x-model" not in headers
        assert "x-failed-attempts" not in headers
        assert not answer.metadata.failed_attempts
        (request,) = platform.openai.requests
        assert request == _auto({"provider": "openai", "options": chat.ChatOptions(seed=7)})
        assert platform.anthropic.requests == []

    async def test_the_next_answers_in_its_place_and_the_answer_tells(self, platform: Platform, ask: Chat) -> None:
        platform.use("openai", "grok", "anthropic")
        platform.openai.failure = away()
        platform.grok.failure = ProviderKeyRejected("The key was refused.", provider="grok")

        answer, headers = await ask(metadata=(("x-request-id", "request-0001"),))

        assert answer.provider == headers["x-provider"] == "anthropic"
        assert headers["x-failed-attempts"] == "openai=PROVIDER_UNAVAILABLE, grok=INVALID_API_KEY"
        first, second = answer.metadata.failed_attempts
        assert (first.provider, first.reason, first.message) == (
            "openai",
            "PROVIDER_UNAVAILABLE",
            "Away; try again in a moment.",
        )
        assert first.HasField("latency_ms")
        assert (second.provider, second.model, second.reason) == ("grok", "", "INVALID_API_KEY")
        # Each worker accounts for its own attempt, under the one id of the request.
        ids = {worker.metadata[0]["x-request-id"] for worker in platform.workers.values()}
        assert ids == {"request-0001"}
        assert [len(worker.requests) for worker in platform.workers.values()] == [1, 1, 1]

    async def test_what_the_worker_says_of_the_answer_stays(self, platform: Platform) -> None:
        platform.openai.failure = away()

        call = platform.create()
        answer = await call

        assert [dropped.option for dropped in answer.metadata.dropped_options] == ["options.seed"]
        assert len(answer.metadata.failed_attempts) == 1
        assert (await headers_of(call))["x-provider-latency-ms"] == "12"

    async def test_fallbacks_follow_in_their_order_and_stay_with_the_router(
        self, platform: Platform, ask: Chat
    ) -> None:
        platform.openai.failure = away()
        fallbacks = [chat.FallbackTarget(provider="grok", model="grok-x"), chat.FallbackTarget(provider="anthropic")]

        answer, headers = await ask(model="openai/gpt-x", fallbacks=fallbacks)

        assert answer.provider == headers["x-provider"] == "grok"
        assert headers["x-model"] == "grok-x"
        assert [failed.model for failed in answer.metadata.failed_attempts] == ["gpt-x"]
        assert platform.openai.requests == [_auto({"provider": "openai", "model": "gpt-x"})]
        assert platform.grok.requests == [_auto({"provider": "grok", "model": "grok-x"})]
        assert platform.key_vault.asked == 0, "who is named needs no leave to be asked: the worker looks itself"

    async def test_fields_of_a_newer_version_reach_the_worker(self, platform: Platform) -> None:
        newer_field = b"\xfa\x7f\x05newer"
        create = platform.channel.unary_unary("/realmultillm.chat.v1.ChatService/CreateChatCompletion")

        await create(_auto({}).SerializeToString() + newer_field, **platform.options())

        assert platform.openai.requests[0].SerializeToString().endswith(newer_field)

    @pytest.mark.parametrize("method", ["create", "stream"])
    async def test_what_is_wrong_for_all_ends_it(self, platform: Platform, method: str) -> None:
        platform.openai.failure = ProviderRejectedRequest("The request is invalid.", provider="openai")
        call = getattr(platform, method)()

        error = await failure_of(call if method == "create" else call.read())

        assert error_info(error).reason == "PROVIDER_REJECTED_REQUEST"
        assert platform.anthropic.requests == []

    @pytest.mark.parametrize("method", ["create", "stream"])
    async def test_where_all_fail_the_first_error_tells_of_all(self, platform: Platform, method: str) -> None:
        platform.openai.failure = ProviderRateLimited("Too often.", provider="openai", retry_after=7)
        platform.anthropic.failure = FailedPrecondition("No key.", reason="PROVIDER_NOT_CONFIGURED")
        call = getattr(platform, method)()

        error = await failure_of(call if method == "create" else call.read())

        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Too often.")
        assert error_info(error).reason == "PROVIDER_RATE_LIMITED"
        attempts = "openai=PROVIDER_RATE_LIMITED, anthropic=PROVIDER_NOT_CONFIGURED"
        assert error_info(error).metadata["attempts"] == attempts
        assert ("retry-after", "7") in tuple(error.trailing_metadata())

    @pytest.mark.parametrize("method", ["create", "stream"])
    async def test_a_bug_of_a_worker_stays_one(self, platform: Platform, method: str) -> None:
        platform.openai.failure = RuntimeError("sk-secret")
        call = getattr(platform, method)(metadata=(("x-request-id", "request-0001"),))

        error = await failure_of(call if method == "create" else call.read())

        assert error.code() is grpc.StatusCode.INTERNAL
        assert error_info(error).metadata["requestId"] == "request-0001"
        assert "sk-secret" not in str(error)
        assert platform.anthropic.requests == []

    async def test_impossible_requests_are_refused_with_all_that_is_wrong(self, platform: Platform) -> None:
        fallbacks = [chat.FallbackTarget(provider=name) for name in ("closedai", "auto", "", *["openai"] * 8)]
        fallbacks[3].model = "x" * 201

        error = await failure_of(platform.create(model="x" * 201, fallbacks=fallbacks))

        fields = ["model", "fallbacks", *(f"fallbacks[{place}].provider" for place in range(3)), "fallbacks[3].model"]
        assert violations(error) == fields
        unknown = await failure_of(platform.create(model="unheard-of"))
        assert (unknown.code(), error_info(unknown).reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
        assert all(worker.requests == [] for worker in platform.workers.values())


class TestNeverAfterTheFirstMessage:
    """What has been said stays said: a stream that breaks off ends, and nobody else is asked."""

    async def test_of_a_native_stream(self, platform: Platform) -> None:
        platform.openai.breaks_off = away()
        call = platform.stream(fallbacks=[chat.FallbackTarget(provider="grok")])

        assert (await within_bound(call.read())).content == "one "
        error = await failure_of(call.read())

        assert error_info(error).reason == "PROVIDER_UNAVAILABLE"
        assert platform.anthropic.requests == platform.grok.requests == []

    @pytest.mark.parametrize("method", ["complete", "message"])
    async def test_of_a_stream_in_a_dialect(self, platform: Platform, method: str) -> None:
        platform.openai.breaks_off = away()
        call = getattr(platform, method)("auto")

        assert (await within_bound(call.read())).data
        error = await failure_of(call.read())

        assert error_info(error).reason == "PROVIDER_UNAVAILABLE"
        assert platform.anthropic.requests == platform.grok.requests == []

    async def test_of_one_that_another_has_begun_in_the_place_of_the_first(self, platform: Platform) -> None:
        platform.openai.failure = away()
        platform.anthropic.breaks_off = away("anthropic")
        call = platform.stream(fallbacks=[chat.FallbackTarget(provider="grok")])

        said = await within_bound(call.read())
        error = await failure_of(call.read())

        assert (said.content, said.provider) == ("one ", "anthropic")
        assert error_info(error).metadata["provider"] == "anthropic"
        assert platform.grok.requests == []


class TestLeaving:
    @pytest.mark.parametrize("method", ["create", "stream"])
    async def test_a_caller_who_leaves_ends_the_attempt_under_way_and_there_is_no_other(
        self, platform: Platform, method: str
    ) -> None:
        platform.openai.failure = away()
        platform.anthropic.hangs = True
        call = getattr(platform, method)(fallbacks=[chat.FallbackTarget(provider="grok")])
        await within_bound(platform.anthropic.entered.wait())

        call.cancel()

        await within_bound(platform.anthropic.cancelled.wait())
        assert platform.grok.requests == []

    async def test_a_worker_that_does_not_begin_in_its_time_is_left(self, platform: Platform) -> None:
        platform.openai.hangs = True
        worker = ChatWorker.on(platform.channels["worker-openai"], "openai")
        call = Call("", None, request_id="request-0001", deadline=asyncio.get_running_loop().time() + 60)
        call.authorization = f"Bearer {platform.token.reveal()}"
        enter_call(call)
        request = _auto({"provider": "openai"}).SerializeToString()

        with pytest.raises(ProviderTimeout):
            await first_message(worker.stream, request, "openai", 0.5)

        await within_bound(platform.openai.cancelled.wait())

    async def test_a_token_revoked_in_mid_answer_ends_it_in_the_words_of_the_dialect(self, platform: Platform) -> None:
        platform.openai.stays = True
        for call, expected in (
            (platform.stream(), b""),
            (platform.complete("auto"), b"data: "),
            (platform.message("auto"), b"event: error\n"),
        ):
            await within_bound(call.read())
            # By the end of another chat the router knows that the message is written, too.
            await platform.create()
            for served in platform.tokens.live_calls:
                if served.peer == "envoy":
                    served.end(invalid_token())
            last = await within_bound(call.read())
            if expected:
                assert last.data.startswith(expected)
                assert b"token" in last.data
            else:
                assert last.error.reason == "UNAUTHENTICATED"
            assert error_info(await failure_of(call.read())).reason == "UNAUTHENTICATED"


class TestOrder:
    async def test_a_provider_that_fails_comes_last_and_one_that_recovers_is_tried_by_one_chat_at_a_time(
        self, platform: Platform
    ) -> None:
        state = provider_pb2.ProviderHealth
        await platform.tell_health(platform.openai, state.UNHEALTHY, State.UNHEALTHY)
        assert (await platform.create()).provider == "anthropic"

        await platform.tell_health(platform.openai, state.RECOVERING, State.RECOVERING)
        platform.openai.hangs = True
        trial = platform.stream()
        await within_bound(platform.openai.entered.wait())
        assert (await platform.create()).provider == "anthropic"
        trial.cancel()
        await within_bound(platform.openai.cancelled.wait())

        platform.openai.hangs = False

        async def provider() -> str:
            answer: chat.ChatCompletion = await platform.create()
            return answer.provider

        await eventually(provider, lambda name: name == "openai")

    async def test_what_a_person_may_use_is_remembered_and_a_new_key_used_at_once(self, platform: Platform) -> None:
        platform.use()
        error = await failure_of(platform.create())
        assert error_info(error).reason == "PROVIDER_NOT_CONFIGURED"

        platform.use("grok")

        assert (await platform.create()).provider == "grok"
        before = platform.key_vault.asked
        for _ in range(3):
            assert (await platform.create()).provider == "grok"
        assert platform.key_vault.asked - before <= 1


class TestDialects:
    async def test_only_the_model_is_read_and_all_bytes_pass(self, platform: Platform) -> None:
        call = platform.complete("openai/gpt-x")
        events = await within_bound(whole(call))

        assert b"".join(event.data for event in events) == b'data: {"of":"openai"}\n\ndata: [DONE]\n\n'
        (request,) = platform.openai.requests
        assert (request.provider, request.model) == ("openai", "gpt-x")
        assert request.body == HttpBody(content_type="application/json", data=BODY % b"openai/gpt-x")
        headers = await headers_of(call)
        assert (headers["x-provider"], headers["x-model"]) == ("openai", "gpt-x")
        assert platform.key_vault.asked == 0

    async def test_a_name_of_the_catalogue_finds_its_provider(self, platform: Platform) -> None:
        model = load_catalog()["anthropic"].models[0]

        await within_bound(whole(platform.message(model, metadata=(("anthropic-beta", "a,b"), ("x-other", "1")))))

        (request,) = platform.anthropic.requests
        assert (request.provider, request.model) == ("anthropic", model)
        assert platform.anthropic.metadata[0]["anthropic-beta"] == "a,b"
        assert "x-other" not in platform.anthropic.metadata[0]

    async def test_auto_turns_to_the_next_and_says_so(self, platform: Platform) -> None:
        platform.openai.failure = away()

        call = platform.complete("auto")
        events = await within_bound(whole(call))

        assert events[0].data == b'data: {"of":"anthropic"}\n\n'
        assert (await headers_of(call))["x-failed-attempts"] == "openai=PROVIDER_UNAVAILABLE"
        assert platform.anthropic.requests[0].provider == "anthropic"
        assert platform.anthropic.requests[0].model == "auto", "which is the model of the configuration, to a worker"

    async def test_a_provider_that_is_named_gets_the_request_as_it_is(self, platform: Platform) -> None:
        await within_bound(whole(platform.complete("gpt-x", provider="openai")))

        body = HttpBody(content_type="application/json", data=BODY % b"gpt-x")
        assert platform.openai.requests == [openai.CreateChatCompletionRequest(provider="openai", body=body)]

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b'{"model":"unheard-of"}', grpc.StatusCode.NOT_FOUND),
            (b'{"model":"fast', grpc.StatusCode.INVALID_ARGUMENT),
            (b'{"model":7}', grpc.StatusCode.INVALID_ARGUMENT),
            (b"{}", grpc.StatusCode.INVALID_ARGUMENT),
            (b"", grpc.StatusCode.INVALID_ARGUMENT),
        ],
    )
    async def test_without_a_model_nobody_is_asked(
        self, platform: Platform, body: bytes, code: grpc.StatusCode
    ) -> None:
        request = openai.CreateChatCompletionRequest(body=HttpBody(data=body))
        call = ChatCompletionServiceStub(platform.channel).CreateChatCompletion(request, **platform.options())

        assert (await failure_of(call.read())).code() is code
        assert all(worker.requests == [] for worker in platform.workers.values())

    async def test_embeddings_and_counts_go_to_the_one_provider(self, platform: Platform) -> None:
        body = HttpBody(data=b'{"model":"openai/text-embedding-3-small","input":"x"}')
        embedded = EmbeddingServiceStub(platform.channel).CreateEmbedding(
            embeddings.CreateEmbeddingRequest(body=body), **platform.options()
        )
        assert (await within_bound(embedded)).data == b'{"data":[]}'
        assert (await headers_of(embedded))["x-provider"] == "openai"
        assert platform.openai.requests[0].model == "text-embedding-3-small"

        by_chance = embeddings.CreateEmbeddingRequest(body=HttpBody(data=b'{"model":"auto"}'))
        refused = EmbeddingServiceStub(platform.channel).CreateEmbedding(by_chance, **platform.options())
        assert violations(await failure_of(refused)) == ["model"]

        platform.anthropic.failure = away("anthropic")
        counted = MessageServiceStub(platform.channel).CountMessageTokens(
            anthropic.CountMessageTokensRequest(body=HttpBody(data=b'{"model":"anthropic/claude-x"}')),
            **platform.options(),
        )
        assert error_info(await failure_of(counted)).reason == "PROVIDER_UNAVAILABLE"
