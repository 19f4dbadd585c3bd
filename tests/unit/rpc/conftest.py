"""A service with a method of each kind that does what the test says, on the real bootstrap, and clients of it."""

import asyncio
import gc
import inspect
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from structlog.testing import capture_logs

from libs.rpc.access_policy import SESSION, UNBOUNDED, AccessPolicy, for_role, open_to
from libs.rpc.channel import open_channel
from libs.rpc.identity import Call, current_call
from tests.support.rpc import Identities, KnownTokens, running

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
SERVICE = "test.v1.Echo"
# A page of another host that may call by the session cookie.
ALLOWED_ORIGIN = "https://Console.example.com"

Behavior = Callable[[list[bytes], Any], Awaitable[None]]


async def nothing(requests: list[bytes], context: Any) -> None:
    pass


class Echo:
    """One service with a method of each kind; a method answers what it was sent after doing what the test says."""

    def __init__(self) -> None:
        self.behavior: Behavior = nothing
        self.calls: list[Call] = []
        self.closed = asyncio.Event()
        self._held: list[object] = []

    async def _one(self, request: bytes, context: Any) -> bytes:
        return (await self._do([request], context))[0]

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        # Held, so that its `finally` runs when it is closed and not when it is collected.
        self._held.append(_generator_of(inspect.currentframe()))
        try:
            yield request
            for answer in await self._do([request], context):
                yield answer
        finally:
            self.closed.set()

    async def _collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b",".join(await self._do([request async for request in requests], context))

    async def _mirror(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                for answer in await self._do([request], context):
                    yield answer
        finally:
            self.closed.set()

    async def _do(self, requests: list[bytes], context: Any) -> list[bytes]:
        self.calls.append(current_call())
        await self.behavior(requests, context)
        return requests

    async def _written(self, request: bytes, context: Any) -> None:
        """A streaming method in the other style: a coroutine that writes."""
        for answer in await self._do([request], context):
            await context.write(answer)

    async def _parsed(self, request: StringValue, context: Any) -> bytes:
        return (await self._do([request.value.encode()], context))[0]

    def register(self, server: grpc.aio.Server) -> None:
        behaviors = zip(KINDS, (self._one, self._stream, self._collect, self._mirror), strict=True)
        handlers = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(behavior) for kind, behavior in behaviors}
        names = ("personal", "GetPersonal", "session", "admin", "brief", "unlisted")
        handlers |= {name: grpc.unary_unary_rpc_method_handler(self._one) for name in names}
        handlers |= {name: grpc.unary_stream_rpc_method_handler(self._written) for name in ("written", "Watched")}
        handlers["parsed"] = grpc.unary_unary_rpc_method_handler(
            self._parsed, request_deserializer=StringValue.FromString
        )
        handlers["endless"] = grpc.unary_stream_rpc_method_handler(self._stream)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _generator_of(frame: types.FrameType | None) -> object:
    return next(o for o in gc.get_objects() if isinstance(o, types.AsyncGeneratorType) and o.ag_frame is frame)


POLICY: AccessPolicy = {
    **{f"/{SERVICE}/{kind}": open_to({"envoy"}) for kind in (*KINDS, "written")},
    f"/{SERVICE}/endless": open_to({"envoy"}, deadline=UNBOUNDED),
    f"/{SERVICE}/parsed": for_role("user", {"envoy"}, scopes={"chat"}),
    f"/{SERVICE}/personal": for_role("user", {"envoy", "provider-router"}, scopes={"chat"}),
    f"/{SERVICE}/GetPersonal": for_role("user", {"envoy"}, scopes={"chat", "config"}),
    f"/{SERVICE}/Watched": for_role("user", {"envoy"}, scopes={"chat"}, deadline=UNBOUNDED),
    f"/{SERVICE}/session": for_role("user", {"envoy"}, scopes={SESSION}),
    f"/{SERVICE}/admin": for_role("admin", {"envoy"}, scopes={"admin"}),
    f"/{SERVICE}/brief": open_to({"envoy"}, deadline=0.3),
}


class Client:
    """Calls the methods of Echo, whatever their kind, and returns the messages of the answer."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def open(self, method: str, *requests: bytes, kind: str = "unary_unary", **options: Any) -> Any:
        call = getattr(self._channel, kind)(f"/{SERVICE}/{method}")
        options = {"timeout": 10, **options}
        return call(iter(requests) if kind.startswith("stream") else requests[0], **options)

    async def call(self, kind: str, *requests: bytes, **options: Any) -> list[bytes]:
        answer = self.open(kind, *requests, kind=kind, **options)
        return [message async for message in answer] if kind.endswith("stream") else [await answer]

    async def refused(self, method: str, kind: str = "unary_unary", **options: Any) -> grpc.aio.AioRpcError:
        answer = self.open(method, b"x", kind=kind, **options)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (read_all(answer) if kind.endswith("stream") else answer)
        return caught.value


async def read_all(answer: Any) -> None:
    async for _ in answer:
        pass


@asynccontextmanager
async def client_as(name: str, address: str, identity: Identities) -> AsyncIterator[Client]:
    async with open_channel(address, "analytics", identity(name)) as channel:
        yield Client(channel)


def raising(error: BaseException) -> Behavior:
    async def behavior(requests: list[bytes], context: Any) -> None:
        raise error

    return behavior


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def tokens() -> KnownTokens:
    return KnownTokens()


@pytest.fixture
async def address(echo: Echo, tokens: KnownTokens, identity: Identities) -> AsyncIterator[str]:
    service = running(
        identity("analytics"), echo.register, policy=POLICY, tokens=tokens, allowed_origins=(ALLOWED_ORIGIN,)
    )
    async with service as address:
        yield address


@pytest.fixture
async def envoy(address: str, identity: Identities) -> AsyncIterator[Client]:
    async with client_as("envoy", address, identity) as client:
        yield client


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines
