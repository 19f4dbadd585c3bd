"""What holds for everybody, in a worker: the endpoint, the addresses behind it, time, models, and whose key it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import FailedPrecondition, PermissionDenied, PlatformError, ProviderTimeout, ProviderUnavailable
from libs.provider_endpoints import EndpointRules
from libs.provider_keys import ProviderKey
from libs.rpc.settings import RpcSettings
from libs.settings import SettingsError
from libs.worker.adapter import Credential, ProviderRequest
from libs.worker.bootstrap import endpoint_rules, serve_worker
from libs.worker.chats import Chats
from libs.worker.failures import Failures
from libs.worker.key_test import try_key
from libs.worker.model_listing import Models
from libs.worker.openai_dialect import OpenAIDialect
from libs.worker.settings import Settings
from libs.worker.upstream import Upstream, connect_upstream
from services.workers.openai.adapter import ADAPTER
from tests.support.wire import LOCAL_RULES
from tests.unit.test_chat_accounts import Book, entered

KEY = "sk-sandbox-1"
REQUEST = ProviderRequest("GET", "/models", {"authorization": f"Bearer {KEY}"})
PUBLIC = "https://api.example.com/v1"
VLLM = OpenAIDialect(
    provider="our-vllm", display_name="Our vLLM", endpoint="http://127.0.0.1:8000/v1", default_model="qwen"
)
FAILURES = Failures(ADAPTER.provider, ADAPTER.display_name)


class Server:
    """Takes connections on this machine, counts them, and answers all with the same; with None, never."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.connections = 0
        self.received = b""
        self.port = 0

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            self.received += await reader.readuntil(b"\r\n\r\n")
            if self._answer is None:
                await reader.read()
            else:
                head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                writer.write(f"{head}content-length: {len(self._answer)}\r\n\r\n".encode() + self._answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(b'{"data": [{"id": "gpt-4o"}, {"id": "gpt-4o-mini"}, {"id": "o3"}]}').up() as server:
        yield server


@pytest.fixture
async def silent() -> AsyncIterator[Server]:
    async with Server(None).up() as server:
        yield server


class Names:
    """What names resolve to, one answer after the other; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def getaddrinfo(self, host: str, port: int, **_options: Any) -> list[Any]:
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, port, 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in found
        ]


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", Names(*answers).getaddrinfo)


@asynccontextmanager
async def upstream_to(endpoint: str, rules: EndpointRules = LOCAL_RULES) -> AsyncIterator[Upstream]:
    async with connect_upstream(ADAPTER, endpoint, stream_idle_seconds=5, rules=rules) as upstream:
        yield upstream


class OneKey:
    def __init__(self, **configuration: Any) -> None:
        self._configuration = configuration

    async def of(self, _user_id: str) -> Credential:
        return Credential(ProviderKey(KEY), **self._configuration)


def chats_through(upstream: Any, book: Book, *, seconds: float = 10, **configuration: Any) -> Chats:
    keys = OneKey(**configuration)
    return Chats(ADAPTER, upstream, keys, book, max_concurrent=9, max_of_one_person=9, answer_seconds=seconds)


def asking(model: str = "") -> chat.CreateChatCompletionRequest:
    return chat.CreateChatCompletionRequest(
        provider="openai", model=model, messages=[chat.ChatMessage(role="user", content="Hello")]
    )


async def written(_chunk: object) -> None:
    """Takes what a stream writes."""


class TestAddresses:
    async def test_are_looked_at_again_when_a_name_leads_elsewhere(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        endpoint = f"https://api.example.com:{server.port}/v1"
        rules = EndpointRules()
        resolve(monkeypatch, ["1.1.1.1"], ["127.0.0.1"])
        assert await rules.broken_address_rule(endpoint) is None

        async with upstream_to(PUBLIC, rules) as upstream:
            book = Book()
            chats = chats_through(upstream, book, endpoint=endpoint)
            for attempt in (chats.complete(asking(), entered()), chats.stream(asking(), written, entered())):
                with pytest.raises(FailedPrecondition) as refused:
                    await attempt
                assert refused.value.reason == "ENDPOINT_NOT_ALLOWED"
                assert "ask an administrator" in refused.value.message
        assert server.connections == 0
        assert [(record.attempts, record.error_reason) for record in book.records] == [(1, "ENDPOINT_NOT_ALLOWED")] * 2

    @pytest.mark.parametrize("addresses", [["127.0.0.1", "::1"], ["::ffff:127.0.0.1"], ["169.254.169.254", "10.0.0.1"]])
    async def test_are_refused_for_the_workers_own_endpoint_too(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
    ) -> None:
        resolve(monkeypatch, addresses)
        async with upstream_to(f"https://api.example.com:{server.port}", EndpointRules()) as upstream:
            with pytest.raises(FailedPrecondition, match="ask an administrator"):
                await upstream.fetch(REQUEST, 5)
        assert server.connections == 0

    @pytest.mark.parametrize(
        "addresses",
        [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["::1", "127.0.0.2"], ["127.0.0.2", "::1"]],
    )
    async def test_are_refused_beside_one_that_cannot_be_reached(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
    ) -> None:
        """Nobody listens at the one that is admitted; trying again would not make the other one good."""
        resolve(monkeypatch, addresses)
        endpoint = f"https://api.example.com:{server.port}/v1"
        async with upstream_to(PUBLIC, EndpointRules(["127.0.0.2"])) as upstream:
            book = Book()
            chats = chats_through(upstream, book, endpoint=endpoint)
            for attempt in (chats.complete(asking(), entered()), chats.stream(asking(), written, entered())):
                with pytest.raises(FailedPrecondition, match="ask an administrator"):
                    await attempt
        assert server.connections == 0
        assert [(record.attempts, record.error_reason) for record in book.records] == [(1, "ENDPOINT_NOT_ALLOWED")] * 2

    async def test_that_were_refused_are_forgotten_by_the_next_call(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
        async with upstream_to(PUBLIC, EndpointRules(["127.0.0.2"])) as upstream:
            with pytest.raises(FailedPrecondition):
                await upstream.fetch(REQUEST.at(f"https://api.example.com:{server.port}"), 5)
            with pytest.raises(ProviderUnavailable, match="cannot be reached"):
                await upstream.fetch(REQUEST.at(f"https://api.example.org:{server.port}"), 5)

    async def test_that_a_resolver_does_not_tell_are_unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        resolve(monkeypatch, [])
        for rules in (EndpointRules(), EndpointRules(["api.example.com"])):
            async with upstream_to(PUBLIC, rules) as upstream:
                with pytest.raises(ProviderUnavailable, match="cannot be reached"):
                    await upstream.fetch(REQUEST, 5)
                with pytest.raises(ProviderUnavailable, match="cannot be reached"):
                    async with upstream.stream(REQUEST):
                        pass

    @pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{}/v1", "https://127.0.0.1:{}", "https://[::1]:{}", "x"])
    async def test_that_break_a_rule_as_written_are_not_asked_for(self, server: Server, endpoint: str) -> None:
        endpoint = endpoint.format(server.port)
        async with upstream_to(PUBLIC, EndpointRules()) as upstream:
            with pytest.raises(FailedPrecondition):
                await upstream.fetch(REQUEST.at(endpoint), 5)
            found = await try_key(ADAPTER, upstream, ProviderKey(KEY), "", endpoint=endpoint)
        assert (found.reason, server.connections) == ("ENDPOINT_NOT_ALLOWED", 0)
        assert (
            found.message == "OpenAI is configured with an endpoint that keys may not be sent to; ask an administrator."
        )

    async def test_behind_a_listed_name_are_not_asked_for(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve(monkeypatch, ["127.0.0.1"])
        endpoint = f"http://llm.internal:{server.port}/v1"
        async with upstream_to(PUBLIC, EndpointRules(["llm.internal"])) as upstream:
            assert b"gpt-4o" in await upstream.fetch(REQUEST.at(endpoint), 5)
        assert server.received.startswith(b"GET /v1/models HTTP/1.1\r\n")


class TestEndpoint:
    async def test_is_that_of_the_configuration_for_everything(self, server: Server) -> None:
        async with upstream_to(PUBLIC) as upstream:
            keys = OneKey(endpoint=server.url)
            with pytest.raises(PlatformError):  # it answers chats with a list of models
                await chats_through(upstream, Book(), endpoint=server.url).complete(asking(), entered())
            await Models(ADAPTER, upstream, keys).page("usr_1", 0, "")
            assert (await try_key(ADAPTER, upstream, ProviderKey(KEY), "", endpoint=server.url)).reason == ""
        assert [line for line in server.received.decode().splitlines() if "HTTP" in line] == [
            "POST /v1/chat/completions HTTP/1.1",
            "GET /v1/models HTTP/1.1",
            "GET /v1/models HTTP/1.1",
        ]

    async def test_memory_is_bounded(self) -> None:
        session = cast(aiohttp.ClientSession, _Nowhere())
        upstream = Upstream(ADAPTER, PUBLIC, session, 1, rules=EndpointRules(), private_session=session)
        for number in range(100):
            with pytest.raises(ConnectionError, match=f"^https://api-{number}.example.com/models$"):
                await upstream.fetch(REQUEST.at(f"https://api-{number}.example.com"), 1)
        assert len(upstream._others) <= 16

    async def test_is_reached_without_a_proxy(
        self, server: Server, silent: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{silent.port}")
        async with upstream_to(server.url) as upstream:
            await upstream.fetch(REQUEST, 5)
        assert (server.connections, silent.connections) == (1, 0)


class _Nowhere:
    def request(self, method: str, url: object, **options: Any) -> None:
        raise ConnectionError(str(url))


class TestTime:
    @pytest.mark.parametrize(("own", "platforms"), [(60.0, 0.05), (0.05, 60.0)])
    async def test_is_the_shorter_of_the_workers_and_the_platforms(
        self, silent: Server, own: float, platforms: float
    ) -> None:
        async with upstream_to(silent.url) as upstream, asyncio.timeout(20):
            chats = chats_through(upstream, Book(), seconds=own, answer_seconds=platforms)
            with pytest.raises(ProviderTimeout):
                await chats.complete(asking(), entered())
            with pytest.raises(ProviderTimeout):
                await chats.stream(asking(), written, entered())


class TestModels:
    @pytest.mark.parametrize(
        ("asked", "configuration"),
        [("gpt-5", {}), ("gpt-5", {"model": "gpt-5"}), ("GPT-4O", {}), ("gpt-4o ", {"model": "gpt-4o"})],
    )
    async def test_that_are_not_allowed_are_refused(
        self, server: Server, asked: str, configuration: dict[str, Any]
    ) -> None:
        async with upstream_to(server.url) as upstream:
            chats = chats_through(upstream, Book(), allowed_models=("gpt-4o", "o3"), **configuration)
            for attempt in (chats.complete(asking(asked), entered()), chats.stream(asking(asked), written, entered())):
                with pytest.raises(PermissionDenied) as refused:
                    await attempt
                assert refused.value.reason == "MODEL_NOT_ALLOWED"
                assert "o3" in refused.value.message
        assert server.connections == 0

    @pytest.mark.parametrize(
        ("asked", "own", "platforms", "allowed", "taken"),
        [
            ("o3", "gpt-5", "", ("gpt-5", "o3"), "o3"),
            ("", "o3", "gpt-5", ("gpt-5", "o3"), "o3"),
            ("", "gpt-5", "o3", ("gpt-4o", "o3"), "o3"),
            ("", "gpt-5", "", ("o3", ADAPTER.default_model), ADAPTER.default_model),
            ("", "", "", ("o3", "gpt-4o"), "o3"),
            ("", "gpt-5", "", ("o3", "gpt-4o"), "o3"),
            ("", "gpt-5", "o3", (), "gpt-5"),
            ("", "", "o3", (), "o3"),
            ("", "", "", (), ADAPTER.default_model),
        ],
    )
    async def test_are_the_first_of_the_defaults_that_is_allowed(
        self, server: Server, asked: str, own: str, platforms: str, allowed: tuple[str, ...], taken: str
    ) -> None:
        book = Book()
        async with upstream_to(server.url) as upstream:
            chats = chats_through(upstream, book, allowed_models=allowed, model=own, platform_model=platforms)
            with pytest.raises(PlatformError):  # it answers chats with a list of models
                await chats.complete(asking(asked), entered())
        assert server.connections >= 1
        assert [record.model_requested for record in book.records] == [taken]

    def test_that_are_many_are_told_in_part(self) -> None:
        error = FAILURES.model_not_allowed([f"m{number}" for number in range(9)])
        assert error.message == (
            "Administrators allow these models of OpenAI: m0, m1, m2, m3, m4, and others that the list of models "
            "shows; choose one of them."
        )

    async def test_that_are_not_allowed_are_not_listed(self, server: Server) -> None:
        entered()
        async with upstream_to(server.url) as upstream:
            keys = OneKey(allowed_models=("o3", "gpt-5"))
            models, token = await Models(ADAPTER, upstream, keys).page("usr_1", 0, "")
        assert ([model.id for model in models], token) == (["o3"], "")


class Refusing:
    """Stands in for the Upstream: fails in one way."""

    def __init__(self, error: PlatformError) -> None:
        self._error = error

    async def fetch(self, *_arguments: Any, **_options: Any) -> bytes:
        raise self._error

    @asynccontextmanager
    async def stream(self, _request: object) -> AsyncIterator[AsyncIterator[bytes]]:
        raise self._error
        yield


class TestPlatformKey:
    @pytest.mark.parametrize("failure", ["key_rejected", "permission_denied", "quota_exhausted"])
    async def test_is_not_for_people_to_mend(self, failure: str) -> None:
        error = getattr(FAILURES, failure)()
        upstream = Refusing(error)
        for own_key in (True, False):
            chats = chats_through(upstream, Book(), platform_key=not own_key)
            listing = Models(ADAPTER, cast(Upstream, upstream), OneKey(platform_key=not own_key))
            call = entered()
            for attempt in (
                chats.complete(asking(), call),
                chats.stream(asking(), written, call),
                listing.page("usr_1", 0, ""),
            ):
                with pytest.raises(type(error)) as told:
                    await attempt
                assert ("ask an administrator" in told.value.message) is not own_key
                assert ("platform's" in told.value.message) is not own_key
                assert told.value.metadata == {"provider": "openai"}


class TestStart:
    @pytest.mark.parametrize(
        ("adapter", "settings", "told"),
        [
            (
                ADAPTER,
                {"endpoint": "http://api.example.com/v1"},
                r"^WORKER_ENDPOINT must begin with .*\. WORKER_PR",
            ),
            (ADAPTER, {"endpoint": "https://10.0.0.1/v1"}, r"^WORKER_ENDPOINT must lead to public addresses only"),
            (ADAPTER, {"endpoint": "https://a.example/"}, r"^WORKER_ENDPOINT must be a URL .* slash at the end\."),
            (ADAPTER, {"private_endpoints": ("127.1",)}, r"^PRIVATE_ENDPOINTS names '127\.1'"),
            (VLLM, {}, r"^The endpoint of our-vllm in the catalogue must lead to public.*WORKER_PRIVATE_ENDPOINTS"),
        ],
    )
    async def test_is_refused_with_an_endpoint_that_breaks_a_rule(
        self, adapter: OpenAIDialect, settings: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(SettingsError, match=told):
            await serve_worker(adapter, settings_of(**settings))

    @pytest.mark.parametrize(
        ("adapter", "settings"),
        [
            (ADAPTER, {}),
            (VLLM, {"private_endpoints": ("127.0.0.0/8",)}),
            (ADAPTER, {"endpoint": "http://llm.internal:80", "private_endpoints": ("llm.internal",)}),
        ],
    )
    def test_goes_on_with_one_that_keeps_them(self, adapter: OpenAIDialect, settings: dict[str, Any]) -> None:
        rules = endpoint_rules(adapter, settings_of(**settings))
        assert rules.broken_rule("http://10.9.9.9") is not None


def settings_of(**settings: Any) -> Settings:
    addresses: dict[str, Any] = dict.fromkeys(("auth_address", "key_vault_address", "analytics_address"), "127.0.0.1:1")
    rpc = RpcSettings(listen="127.0.0.1:0", tls_dir=Path("nowhere"), leave_seconds=0)
    return Settings(rpc=rpc, data_dir=Path("nowhere"), **addresses, **settings)
