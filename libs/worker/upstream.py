"""HTTP to a provider; the only module that knows the HTTP library.

aiohttp: of the fast clients measured it alone closes the connection at once when a call is cancelled before the
headers of the answer have arrived (decision D9). It uses no proxy of the environment, which would be shown every key
that goes to a private server in the clear.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import aiohttp
import structlog
from aiohttp.abc import ResolveResult
from yarl import URL

from libs.errors import PlatformError, ProviderError, ProviderQuotaExhausted
from libs.provider_endpoints import AddressRefused, EndpointRules
from libs.tracing import Span
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter, ProviderRequest
from libs.worker.failures import Failures
from libs.worker.model_call_spans import request_to_provider
from libs.worker.retry_after import should_retry

log = structlog.get_logger()

_CONNECT_SECONDS = 5.0
_KEEPALIVE_SECONDS = 60.0
_READ_BUFFER_BYTES = 16 * 1024
# aiohttp rounds timeouts from this on up to whole seconds of its clock; an answer would be awaited past its deadline.
_NEVER_ROUNDED = float("inf")
# An answer with pictures may be long; a longer one would not fit into a message.
_MAX_ANSWER_BYTES = 32 * 1024 * 1024
# Paths of chats are few, but callers choose the tokens of pages and the names of models.
_MOST_URLS = 1_000
# Administrators set one endpoint at a time; what is remembered beyond is of those before, and of trials of keys.
_MOST_ENDPOINTS = 16
# How long the rest of a refusal may take after its status, in seconds.
_ERROR_SECONDS = 3.0
# More than an error ever needs to say.
_MAX_ERROR_BYTES = 64 * 1024
# What providers call their own id of a request, by which they find it when asked for help.
_ID_HEADERS = ("x-request-id", "request-id", "x-generation-id")
_LONGEST_ID = 128


# The addresses that were refused to the request under way. The HTTP library tries all that a host has, in tasks of
# their own, and tells of the last failure only, or of several in one text.
_refused: ContextVar[list[str]] = ContextVar("_refused")


class _Place:
    """One endpoint: the session that may connect to it, and its URLs by their paths."""

    __slots__ = ("_endpoint", "_urls", "host", "port", "session")

    def __init__(self, endpoint: str, session: aiohttp.ClientSession) -> None:
        self._endpoint = endpoint.rstrip("/")
        address = URL(self._endpoint)
        self.host = address.host or ""
        self.port = address.port or 0
        self.session = session
        self._urls: dict[str, URL] = {}

    def url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= _MOST_URLS:
                self._urls.clear()
            url = self._urls[path] = URL(self._endpoint + path, encoded=True)
        return url


class Upstream:
    """Sends requests to one provider and turns its failures into ProviderErrors. Shared by all calls.

    Requests go to `endpoint` unless they name another, through `session`; those to hosts that `rules` list by name go
    through `private_session`, which asks for no address. With `tells_trace` those that are traced say of which trace
    they are.
    """

    def __init__(
        self,
        adapter: Adapter,
        endpoint: str,
        session: aiohttp.ClientSession,
        stream_idle_seconds: float,
        *,
        rules: EndpointRules,
        private_session: aiohttp.ClientSession,
        tells_trace: bool = False,
    ) -> None:
        self._adapter = adapter
        self._failures = Failures(adapter.provider, adapter.display_name)
        self._rules = rules
        self._tells_trace = tells_trace
        self._sessions = {False: session, True: private_session}
        self._stream_timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=stream_idle_seconds)
        self._own = self._place(endpoint)
        self._others: dict[str, _Place] = {}

    async def fetch(self, request: ProviderRequest, timeout: float, *, max_bytes: int = _MAX_ANSWER_BYTES) -> bytes:
        """Returns the body of a successful answer. `timeout` is for all of it, in seconds."""
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT_SECONDS, ceil_threshold=_NEVER_ROUNDED)
        place = self._place_of(request)
        with request_to_provider(request.method, place.host, place.port) as span:
            try:
                async with self._send(request, place, limits, span) as response:
                    _note_status(span, response)
                    if response.status >= 300:
                        raise await self._refusal(response)
                    return await self._whole(response, max_bytes)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._failure(error) from None

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[AsyncIterator[bytes]]:
        """Opens a streamed answer and yields its bytes as they arrive. Leaving the block closes the connection."""
        place = self._place_of(request)
        with request_to_provider(request.method, place.host, place.port) as span:
            try:
                response = await self._send(request, place, self._stream_timeout, span)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._failure(error) from None
            async with response:
                _note_status(span, response)
                if response.status >= 300:
                    raise await self._refusal(response)
                if response.content_type == "application/json":
                    raise await self._no_stream(response)
                yield self._pieces(response)

    async def _pieces(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for piece in response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._failure(error) from None

    async def _no_stream(self, response: aiohttp.ClientResponse) -> PlatformError:
        """Reads the one body that came for a stream: most often an error that was given the status of a success."""
        try:
            self._adapter.read_answer(await self._whole(response))
        except (aiohttp.ClientError, TimeoutError) as error:
            return self._failure(error)
        except ProviderError as error:
            return error
        except NOT_UNDERSTOOD:
            pass
        return self._failures.not_understood()

    async def _whole(self, response: aiohttp.ClientResponse, max_bytes: int = _MAX_ANSWER_BYTES) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > max_bytes:
                raise self._failures.too_long()
        return bytes(body)

    async def _refusal(self, response: aiohttp.ClientResponse) -> ProviderError:
        """Reads an answer that is none. A redirect is one too: following it would carry the key elsewhere."""
        body = bytearray()
        # The status and what has arrived by then tell enough.
        with suppress(aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(_ERROR_SECONDS):
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > _MAX_ERROR_BYTES:
                        break
        error = self._adapter.read_error(response.status, response.headers.get, bytes(body))
        says = should_retry(response.headers.get)
        if says is not None and not isinstance(error, ProviderQuotaExhausted):  # no trying brings money back
            error.retryable = says
        log.info(
            "refused by the provider",
            reason=error.reason,
            status=response.status,
            provider_request_id=_request_id(response),
        )
        return error

    def _place_of(self, request: ProviderRequest) -> _Place:
        if not request.endpoint:
            return self._own
        return self._others.get(request.endpoint) or self._admit(request.endpoint)

    def _send(
        self, request: ProviderRequest, place: _Place, limits: aiohttp.ClientTimeout, span: Span | None
    ) -> aiohttp.client._RequestContextManager:
        _refused.set([])
        headers = request.headers
        if span is not None and self._tells_trace:
            headers = {**headers, **dict(span.headers)}
        return place.session.request(
            request.method,
            place.url(request.path),
            data=request.body or None,
            headers=headers,
            timeout=limits,
            allow_redirects=False,
        )

    def _admit(self, endpoint: str) -> _Place:
        """Remembers another endpoint. Raises FailedPrecondition when no key may be sent there."""
        if rule := self._rules.broken_rule(endpoint):
            log.warning("endpoint refused", rule=rule)
            raise self._failures.endpoint_not_allowed()
        if len(self._others) >= _MOST_ENDPOINTS:
            self._others.clear()
        place = self._others[endpoint] = self._place(endpoint)
        return place

    def _place(self, endpoint: str) -> _Place:
        return _Place(endpoint, self._sessions[self._rules.trusts(endpoint)])

    def _failure(self, error: Exception) -> PlatformError:
        """Names a transport failure. The library's own text is dropped: it holds the URL and may hold more."""
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return self._failures.endpoint_not_allowed() if _refused.get() else self._failures.unreachable()
        if isinstance(error, TimeoutError):
            return self._failures.too_late()
        if isinstance(error, aiohttp.ClientPayloadError):
            return self._failures.broken_off()
        return self._failures.disconnected()


def _note_status(span: Span | None, response: aiohttp.ClientResponse) -> None:
    if span is not None:
        span.note("http.response.status_code", response.status)


def _request_id(response: aiohttp.ClientResponse) -> str:
    """Returns the provider's own id of a request; empty when there is none."""
    told = next(filter(None, map(response.headers.get, _ID_HEADERS)), "")
    return "".join(filter(str.isprintable, told))[:_LONGEST_ID]


@asynccontextmanager
async def connect_upstream(
    adapter: Adapter,
    endpoint: str,
    *,
    stream_idle_seconds: float,
    rules: EndpointRules,
    tells_trace: bool = False,
) -> AsyncIterator[Upstream]:
    """Opens the connection pools to a provider, which connect to what the rules admit.

    `stream_idle_seconds` is how long a streamed answer may be silent before it counts as lost. With `tells_trace` the
    provider is told of which trace a request is.
    """

    def checked_socket(target: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = target
        if not rules.admits(str(address[0])):
            log.warning("address of the endpoint refused", address=str(address[0]))
            _refused.get().append(str(address[0]))
            raise AddressRefused(errno.EACCES, "no key may be sent to this address")
        return socket.socket(family, kind, protocol)

    async with _session(checked_socket) as session, _session(None) as private_session:
        yield Upstream(
            adapter,
            endpoint,
            session,
            stream_idle_seconds,
            rules=rules,
            private_session=private_session,
            tells_trace=tells_trace,
        )


class _Resolver(aiohttp.ThreadedResolver):
    """Says so when a name has no address; the HTTP library takes it for a bug of its own."""

    async def resolve(self, *arguments: Any, **options: Any) -> list[ResolveResult]:
        """Returns the addresses of a host. Raises OSError when there is none."""
        found = await super().resolve(*arguments, **options)
        if not found:
            raise OSError(errno.EADDRNOTAVAIL, "the name has no address")
        return found


def _session(socket_factory: aiohttp.SocketFactoryType | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # The worker bounds its chats; a second bound here would make them wait unseen.
        connector=aiohttp.TCPConnector(
            limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, socket_factory=socket_factory, resolver=_Resolver()
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"user-agent": "realmultillm"},
        # It is filled many times over before a read returns, and what is read waits for the caller.
        read_bufsize=_READ_BUFFER_BYTES,
        trust_env=False,
    )
