"""The provider router between real callers and real gRPC servers that stand in for the services behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from realmultillm.chat.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatMessage,
    CreateChatCompletionRequest,
)
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
from realmultillm.provider.v1 import provider_service_pb2 as provider_service
from realmultillm.provider.v1.provider_service_pb2_grpc import (
    ProviderServiceServicer,
    ProviderServiceStub,
    add_ProviderServiceServicer_to_server,
)
from realmultillm.router.v1.catalog_service_pb2 import ListProvidersRequest, ListProvidersResponse
from realmultillm.router.v1.catalog_service_pb2_grpc import CatalogServiceStub, add_CatalogServiceServicer_to_server
from realmultillm.router.v1.health_service_pb2 import GetPlatformHealthRequest, PlatformHealth
from realmultillm.router.v1.health_service_pb2_grpc import (
    PlatformHealthServiceStub,
    add_PlatformHealthServiceServicer_to_server,
)
from realmultillm.router.v1.model_service_pb2 import ListModelsRequest, ListModelsResponse
from realmultillm.router.v1.model_service_pb2_grpc import ModelServiceStub, add_ModelServiceServicer_to_server

from libs.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    PlatformError,
    ProviderKeyRejected,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    Unavailable,
    Violation,
)
from libs.model_catalog import ModelCatalog
from libs.provider_catalog import load_catalog
from libs.redaction import Secret
from libs.rpc.access_policy import UNBOUNDED, AccessPolicy, for_role
from libs.rpc.channel import open_channel
from libs.rpc.identity import caller, invalid_token
from services.provider_router.access_policy import ACCESS_POLICY
from services.provider_router.auto_chats import AutoChats
from services.provider_router.backends import open_channels
from services.provider_router.candidates import CandidateSearch
from services.provider_router.chat_forwarding import ChatForwarder, add_chat_forwarder_to_server
from services.provider_router.chat_workers import ChatWorker
from services.provider_router.every_model import EveryModel
from services.provider_router.model_comparison import ModelComparison
from services.provider_router.model_lists import ModelLists
from services.provider_router.model_names import ModelNames
from services.provider_router.observation import observing
from services.provider_router.person_states import PersonStates
from services.provider_router.platform_health import DEPENDENCIES
from services.provider_router.provider_health import watching_providers
from services.provider_router.provider_states import ProviderStates
from services.provider_router.routing import Routes
from services.provider_router.servicer import CatalogServicer, ModelServicer, PlatformHealthServicer
from services.provider_router.worker_models import WorkerModels
from tests.support.rpc import Identities, KnownTokens, bearer, details, error_info, running, violations
from tests.support.waiting import BOUND_SECONDS, eventually, within_bound

CHAT = "/realmultillm.chat.v1.ChatService"
# Without a deadline of its own, so that only the router can end a call.
WORKER_POLICY: AccessPolicy = {
    f"{CHAT}/CreateChatCompletion": for_role("user", {"provider-router"}, scopes={"chat"}, deadline=UNBOUNDED),
    f"{CHAT}/StreamChatCompletion": for_role("user", {"provider-router"}, scopes={"chat"}, deadline=UNBOUNDED),
    "/realmultillm.provider.v1.ProviderService/ListModels": for_role(
        "user", {"provider-router"}, scopes={"models:read"}, deadline=UNBOUNDED
    ),
}
KEY_VAULT_POLICY: AccessPolicy = {
    "/realmultillm.keyvault.v1.CredentialService/ListProviderStates": for_role(
        "user", {"provider-router"}, scopes={"models:read"}
    )
}
KNOWN_MODELS = ModelCatalog.load(load_catalog())
REQUEST = CreateChatCompletionRequest(
    provider="openai", model="gpt-5.5", messages=[ChatMessage(role="user", content="Grüße")]
)
CANCEL = object()


class StandInWorker(ChatServiceServicer):
    """A ChatService that does what the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[CreateChatCompletionRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.people: list[str] = []
        self.deadlines: list[float] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.answer: Callable[[Any], Awaitable[ChatCompletion]] = self._complete
        # What to stream: chunks; an error to fail with, CANCEL to end with that status, or None to end.
        self.script: asyncio.Queue[ChatCompletionChunk | PlatformError | object | None] = asyncio.Queue()

    async def CreateChatCompletion(self, request: CreateChatCompletionRequest, context: Any) -> ChatCompletion:
        self._remember(request, context)
        try:
            return await self.answer(context)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def StreamChatCompletion(
        self, request: CreateChatCompletionRequest, context: Any
    ) -> AsyncIterator[ChatCompletionChunk]:
        self._remember(request, context)
        await context.send_initial_metadata((("x-first", "initial"),))
        context.set_trailing_metadata((("x-last", "trailing"),))
        try:
            while (step := await self.script.get()) is not None:
                if step is CANCEL:
                    await context.abort(grpc.StatusCode.CANCELLED)
                if isinstance(step, PlatformError):
                    raise step
                assert isinstance(step, ChatCompletionChunk)
                yield step
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def _remember(self, request: CreateChatCompletionRequest, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.people.append(caller().user_id)
        self.deadlines.append(context.time_remaining())
        self.entered.set()

    async def _complete(self, context: Any) -> ChatCompletion:
        return ChatCompletion(id="answer-1", provider="openai")


class StandInModels(ProviderServiceServicer):
    """Lists models by page tokens, or does what the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[list[str], str]] = {"": (["model-a", "model-b"], "")}
        self.failure: Exception | None = None
        self.hangs = False
        self.asked: list[tuple[str, int, str]] = []
        self.deadlines: list[float] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def ListModels(
        self, request: provider_service.ListModelsRequest, context: Any
    ) -> provider_service.ListModelsResponse:
        self.asked.append((caller().user_id, request.page_size, request.page_token))
        self.deadlines.append(context.time_remaining())
        self.entered.set()
        if self.hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if self.failure is not None:
            raise self.failure
        models, next_token = self.pages[request.page_token]
        return provider_service.ListModelsResponse(
            models=[provider_service.Model(id=model, display_name=model.title(), context_length=8) for model in models],
            next_page_token=next_token,
        )


class StandInKeyVault(CredentialServiceServicer):
    """Says what each person may use, or fails."""

    def __init__(self) -> None:
        self.states: dict[str, list[ProviderState]] = {}
        self.failure: PlatformError | None = None

    async def ListProviderStates(self, request: Any, context: Any) -> ListProviderStatesResponse:
        if self.failure is not None:
            raise self.failure
        return ListProviderStatesResponse(states=self.states.get(caller().user_id, []))


class Service:
    """A stand-in that can be stopped and started again at the same address; its dependencies can fail."""

    def __init__(self, start: Callable[..., Any], dependencies: tuple[str, ...]) -> None:
        self._start = start
        self._dependencies = dependencies
        self._running = AsyncExitStack()
        self.address = ""
        self.broken: set[str] = set()

    async def start(self) -> None:
        port = int(self.address.rpartition(":")[2] or 0)
        probes = {dependency: partial(self._probe, dependency) for dependency in self._dependencies}
        self.address = await self._running.enter_async_context(self._start(port=port, probes=probes))

    async def stop(self) -> None:
        await self._running.aclose()

    async def _probe(self, dependency: str) -> None:
        if dependency in self.broken:
            raise Unavailable("broken by the test")


class Platform:
    """The router, what stands behind it, and those who call it."""

    def __init__(self, identity: Identities) -> None:
        self.tokens = KnownTokens()
        self.worker = StandInWorker()
        self.models = StandInModels()
        self.key_vault = StandInKeyVault()
        self.token = self.tokens.issue("ada")
        self._identity = identity
        stand_in = self._stand_in
        self.services = {
            "auth": stand_in("auth"),
            "key-vault": stand_in(
                "key-vault",
                partial(add_CredentialServiceServicer_to_server, self.key_vault),
                policy=KEY_VAULT_POLICY,
            ),
            "analytics": stand_in("analytics"),
            "worker-openai": stand_in(
                "worker-openai",
                partial(add_ChatServiceServicer_to_server, self.worker),
                partial(add_ProviderServiceServicer_to_server, self.models),
                policy=WORKER_POLICY,
            ),
        }

    def _stand_in(self, name: str, *registrations: Any, policy: AccessPolicy | None = None) -> Service:
        start = partial(
            running,
            self._identity(name),
            *registrations,
            policy=policy or {},
            tokens=self.tokens,
        )
        return Service(start, DEPENDENCIES.get(name, ()))

    async def start_router(self, stack: AsyncExitStack) -> None:
        """Wires the router as its entry point does, and opens the callers' channel."""
        addresses = {name: service.address for name, service in self.services.items()}
        tls = self._identity("provider-router")
        channels = await stack.enter_async_context(open_channels(addresses, tls))
        observation = await stack.enter_async_context(observing(channels, DEPENDENCIES))
        providers = {"openai": ProviderServiceStub(channels["worker-openai"])}
        provider_health = await stack.enter_async_context(watching_providers(providers, observation))
        states = ProviderStates(CredentialServiceStub(channels["key-vault"]))
        catalog = CatalogServicer(
            load_catalog(),
            offered=frozenset({"openai"}),
            states=states,
            health=provider_health,
        )
        health = PlatformHealthServicer(observation, provider_health, providers=["openai"], version="1.2.3")
        routes = Routes({"openai": ChatWorker.on(channels["worker-openai"], "openai")}, known=load_catalog())
        search = CandidateSearch(ModelNames(["openai"], KNOWN_MODELS), PersonStates(states))
        chats = ChatForwarder(routes, AutoChats(routes, search, provider_health))
        live = WorkerModels("openai", ProviderServiceStub(channels["worker-openai"]))
        lists = ModelLists(load_catalog(), Routes({"openai": live}, known=load_catalog()), states, KNOWN_MODELS)
        every = EveryModel(load_catalog(), lists, states)
        comparison = ModelComparison(ModelNames(load_catalog(), KNOWN_MODELS), KNOWN_MODELS)
        models = ModelServicer(lists, every, comparison)
        address = await stack.enter_async_context(
            running(
                tls,
                partial(add_CatalogServiceServicer_to_server, catalog),
                partial(add_PlatformHealthServiceServicer_to_server, health),
                partial(add_ModelServiceServicer_to_server, models),
                partial(add_chat_forwarder_to_server, chats),
                policy=ACCESS_POLICY,
                tokens=self.tokens,
            )
        )
        self.channel = await stack.enter_async_context(
            open_channel(address, "provider-router", self._identity("envoy"))
        )

    def create(self, request: CreateChatCompletionRequest = REQUEST, **options: Any) -> Any:
        return ChatServiceStub(self.channel).CreateChatCompletion(request, **self._options(options))

    def stream(self, request: CreateChatCompletionRequest = REQUEST, **options: Any) -> Any:
        return ChatServiceStub(self.channel).StreamChatCompletion(request, **self._options(options))

    async def providers(self, token: Secret | None = None, **request: Any) -> ListProvidersResponse:
        answer: ListProvidersResponse = await CatalogServiceStub(self.channel).ListProviders(
            ListProvidersRequest(**request), metadata=bearer(token or self.token), timeout=BOUND_SECONDS
        )
        return answer

    def list_models(self, provider: str = "openai", *, metadata: Any = None, timeout: float = 0, **request: Any) -> Any:
        """Asks for models; the call can be awaited or cancelled."""
        return ModelServiceStub(self.channel).ListModels(
            ListModelsRequest(provider=provider, **request),
            metadata=bearer(self.token) if metadata is None else metadata,
            timeout=timeout or BOUND_SECONDS,
        )

    async def health(self) -> PlatformHealth | grpc.aio.AioRpcError:
        """Asks without a token. An unhealthy platform is an answer here."""
        try:
            answer: PlatformHealth = await PlatformHealthServiceStub(self.channel).GetPlatformHealth(
                GetPlatformHealthRequest(), timeout=BOUND_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            return error
        return answer

    async def until_healthy(self) -> None:
        await eventually(self.health, lambda health: getattr(health, "status", "") == "ok")

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        # A call that ends by its deadline must not pass for one that was ended: no test waits that long.
        return {"metadata": bearer(self.token), "timeout": 10 * BOUND_SECONDS, **options}


@pytest.fixture
async def platform(identity: Identities) -> AsyncIterator[Platform]:
    platform = Platform(identity)
    async with AsyncExitStack() as stack:
        for service in platform.services.values():
            await service.start()
            stack.push_async_callback(service.stop)
        await platform.start_router(stack)
        yield platform


async def failure_of(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """Returns the error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value


class TestUnaryChat:
    async def test_request_and_answer_pass_byte_for_byte(self, platform: Platform) -> None:
        newer_field = b"\xfa\x7f\x05newer"
        sent = REQUEST.SerializeToString() + newer_field
        create = platform.channel.unary_unary(f"{CHAT}/CreateChatCompletion")

        answer = await create(sent, metadata=bearer(platform.token), timeout=BOUND_SECONDS)

        assert platform.worker.requests[0].SerializeToString() == sent
        assert answer == ChatCompletion(id="answer-1", provider="openai").SerializeToString()

    async def test_a_request_with_a_large_picture_passes(self, platform: Platform) -> None:
        picture = "data:image/png;base64," + "A" * (32 * 1024 * 1024)
        request = CreateChatCompletionRequest(provider="openai", messages=[ChatMessage(role="user", content=picture)])

        await platform.create(request)

        assert platform.worker.requests == [request]

    async def test_the_worker_learns_who_asks_and_nothing_else(self, platform: Platform) -> None:
        metadata = (*bearer(platform.token), ("x-request-id", "request-0001"), ("cookie", "rml_session=1"))

        await platform.create(metadata=metadata)

        (received,) = platform.worker.metadata
        assert platform.worker.people == ["ada"]
        assert received["x-request-id"] == "request-0001"
        assert received.keys() == {"authorization", "x-request-id", "user-agent"}

    async def test_the_workers_metadata_reaches_the_caller(self, platform: Platform) -> None:
        async def answer(context: Any) -> ChatCompletion:
            await context.send_initial_metadata((("x-provider-latency-ms", "12"),))
            context.set_trailing_metadata((("x-trailing", "yes"), ("x-bytes-bin", b"\0\xff")))
            return ChatCompletion()

        platform.worker.answer = answer
        call = platform.create()
        await call

        assert ("x-provider-latency-ms", "12") in tuple(await call.initial_metadata())
        assert {("x-trailing", "yes"), ("x-bytes-bin", b"\0\xff")} <= set(await call.trailing_metadata())

    async def test_a_session_cookie_reaches_the_worker_as_the_token_in_it(self, platform: Platform) -> None:
        forwarded = (("x-forwarded-proto", "https"), ("x-forwarded-host", "h"), ("origin", "https://h"))

        await platform.create(metadata=(("cookie", f"rml_session={platform.token.reveal()}"), *forwarded))

        (received,) = platform.worker.metadata
        assert received["authorization"] == f"Bearer {platform.token.reveal()}"
        assert received.keys() == {"authorization", "x-request-id", "user-agent"}

    async def test_the_routers_count_of_calls_stands_beside_the_workers_metadata(self, platform: Platform) -> None:
        async def answer(context: Any) -> ChatCompletion:
            await context.send_initial_metadata((("x-provider-latency-ms", "12"),))
            return ChatCompletion()

        async def fail(context: Any) -> ChatCompletion:
            raise ProviderUnavailable("Away.", provider="openai")

        platform.worker.answer = answer
        call = platform.create()
        await call
        names = [name for name, _ in await call.initial_metadata()]
        assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "x-provider-latency-ms"} == set(names)
        assert len(names) == 4
        platform.worker.answer = fail
        trailing = [name for name, _ in (await failure_of(platform.create())).trailing_metadata()]
        assert trailing.count("ratelimit-remaining") == 1

    async def test_the_worker_gets_no_more_time_than_the_caller_gives(self, platform: Platform) -> None:
        await platform.create(timeout=7)

        assert 0 < platform.worker.deadlines[0] < 7

    async def test_a_caller_who_leaves_ends_the_workers_call(self, platform: Platform) -> None:
        platform.worker.answer = _never
        call = platform.create()
        await within_bound(platform.worker.entered.wait())

        call.cancel()

        await within_bound(platform.worker.cancelled.wait())

    async def test_the_callers_deadline_ends_the_workers_call(self, platform: Platform) -> None:
        platform.worker.answer = _never

        error = await failure_of(platform.create(timeout=0.5))

        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await within_bound(platform.worker.cancelled.wait())


class TestStreamedChat:
    async def test_each_chunk_arrives_before_the_next_is_made(self, platform: Platform) -> None:
        call = platform.stream()
        for number in range(20):
            chunk = ChatCompletionChunk(content=f"word {number} ")
            platform.worker.script.put_nowait(chunk)
            assert await within_bound(call.read()) == chunk
        platform.worker.script.put_nowait(None)

        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK

    async def test_the_workers_metadata_reaches_the_caller(self, platform: Platform) -> None:
        platform.worker.script.put_nowait(None)
        call = platform.stream()

        # Before the first chunk, which may take its time.
        assert ("x-first", "initial") in tuple(await call.initial_metadata())
        assert await call.read() is grpc.aio.EOF
        assert ("x-last", "trailing") in tuple(await call.trailing_metadata())

    @pytest.mark.parametrize("chunks", [0, 1])
    async def test_a_caller_who_leaves_ends_the_workers_call(self, platform: Platform, chunks: int) -> None:
        call = platform.stream()
        for _ in range(chunks):
            platform.worker.script.put_nowait(ChatCompletionChunk(content="word"))
            await call.read()
        await within_bound(platform.worker.entered.wait())

        call.cancel()

        await within_bound(platform.worker.cancelled.wait())

    async def test_a_failure_after_output_comes_after_the_output(self, platform: Platform) -> None:
        failure = ProviderRateLimited("Slow down.", provider="openai", retry_after=7)
        for step in (ChatCompletionChunk(content="word"), failure):
            platform.worker.script.put_nowait(step)
        call = platform.stream()

        assert (await call.read()).content == "word"
        error = await failure_of(call.read())
        assert error_info(error).reason == "PROVIDER_RATE_LIMITED"
        assert ("retry-after", "7") in tuple(error.trailing_metadata())

    async def test_a_worker_that_stops_in_the_middle_is_unavailable(self, platform: Platform) -> None:
        platform.worker.script.put_nowait(ChatCompletionChunk(content="word"))
        call = platform.stream()
        await call.read()

        await platform.services["worker-openai"].stop()

        error = await failure_of(within_bound(call.read()))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(error).reason == "SERVICE_UNAVAILABLE"


class TestRevokedToken:
    """A chat under way whose token the router hears is revoked, before the worker does."""

    async def test_a_stream_says_so_in_its_last_chunk_and_ends(self, platform: Platform) -> None:
        platform.worker.script.put_nowait(ChatCompletionChunk(content="said"))
        call = platform.stream()
        assert (await within_bound(call.read())).content == "said"

        self._revoke(platform)

        last = await within_bound(call.read())
        assert (last.finish_reason, last.error.reason) == ("error", "UNAUTHENTICATED")
        assert error_info(await failure_of(call.read())).reason == "UNAUTHENTICATED"
        await within_bound(platform.worker.cancelled.wait())

    async def test_before_the_first_chunk_the_status_says_it(self, platform: Platform) -> None:
        call = platform.stream()
        await within_bound(platform.worker.entered.wait())

        self._revoke(platform)

        error = await failure_of(within_bound(call.read()))
        assert error_info(error).reason == "UNAUTHENTICATED"
        await within_bound(platform.worker.cancelled.wait())

    async def test_who_does_not_read_is_not_waited_for(self, platform: Platform) -> None:
        call = platform.stream()
        big = ChatCompletionChunk(content="x" * 1024 * 1024)
        for _ in range(100):  # more than any window takes: the router stands in a write
            platform.worker.script.put_nowait(big)
        await within_bound(call.read())

        async def left() -> int:
            return platform.worker.script.qsize()

        assert await steady(left)
        self._revoke(platform)
        error = await failure_of(within_bound(read_all(call)))

        assert error_info(error).reason == "UNAUTHENTICATED"

    @staticmethod
    def _revoke(platform: Platform) -> None:
        for call in platform.tokens.live_calls:
            if call.peer == "envoy":
                call.end(invalid_token())


async def steady(ask: Callable[[], Awaitable[int]]) -> int:
    """Waits until a number does not change any more, and returns it."""
    before = -1
    while (now := await ask()) != before:
        before = now
        await asyncio.sleep(0.1)
    return now


async def read_all(call: Any) -> None:
    """Reads a stream to its end."""
    while await call.read() is not grpc.aio.EOF:
        pass


class TestFailures:
    async def test_every_detail_of_the_workers_status_survives(self, platform: Platform) -> None:
        platform.worker.answer = _failing_with(
            InvalidRequest([Violation("messages", "must not be empty."), Violation("options.topP", "must be 0 to 1.")])
        )

        error = await failure_of(platform.create())

        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(error) == ["messages", "options.topP"]
        assert error_info(error).reason == "INVALID_ARGUMENT"

    async def test_the_delay_a_provider_asks_for_survives(self, platform: Platform) -> None:
        platform.worker.answer = _failing_with(ProviderRateLimited("Slow.", provider="openai", retry_after=1.5))

        error = await failure_of(platform.create())

        assert error.details() == "Slow."
        assert error_info(error).metadata["provider"] == "openai"
        assert details(error, error_details_pb2.RetryInfo)[0].retry_delay.ToMilliseconds() == 1_500
        assert ("retry-after", "2") in tuple(error.trailing_metadata())

    async def test_a_bug_of_the_worker_stays_a_bug(self, platform: Platform) -> None:
        platform.worker.answer = _failing_with(RuntimeError("sk-secret"))

        error = await failure_of(platform.create(metadata=(*bearer(platform.token), ("x-request-id", "request-0001"))))

        assert error.code() is grpc.StatusCode.INTERNAL
        assert error_info(error).metadata["requestId"] == "request-0001"
        assert "sk-secret" not in str(error)

    @pytest.mark.parametrize("method", ["create", "stream"])
    async def test_a_worker_that_is_down_is_unavailable_and_its_address_not_told(
        self, platform: Platform, method: str
    ) -> None:
        worker = platform.services["worker-openai"]
        await worker.stop()

        call = getattr(platform, method)()
        error = await failure_of(call if method == "create" else call.read())

        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(error).metadata["service"] == "worker-openai"
        assert worker.address not in str(error.details())

    async def test_a_worker_that_comes_back_is_used_again(self, platform: Platform) -> None:
        worker = platform.services["worker-openai"]
        await worker.stop()
        await failure_of(platform.create())
        await worker.start()
        await platform.until_healthy()

        assert (await platform.create()).id == "answer-1"

    @pytest.mark.parametrize("method", ["create", "stream"])
    async def test_a_worker_that_cancels_the_call_is_unavailable(self, platform: Platform, method: str) -> None:
        async def cancel(context: Any) -> ChatCompletion:
            await context.abort(grpc.StatusCode.CANCELLED)
            raise AssertionError

        platform.worker.answer = cancel
        platform.worker.script.put_nowait(CANCEL)
        call = getattr(platform, method)()

        error = await failure_of(within_bound(call if method == "create" else call.read()))

        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(error).reason == "SERVICE_UNAVAILABLE"

    @pytest.mark.parametrize(
        ("provider", "code", "reason"),
        [
            ("", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
            ("auto", grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_NOT_CONFIGURED"),
            ("closedai", grpc.StatusCode.NOT_FOUND, "PROVIDER_NOT_FOUND"),
            ("x" * 100_000, grpc.StatusCode.NOT_FOUND, "PROVIDER_NOT_FOUND"),
            ("grok", grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE"),
        ],
    )
    async def test_a_provider_without_worker_is_told_why(
        self, platform: Platform, provider: str, code: grpc.StatusCode, reason: str
    ) -> None:
        request = CreateChatCompletionRequest(provider=provider)

        for error in (
            await failure_of(platform.create(request)),
            await failure_of(platform.stream(request).read()),
        ):
            assert (error.code(), error_info(error).reason) == (code, reason)
        assert platform.worker.requests == []

    async def test_bytes_that_are_no_message_are_refused(self, platform: Platform) -> None:
        create = platform.channel.unary_unary(f"{CHAT}/CreateChatCompletion")

        error = await failure_of(create(b"\x0a\xff", metadata=bearer(platform.token), timeout=BOUND_SECONDS))

        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_without_a_token_no_worker_is_asked(self, platform: Platform) -> None:
        error = await failure_of(platform.create(metadata=()))

        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert platform.worker.requests == []


class TestPlatformHealth:
    async def test_a_whole_platform_is_ok(self, platform: Platform) -> None:
        await platform.until_healthy()

        health = await platform.health()

        assert isinstance(health, PlatformHealth)
        services = health.services
        assert {services.auth, services.key_vault, services.vault, services.analytics, services.database} == {"ok"}
        assert dict(services.workers) == {"openai": "ok"}
        assert health.version == "1.2.3"

    async def test_a_service_that_goes_and_comes_back_is_followed(self, platform: Platform) -> None:
        analytics = platform.services["analytics"]
        await platform.until_healthy()

        await analytics.stop()
        degraded = await eventually(platform.health, lambda health: getattr(health, "status", "") == "degraded")
        await analytics.start()
        await platform.until_healthy()

        assert isinstance(degraded, PlatformHealth)
        assert degraded.services.analytics == "unavailable"
        assert degraded.services.auth == "ok"

    @pytest.mark.parametrize(
        ("service", "dependency", "shown"),
        [("key-vault", "vault", "vault"), ("key-vault", "database", "database"), ("analytics", "database", "database")],
    )
    async def test_a_dependency_that_fails_is_told_apart_from_its_service(
        self, platform: Platform, service: str, dependency: str, shown: str
    ) -> None:
        await platform.until_healthy()

        platform.services[service].broken.add(dependency)
        health = await eventually(platform.health, lambda health: getattr(health, "status", "") == "degraded")

        assert isinstance(health, PlatformHealth)
        assert getattr(health.services, shown) == "unavailable"
        assert getattr(health.services, service.replace("-", "_")) == "ok"

    @pytest.mark.parametrize(
        ("service", "metadata"),
        [("worker-openai", ("workers", "openai=unavailable")), ("auth", ("auth", "unavailable"))],
    )
    async def test_a_platform_that_cannot_chat_is_unavailable(
        self, platform: Platform, service: str, metadata: tuple[str, str]
    ) -> None:
        await platform.until_healthy()

        await platform.services[service].stop()
        error = await eventually(platform.health, lambda health: isinstance(health, grpc.aio.AioRpcError))

        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(error).reason == "PLATFORM_UNAVAILABLE"
        assert metadata in error_info(error).metadata.items()


class TestListProviders:
    async def test_all_providers_are_listed_as_they_stand(self, platform: Platform) -> None:
        platform.key_vault.states = {"ada": [used("openai"), used("grok")], "grace": [used("anthropic")]}
        await platform.until_healthy()

        providers = {provider.id: provider for provider in (await platform.providers()).providers}

        assert list(providers) == list(load_catalog())
        assert [name for name, provider in providers.items() if provider.enabled] == ["openai"]
        assert [name for name, provider in providers.items() if provider.configured] == ["grok", "openai"]
        assert [name for name, provider in providers.items() if provider.healthy] == ["openai"]
        assert providers["openai"].endpoint == "https://api.openai.com/v1"
        assert "gpt-5.5" in providers["openai"].models

    async def test_the_key_vault_is_asked_as_the_person_who_calls(self, platform: Platform) -> None:
        platform.key_vault.states = {"grace": [used("anthropic")]}

        listed = await platform.providers(platform.tokens.issue("grace"))

        assert [provider.id for provider in listed.providers if provider.configured] == ["anthropic"]

    async def test_what_administrators_decided_is_told(self, platform: Platform) -> None:
        states = [
            used("openai", enabled=False),
            used("grok"),
            used("anthropic", allowed_models=["claude-opus-4-8", "x"]),
        ]
        platform.key_vault.states = {"ada": states}

        providers = {provider.id: provider for provider in (await platform.providers()).providers}

        assert [provider.id for provider in providers.values() if provider.enabled] == []
        assert [provider.id for provider in providers.values() if provider.configured] == [
            "anthropic",
            "grok",
            "openai",
        ]
        assert providers["anthropic"].models == ["claude-opus-4-8", "x"]
        assert tuple(providers["openai"].models) == load_catalog()["openai"].models

    async def test_pages_follow_each_other(self, platform: Platform) -> None:
        first = await platform.providers(page_size=3)
        second = await platform.providers(page_size=3, page_token=first.next_page_token)

        assert [provider.id for page in (first, second) for provider in page.providers] == list(load_catalog())
        assert second.next_page_token == ""

    async def test_an_impossible_page_is_refused(self, platform: Platform) -> None:
        error = await failure_of(platform.providers(page_size=-1, page_token="forged"))

        assert violations(error) == ["pageSize", "pageToken"]

    async def test_without_the_key_vault_the_list_is_unavailable(self, platform: Platform) -> None:
        await platform.services["key-vault"].stop()

        error = await failure_of(platform.providers())

        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(error).metadata["service"] == "key-vault"

    async def test_what_the_key_vault_says_is_passed_on(self, platform: Platform) -> None:
        platform.key_vault.failure = Unavailable("The database is not available.", retry_after=2)

        error = await failure_of(platform.providers())

        assert error.details() == "The database is not available."
        assert ("retry-after", "2") in tuple(error.trailing_metadata())


def used(provider: str, *, enabled: bool = True, allowed_models: Sequence[str] = ()) -> ProviderState:
    """What a person may use of a provider that chats find a key for."""
    return ProviderState(provider=provider, configured=True, enabled=enabled, allowed_models=allowed_models)


def ids(listed: ListModelsResponse) -> list[str]:
    return [model.id for model in listed.models]


class TestListModels:
    async def test_those_of_the_provider_are_told_as_it_tells_them(self, platform: Platform) -> None:
        listed = await platform.list_models()

        assert (listed.source, listed.notice, listed.next_page_token) == ("live", "", "")
        assert ids(listed) == ["model-a", "model-b"]
        first = listed.models[0]
        assert (first.provider, first.display_name, first.context_length) == ("openai", "Model-A", 8)
        assert not first.HasField("max_output_tokens")

    async def test_the_worker_is_asked_as_the_person_who_calls(self, platform: Platform) -> None:
        await platform.list_models()
        await platform.list_models(metadata=bearer(platform.tokens.issue("grace")))

        assert platform.models.asked == [("ada", 50, ""), ("grace", 50, "")]

    async def test_a_long_page_is_cut_into_pages(self, platform: Platform) -> None:
        platform.models.pages = {"": (["a", "b", "c", "d", "e"], "")}

        first = await platform.list_models(page_size=2)
        second = await platform.list_models(page_size=2, page_token=first.next_page_token)
        third = await platform.list_models(page_size=2, page_token=second.next_page_token)

        assert [ids(page) for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
        assert third.next_page_token == ""

    @pytest.mark.parametrize(
        "token", ["claude-3", "../../v1/chat?key=1&x=#", "a b+c/d==%00", "live:3:catalogue:0:", "ü"]
    )
    async def test_the_providers_token_passes_unchanged(self, platform: Platform, token: str) -> None:
        platform.models.pages = {"": (["a", "b"], token), token: (["c", "d", "e"], "")}

        first = await platform.list_models(page_size=2)
        second = await platform.list_models(page_size=2, page_token=first.next_page_token)
        third = await platform.list_models(page_size=2, page_token=second.next_page_token)

        assert [ids(page) for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
        assert [asked[2] for asked in platform.models.asked] == ["", token, token]
        assert third.next_page_token == ""

    async def test_without_a_key_those_of_the_catalogue_are_told(self, platform: Platform) -> None:
        platform.models.failure = FailedPrecondition("You have stored no key.", reason="PROVIDER_NOT_CONFIGURED")

        listed = await platform.list_models()

        assert (listed.source, listed.notice) == ("catalogue", "This list is not live: You have stored no key.")
        assert tuple(ids(listed)) == load_catalog()["openai"].models
        assert {(model.provider, model.source) for model in listed.models} == {("openai", "catalogue")}
        gpt_4o = listed.models[ids(listed).index("gpt-4o")]
        assert (gpt_4o.context_length, gpt_4o.max_output_tokens) == (128_000, 16_384)
        assert gpt_4o.input_price_per_million == 2.5
        assert (gpt_4o.capabilities.vision, gpt_4o.capabilities.HasField("reasoning")) == (True, False)
        unknown = listed.models[ids(listed).index("gpt-6.2-sol")]
        assert not any(unknown.HasField(name) for name in ("context_length", "input_price_per_million"))

    @pytest.mark.parametrize(
        "failure",
        [
            ProviderKeyRejected("The provider refused the key.", provider="openai"),
            ProviderQuotaExhausted("The account is empty.", provider="openai"),
            ProviderRateLimited("The provider wants to be asked less.", provider="openai", retry_after=9),
            ProviderUnavailable("The provider is down.", provider="openai"),
            ProviderTimeout("The provider is silent.", provider="openai"),
            Unavailable("The key vault is down."),
            DeadlineExceeded("The worker is silent."),
        ],
        ids=lambda failure: failure.reason,
    )
    async def test_that_the_provider_cannot_be_asked_is_said_beside_the_catalogue(
        self, platform: Platform, failure: PlatformError
    ) -> None:
        platform.models.failure = failure

        listed = await platform.list_models()

        assert (listed.source, listed.notice) == ("catalogue", f"This list is not live: {failure.message}")
        assert "gpt-4o" in ids(listed)

    async def test_that_are_listed_live_are_those_the_worker_allows(self, platform: Platform) -> None:
        """It goes by the same configuration as the chats that a model is chosen for."""
        platform.key_vault.states = {"ada": [used("openai", allowed_models=["b"])]}
        platform.models.pages = {"": (["a", "b", "c"], "more"), "more": (["d"], "")}

        pages = [await platform.list_models(page_size=2)]
        while token := pages[-1].next_page_token:
            pages.append(await platform.list_models(page_size=2, page_token=token))

        assert [ids(page) for page in pages] == [["a", "b"], ["c"], ["d"]]

    async def test_without_the_provider_the_allowed_models_are_the_catalogue(self, platform: Platform) -> None:
        platform.key_vault.states = {"ada": [used("openai", allowed_models=["b", "a", "c"])]}
        platform.models.failure = ProviderUnavailable("The provider is down.", provider="openai")

        first = await platform.list_models(page_size=2)
        second = await platform.list_models(page_size=2, page_token=first.next_page_token)

        assert [ids(page) for page in (first, second)] == [["b", "a"], ["c"]]
        assert (second.source, second.next_page_token) == ("catalogue", "")

    @pytest.mark.parametrize("token", ["", "live:0:more", "catalogue:2:"])
    async def test_of_a_provider_that_is_switched_off_none_is_listed(self, platform: Platform, token: str) -> None:
        platform.key_vault.states = {"ada": [used("openai", enabled=False, allowed_models=["a"])]}

        error = await failure_of(platform.list_models(page_token=token))

        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.PERMISSION_DENIED, "PROVIDER_DISABLED")
        assert error.details() == "Administrators have switched openai off; choose another provider."
        assert error_info(error).metadata["provider"] == "openai"
        assert platform.models.asked == []

    async def test_while_nobody_knows_what_is_allowed_none_is_listed(self, platform: Platform) -> None:
        platform.key_vault.failure = Unavailable("The database is not available.", retry_after=2)

        error = await failure_of(platform.list_models())

        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "The database is not available.")
        assert platform.models.asked == []

    async def test_a_bug_of_the_worker_is_not_told(self, platform: Platform) -> None:
        platform.models.failure = RuntimeError("sk-secret")

        listed = await platform.list_models()

        assert listed.source == "catalogue"
        assert "sk-secret" not in listed.notice

    async def test_a_worker_that_is_down_or_was_never_there_leaves_the_catalogue(self, platform: Platform) -> None:
        await platform.services["worker-openai"].stop()

        down, missing = await platform.list_models(), await platform.list_models("grok")

        assert (down.source, missing.source) == ("catalogue", "catalogue")
        assert platform.services["worker-openai"].address not in down.notice
        assert "worker for grok" in missing.notice
        assert tuple(ids(missing)) == load_catalog()["grok"].models

    async def test_a_list_that_began_live_does_not_go_on_in_the_catalogue(self, platform: Platform) -> None:
        platform.models.pages = {"": (["a", "b"], "more")}
        first = await platform.list_models()
        platform.models.failure = ProviderUnavailable("The provider is down.", provider="openai")

        error = await failure_of(platform.list_models(page_token=first.next_page_token))

        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")

    async def test_a_list_that_began_in_the_catalogue_goes_on_there(self, platform: Platform) -> None:
        platform.models.failure = ProviderUnavailable("The provider is down.", provider="openai")
        pages = [await platform.list_models(page_size=6)]
        platform.models.failure = None
        while token := pages[-1].next_page_token:
            pages.append(await platform.list_models(page_size=6, page_token=token))

        assert {page.source for page in pages} == {"catalogue"}
        assert all(page.notice for page in pages)
        assert tuple(model for page in pages for model in ids(page)) == load_catalog()["openai"].models

    @pytest.mark.parametrize("provider", ["closedai", "auto", "OpenAI", "x" * 100_000])
    async def test_an_unknown_provider_is_not_found(self, platform: Platform, provider: str) -> None:
        for token in ("", "live:0:x", "catalogue:0:"):
            error = await failure_of(platform.list_models(provider, page_token=token))
            assert (error.code(), error_info(error).reason) == (grpc.StatusCode.NOT_FOUND, "PROVIDER_NOT_FOUND")
        assert platform.models.asked == []

    @pytest.mark.parametrize(
        "token", ["forged", "live", "live:x:", "live:-1:", "Live:0:", " live:0:", "live:9999999999:"]
    )
    async def test_an_impossible_page_is_refused(self, platform: Platform, token: str) -> None:
        error = await failure_of(platform.list_models(page_size=-1, page_token=token))

        assert violations(error) == ["pageSize", "pageToken"]
        assert platform.models.asked == []

    async def test_a_page_that_the_provider_does_not_know_is_refused(self, platform: Platform) -> None:
        platform.models.failure = InvalidRequest([Violation("pageToken", "is none that OpenAI takes.")])

        error = await failure_of(platform.list_models(page_token="live:0:forged"))

        assert violations(error) == ["pageToken"]

    async def test_no_page_is_longer_than_500(self, platform: Platform) -> None:
        platform.models.pages = {"": ([f"model-{number}" for number in range(501)], "")}

        listed = await platform.list_models(page_size=2_000_000_000)

        assert len(listed.models) == 500
        assert platform.models.asked == [("ada", 500, "")]
        assert ids(await platform.list_models(page_token=listed.next_page_token)) == ["model-500"]

    async def test_a_caller_who_leaves_ends_the_workers_call(self, platform: Platform) -> None:
        platform.models.hangs = True
        call = platform.list_models()
        await within_bound(platform.models.entered.wait())

        call.cancel()

        await within_bound(platform.models.cancelled.wait())

    async def test_the_worker_gets_less_time_than_the_caller_gives(self, platform: Platform) -> None:
        await platform.list_models(timeout=7)
        await platform.list_models(timeout=600)

        first, second = platform.models.deadlines
        assert 0 < first < 7
        assert 0 < second < 13, "less than the 15 of the router's own method, so that the catalogue can still be told"

    async def test_without_a_token_no_worker_is_asked(self, platform: Platform) -> None:
        error = await failure_of(platform.list_models(metadata=()))

        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert platform.models.asked == []


async def _never(context: Any) -> ChatCompletion:
    await asyncio.Event().wait()
    raise AssertionError


def _failing_with(error: Exception) -> Callable[[Any], Awaitable[ChatCompletion]]:
    async def answer(context: Any) -> ChatCompletion:
        raise error

    return answer
