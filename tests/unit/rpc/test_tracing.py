"""Spans of calls, from one service to the next, over real connections and with a collector; and nothing without one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from libs.errors import InvalidRequest, NotFound, Unavailable, Violation
from libs.rpc.channel import open_channel, within
from libs.rpc.identity import current_call, current_span
from libs.settings import SettingsError
from libs.tracing import connect_tracing, kind_of, part_of
from tests.support.collector import Collector, Told, collecting
from tests.support.rpc import Identities, KnownTokens, running
from tests.support.waiting import within_bound
from tests.unit.rpc.conftest import POLICY, SERVICE, Client, Echo, client_as, raising

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
KEPT = ("traceparent", f"00-{TRACE}-{PARENT}-01")
NOT_KEPT = ("traceparent", f"00-{TRACE}-{PARENT}-00")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as running_collector:
        yield running_collector


@asynccontextmanager
async def traced_service(
    echo: Echo, endpoint: str | None, identity: Identities, tokens: KnownTokens, *, peer: str = "envoy"
) -> AsyncIterator[Client]:
    """Runs the service, and yields its client. All spans are sent when the block has ended."""
    service = running(identity("analytics"), echo.register, policy=POLICY, tokens=tokens, otlp_endpoint=endpoint)
    async with service as address, client_as(peer, address, identity) as client:
        yield client


def of_method(spans: list[Told], method: str) -> Told:
    (span,) = (span for span in spans if span.name == f"{SERVICE}/{method}")
    return span


class TestServed:
    @pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
    async def test_a_call_is_a_span_of_its_caller_s_trace(
        self, collector: Collector, echo: Echo, identity: Identities, tokens: KnownTokens, kind: str
    ) -> None:
        async with traced_service(echo, collector.endpoint, identity, tokens) as client:
            await client.call(kind, b"a", metadata=(KEPT, ("tracestate", "a=1"), ("x-request-id", "request-1")))

        (span,) = collector.spans
        assert (span.service, span.kind, span.name) == ("analytics", "server", f"{SERVICE}/{kind}")
        assert (span.trace_id, span.parent_id, span.failed) == (TRACE, PARENT, False)
        assert 0 < span.start <= span.end
        assert span.attributes == {
            "rpc.system.name": "grpc",
            "rpc.method": f"{SERVICE}/{kind}",
            "rpc.response.status_code": "OK",
            "realmultillm.request_id": "request-1",
        }

    @pytest.mark.parametrize(
        "headers", [(), (NOT_KEPT,), (("traceparent", "no context"),), (("tracestate", "a=1"),)], ids=str
    )
    async def test_a_call_without_a_trace_that_is_kept_is_none(
        self, collector: Collector, echo: Echo, identity: Identities, tokens: KnownTokens, headers: Any
    ) -> None:
        seen = []

        async def look(_requests: list[bytes], _context: Any) -> None:
            seen.append(current_span())

        echo.behavior = look
        async with traced_service(echo, collector.endpoint, identity, tokens) as client:
            await client.call("unary_unary", b"a", metadata=headers)

        assert seen == [None]
        assert collector.spans == []

    @pytest.mark.parametrize(
        ("error", "code", "kind"),
        [
            (NotFound("There is none."), "NOT_FOUND", None),
            (InvalidRequest([Violation("a", "must be b.")]), "INVALID_ARGUMENT", None),
            (Unavailable("It is away.", reason="SERVICE_OVERLOADED"), "UNAVAILABLE", "SERVICE_OVERLOADED"),
            (RuntimeError("a secret"), "INTERNAL", "INTERNAL"),
        ],
        ids=str,
    )
    async def test_an_error_is_one_of_the_service_only_where_it_is_to_blame(
        self,
        collector: Collector,
        echo: Echo,
        identity: Identities,
        tokens: KnownTokens,
        error: Exception,
        code: str,
        kind: str | None,
    ) -> None:
        echo.behavior = raising(error)
        async with traced_service(echo, collector.endpoint, identity, tokens) as client:
            await client.refused("unary_unary", metadata=(KEPT,))

        (span,) = collector.spans
        assert span.attributes["rpc.response.status_code"] == code
        assert (span.failed, span.attributes.get("error.type")) == (kind is not None, kind)
        assert b"a secret" not in collector.received


class TestCalled:
    @pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
    @pytest.mark.parametrize("refused", [False, True])
    async def test_a_call_of_another_service_is_a_span_within(
        self, collector: Collector, echo: Echo, identity: Identities, tokens: KnownTokens, kind: str, refused: bool
    ) -> None:
        behind = Echo()
        if refused:
            behind.behavior = raising(NotFound("There is none."))
        async with AsyncExitStack() as stack:
            address = await stack.enter_async_context(
                running(
                    identity("analytics"),
                    behind.register,
                    policy=POLICY,
                    tokens=tokens,
                    otlp_endpoint=collector.endpoint,
                )
            )
            onward = await stack.enter_async_context(client_as("envoy", address, identity))

            async def ask(_requests: list[bytes], _context: Any) -> None:
                with part_of(current_span(), "thinking", {"thoughts": 2}) as thinking:
                    current_call().span = thinking
                    try:
                        await onward.call(kind, b"b", **within(5))
                    except grpc.aio.AioRpcError:
                        assert refused

            echo.behavior = ask
            client = await stack.enter_async_context(traced_service(echo, collector.endpoint, identity, tokens))
            await client.call("stream_stream", b"a", metadata=(KEPT,))

        by_kind = {(span.kind, span.name): span for span in collector.spans}
        outer = by_kind["server", f"{SERVICE}/stream_stream"]
        thinking = by_kind["client", "thinking"]
        call = by_kind["client", f"{SERVICE}/{kind}"]
        inner = by_kind["server", f"{SERVICE}/{kind}"]
        assert [outer.parent_id, thinking.parent_id, call.parent_id, inner.parent_id] == [
            PARENT,
            outer.span_id,
            thinking.span_id,
            call.span_id,
        ]
        assert {span.trace_id for span in collector.spans} == {TRACE}
        assert call.attributes["rpc.response.status_code"] == ("NOT_FOUND" if refused else "OK")
        assert (call.failed, inner.failed, outer.failed) == (refused, False, False)
        assert len(collector.spans) == 4

    async def test_a_call_that_is_cancelled_ends_its_span(
        self, collector: Collector, echo: Echo, identity: Identities, tokens: KnownTokens
    ) -> None:
        behind, entered = Echo(), asyncio.Event()

        async def never(_requests: list[bytes], _context: Any) -> None:
            entered.set()
            await asyncio.Event().wait()

        behind.behavior = never
        async with (
            running(identity("analytics"), behind.register, policy=POLICY, tokens=tokens) as address,
            client_as("envoy", address, identity) as onward,
        ):

            async def ask(_requests: list[bytes], _context: Any) -> None:
                call = onward.open("unary_stream", b"b", kind="unary_stream", **within(5))
                await within_bound(entered.wait())
                call.cancel()

            echo.behavior = ask
            async with traced_service(echo, collector.endpoint, identity, tokens) as client:
                await client.call("unary_unary", b"a", metadata=(KEPT,))

        assert of_method(collector.spans, "unary_stream").attributes["error.type"] == "CANCELLED"

    async def test_outside_of_a_trace_a_channel_is_as_ever(
        self, address: str, identity: Identities, echo: Echo
    ) -> None:
        async with open_channel(address, "analytics", identity("envoy")) as channel:
            assert await channel.unary_unary(f"/{SERVICE}/unary_unary")(b"a", timeout=5) == b"a"
            assert channel.get_state() is grpc.ChannelConnectivity.READY

        assert "traceparent" not in dict(echo.calls[0].context.invocation_metadata())


class TestCollector:
    async def test_one_that_is_away_holds_up_neither_calls_nor_the_end(
        self, echo: Echo, identity: Identities, tokens: KnownTokens
    ) -> None:
        async with collecting() as collector:
            pass

        async def serve() -> None:
            async with traced_service(echo, collector.endpoint, identity, tokens) as client:
                for _ in range(20):
                    await client.call("unary_unary", b"a", metadata=(KEPT,))

        await within_bound(serve())

    async def test_may_be_behind_tls(
        self, echo: Echo, identity: Identities, tokens: KnownTokens, pki_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(pki_folder / "envoy" / "ca.crt"))
        collector = Collector()
        await collector.start(identity("operator"))
        try:
            async with traced_service(echo, f"https://localhost:{collector.port}", identity, tokens) as client:
                await client.call("unary_unary", b"a", metadata=(KEPT,))
        finally:
            await collector.stop()

        assert [span.trace_id for span in collector.spans] == [TRACE]

    @pytest.mark.parametrize("endpoint", ["localhost:4317", "http://localhost", "http://localhost:4317/v1/traces"])
    async def test_an_endpoint_that_is_none_is_refused_at_the_start(self, endpoint: str) -> None:
        with pytest.raises(SettingsError, match="http://host:port"):
            async with connect_tracing(endpoint, "analytics"):
                pass

    def test_who_does_not_trace_does_not_load_the_library(self) -> None:
        loaded = "import sys, libs.rpc.server, libs.worker.bootstrap, services.provider_router.__main__\n"
        loaded += "print([name for name in sys.modules if name.startswith('opentelemetry')])"

        assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout == "[]\n"


class TestParts:
    def test_what_fails_is_named_and_never_quoted(self) -> None:
        assert kind_of(Unavailable("text", reason="SERVICE_OVERLOADED")) == "SERVICE_OVERLOADED"
        assert kind_of(asyncio.CancelledError("text")) == "CANCELLED"
        assert kind_of(ValueError("text")) == "ValueError"

    def test_of_nothing_is_nothing(self) -> None:
        with part_of(None, "name", {}) as span:
            assert span is None
