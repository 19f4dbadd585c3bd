"""What a server counts of its calls: how many, how they ended, how long they took, and what the limits decided."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from libs import tokens as token_format
from libs.errors import NotFound, Unavailable
from tests.support.rpc import Identities, KnownTokens, bearer, running
from tests.support.waiting import eventually, within_bound
from tests.unit.rpc.conftest import KINDS, POLICY, SERVICE, Client, Echo, client_as, raising

TYPES = dict(zip(KINDS, ("unary", "server_stream", "client_stream", "bidi_stream"), strict=True))


class Dependency:
    """Something that may be away."""

    def __init__(self) -> None:
        self.away = False

    async def probe(self) -> None:
        if self.away:
            raise Unavailable("It is away.")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


@pytest.fixture
async def address(
    echo: Echo, tokens: KnownTokens, identity: Identities, registry: CollectorRegistry, dependency: Dependency
) -> AsyncIterator[str]:
    service = running(
        identity("analytics"),
        echo.register,
        policy=POLICY,
        tokens=tokens,
        rate_limits={"default": "2/hour", "InvalidTokens": "2/hour"},
        probes={"database": dependency.probe},
        metrics=registry,
    )
    async with service as address:
        yield address


class Counts:
    """Reads a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def of(self, method: str, name: str, **labels: str) -> float:
        """Returns the value of a metric of a method; 0 where there is none."""
        kind = TYPES.get(method, "unary")
        found = {"grpc_service": SERVICE, "grpc_method": method, "grpc_type": kind, **labels}
        return self._registry.get_sample_value(name, found) or 0.0

    def codes(self, method: str) -> dict[str, float]:
        """Returns how often calls of a method ended with each code."""
        return {
            sample.labels["grpc_code"]: sample.value
            for family in self._registry.collect()
            for sample in family.samples
            if sample.name == "grpc_server_handled_total" and sample.labels["grpc_method"] == method
        }

    def plain(self, name: str, **labels: str) -> float | None:
        """Returns the value of any metric."""
        return self._registry.get_sample_value(name, labels)


@pytest.fixture
def counts(registry: CollectorRegistry) -> Counts:
    return Counts(registry)


class TestCalls:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_call_of_any_kind_is_counted_once(self, echo: Echo, envoy: Client, counts: Counts, kind: str):
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def behavior(_requests: list[bytes], _context: Any) -> None:
            begun.set()
            await go_on.wait()

        echo.behavior = behavior
        call = asyncio.create_task(envoy.call(kind, b"x"))
        await within_bound(begun.wait())
        assert counts.of(kind, "grpc_server_started_total") == 1
        assert counts.of(kind, "grpc_server_in_flight") == 1
        assert counts.codes(kind) == {}
        go_on.set()
        assert await within_bound(call) == [b"x"] * (2 if kind == "unary_stream" else 1)
        assert counts.of(kind, "grpc_server_in_flight") == 0
        assert counts.codes(kind) == {"OK": 1}
        assert counts.of(kind, "grpc_server_handling_seconds_count") == 1
        assert counts.of(kind, "grpc_server_handling_seconds_sum") > 0

    @pytest.mark.parametrize(
        ("error", "code", "reason"),
        [
            (NotFound("There is none of that name."), "NOT_FOUND", "NOT_FOUND"),
            (Unavailable("Not now.", reason="SERVICE_OVERLOADED"), "UNAVAILABLE", "SERVICE_OVERLOADED"),
            (ValueError("a bug that quotes sk-a-key"), "INTERNAL", None),
        ],
    )
    async def test_errors_are_told_apart(
        self, echo: Echo, envoy: Client, counts: Counts, error: Exception, code: str, reason: str | None
    ):
        echo.behavior = raising(error)
        assert (await envoy.refused("unary_unary")).code().name == code

        async def codes() -> dict[str, float]:
            return counts.codes("unary_unary")

        # The caller hears of it a moment before it is counted.
        assert await eventually(codes, bool) == {code: 1}
        told = {"grpc_service": SERVICE, "grpc_method": "unary_unary"}
        assert counts.plain("realmultillm_call_errors_total", **told, reason=reason or "INTERNAL") == (
            None if reason is None else 1
        )

    async def test_a_deadline_and_a_caller_who_leaves(self, echo: Echo, envoy: Client, counts: Counts):
        begun = asyncio.Event()

        async def behavior(_requests: list[bytes], _context: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        echo.behavior = behavior
        assert (await envoy.refused("brief")).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        begun.clear()
        call = envoy.open("unary_unary", b"x")
        await within_bound(begun.wait())
        call.cancel()

        async def codes() -> dict[str, float]:
            return counts.codes("unary_unary")

        assert await eventually(codes, bool) == {"CANCELLED": 1}
        assert counts.codes("brief") == {"DEADLINE_EXCEEDED": 1}
        assert counts.of("unary_unary", "grpc_server_in_flight") == 0

    async def test_who_is_refused_is_counted_and_what_nobody_serves_is_not(self, envoy: Client, counts: Counts):
        assert (await envoy.refused("personal")).code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await envoy.refused("unlisted")).code() is grpc.StatusCode.PERMISSION_DENIED
        assert (await envoy.refused("made-up-by-somebody")).code() is grpc.StatusCode.UNIMPLEMENTED
        assert counts.codes("personal") == {"UNAUTHENTICATED": 1}
        assert counts.codes("unlisted") == {"PERMISSION_DENIED": 1}
        assert counts.codes("made-up-by-somebody") == {}

    async def test_a_reason_of_a_newer_service_is_no_label(self, echo: Echo, envoy: Client, counts: Counts):
        echo.behavior = raising(NotFound("None.", reason="MADE_UP"))
        await envoy.refused("unary_unary")
        told = {"grpc_service": SERVICE, "grpc_method": "unary_unary"}
        assert counts.plain("realmultillm_call_errors_total", **told, reason="MADE_UP") is None
        assert counts.plain("realmultillm_call_errors_total", **told, reason="other") == 1


class TestLimits:
    async def test_what_limits_decide_is_counted_by_method(
        self, identity: Identities, address: str, envoy: Client, tokens: KnownTokens, counts: Counts
    ):
        metadata = bearer(tokens.issue("usr_ada"))
        for _ in range(2):
            await envoy.call("unary_unary", b"x")
            await within_bound(envoy.open("personal", b"x", metadata=metadata))
        assert (await envoy.refused("personal", metadata=metadata)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED

        def decided(limit: str, decision: str) -> float | None:
            return counts.plain("realmultillm_limit_decisions_total", limit=limit, decision=decision)

        assert (decided("personal", "allowed"), decided("personal", "refused")) == (2, 1)
        # Without a limit nothing is decided.
        assert decided("unary_unary", "allowed") is None
        for _ in range(3):
            made_up = bearer(token_format.mint(token_format.SESSION_PREFIX))
            await envoy.refused("personal", metadata=(*made_up, ("x-envoy-external-address", "192.0.2.1")))
        assert (decided("InvalidTokens", "allowed"), decided("InvalidTokens", "refused")) == (2, 1)
        # There is no Redis.
        assert counts.plain("realmultillm_limit_hits_alone_total") == 5

    async def test_whether_a_dependency_answers(self, address: str, counts: Counts, dependency: Dependency):
        async def up() -> float | None:
            return counts.plain("realmultillm_dependency_up", dependency="database")

        assert await eventually(up, lambda value: value is not None) == 1
        dependency.away = True
        assert await eventually(up, lambda value: value == 0) == 0


class TestWithoutMetrics:
    async def test_nothing_is_counted(self, echo: Echo, identity: Identities):
        async with (
            running(identity("analytics"), echo.register, policy=POLICY) as address,
            client_as("envoy", address, identity) as client,
        ):
            assert await client.call("unary_unary", b"x") == [b"x"]
