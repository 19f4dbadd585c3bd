"""Streams by the thousand on one worker, and callers who stop reading: all is bounded, and nothing of them stays."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local.sandbox_provider.control_messages import RecordedRequest
from tests.e2e.conftest import HELLO, Person, Platform
from tests.support.waiting import eventually

STREAMS = 1_000
CHUNKS = 8
# For a round of them; only one that hangs takes as long.
BOUND_SECONDS = 180

STALLED = 50
# More than Envoy and the kernel hold for a caller who does not read, in large tokens: what follows waits in the worker.
FILLING = (" " * 7_999 + "z") * 640
TINY_DELTAS = 6_000
# What a worker may hold for each: what it is writing, in the forms it takes on the way, and what waits behind it.
MOST_MIB = 4
# More than that and all that worker and kernel take from a provider they need not read on.
FLOODED = 2
FLOOD = (" " * 7_999 + "z") * 6_000


def asking(platform: Platform, person: Person) -> bytes:
    """Writes the request for a stream."""
    body = json.dumps({"messages": HELLO}).encode()
    return (
        b"POST /api/chat/openai/stream HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"content-type: application/json\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (person.token.encode(), len(body), body)
    )


async def streamed(platform: Platform, person: Person, begun: asyncio.Barrier | None = None) -> list[dict]:
    """Reads a stream on a connection of its own, up to its first output and then, past `begun`, to its end.

    Returns its events.
    """
    place = urlsplit(platform.stack.base_url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(asking(platform, person))
        head = await reader.readuntil(b"data: ") if begun else b""
        if begun:
            await begun.wait()
        lines = (head + await reader.read()).split(b"\n")
    finally:
        writer.close()
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


@asynccontextmanager
async def stalled(platform: Platform, person: Person) -> AsyncIterator[None]:
    """Opens a stream, reads the first bytes of its answer and no more; leaving the block closes the connection."""
    place = urlsplit(platform.stack.base_url)
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.setblocking(False)
        await loop.sock_connect(connection, (place.hostname, place.port))
        await loop.sock_sendall(connection, asking(platform, person))
        assert (await loop.sock_recv(connection, 12)).endswith(b" 200")
        yield


def resident_mib(pid: int) -> float:
    """Returns the memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mib(pid: int) -> float:
    """Returns the most memory a process has held since it was started, or since `forget_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    raise LookupError("VmHWM")


def forget_peak(pid: int) -> None:
    """Makes the memory a process holds now its peak, where root asks: workers let nobody else at their memory."""
    with suppress(PermissionError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


async def idle(pid: int) -> None:
    """Waits until a process has nothing to do."""

    async def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return int(fields[11]) + int(fields[12])

    used = -1
    while used != (used := await ticks()):
        await asyncio.sleep(0.3)


def _has_requests(count: int, totals: dict) -> bool:
    return bool(totals["requests"] == count)


async def _chats(platform: Platform, person: Person) -> list[RecordedRequest]:
    """Lists the chats that reached the provider, without the test of the key before."""
    received = await platform.sandbox.requests(key=person.key)
    return [request for request in received if request.path.endswith("/chat/completions")]


def _all_ended(requests: list[RecordedRequest]) -> bool:
    return all(request.ended is not None for request in requests)


class TestManyStreams:
    async def test_leave_nothing_behind(self, platform: Platform, person: Person) -> None:
        worker = (await platform.stack.states())["worker-openai"]
        memory: list[float] = []
        for round_number in range(1, 4):
            await platform.bad_day(person, chunk_count=CHUNKS, hold_after_chunks=1)
            all_begun = asyncio.Barrier(STREAMS + 1)
            async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as tasks:
                streams = [tasks.create_task(streamed(platform, person, all_begun)) for _ in range(STREAMS)]
                await all_begun.wait()
                assert await self._open(platform, person) == STREAMS
                await platform.sandbox.forget_behaviours(key=person.key)
            for events in (stream.result() for stream in streams):
                assert events[-1]["finish_reason"] == "stop"
                assert events[-1]["usage"]["completion_tokens"] == CHUNKS
                assert "".join(event.get("content", "") for event in events)
            so_far = round_number * STREAMS
            usage = await person.usage_when(partial(_has_requests, so_far))
            assert usage["requestsByEndState"] == {"completed": so_far}
            memory.append(resident_mib(worker.pid))
        # What the first round has made for itself, such as connections, the others use again.
        assert memory[-1] < memory[1] + 8, memory
        assert (await platform.stack.states())["worker-openai"].pid == worker.pid

    async def _open(self, platform: Platform, person: Person) -> int:
        """Counts the streams the provider is writing at this moment."""
        return sum(received.ended is None for received in await platform.sandbox.requests(key=person.key))


class TestStalledReaders:
    async def test_are_not_read_for_and_leave_nothing_behind(self, platform: Platform, person: Person) -> None:
        """Callers who stop reading: of answers in thousands of tiny deltas, and of long ones."""
        worker = (await platform.stack.states())["worker-openai"]
        async with platform.person() as other:
            await platform.bad_day(person, content=FILLING + " a" * TINY_DELTAS)
            await platform.bad_day(other, content=FLOOD, split_bytes=64 * 1024)
            await streamed(platform, person)  # what the first of its kind makes for itself
            forget_peak(worker.pid)
            before = peak_mib(worker.pid)
            peaks = [await self._peak(platform, worker.pid, [person] * STALLED + [other] * FLOODED) for _ in range(2)]
            assert peaks[0] < before + (STALLED + FLOODED) * MOST_MIB
            assert peaks[1] < peaks[0] + 20, peaks
            for received in await eventually(partial(_chats, platform, other), _all_ended):
                assert received.ended == "client_closed"
                assert received.bytes_sent < len(FLOOD)
            for somebody, count in ((person, 2 * STALLED), (other, 2 * FLOODED)):
                read = int(somebody is person)
                usage = await somebody.usage_when(partial(_has_requests, count + read))
                assert usage["requestsByEndState"].get("cancelled_after_output") == count
        assert (await platform.stack.states())["worker-openai"].pid == worker.pid

    async def _peak(self, platform: Platform, worker: int, people: list[Person]) -> float:
        """Returns the most memory a worker has while callers do not read, in MiB; returns when they have left."""
        forget_peak(worker)
        async with AsyncExitStack() as callers:
            for person in people:
                await callers.enter_async_context(stalled(platform, person))
            await idle(worker)
        await idle(worker)
        return peak_mib(worker)
