"""A line to a server that can go dead: it takes connections and carries nothing, or carries late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Line:
    """Leads to a server of this machine. `begun` counts the connections that callers have begun."""

    def __init__(self, port: int) -> None:
        self.begun = 0
        self.delay_seconds = 0.0
        self._port = port
        self._alive = asyncio.Event()
        self._alive.set()
        self._connections: set[asyncio.Task[None]] = set()

    @contextmanager
    def dead(self) -> Iterator[None]:
        """Lets the line carry nothing in the time of the block."""
        self._alive.clear()
        try:
            yield
        finally:
            self._alive.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Yields the port of the line."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for connection in tuple(self._connections):
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await server.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begun += 1
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        except asyncio.CancelledError:
            pass  # asyncio's streams would log it
        finally:
            self._connections.discard(task)

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65536):
                await self._alive.wait()
                await asyncio.sleep(self.delay_seconds)
                target.write(piece)
                await target.drain()
        except ConnectionError:
            pass  # the other end is gone, which is all that can be told
        finally:
            target.close()
