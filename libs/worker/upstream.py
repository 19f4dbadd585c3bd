"""HTTP to a provider; the only module that knows the HTTP library.

pyreqwest, because it costs a fortieth of the CPU of httpx per call (decision D9).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import ConnectError, ConnectTimeoutError, PyreqwestError, RequestTimeoutError
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response

from libs.errors import IncompleteResponse, ProviderError, ProviderTimeout, ProviderUnavailable
from libs.worker.adapter import Adapter, ProviderRequest

_CONNECT_SECONDS = 5
# More than an error ever needs to say.
_MAX_ERROR_BYTES = 64 * 1024


class Upstream:
    """Sends requests to one provider and turns its failures into ProviderErrors. Shared by all calls."""

    def __init__(self, adapter: Adapter, endpoint: str, unary: Client, streaming: Client) -> None:
        self._adapter = adapter
        self._endpoint = endpoint
        self._unary = unary
        self._streaming = streaming

    async def fetch(self, request: ProviderRequest, timeout: float) -> bytes:
        """Returns the body of a successful answer. `timeout` is for all of it, in seconds."""
        try:
            response = await self._build(self._unary, request).timeout(timedelta(seconds=timeout)).build().send()
            body = bytes(await response.bytes())
        except PyreqwestError as error:
            raise self._failure(error, answered=False) from None
        if response.status >= 400:
            raise self._adapter.read_error(response.status, response.get_header, body[:_MAX_ERROR_BYTES])
        return body

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[AsyncIterator[bytes]]:
        """Opens a streamed answer and yields its bytes as they arrive. Leaving the block closes the connection."""
        # Without the zero limit the library fills a buffer before it returns the headers.
        pending = self._build(self._streaming, request).streamed_read_buffer_limit(0).build_streamed()
        try:
            response = await pending.__aenter__()
        except PyreqwestError as error:
            raise self._failure(error, answered=False) from None
        try:
            if response.status >= 400:
                raise self._adapter.read_error(response.status, response.get_header, await self._error_body(response))
            yield self._pieces(response)
        finally:
            await pending.__aexit__(None, None, None)

    async def _pieces(self, response: Response) -> AsyncIterator[bytes]:
        reader = response.body_reader
        try:
            while (piece := await reader.read_chunk()) is not None:
                yield bytes(piece)
        except PyreqwestError as error:
            raise self._failure(error, answered=True) from None

    async def _error_body(self, response: Response) -> bytes:
        try:
            return bytes(await response.body_reader.read(_MAX_ERROR_BYTES) or b"")
        except PyreqwestError:
            return b""  # the status alone tells enough

    def _build(self, client: Client, request: ProviderRequest) -> RequestBuilder:
        builder = client.request(request.method, f"{self._endpoint}{request.path}")
        for name, value in request.headers.items():
            builder = builder.header(name, value, is_sensitive=True)
        return builder.body_bytes(request.body) if request.body else builder

    def _failure(self, error: PyreqwestError, *, answered: bool) -> ProviderError:
        """Names a transport failure. The library's own text is dropped: it holds the URL and may hold more."""
        name, provider = self._adapter.display_name, self._adapter.provider
        if isinstance(error, ConnectError | ConnectTimeoutError):
            return ProviderUnavailable(
                f"{name} cannot be reached; try again in a moment or use another provider.", provider=provider
            )
        if isinstance(error, RequestTimeoutError):
            return ProviderTimeout(
                f"{name} did not answer in time; try again, or ask for a shorter answer.", provider=provider
            )
        if answered:
            return IncompleteResponse(
                f"{name} broke off its answer; what arrived is incomplete. Try again.", provider=provider
            )
        return ProviderUnavailable(f"{name} broke the connection; try again in a moment.", provider=provider)


def _client(max_connections: int) -> ClientBuilder:
    return (
        ClientBuilder()
        .connect_timeout(timedelta(seconds=_CONNECT_SECONDS))
        .pool_max_idle_per_host(max_connections)
        .user_agent("realmultillm")
        # A redirect would carry the key to where it does not belong.
        .follow_redirects(False)
        .referer(False)
        .default_cookie_store(False)
    )


@asynccontextmanager
async def connect_upstream(
    adapter: Adapter, endpoint: str, *, max_connections: int, stream_idle_seconds: float
) -> AsyncIterator[Upstream]:
    """Opens the connection pools to a provider.

    `stream_idle_seconds` is how long a streamed answer may be silent before it counts as lost.
    """
    unary = _client(max_connections).build()
    streaming = _client(max_connections).read_timeout(timedelta(seconds=stream_idle_seconds)).build()
    async with unary, streaming:
        yield Upstream(adapter, endpoint.rstrip("/"), unary, streaming)
