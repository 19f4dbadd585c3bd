"""The history of chats through the front door: one's own alone, whatever API they came by, sealed wherever it lies."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import HELLO, Person, Platform, error_of
from tests.e2e.people import api_token, owner_of_keys
from tests.e2e.sdk_users import MODELS

ROOT = Path(__file__).parents[2]
HISTORY = "/api/chat/history"


@dataclass
class Talker:
    """Somebody who has said the same words in every way there is, and what is said of each in the history.

    `ways` are the conversations they were said in, the earliest first.
    """

    person: Person
    words: str
    ways: list[str]
    records: dict[str, dict[str, Any]]


async def page(person: Person, **query: Any) -> dict[str, Any]:
    answer = await person.http.get(HISTORY, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def ids(person: Person, **query: Any) -> list[str]:
    return [record["id"] for record in (await page(person, **query))["records"]]


@pytest.fixture(scope="module")
async def talker(platform: Platform) -> AsyncIterator[Talker]:
    async with owner_of_keys(platform, ("openai", "anthropic")) as owner:
        person, words = owner.person, f"Unheard of: {uuid.uuid4()}"
        messages = [{"role": "user", "content": words}]
        whole = {"messages": messages, "conversationId": "native"}
        openai, claude = "openai/gpt-4o-mini", f"anthropic/{MODELS['anthropic']}"
        said, short = {"messages": messages}, {"messages": messages, "max_tokens": 500}
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("native", "/api/chat/openai", whole),
            ("streamed", "/api/chat/anthropic/stream", whole | {"conversationId": "streamed"}),
            ("passed on", "/v1/chat/completions", said | {"model": openai}),
            ("passed on, streamed", "/v1/chat/completions", said | {"model": openai, "stream": True}),
            ("translated", "/v1/chat/completions", said | {"model": claude}),
            ("messages", "/v1/messages", short | {"model": claude, "system": "Be brief."}),
            ("messages, translated", "/v1/messages", short | {"model": openai, "stream": True}),
        ]
        # None of these is kept.
        forgotten: list[tuple[str, dict[str, Any]]] = [
            ("/api/chat/openai", whole | {"store": False}),
            ("/v1/chat/completions", said | {"model": openai, "store": False}),
            ("/v1/chat/completions", said | {"model": claude, "store": False}),
        ]
        for path, body in [*forgotten, *((path, body) for _, path, body in asked)]:
            answer = await person.http.post(path, json=body)
            assert answer.status_code == 200, answer.text
        await person.usage_when(lambda totals: totals["requests"] == len(asked) + len(forgotten))
        records = (await page(person))["records"]
        ways = [way for way, _, _ in asked]
        assert len(records) == len(ways)
        yield Talker(person, words, ways, dict(zip(ways, reversed(records), strict=True)))


class TestRecords:
    def test_have_question_and_answer_whatever_api_was_spoken(self, talker: Talker) -> None:
        for way, record in talker.records.items():
            said = record["messages"]
            assert (said[-1]["role"], said[-1]["content"]) == ("user", talker.words), way
            assert record["completion"]["choices"][0]["message"]["content"], way
            assert record["completion"]["choices"][0]["finish_reason"] == "stop", way
            assert (record["status"], record["missing"]) == ("completed", ""), way
            assert record["usage"]["completion_tokens"] > 0, way
            assert float(record["costUsd"]) > 0, way
            assert record["requestId"], way
        assert [said["role"] for said in talker.records["messages"]["messages"]] == ["system", "user"]
        assert talker.records["streamed"]["provider"] == "anthropic"

    async def test_can_be_asked_for_one_by_one(self, talker: Talker) -> None:
        for record in talker.records.values():
            assert (await talker.person.http.get(f"{HISTORY}/{record['id']}")).json() == record

    async def test_are_paged_and_filtered(self, talker: Talker) -> None:
        expected = [record["id"] for record in reversed(talker.records.values())]
        found, query = [], {"pageSize": 3}
        while True:
            part = await page(talker.person, **query)
            found += [record["id"] for record in part["records"]]
            if not part["nextPageToken"]:
                break
            query["pageToken"] = part["nextPageToken"]

        assert found == expected
        assert await ids(talker.person, conversationId="native") == [talker.records["native"]["id"]]
        assert len(await ids(talker.person, provider="anthropic")) == 3
        assert await ids(talker.person, model="no-such-model") == []
        middle = talker.records["passed on"]["createTime"]
        assert await ids(talker.person, **{"from": middle}) == expected[:-2]
        assert await ids(talker.person, to=middle) == expected[-2:]
        wrong = await talker.person.http.get(HISTORY, params={"pageSize": -1, "from": middle, "to": middle})
        assert error_of(wrong) == (400, "INVALID_ARGUMENT")
        assert "pageSize" in wrong.text
        assert "`to`" in wrong.text

    async def test_of_a_long_chat_come_whole_up_to_what_is_kept(self, platform: Platform) -> None:
        async with platform.person() as person:
            for length in (900_000, 1_100_000):
                answer = await person.chat(messages=[{"role": "user", "content": "ä" * (length // 2)}])
                assert answer.status_code == 200, answer.text
            await person.usage_when(lambda totals: totals["requests"] == 2)

            longest, long = (await page(person))["records"]

            assert long["messages"][0]["content"] == "ä" * 450_000
            assert long["completion"]["choices"][0]["message"]["content"]
            assert (longest["messages"], longest["missing"]) == ([], "The chat was too large to keep.")


class TestOthers:
    async def test_reach_nothing_by_any_parameter(self, platform: Platform, talker: Talker) -> None:
        record = talker.records["native"]
        token = (await page(talker.person, pageSize=1))["nextPageToken"]
        async with platform.person(with_key=False) as thief:
            for parameter in ("userId", "user_id", "user", "id"):
                answer = await thief.http.get(HISTORY, params={parameter: talker.person.user_id})
                assert error_of(answer) == (400, "INVALID_ARGUMENT")
            for query in ({"conversationId": "native"}, {"provider": "openai"}, {"model": record["model"]}, {}):
                assert await ids(thief, **query) == []
            for query in ({"pageSize": 1, "pageToken": token}, {"pageToken": token}):
                assert error_of(await thief.http.get(HISTORY, params=query)) == (400, "INVALID_ARGUMENT")
            for path in (record["id"], record["id"].upper(), "x"):
                assert error_of(await thief.http.get(f"{HISTORY}/{path}")) == (404, "NOT_FOUND")
                assert error_of(await thief.http.delete(f"{HISTORY}/{path}")) == (404, "NOT_FOUND")
            assert (await thief.http.delete(HISTORY)).json() == {"success": True, "deleted": 0}
        async with platform.client() as nobody:
            for path in (HISTORY, f"{HISTORY}/{record['id']}"):
                assert error_of(await nobody.get(path)) == (401, "UNAUTHENTICATED")
                assert error_of(await nobody.delete(path)) == (401, "UNAUTHENTICATED")
        assert (await talker.person.http.get(f"{HISTORY}/{record['id']}")).json() == record

    async def test_find_it_in_no_file(self, platform: Platform, talker: Talker) -> None:
        answers = [record["completion"]["choices"][0]["message"]["content"] for record in talker.records.values()]

        def files_with_words() -> list[Path]:
            files = [path for path in platform.stack.layout.state.rglob("*") if path.is_file()]
            assert any("postgres" in path.parts for path in files)
            return [path for path in files if talker.words.encode() in path.read_bytes()]

        assert all(answers)
        assert await asyncio.to_thread(files_with_words) == []


class TestErasure:
    async def test_one_and_all_go_and_the_account_stays(self, platform: Platform) -> None:
        async with platform.person() as person:
            for _ in range(3):
                assert (await person.chat()).status_code == 200
            await person.usage_when(lambda totals: totals["requests"] == 3)
            first, second, third = await ids(person)
            reader = await api_token(person.http, "analytics:read", "chat")
            async with platform.client(reader) as http:
                # A token of the person may take away one, and not everything.
                assert (await http.delete(f"{HISTORY}/{second}")).json() == {"success": True}
                assert error_of(await http.delete(HISTORY)) == (403, "INSUFFICIENT_SCOPE")

            assert error_of(await person.http.get(f"{HISTORY}/{second}")) == (404, "NOT_FOUND")
            assert await ids(person) == [first, third]
            assert (await person.http.delete(HISTORY)).json() == {"success": True, "deleted": 2}
            assert await ids(person) == []
            assert (await person.usage())["requests"] == 3

            assert (await person.chat(messages=HELLO)).status_code == 200
            await person.usage_when(lambda totals: totals["requests"] == 4)
            assert len(await ids(person)) == 1


async def test_keys_are_wrapped_anew_by_the_command(platform: Platform, talker: Talker) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.analytics.rewrap_history"),
        cwd=ROOT,
        env=platform.stack.environment("analytics"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0, told.decode()
    assert "all are of version" in told.decode()
    assert len(await ids(talker.person)) == len(talker.ways)
