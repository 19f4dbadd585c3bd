"""Keys in a worker's memory: nothing that holds one shows it, and none stays behind when it is no longer needed."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import aiohttp
import grpc
import orjson
import pytest
from multidict import CIMultiDict
from realmultillm.keyvault.v1 import credential_service_pb2 as vault
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2
from structlog.testing import capture_logs
from yarl import URL

from libs import watched_cache
from libs.errors import InvalidRequest, ProviderUnavailable
from libs.provider_keys import ProviderKey
from libs.redaction import redact_value
from libs.worker import credentials
from libs.worker.adapter import Adapter, Credential
from libs.worker.credentials import Credentials
from libs.worker.upstream import connect_upstream
from services.workers.anthropic.adapter import ADAPTER as ANTHROPIC
from services.workers.google_ai.adapter import ADAPTER as GOOGLE_AI
from services.workers.openai.adapter import ADAPTER
from tests.support.waiting import eventually, within_bound
from tests.support.wire import LOCAL_RULES, asked
from tests.unit.test_chat_accounts import Book, entered
from tests.unit.test_endpoints_in_use import asking, chats_through, written

# Of no known form, so that nothing but care keeps it from being seen.
CANARY = "canary0123456789canary"
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


class TestHolders:
    credential = Credential(ProviderKey(CANARY), "gpt-4o", 0.5, 10, platform_key=True)

    @pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, ascii, lambda held: f"{held!r:>40}"])
    def test_do_not_show_it(self, show: Callable[[object], str]) -> None:
        for held in (self.credential, self.credential.api_key, [self.credential], {"key": self.credential.api_key}):
            assert CANARY not in show(held)
        for adapter in (ADAPTER, ANTHROPIC, GOOGLE_AI):
            assert CANARY not in show(asked(adapter, HELLO, key=CANARY))

    @pytest.mark.parametrize("take", [asdict, pickle.dumps, copy.copy, copy.deepcopy, vars])
    def test_are_not_taken_apart(self, take: Callable[[Any], object]) -> None:
        if take is copy.copy:
            assert copy.copy(self.credential).api_key is self.credential.api_key
        else:
            with pytest.raises(TypeError):
                take(self.credential)
        with pytest.raises(TypeError):
            take(self.credential.api_key)

    @pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy, vars])
    @pytest.mark.parametrize("adapter", [ADAPTER, ANTHROPIC, GOOGLE_AI], ids=lambda adapter: adapter.provider)
    def test_of_a_request_are_not_taken_apart(self, take: Callable[[Any], object], adapter: Adapter) -> None:
        with pytest.raises(TypeError):
            take(asked(adapter, HELLO, key=CANARY))

    @pytest.mark.parametrize("adapter", [ADAPTER, ANTHROPIC, GOOGLE_AI], ids=lambda adapter: adapter.provider)
    def test_are_not_seen_in_logs_even_in_pieces(self, adapter: Adapter) -> None:
        request = asked(adapter, HELLO, key=CANARY)
        for held in (
            *(self.credential, self.credential.api_key, request, asdict(request), request.headers),
            *(dict(request.headers), list(request.headers.items()), str(request.headers)),
            *(vault.Credential(api_key=CANARY), str(vault.Credential(api_key=CANARY))),
            *(provider_pb2.TestKeyRequest(api_key=CANARY), repr(provider_pb2.TestKeyRequest(api_key=CANARY))),
        ):
            assert CANARY not in str(redact_value({"held": held})), type(held)


class TestFailures:
    """What the HTTP library raises holds the request, headers and all."""

    @pytest.mark.parametrize(
        "answer",
        [b"nonsense\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", b"HTTP/1.1 200 OK\r\nx\r\n\r\n"],
    )
    @pytest.mark.parametrize("adapter", [ADAPTER, ANTHROPIC, GOOGLE_AI], ids=lambda adapter: adapter.provider)
    async def test_of_the_connection_do_not_tell_the_key(self, answer: bytes, adapter: Adapter) -> None:
        received = bytearray()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.extend(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, connect_upstream(adapter, url, stream_idle_seconds=5, rules=LOCAL_RULES) as upstream:
            with capture_logs() as logs, pytest.raises(Exception) as failed:
                await upstream.fetch(asked(adapter, HELLO, key=CANARY), 5)
        assert CANARY.encode() in received
        assert CANARY not in "".join(traceback.format_exception(failed.value)) + str(logs) + repr(failed.value)

    def test_of_the_library_would_be_redacted(self) -> None:
        """The text of an exception that nobody expects goes through the redaction of logs."""
        headers: Any = CIMultiDict({"Authorization": f"Bearer {CANARY}", "x-api-key": CANARY})
        request: Any = aiohttp.RequestInfo(URL("http://a.example"), "GET", headers)
        error = aiohttp.ClientResponseError(request, (), status=400, message="bad")
        assert CANARY in repr(error)
        assert CANARY not in str(redact_value(repr(error))) + str(error)


class Vault:
    """Stands in for the stub of the key vault: has one key for everybody, and a stream the test writes."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[vault.CredentialEvent | None] = asyncio.Queue()
        self.subscriptions = 0
        self.allowed_models: list[str] = []

    async def GetCredential(self, request: vault.GetCredentialRequest, *, timeout: float) -> vault.Credential:
        return vault.Credential(api_key=f"{CANARY}-{request.user_id}", allowed_models=self.allowed_models)

    async def WatchCredentials(self, _request: object, *, wait_for_ready: bool) -> AsyncIterator[vault.CredentialEvent]:
        assert wait_for_ready
        self.subscriptions += 1
        while (event := await self.events.get()) is not None:
            yield event
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())

    def tell(self, **event: Any) -> None:
        self.events.put_nowait(vault.CredentialEvent(**event))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watched_cache, "time", clock)
    monkeypatch.setattr(watched_cache, "_SWEEP_SECONDS", 0.001)
    return clock


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Leaves it to the last holder to let go: what only the garbage collector finds stays too long."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def wiped(view: memoryview) -> None:
    """Waits until the bytes of a key are overwritten."""

    async def content() -> bytes:
        return bytes(view)

    await eventually(content, lambda found: found == bytes(len(found)))


def is_whole(view: memoryview) -> bool:
    return bytes(view).decode().startswith(CANARY)


@asynccontextmanager
async def watched(stub: Vault, provider: str = "openai") -> AsyncIterator[Credentials]:
    """Yields credentials whose stream is up."""
    held = Credentials(stub, provider)
    async with held.watching():
        stub.tell(synchronized=True)
        await eventually(lambda: _size(stub.events), lambda size: size == 0)
        await asyncio.sleep(0)
        yield held


async def _size(queue: asyncio.Queue[Any]) -> int:
    return queue.qsize()


async def bytes_of(held: Credentials, user_id: str) -> memoryview:
    """Looks at where a key lies without holding the key."""
    return memoryview((await held.of(user_id)).api_key._bytes)


@pytest.mark.usefixtures("no_collector")
class TestBytes:
    @pytest.mark.parametrize(
        ("event", "others"),
        [
            ({"user_id": "a"}, True),
            ({"everyone": True}, False),
            # A key vault from before `everyone`, which runs beside newer ones for a while, says it this way.
            pytest.param({"user_id": ""}, False, id="nobody"),
            pytest.param({}, False, id="an event of a later version"),
        ],
    )
    async def test_are_overwritten_when_the_key_changed(self, event: dict[str, Any], others: bool) -> None:
        stub = Vault()
        async with watched(stub) as held:
            view, other = await bytes_of(held, "a"), await bytes_of(held, "b")
            assert is_whole(view)
            stub.tell(alive=True)
            stub.tell(**event)
            await wiped(view)
            assert is_whole(other) is others

    async def test_are_overwritten_when_they_are_too_old(self, clock: Clock) -> None:
        stub = Vault()
        async with watched(stub) as held:
            view = await bytes_of(held, "a")
            clock.now += 299.0
            later = await bytes_of(held, "b")
            await asyncio.sleep(0.01)
            assert is_whole(view)
            clock.now += 1.0
            await wiped(view)
            assert is_whole(later)

    async def test_are_overwritten_sooner_while_nobody_tells_of_changes(self, clock: Clock) -> None:
        stub = Vault()
        async with watched(stub) as held:
            views = [await bytes_of(held, f"user {number}") for number in range(1_200)]
            stub.events.put_nowait(None)
            await eventually(lambda: _size(stub.events), lambda size: size == 0)
            clock.now += 30.0
            for view in views:
                await wiped(view)

    async def test_are_overwritten_when_there_is_no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(credentials, "_CACHE_SIZE", 2)
        async with watched(Vault()) as held:
            views = [await bytes_of(held, name) for name in "abc"]
            await wiped(views[0])
            assert all(map(is_whole, views[1:]))

    async def test_are_overwritten_at_the_end(self) -> None:
        async with watched(Vault()) as held:
            views = [await bytes_of(held, name) for name in "abc"]
        assert [bytes(view) for view in views] == [bytes(len(view)) for view in views]

    async def test_are_not_kept_by_a_chat_that_goes_on(self) -> None:
        """It goes on with the old key, which it has put into its request."""
        stub, provider = Vault(), Slow()
        async with watched(stub) as held:
            view = await bytes_of(held, "usr_1")
            chats = chats_through(provider, Book())
            chats._credentials = held
            chatting = asyncio.create_task(chats.stream(asking(), written, entered()))
            await within_bound(provider.asked.wait())
            stub.tell(user_id="usr_1")
            await wiped(view)
            provider.go_on.set()
            await within_bound(chatting)
        assert provider.keys == [f"Bearer {CANARY}-usr_1"] * 2

    @pytest.mark.parametrize("failure", ["invalid", "provider", "cancelled"])
    async def test_are_not_kept_by_a_chat_that_failed(self, failure: str) -> None:
        stub, provider = Vault(), Slow()
        async with watched(stub) as held:
            view = await bytes_of(held, "usr_1")
            chats = chats_through(provider, Book())
            chats._credentials = held
            request = asking()
            if failure == "invalid":
                chats._adapter = Picky()  # type: ignore[assignment]
                with pytest.raises(InvalidRequest):
                    await chats.complete(request, entered())
            elif failure == "provider":
                provider.go_on.set()
                with pytest.raises(ProviderUnavailable):
                    await chats.complete(request, entered())
            else:
                chatting = asyncio.create_task(chats.stream(request, written, entered()))
                await within_bound(provider.asked.wait())
                chatting.cancel()
                await asyncio.gather(chatting, return_exceptions=True)
            stub.tell(user_id="usr_1")
            await wiped(view)


class TestAllowedModels:
    async def test_are_in_memory_once_for_all_people(self) -> None:
        """They are the platform's: 200 long names for each of 20,000 people would be half a gigabyte."""
        stub = Vault()
        stub.allowed_models = ["o3", "gpt-5", "a"]
        async with watched(stub) as held:
            first, second = [(await held.of(user_id)).allowed_models for user_id in "ab"]
            assert first is second
            assert first == ("o3", "gpt-5", "a")
            stub.allowed_models = ["a", "o3"]
            stub.tell(everyone=True)
            assert await eventually(lambda: _models(held), lambda models: models != first) == ("a", "o3")


async def _models(held: Credentials) -> tuple[str, ...]:
    return (await held.of("a")).allowed_models


class Picky:
    """An adapter that refuses every request, with the key at hand."""

    provider, display_name, default_model = "openai", "OpenAI", "gpt-4o"

    def chat_request(self, _request: object, _model: str, credential: Credential, *, stream: bool) -> None:
        assert credential
        raise InvalidRequest([])


class Slow:
    """A provider that waits to be told before it answers, and is away the first time."""

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.keys: list[str] = []

    @asynccontextmanager
    async def stream(self, request: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        self.keys.append(request.headers["authorization"])
        self.asked.set()
        await self.go_on.wait()
        if len(self.keys) == 1:
            raise ProviderUnavailable("away", provider="openai", retry_after=0.0)
        yield _once(_SAID)

    async def fetch(self, request: Any, _timeout: float) -> bytes:
        self.keys.append(request.headers["authorization"])
        raise ProviderUnavailable("away", provider="openai", retry_after=99.0)


async def _once(answer: bytes) -> AsyncIterator[bytes]:
    yield answer


_SAID = b"data: %b\n\ndata: [DONE]\n\n" % orjson.dumps(
    {"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]}
)
