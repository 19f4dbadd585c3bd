"""An Envoy that is to leave has its clients go elsewhere, and lets what is in flight end."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from realmultillm.chat.v1.chat_service_pb2 import CreateChatCompletionRequest
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub

from tests.integration.envoy.conftest import Backends
from tests.integration.envoy.test_streams import Held
from tests.support.envoy import FrontDoor, running_envoy
from tests.support.waiting import eventually, within_bound

_SCRIPT = Path(__file__).parents[3] / "deploy" / "envoy" / "admin.sh"
_LAST = 'data: {"finish_reason":"stop","usage":{"total_tokens":2}}'


@pytest.fixture
async def leaving(all_backends: Backends, pki_folder: Path, tmp_path: Path) -> AsyncIterator[FrontDoor]:
    """An Envoy of the test's own, since it ends with it."""
    async with running_envoy(tmp_path, pki_folder, all_backends.addresses) as running:
        yield running


@asynccontextmanager
async def administration(door: FrontDoor, *arguments: str) -> AsyncIterator[Process]:
    """Runs the script for the time of the block, or until it ends."""
    port = (door.folder / "admin").read_text().rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        "bash", _SCRIPT, *arguments, env={"PATH": os.environ["PATH"], "ENVOY_ADMIN_PORT": port}, stderr=DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def status(door: FrontDoor, *arguments: str) -> int:
    async with administration(door, *arguments) as process:
        return await within_bound(process.wait())


async def drains(door: FrontDoor) -> bool:
    """Tells whether Envoy has been asked to; from then on it says that it is not ready."""
    return await status(door, "ready") != 0


class TestDrain:
    async def test_a_stream_of_events_ends_whole_before_it_is_over(
        self, leaving: FrontDoor, backends: Backends
    ) -> None:
        held = Held("Hello")
        backends["worker-openai"].answers["StreamChatCompletion"] = held.stream
        async with leaving.rest() as people, people.stream("POST", "/api/chat/openai/stream", json={}) as response:
            lines = response.aiter_lines()
            assert await within_bound(anext(lines)) == 'data: {"content":"Hello"}'
            async with administration(leaving, "drain", "0", "60") as drain:
                assert await eventually(lambda: drains(leaving), bool)
                assert drain.returncode is None
                held.release.set()
                assert _LAST in [line async for line in lines]
                assert await within_bound(drain.wait()) == 0

    async def test_a_grpc_stream_ends_whole_before_it_is_over(self, leaving: FrontDoor, backends: Backends) -> None:
        held = Held("Hello")
        backends["provider-router"].answers["StreamChatCompletion"] = held.stream
        async with leaving.channel() as channel:
            call = ChatServiceStub(channel).StreamChatCompletion(CreateChatCompletionRequest(provider="auto"))
            assert (await within_bound(call.read())).content == "Hello"
            async with administration(leaving, "drain", "0", "60") as drain:
                assert await eventually(lambda: drains(leaving), bool)
                assert drain.returncode is None
                held.release.set()
                assert (await within_bound(call.read())).finish_reason == "stop"
                assert await within_bound(drain.wait()) == 0

    async def test_who_stays_connected_is_told_to_go(self, leaving: FrontDoor) -> None:
        async with leaving.rest() as people:
            before = await people.get("/nothing")
            assert await status(leaving, "drain", "0", "60") == 0
            after = await people.get("/nothing")

        assert "connection" not in before.headers
        assert after.headers["connection"] == "close"

    async def test_its_deadline_is_kept(self, leaving: FrontDoor, backends: Backends) -> None:
        held = Held("Hello")
        backends["worker-openai"].answers["StreamChatCompletion"] = held.stream
        async with leaving.rest() as people, people.stream("POST", "/api/chat/openai/stream", json={}) as response:
            lines = response.aiter_lines()
            await within_bound(anext(lines))

            assert await status(leaving, "drain", "0", "1") == 1
            assert not held.cancelled.is_set()

    async def test_until_the_pause_is_over_it_is_ready(self, leaving: FrontDoor) -> None:
        async with administration(leaving, "drain", "3600", "1"):
            assert await status(leaving, "ready") == 0


class TestNobody:
    """Where there is no Envoy, nobody waits for one."""

    @pytest.mark.parametrize(("arguments", "expected"), [(("ready",), 1), (("drain", "0", "3600"), 0)])
    async def test_it_ends(self, tmp_path: Path, arguments: Sequence[str], expected: int) -> None:
        (tmp_path / "admin").write_text("127.0.0.1:1")

        assert await status(FrontDoor(0, 0, tmp_path, tmp_path), *arguments) == expected
