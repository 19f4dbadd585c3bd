"""A lean HTTP/1.1 load generator: it must cost far less than what it measures."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit


@dataclass
class Measured:
    """What a burst of calls took: wall seconds, and the milliseconds of each call."""

    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Calls a second."""
        return len(self.latencies_ms) / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Returns the latency that this share of the calls stays below."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True)
class Target:
    """One request, made ready to be sent as it is."""

    host: str
    port: int
    request: bytes

    @classmethod
    def post(cls, url: str, body: bytes, token: str) -> Target:
        """Makes the request of a JSON POST with a bearer token."""
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.hostname}\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return cls(parts.hostname, parts.port, head.encode() + body)


class _Connection(asyncio.Protocol):
    """Sends a request and tells when its answer has ended, by length or by the last chunk; looks at nothing else."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = -1
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def connection_lost(self, error: Exception | None) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(error or ConnectionError("closed"))

    async def call(self, request: bytes) -> None:
        self._buffer, self._left = b"", -1
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._done

    def data_received(self, data: bytes) -> None:
        assert self._done
        if self._left >= 0:
            self._left -= len(data)
            if self._left <= 0:
                self._done.set_result(None)
            return
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            self._done.set_exception(RuntimeError(self._buffer[:500].decode(errors="replace")))
        elif (place := head.find(b"content-length: ")) >= 0:
            self._left = int(head[place + 16 :].split(b"\r\n")[0]) - (len(self._buffer) - end - 4)
            if self._left <= 0:
                self._done.set_result(None)
        elif self._buffer.endswith(b"0\r\n\r\n"):
            self._done.set_result(None)
        else:
            self._buffer = self._buffer[: end + 4] + self._buffer[-5:]


async def burst(target: Target, *, callers: int, calls: int) -> Measured:
    """Makes `calls` calls, `callers` at a time, each caller on a connection of its own. Raises on the first failure."""
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(_Connection, target.host, target.port))[1] for _ in range(callers)]
    measured = Measured()

    async def caller(connection: _Connection, times: int) -> None:
        for _ in range(times):
            started = time.perf_counter()
            await connection.call(target.request)
            measured.latencies_ms.append((time.perf_counter() - started) * 1000)

    started = time.perf_counter()
    await asyncio.gather(*(caller(connection, calls // callers) for connection in connections))
    measured.seconds = time.perf_counter() - started
    for connection in connections:
        connection.transport.close()
    return measured
