"""A server that is not there yet, as those see it who look through a gate that is still closed."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from libs.redaction import Secret

OpenGate = Callable[[], Awaitable[None]]


@asynccontextmanager
async def gate(url: Secret) -> AsyncIterator[tuple[Secret, OpenGate]]:
    """Yields another URL of a local server, whose port refuses connections until the function beside it is called."""
    found = re.fullmatch(r"(.*@127\.0\.0\.1:)(\d+)(/.*)", url.reveal())
    assert found is not None
    before, port, behind = found.groups()
    connections: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", int(port))
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        except asyncio.CancelledError:
            pass  # asyncio's streams would log it
        finally:
            connections.discard(task)

    server = await asyncio.start_server(connect, "127.0.0.1", 0, start_serving=False)
    try:
        yield Secret(f"{before}{server.sockets[0].getsockname()[1]}{behind}"), server.start_serving
    finally:
        server.close()
        for connection in tuple(connections):
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()
    except ConnectionError:
        pass  # the other end is gone, which is all that can be told
    finally:
        target.close()
