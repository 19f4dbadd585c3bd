"""A collector of traces that tests look into: OTLP over gRPC, as OpenTelemetry defines it, on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from libs.rpc.tls import TlsIdentity
from tests.support.waiting import BOUND_SECONDS

KINDS = {Span.SPAN_KIND_SERVER: "server", Span.SPAN_KIND_CLIENT: "client"}


@dataclass(frozen=True)
class Told:
    """A span as it was told."""

    service: str
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    failed: bool
    start: int
    end: int
    attributes: dict[str, Any] = field(repr=False)

    def is_of(self, service: str, name: str) -> bool:
        """Tells whether it is a service's, and of that name."""
        return (self.service, self.name) == (service, name)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span it is told, and every byte: `received` is all that ever arrived."""

    def __init__(self) -> None:
        self.spans: list[Told] = []
        self.received = b""
        self._arrived = asyncio.Condition()
        self._server = grpc.aio.server()
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Where it is, or was."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, tls: TlsIdentity | None = None) -> None:
        """Serves, where it did before if it has; in the clear, or with a certificate of its own."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        address = f"127.0.0.1:{self.port}"
        if tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            credentials = grpc.ssl_server_credentials([(tls.material.private_key, tls.material.certificate)])
            self.port = self._server.add_secure_port(address, credentials)
        await self._server.start()

    async def stop(self) -> None:
        """Serves no more, and lets go of who is connected."""
        await self._server.stop(None)

    async def Export(self, request: Any, _context: Any) -> Any:
        """Takes spans."""
        self.received += request.SerializeToString()
        async with self._arrived:
            for resource in request.resource_spans:
                facts = {each.key: _value(each.value) for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self.spans += [_told(facts["service.name"], span) for span in scope.spans]
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def when(self, enough: Callable[[list[Told]], bool]) -> list[Told]:
        """Waits until enough has been told, and returns all of it."""
        async with asyncio.timeout(BOUND_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: enough(self.spans))
            return list(self.spans)

    async def trace(self, request_id: str, *ends: tuple[str, str]) -> list[Told]:
        """Waits for the spans of one request: those of the services and names in `ends`, and all that lead to them."""

        def of_request(spans: list[Told]) -> list[Told]:
            ids = {span.trace_id for span in spans if request_id in span.attributes.values()}
            return [span for span in spans if span.trace_id in ids]

        def enough(spans: list[Told]) -> bool:
            found = of_request(spans)
            known = {span.span_id for span in found}
            return (
                bool(found)
                and all(any(span.is_of(*end) for span in found) for end in ends)
                and all(not span.parent_id or span.parent_id in known for span in found)
            )

        return of_request(await self.when(enough))


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Runs a collector for the time of the block."""
    collector = Collector()
    await collector.start()
    try:
        yield collector
    finally:
        await collector.stop()


def _told(service: str, span: Any) -> Told:
    return Told(
        service=service,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=KINDS.get(span.kind, "other"),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes={each.key: _value(each.value) for each in span.attributes},
    )


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
