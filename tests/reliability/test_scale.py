"""Replicas of one worker: they share the load, and when one is killed only what it was doing is lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from realmultillm.chat.v1.chat_service_pb2 import ChatMessage, CreateChatCompletionRequest
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub

from deploy.local.topology import metrics_of, replicas_of
from tests.e2e.conftest import HELLO, Person, Platform, running_platform
from tests.reliability.facts import stored, undelivered
from tests.reliability.outages import halted
from tests.support.waiting import eventually

WORKERS = replicas_of("worker-openai", 3)
MODEL = "openai/gpt-4o"
# So many at a time, until there were so many for each replica.
AT_ONCE = 20
FOR_EACH = 60
# Of each way to ask for a stream.
STREAMS = 12


@dataclass(frozen=True)
class Way:
    """How a chat is asked for: where and in which words; `ending` is in an answer that has come to its end."""

    path: str
    body: Mapping[str, Any]
    ending: str


WHOLE = Way("/api/chat/openai", {}, '"stop"')
STREAM = Way("/api/chat/openai/stream", {}, '"stop"')
ROUTED = Way("/api/chat/auto", {"model": MODEL}, '"stop"')
ROUTED_STREAM = Way("/api/chat/auto/stream", {"model": MODEL}, '"stop"')
DIALECT = Way("/openai/v1/chat/completions", {"model": "gpt-4o", "stream": True}, "[DONE]")
ROUTED_DIALECT = Way("/v1/chat/completions", {"model": MODEL, "stream": True}, "[DONE]")
# To those that the router answers for, it tells how they end.
STRAIGHT = (STREAM, DIALECT)
RELAYED = (ROUTED_STREAM, ROUTED_DIALECT)


@dataclass(frozen=True)
class Answer:
    """What a caller has got: `cut` says that it was told, by the connection itself, that this is not the end."""

    way: Way
    request_id: str
    status: int
    body: str
    cut: bool

    @property
    def is_whole(self) -> bool:
        """Whether it came to its end, as the caller can see."""
        return self.status == 200 and not self.cut and self.way.ending in self.body

    @property
    def last(self) -> dict[str, Any]:
        """The last event of a stream."""
        *_, last = (line for line in self.body.splitlines() if line.startswith("data: "))
        return dict(json.loads(last.removeprefix("data: ")))


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with running_platform(
        tmp_path_factory.mktemp("stack"),
        only=["envoy", "worker-openai"],
        replicas={"worker-openai": len(WORKERS)},
        settings={"worker-openai": {"WORKER_MAX_CONCURRENT_CHATS_PER_PERSON": "2000"}},
    ) as running:
        yield running


@pytest.fixture
async def http(platform: Platform) -> AsyncIterator[aiohttp.ClientSession]:
    timeout, connector = aiohttp.ClientTimeout(total=60), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(platform.stack.base_url, timeout=timeout, connector=connector) as session:
        yield session


async def ask(http: aiohttp.ClientSession, person: Person, way: Way, begun: asyncio.Barrier | None = None) -> Answer:
    """Chats once; with `begun`, waits there when the answer has begun, before the rest of it is read."""
    headers = {"authorization": f"Bearer {person.token}"}
    async with http.post(way.path, json={"messages": HELLO, **way.body}, headers=headers) as response:
        body = await response.content.readany() if begun else b""
        if begun:
            await begun.wait()
        cut = False
        try:
            while piece := await response.content.readany():
                body += piece
        except aiohttp.ClientError:
            cut = True
    return Answer(way, response.headers["x-request-id"], response.status, body.decode(), cut)


async def ask_by_grpc(channel: grpc.aio.Channel, person: Person, begun: asyncio.Barrier) -> tuple[str, grpc.StatusCode]:
    """Chats once like `ask`, as services do; returns why it ended by the last chunk, and by the status of the call."""
    message = ChatMessage(role="user", content="Hello")
    call = ChatServiceStub(channel).StreamChatCompletion(
        CreateChatCompletionRequest(provider="openai", messages=[message]),
        metadata=(("authorization", f"Bearer {person.token}"),),
        timeout=60,
    )
    chunks = aiter(call)
    reason = (await anext(chunks)).finish_reason
    await begun.wait()
    try:
        async for chunk in chunks:
            reason = chunk.finish_reason or reason
    except grpc.aio.AioRpcError as error:
        return reason, error.code()
    return reason, await call.code()


async def ask_many(http: aiohttp.ClientSession, person: Person, way: Way, count: int) -> list[Answer]:
    """Chats so often, `AT_ONCE` at a time."""
    left = iter(range(count))

    async def some() -> list[Answer]:
        return [await ask(http, person, way) for _ in left]

    return [answer for answers in await asyncio.gather(*(some() for _ in range(AT_ONCE))) for answer in answers]


async def chats(platform: Platform, http: aiohttp.ClientSession, name: str, metric: str) -> int:
    """Returns what a replica counts of the chats that people have with it."""
    async with http.get(f"http://{platform.stack.address(metrics_of(name))}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        return sum(
            int(sample.value)
            for family in families
            for sample in family.samples
            if sample.name == metric and sample.labels["grpc_method"].endswith("ChatCompletion")
        )


async def begun_chats(platform: Platform, http: aiohttp.ClientSession, names: list[str]) -> Counter[str]:
    """Counts the chats that have been begun with each replica since it was started."""
    return Counter({name: await chats(platform, http, name, "grpc_server_started_total") for name in names})


class TestShares:
    @pytest.mark.parametrize("count", [3, 2])
    async def test_are_even(self, platform: Platform, http: aiohttp.ClientSession, person: Person, count: int) -> None:
        names = WORKERS[:count]
        for name in WORKERS[count:]:
            await platform.stack.halt(name)
        try:
            for way in (WHOLE, STREAM, ROUTED, ROUTED_STREAM):
                before = await begun_chats(platform, http, names)
                answers = await ask_many(http, person, way, count * FOR_EACH)
                # Also the first ones after a replica has gone.
                assert [answer for answer in answers if not answer.is_whole] == [], way
                shares = await begun_chats(platform, http, names)
                shares.subtract(before)
                assert sum(shares.values()) == count * FOR_EACH, way
                assert min(shares.values()) > FOR_EACH / 2, (way, shares)
                assert max(shares.values()) < FOR_EACH * 1.5, (way, shares)
        finally:
            for name in WORKERS[count:]:
                await platform.stack.restart(name)


class TestKilled:
    async def test_only_its_own_streams_fail_and_nothing_is_lost(
        self, platform: Platform, http: aiohttp.ClientSession, person: Person
    ) -> None:
        victim = WORKERS[1]
        ways = [way for way in (*STRAIGHT, *RELAYED) for _ in range(STREAMS)]
        await platform.bad_day(person, chunk_count=4, hold_after_chunks=1)
        async with platform.person() as other, halted(platform.stack, "analytics"):
            # Facts that only the replica knows when it is killed.
            answers = await ask_many(http, other, WHOLE, FOR_EACH)
            begun = asyncio.Barrier(len(ways) + STREAMS + 1)
            address = platform.stack.base_url.removeprefix("http://")
            async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as tasks:
                streams = [tasks.create_task(ask(http, person, way, begun)) for way in ways]
                calls = [tasks.create_task(ask_by_grpc(channel, person, begun)) for _ in range(STREAMS)]
                await begun.wait()
                own = await chats(platform, http, victim, "grpc_server_in_flight")
                await platform.stack.kill(victim)
                for way in (WHOLE, ROUTED):
                    answers += await ask_many(http, other, way, FOR_EACH)
                await platform.sandbox.forget_behaviours(key=person.key)
            await platform.stack.wait_ready(victim)
            assert await undelivered(platform.stack, victim) > 0
        assert [answer for answer in answers if not answer.is_whole] == []

        ended = [stream.result() for stream in streams]
        failed = [answer for answer in ended if not answer.is_whole]
        statuses = Counter(call.result() for call in calls)
        failed_calls = statuses.pop(("error", grpc.StatusCode.UNAVAILABLE))
        assert statuses.keys() == {("stop", grpc.StatusCode.OK)}
        assert len(failed) + failed_calls == own < len(ways) + STREAMS
        assert {answer.way.path for answer in failed} == {way.path for way in ways}
        for answer in failed:
            # Either who stands between says how it ended, or the connection breaks: nobody takes it for the end.
            assert answer.cut is (answer.way in STRAIGHT)
            assert ("error" in answer.last) is (answer.way in RELAYED), answer.body

        given = [answer for answer in ended if answer.is_whole] + answers
        await eventually(partial(self._undelivered, platform), lambda count: count == 0)
        found = await stored(platform.stack, person.user_id) + await stored(platform.stack, other.user_id)
        assert {found[answer.request_id] for answer in given} == {1}
        assert set(found.values()) == {1}

    async def _undelivered(self, platform: Platform) -> int:
        return sum([await undelivered(platform.stack, name) for name in WORKERS])
