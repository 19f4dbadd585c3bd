"""Where the time of a call goes, as spans for a collector of OpenTelemetry; nothing at all unless one is named.

A trace begins at the front door, which decides at random whether it is kept. Everybody behind follows: a call that
comes with the context of a trace that is kept has a span, any other has none, and what it costs is the look at it.

Spans hold names, numbers and ids of ours. Never a key, a token or a header; what was said in a chat only where a
setting of the worker says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from libs.errors import PlatformError
from libs.settings import SettingsError

# What a span is told; lists hold texts.
Value = str | int | float | bool | list[str]

_ENDPOINT = re.compile(r"https?://(\[[0-9a-fA-F:]+]|[A-Za-z0-9._-]+):[0-9]{1,5}")


class Span(Protocol):
    """A piece of the time of a call."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What a request that is made within the span carries: `traceparent`, and `tracestate` if there is one."""
        ...

    def begin(self, name: str, attributes: Mapping[str, Value]) -> Span:
        """Begins a span within this one, of something that another process is asked for."""
        ...

    def note(self, name: str, value: Value) -> None:
        """Adds an attribute."""
        ...

    def end(self, error: str = "") -> None:
        """Ends it: now, and as failed where an error is named. What comes after is not told."""
        ...


class Tracer(Protocol):
    """Begins the spans of a process."""

    def serve(self, method: str, metadata: Mapping[str, str]) -> Span | None:
        """Begins the span of a call of `package.Service/Method`; None where its caller has none that is kept."""
        ...


def kind_of(error: BaseException) -> str:
    """Names what ended a span, in one word: the reason of an error of ours, else its type. Never its text."""
    if isinstance(error, PlatformError):
        return error.reason
    return "CANCELLED" if isinstance(error, asyncio.CancelledError | GeneratorExit) else type(error).__name__


@contextmanager
def part_of(span: Span | None, name: str, attributes: Mapping[str, Value]) -> Iterator[Span | None]:
    """Makes the time of the block a span within another, failed where the block raises. Without another it is none."""
    if span is None:
        yield None
        return
    part, failure = span.begin(name, attributes), ""
    try:
        yield part
    except BaseException as error:
        failure = kind_of(error)
        raise
    finally:
        part.end(failure)


def check_endpoint(endpoint: str) -> None:
    """Raises SettingsError when traces cannot be sent there."""
    if not _ENDPOINT.fullmatch(endpoint):
        raise SettingsError("The endpoint for OTLP must be http://host:port or https://host:port, without a path.")


@asynccontextmanager
async def connect_tracing(endpoint: str | None, service: str) -> AsyncIterator[Tracer | None]:
    """Sends what this service traces to a collector that speaks OTLP over gRPC at http://host:port, during the block.

    Yields None without `endpoint`. Spans that the collector does not take are lost, and nobody waits for it. Raises
    SettingsError when the endpoint is none.
    """
    if endpoint is None:
        yield None
        return
    check_endpoint(endpoint)
    # Takes a moment and a few MB, which nobody pays who does not trace.
    from libs.span_export import exporting

    async with exporting(endpoint, service) as tracer:
        yield tracer
