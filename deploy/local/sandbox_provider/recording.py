"""The requests received, and what became of them."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from deploy.local.sandbox_provider.control_messages import Ending, RecordedRequest

CAPACITY = 2_000
BODY_CAPACITY = 128 * 1024 * 1024
"""Bytes of request bodies kept in all; images make single bodies large."""


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and the progress of its answer."""

    id: int
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    key: str | None
    model: str | None
    started_at: float = field(default_factory=time.time)
    started_monotonic: float = field(default_factory=time.monotonic)
    status: int | None = None
    bytes_sent: int = 0
    chunks_sent: int = 0
    first_chunk_monotonic: float | None = None
    last_chunk_monotonic: float | None = None
    ended: Ending | None = None
    ended_at: float | None = None
    ended_monotonic: float | None = None

    def sent(self, size: int, chunks: int = 0) -> None:
        """Counts bytes of the body handed to the socket, and the chunks among them."""
        self.bytes_sent += size
        if chunks:
            self.chunks_sent += chunks
            self.last_chunk_monotonic = time.monotonic()
            self.first_chunk_monotonic = self.first_chunk_monotonic or self.last_chunk_monotonic

    def recorded(self) -> RecordedRequest:
        """Describes it for the control endpoint."""
        return RecordedRequest(
            id=self.id,
            method=self.method,
            path=self.path,
            query=self.query,
            headers=_joined(self.headers),
            body=_readable(self.body),
            raw_body=self.body.decode(errors="replace"),
            key=self.key,
            model=self.model,
            started_at=self.started_at,
            started_monotonic=self.started_monotonic,
            status=self.status,
            bytes_sent=self.bytes_sent,
            chunks_sent=self.chunks_sent,
            first_chunk_monotonic=self.first_chunk_monotonic,
            last_chunk_monotonic=self.last_chunk_monotonic,
            ended=self.ended,
            ended_at=self.ended_at,
            ended_monotonic=self.ended_monotonic,
        )


class Recorder:
    """A bounded ring of exchanges; the oldest go first. Ids grow for as long as the server lives."""

    def __init__(self) -> None:
        self._exchanges: deque[Exchange] = deque()
        self._body_bytes = 0
        self._last_id = 0
        self._watchers: list[asyncio.Future[None]] = []

    def start(
        self,
        *,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        key: str | None,
        model: str | None,
    ) -> Exchange:
        """Records a request that has arrived whole."""
        self._last_id += 1
        exchange = Exchange(
            id=self._last_id,
            method=method,
            path=path,
            query=query,
            headers=headers,
            body=body,
            key=key,
            model=model,
        )
        self._exchanges.append(exchange)
        self._body_bytes += len(body)
        while len(self._exchanges) > CAPACITY or (self._body_bytes > BODY_CAPACITY and len(self._exchanges) > 1):
            self._body_bytes -= len(self._exchanges.popleft().body)
        self._tell_watchers()
        return exchange

    def end(self, exchange: Exchange, ended: Ending) -> None:
        """Records how an exchange ended; the first word on it stands."""
        if exchange.ended is None:
            exchange.ended = ended
            exchange.ended_at = time.time()
            exchange.ended_monotonic = time.monotonic()
            self._tell_watchers()

    def select(self, key: str | None = None, after: int = 0) -> Iterator[Exchange]:
        """Yields the exchanges past an id, of one key or of all, oldest first."""
        return (
            exchange for exchange in self._exchanges if exchange.id > after and (key is None or exchange.key == key)
        )

    async def first(self, choose: Callable[[Exchange], bool], key: str | None, after: int) -> Exchange:
        """Waits for an exchange of `select` to satisfy a condition."""
        while True:
            for exchange in self.select(key, after):
                if choose(exchange):
                    return exchange
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            await watcher

    def clear(self, key: str | None = None) -> None:
        """Forgets the exchanges of a key, or all of them."""
        self._exchanges = deque(exchange for exchange in self._exchanges if key is not None and exchange.key != key)
        self._body_bytes = sum(len(exchange.body) for exchange in self._exchanges)

    def _tell_watchers(self) -> None:
        if self._watchers:
            for watcher in self._watchers:
                if not watcher.done():
                    watcher.set_result(None)
            self._watchers.clear()


def _joined(headers: Mapping[str, str]) -> dict[str, str]:
    """Joins the values of a header that came more than once, so that none goes unseen."""
    joined: dict[str, str] = {}
    for name, value in headers.items():
        name = name.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _readable(body: bytes) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    return parsed
