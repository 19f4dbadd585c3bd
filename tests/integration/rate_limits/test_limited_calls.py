"""Limits as callers meet them: headers on what is answered, 429 beyond, each person, method and address on its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.audit import AuditEvent, audit_trail
from libs.errors import NotFound
from libs.redaction import Secret
from libs.rpc.access_policy import AccessPolicy, for_role, open_to
from libs.rpc.channel import open_channel
from libs.settings import SettingsError
from tests.support.redis import RedisServer
from tests.support.rpc import Identities, KnownTokens, bearer, details, error_info, running
from tests.support.waiting import eventually, within_bound

SERVICE = "test.v1.Limited"
HEADERS = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
EVERYBODY = {"envoy", "provider-router"}
POLICY: AccessPolicy = {
    f"/{SERVICE}/Ask": for_role("user", EVERYBODY, scopes={"chat"}, limit="3/hour"),
    f"/{SERVICE}/AskAgain": for_role("user", EVERYBODY, scopes={"chat"}, limit="3/hour"),
    f"/{SERVICE}/Stream": for_role("user", EVERYBODY, scopes={"chat"}, limit="3/hour"),
    f"/{SERVICE}/Fail": for_role("user", EVERYBODY, scopes={"chat"}, limit="3/hour"),
    f"/{SERVICE}/BreakOff": for_role("user", EVERYBODY, scopes={"chat"}, limit="3/hour"),
    f"/{SERVICE}/Govern": for_role("admin", EVERYBODY, scopes={"admin"}, limit="3/hour"),
    f"/{SERVICE}/Usual": for_role("user", EVERYBODY, scopes={"chat"}),
    f"/{SERVICE}/Knock": open_to(EVERYBODY, limit="3/hour"),
    f"/{SERVICE}/Free": open_to(EVERYBODY),
}


async def _answer(request: StringValue, context: Any) -> StringValue:
    return request


async def _fail(request: StringValue, context: Any) -> StringValue:
    raise NotFound("There is nothing of that name; choose another.")


async def _stream(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
    for _ in range(3):
        yield request


async def _break_off(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
    yield request
    raise NotFound("There is no more of it; ask for less.")


def register(server: grpc.aio.Server) -> None:
    """Adds the service."""
    unary = dict.fromkeys(("Ask", "AskAgain", "Govern", "Usual", "Knock", "Free"), _answer) | {"Fail": _fail}
    streams = {"Stream": _stream, "BreakOff": _break_off}
    coding: Any = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers = {name: grpc.unary_unary_rpc_method_handler(answer, **coding) for name, answer in unary.items()}
    handlers |= {name: grpc.unary_stream_rpc_method_handler(answer, **coding) for name, answer in streams.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


@dataclass(frozen=True)
class Told:
    """What an answer said: how it ended, and what its headers say of the limit."""

    code: grpc.StatusCode
    headers: dict[str, str]
    error: grpc.aio.AioRpcError | None = None

    @property
    def remaining(self) -> int:
        return int(self.headers["ratelimit-remaining"])


class Caller:
    """Calls the service, as another service and for a person or nobody, from an address."""

    def __init__(self, channel: grpc.aio.Channel, token: Secret | None, address: str) -> None:
        self._channel = channel
        self._metadata = (*(bearer(token) if token else ()), ("x-envoy-external-address", address))

    async def call(self, method: str, request: bytes = b"") -> Told:
        """Calls a method, streaming or not, and reads its answer to the end."""
        open_call = self._channel.unary_stream if method in ("Stream", "BreakOff") else self._channel.unary_unary
        call = open_call(f"/{SERVICE}/{method}")(request, metadata=self._metadata, timeout=20)
        error = None
        try:
            await call if open_call == self._channel.unary_unary else [message async for message in call]
        except grpc.aio.AioRpcError as caught:
            error = caught
        metadata = dict([*(await call.initial_metadata()), *(await call.trailing_metadata())])
        headers = {name: str(value) for name, value in metadata.items() if name in (*HEADERS, "retry-after")}
        return Told(await call.code(), headers, error)

    async def passed(self, method: str, calls: int) -> int:
        """Calls a number of times at once, and counts what was answered."""
        answers = await asyncio.gather(*(self.call(method) for _ in range(calls)))
        return sum(answer.code == grpc.StatusCode.OK for answer in answers)


class Deployment:
    """Some servers of the service, and callers of the first."""

    def __init__(self, addresses: Sequence[str], tokens: KnownTokens, identity: Identities) -> None:
        self.addresses = addresses
        self._tokens = tokens
        self._identity = identity
        self._channels: dict[tuple[str, int], grpc.aio.Channel] = {}

    def caller(
        self, user: str = "", peer: str = "envoy", *, address: str = "192.0.2.1", server: int = 0, role: str = "user"
    ) -> Caller:
        """A caller with a new token for a person, if there is one."""
        return Caller(self.channel(peer, server), self._tokens.issue(user, role) if user else None, address)

    def channel(self, peer: str, server: int = 0) -> grpc.aio.Channel:
        """The channel of a service to a server."""
        if (peer, server) not in self._channels:
            self._channels[peer, server] = open_channel(self.addresses[server], "analytics", self._identity(peer))
        return self._channels[peer, server]

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            await channel.close()


@asynccontextmanager
async def deployed(identity: Identities, *, servers: int = 1, **options: Any) -> AsyncIterator[Deployment]:
    """Runs servers with the limits of the policy, unless told otherwise."""
    tokens = KnownTokens()
    options = {"rate_limits": {}, **options}
    async with AsyncExitStack() as stack:
        addresses = [
            await stack.enter_async_context(
                running(identity("analytics"), register, policy=POLICY, tokens=tokens, **options)
            )
            for _ in range(servers)
        ]
        deployment = Deployment(addresses, tokens, identity)
        stack.push_async_callback(deployment.close)
        yield deployment


@pytest.fixture
async def deployment(identity: Identities, redis: RedisServer) -> AsyncIterator[Deployment]:
    async with deployed(identity, redis_url=redis.url) as deployment:
        yield deployment


class TestHeaders:
    @pytest.mark.parametrize(
        ("method", "code"),
        [
            ("Ask", grpc.StatusCode.OK),
            ("Stream", grpc.StatusCode.OK),
            ("Fail", grpc.StatusCode.NOT_FOUND),
            ("BreakOff", grpc.StatusCode.NOT_FOUND),
        ],
    )
    async def test_are_on_every_answer(self, deployment: Deployment, method: str, code: grpc.StatusCode):
        caller = deployment.caller("ada")
        for remaining in (2, 1, 0):
            told = await caller.call(method)
            assert told.code == code
            assert set(told.headers) == set(HEADERS)
            assert told.headers["ratelimit-limit"] == "3"
            assert told.remaining == remaining
            assert 3_500 < int(told.headers["ratelimit-reset"]) <= 3_600

    @pytest.mark.parametrize("method", ["Ask", "Stream", "Fail"])
    async def test_past_the_limit_say_when_to_come_again(self, deployment: Deployment, method: str):
        caller = deployment.caller("ada")
        for _ in range(3):
            await caller.call(method)
        told = await caller.call(method)
        assert told.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert told.remaining == 0
        seconds = told.headers["ratelimit-reset"]
        assert told.headers["retry-after"] == seconds
        assert told.error is not None
        info = error_info(told.error)
        assert (info.reason, info.domain) == ("RATE_LIMIT_EXCEEDED", "realmultillm")
        assert dict(info.metadata) == {"limit": "3 requests an hour", "seconds": seconds}
        assert told.error.details() == (
            f"You have reached the limit of 3 requests an hour for this; try again in {seconds} seconds."
        )
        (retry,) = details(told.error, error_details_pb2.RetryInfo)
        assert retry.retry_delay.seconds == int(seconds)

    async def test_are_not_on_what_has_no_limit(self, deployment: Deployment):
        assert (await deployment.caller().call("Free")).headers == {}

    async def test_the_usual_limit_is_a_hundred_a_minute(self, deployment: Deployment):
        told = await deployment.caller("ada").call("Usual")
        assert [told.headers[name] for name in HEADERS] == ["100", "99", "60"]


class TestWhatCounts:
    async def test_each_person_and_each_method_on_its_own(self, deployment: Deployment):
        for user in ("ada", "bob"):
            for method in ("Ask", "AskAgain"):
                assert await deployment.caller(user).passed(method, 5) == 3

    async def test_all_tokens_of_a_person_together(self, deployment: Deployment):
        assert sum([await deployment.caller("ada").passed("Ask", 2) for _ in range(3)]) == 3

    async def test_not_what_a_service_calls_for_a_person(self, deployment: Deployment):
        router = deployment.caller("ada", "provider-router")
        assert await router.passed("Ask", 10) == 10
        assert (await router.call("Ask")).headers == {}
        assert (await deployment.caller("ada").call("Ask")).remaining == 2

    async def test_not_what_somebody_may_not_do(self, deployment: Deployment):
        user = deployment.caller("ada")
        for _ in range(5):
            told = await user.call("Govern")
            assert (told.code, told.headers) == (grpc.StatusCode.PERMISSION_DENIED, {})
        assert (await deployment.caller("ada", role="admin").call("Govern")).remaining == 2

    async def test_not_what_nobody_is_known_for(self, deployment: Deployment):
        for _ in range(5):
            assert (await deployment.caller().call("Ask")).code == grpc.StatusCode.UNAUTHENTICATED
        assert (await deployment.caller("ada").call("Ask")).remaining == 2

    async def test_also_what_cannot_be_read(self, deployment: Deployment):
        caller = deployment.caller("ada")
        for remaining in (2, 1, 0):
            told = await caller.call("Ask", b"\xff")
            assert (told.code, told.remaining) == (grpc.StatusCode.INVALID_ARGUMENT, remaining)
        assert (await caller.call("Ask")).code == grpc.StatusCode.RESOURCE_EXHAUSTED


class TestAddresses:
    async def test_count_where_nobody_is_signed_in(self, deployment: Deployment):
        for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
            assert await deployment.caller(address=address).passed("Knock", 5) == 3

    async def test_of_one_ipv6_customer_are_one(self, deployment: Deployment):
        first, second, stranger = "2001:db8:1:2::3", "2001:db8:1:2:ffff::1", "2001:db8:1:3::3"
        assert await deployment.caller(address=first).passed("Knock", 2) == 2
        assert await deployment.caller(address=second).passed("Knock", 5) == 1
        assert await deployment.caller(address=stranger).passed("Knock", 5) == 3

    async def test_that_are_none_are_one(self, deployment: Deployment):
        passed = [await deployment.caller(address=address).passed("Knock", 2) for address in ("", "here", "192.0.2")]
        assert sum(passed) == 3

    async def test_a_token_changes_nothing(self, deployment: Deployment):
        passed = [await deployment.caller(user).passed("Knock", 2) for user in ("ada", "bob", "")]
        assert sum(passed) == 3


class TestReplicas:
    async def test_together_let_exactly_the_limit_through(self, identity: Identities, redis: RedisServer):
        limits = {"Ask": "50/hour", "Stream": "7/hour"}
        async with deployed(identity, servers=2, redis_url=redis.url, rate_limits=limits) as deployment:
            for method, limit in (("Ask", 50), ("Stream", 7)):
                clients = [deployment.caller("ada", server=number % 2) for number in range(20)]
                assert sum(await asyncio.gather(*(client.passed(method, 4) for client in clients))) == limit

    async def test_without_redis_each_lets_the_limit_through(self, identity: Identities):
        async with deployed(identity, servers=2) as deployment:
            for server in range(2):
                assert await deployment.caller("ada", server=server).passed("Ask", 5) == 3


class TestSettings:
    async def test_limits_are_set_by_method_and_default(self, identity: Identities):
        limits = {"Ask": "1/second", "Stream": "unlimited", "Knock": "5 per 2 hours", "default": "200/minute"}
        async with deployed(identity, rate_limits=limits) as deployment:
            caller = deployment.caller("ada")
            told = [(await caller.call(method)).headers for method in ("Ask", "Stream", "Knock", "Usual", "Fail")]
            assert [headers.get("ratelimit-limit") for headers in told] == ["1", None, "5", "200", "3"]
            again = await deployment.caller("bob").call("Ask")
            assert again.headers["ratelimit-reset"] == "1"

    async def test_unusable_ones_end_the_start(self, identity: Identities, redis: RedisServer):
        with pytest.raises(SettingsError, match="Sell has no limit here"):
            async with deployed(identity, redis_url=redis.url, rate_limits={"Sell": "1/second"}):
                pass


class TestRedisAway:
    async def test_calls_go_on_and_their_log_lines_say_so(
        self, deployment: Deployment, redis: RedisServer, logs: list[Any]
    ):
        caller = deployment.caller("ada")
        await caller.call("Ask")
        with redis.frozen():
            assert await within_bound(caller.passed("Ask", 5)) == 3
        lines = [line for line in logs if line["event"] == "call" and line["method"].endswith("/Ask")]
        assert [line.get("limits") for line in lines] == [None] + ["alone"] * 5

    async def test_shows_in_the_health_of_the_service(self, deployment: Deployment, redis: RedisServer):
        stub = health_pb2_grpc.HealthStub(deployment.channel("envoy"))
        states = health_pb2.HealthCheckResponse

        async def health(service: str) -> int:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            return int(answer.status)

        await eventually(lambda: health("redis"), lambda status: status == states.SERVING)
        with redis.frozen():
            await eventually(lambda: health("redis"), lambda status: status == states.NOT_SERVING)
            assert await health("") == states.SERVING
        await eventually(lambda: health("redis"), lambda status: status == states.SERVING)


class TestAudit:
    async def test_a_limit_that_is_reached_is_noted_once(self, identity: Identities, tmp_path: Path):
        stored: list[AuditEvent] = []

        async def store(events: Sequence[AuditEvent]) -> None:
            stored.extend(events)

        async with audit_trail(tmp_path, store) as audit, deployed(identity, audit=audit) as deployment:
            for user in ("ada", "bob"):
                assert await deployment.caller(user, address="192.0.2.7").passed("Ask", 8) == 3
        assert [(event.user_id, event.action, event.resource) for event in stored] == [
            (user, "rate_limit.exceeded", f"/{SERVICE}/Ask") for user in ("ada", "bob")
        ]
        assert {(event.address, event.details["limit"]) for event in stored} == {("192.0.2.7", "3 requests an hour")}
