"""Makes spans and sends them to a collector; the only module that knows OpenTelemetry.

Its own thread sends them, a second after the first at most. While the collector is away they wait, up to a number, and
then are dropped. Whatever the library reads from the environment beside holds too: OTEL_EXPORTER_OTLP_HEADERS for a
collector that wants a token, OTEL_EXPORTER_OTLP_CERTIFICATE for one with a certificate of an authority of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span as OpenTelemetrySpan
from opentelemetry.trace import SpanKind, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace import Tracer as OpenTelemetryTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.tracing import Span, Tracer, Value
from libs.version import platform_version

log = structlog.get_logger()

_SEND_AFTER_MS = 1_000
# Spans that wait for the collector at most: about 2 KB each, and a busy minute.
_MOST_WAITING = 4_096
# Collectors take messages of 4 MiB.
_MOST_AT_ONCE = 128
_SEND_SECONDS = 5.0
# How long the last ones may take when the process ends.
_LAST_SECONDS = 2.0
# Of one attribute; only what was said in a chat is longer.
_LONGEST_TEXT = 16_384

# How often the library may say that the collector does not take spans; it would at every attempt.
_SAY_SECONDS = 60.0
_LOGGERS = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal")

_PROPAGATOR = TraceContextTextMapPropagator()


class _NowAndThen(logging.Filter):
    """Lets one line pass in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at = float("-inf")

    def filter(self, _record: logging.LogRecord) -> bool:
        """Tells whether it may."""
        now = time.monotonic()
        if now - self._said_at < _SAY_SECONDS:
            return False
        self._said_at = now
        return True


class _Span:
    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: OpenTelemetryTracer, span: OpenTelemetrySpan) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What a request that is made within the span carries."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(self._span))
        return tuple(carrier.items())

    def begin(self, name: str, attributes: Mapping[str, Value]) -> Span:
        """Begins a span within this one."""
        parent = set_span_in_context(self._span)
        return _Span(self._tracer, self._tracer.start_span(name, parent, SpanKind.CLIENT, attributes))

    def note(self, name: str, value: Value) -> None:
        """Adds an attribute."""
        self._span.set_attribute(name, value)

    def end(self, error: str = "") -> None:
        """Ends it, as failed where an error is named."""
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class _Tracer:
    def __init__(self, tracer: OpenTelemetryTracer) -> None:
        self._tracer = tracer

    def serve(self, method: str, metadata: Mapping[str, str]) -> Span | None:
        """Begins the span of a call, where its caller has one that is kept."""
        if "traceparent" not in metadata:
            return None
        caller = _PROPAGATOR.extract(metadata)
        if not get_current_span(caller).get_span_context().trace_flags.sampled:
            return None
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}
        return _Span(self._tracer, self._tracer.start_span(method, caller, SpanKind.SERVER, attributes))


@asynccontextmanager
async def exporting(endpoint: str, service: str) -> AsyncIterator[Tracer]:
    """Sends what is traced to the collector at this endpoint, as of this service, for the time of the block."""
    provider = TracerProvider(
        # Whether a trace is kept has been decided.
        sampler=ALWAYS_ON,
        resource=Resource.create(
            {"service.name": service, "service.namespace": "realmultillm", "service.version": platform_version()}
        ),
        span_limits=SpanLimits(max_span_attribute_length=_LONGEST_TEXT),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint, timeout=_SEND_SECONDS)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=_SEND_AFTER_MS,
            max_export_batch_size=_MOST_AT_ONCE,
        )
    )
    log.info("tracing", endpoint=endpoint)
    with _quiet():
        try:
            yield _Tracer(provider.get_tracer("realmultillm", platform_version()))
        finally:
            await _in_a_thread(provider.shutdown, _LAST_SECONDS)


@contextmanager
def _quiet() -> Iterator[None]:
    seldom = _NowAndThen()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(seldom)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(seldom)


async def _in_a_thread(work: Callable[[], None], seconds: float) -> None:
    """Does blocking work, and leaves it where it is after so many seconds: the process ends without its thread."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            work()
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="last spans", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        log.warning("last spans not sent in time", seconds=seconds)
