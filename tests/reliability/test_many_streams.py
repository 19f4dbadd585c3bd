"""A thousand streams open at once on one worker, again and again: all arrive whole, and nothing of them stays."""

import asyncio
import json
import os
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.conftest import HELLO, Person, Platform
from tests.support.waiting import eventually

STREAMS = 1_000
CHUNKS = 8


async def streamed(platform: Platform, person: Person) -> list[dict]:
    """Reads a stream on a connection of its own; returns its events."""
    place = urlsplit(platform.stack.base_url)
    body = json.dumps({"messages": HELLO}).encode()
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(
            b"POST /api/chat/openai/stream HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            b"content-type: application/json\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
            % (person.token.encode(), len(body), body)
        )
        lines = (await reader.read()).split(b"\n")
    finally:
        writer.close()
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


def resident_mib(pid: int) -> float:
    """Returns the memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _has_requests(count: int, totals: dict) -> bool:
    return bool(totals["requests"] == count)


class TestManyStreams:
    async def test_leave_nothing_behind(self, platform: Platform, person: Person) -> None:
        worker = (await platform.stack.states())["worker-openai"]
        await platform.bad_day(person, chunk_count=CHUNKS, chunk_delay_ms=500)
        memory: list[float] = []
        for round_number in range(1, 4):
            async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
                streams = [tasks.create_task(streamed(platform, person)) for _ in range(STREAMS)]
                await eventually(lambda: self._open(platform, person), lambda count: count == STREAMS)
            for events in (stream.result() for stream in streams):
                assert events[-1]["finish_reason"] == "stop"
                assert events[-1]["usage"]["completion_tokens"] == CHUNKS
                assert "".join(event.get("content", "") for event in events)
            so_far = round_number * STREAMS
            usage = await person.usage_when(partial(_has_requests, so_far))
            assert usage["requestsByEndState"] == {"completed": so_far}
            memory.append(resident_mib(worker.pid))
        # What the first round has made for itself, such as connections, the others use again.
        assert memory[-1] < memory[0] + 8, memory
        assert (await platform.stack.states())["worker-openai"].pid == worker.pid

    async def _open(self, platform: Platform, person: Person) -> int:
        """Counts the streams the provider is writing at this moment."""
        return sum(received.ended is None for received in await platform.sandbox.requests(key=person.key))
