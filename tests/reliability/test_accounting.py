"""Whatever is killed under load: every answer that was given is accounted for once, and sums are those of facts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import aiohttp
import psycopg

from deploy.local.infrastructure import Postgres
from deploy.local.stack import LocalStack
from tests.e2e.conftest import HELLO, Person, Platform
from tests.reliability.facts import database_url, stored, undelivered
from tests.support.waiting import eventually

# In each phase so many chats, one every 5 ms; a process is killed in the middle of it.
CHATS = 400
EVERY_SECONDS = 0.005
VICTIMS = ("analytics", "worker-openai", "postgres")


@dataclass
class Answers:
    """The request ids of the answers that callers have got to their end, and how many calls had none."""

    given: list[str] = field(default_factory=list)
    failed: int = 0


async def chat(http: aiohttp.ClientSession, person: Person, number: int, answers: Answers) -> None:
    """Chats once, every second time streamed, and notes the answer if it came whole."""
    streamed = number % 2 == 0
    path = "/api/chat/openai/stream" if streamed else "/api/chat/openai"
    headers = {"authorization": f"Bearer {person.token}"}
    try:
        async with http.post(path, json={"messages": HELLO}, headers=headers) as response:
            body = await response.text()
            request_id = response.headers["x-request-id"]
    except aiohttp.ClientError:
        answers.failed += 1
        return
    if response.status == 200 and (not streamed or _ended_well(body)):
        answers.given.append(request_id)
    else:
        answers.failed += 1


def _ended_well(events: str) -> bool:
    *_, last = (line for line in events.splitlines() if line.startswith("data: "))
    return bool(json.loads(last.removeprefix("data: ")).get("finish_reason") == "stop")


async def load(platform: Platform, person: Person, in_the_middle: Callable[[], Awaitable[None]]) -> Answers:
    """Starts chats at a steady pace, whatever becomes of those before, and does something in the middle."""
    answers = Answers()
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(platform.stack.base_url, timeout=timeout, connector=connector) as http,
        asyncio.TaskGroup() as tasks,
    ):
        clock = asyncio.get_running_loop().time
        begun = clock()
        for number in range(CHATS):
            tasks.create_task(chat(http, person, number, answers))
            if number == CHATS // 2:
                tasks.create_task(_awaited(in_the_middle()))
            # By the clock: what starts late delays none of those after it.
            await asyncio.sleep(begun + (number + 1) * EVERY_SECONDS - clock())
    return answers


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable


@asynccontextmanager
async def stored_but_not_acknowledged(stack: LocalStack) -> AsyncIterator[None]:
    """Begins when analytics has written facts down and is not told so yet, and lasts until it would be told.

    Postgres then waits for a standby that is not there: after it has written, and before it says so.
    """
    superuser = Postgres(stack.layout, stack.ports).admin_url
    async with await psycopg.AsyncConnection.connect(superuser, autocommit=True) as database:
        await database.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await database.execute("SELECT pg_reload_conf()")

        async def waiting() -> int:
            rows = await database.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'analytics' AND wait_event = 'SyncRep'"
            )
            ((count,),) = await rows.fetchall()
            return int(count)

        await eventually(waiting, bool)
    yield
    # As often as it takes: Postgres itself may have been killed.
    await eventually(partial(_tried, partial(_need_no_standby, superuser)), bool)


async def _need_no_standby(superuser: str) -> None:
    async with await psycopg.AsyncConnection.connect(superuser, autocommit=True) as database:
        await database.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await database.execute("SELECT pg_reload_conf()")


async def _tried(attempt: Callable[[], Awaitable[None]]) -> bool:
    try:
        await attempt()
    except psycopg.OperationalError:
        return False
    return True


async def test_every_answer_is_accounted_for_once(platform: Platform, person: Person) -> None:
    given: list[str] = []
    for victim in VICTIMS:

        async def kill(name: str = victim) -> None:
            async with stored_but_not_acknowledged(platform.stack):
                await platform.stack.kill(name)
            await platform.stack.wait_ready(name)

        answers = await load(platform, person, kill)
        # Of those at the edge of the kill some have no answer. Most have one.
        assert len(answers.given) > CHATS / 2, (victim, answers.failed)
        assert len(answers.given) + answers.failed == CHATS
        given += answers.given

    await eventually(partial(undelivered, platform.stack, "worker-openai"), lambda count: count == 0, seconds=30)
    found = await stored(platform.stack, person.user_id)
    assert len(set(given)) == len(given)
    assert set(given) <= found.keys()
    # An answer that did not reach its caller may have a fact too; none has two.
    assert set(found.values()) == {1}
    async with await psycopg.AsyncConnection.connect(database_url(platform.stack)) as database:
        for table in ("usage_hourly", "usage_quarter_hourly", "user_daily"):
            summed = await database.execute(
                f"SELECT sum(requests) FROM {table} WHERE user_id = %s",
                [person.user_id],
            )
            assert await summed.fetchone() == (found.total(),), table
