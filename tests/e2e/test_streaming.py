"""Streams as an HTTP client sees them: early, in order, honest about their end, and gone when the client goes."""

import asyncio
import json
import time
from math import inf

import httpx
import pytest

from tests.e2e.conftest import HELLO, Person, Platform, error_of, events


class TestPace:
    async def test_first_token_arrives_before_the_last_is_sent(self, platform: Platform, person: Person):
        await platform.bad_day(person, chunk_delay_ms=150, chunk_count=6)
        async with person.stream() as response:
            lines = response.aiter_lines()
            first = await anext(lines)
            assert json.loads(first.removeprefix("data: "))["content"]
            chat = await platform.chat_arrived(person)
            (received,) = [r for r in await platform.sandbox.requests(key=person.key) if r.id == chat]
            assert received.ended is None
            assert received.chunks_sent < 6
            rest = [line async for line in lines]
        assert events(rest)[-1]["usage"]["completion_tokens"] == 6


class TestEnd:
    async def test_failure_after_the_first_token_comes_in_band(self, platform: Platform, person: Person):
        await platform.bad_day(person, chunk_delay_ms=20, chunk_count=6, cut_after_chunks=3)
        async with person.stream() as response:
            assert response.status_code == 200
            chunks = events([line async for line in response.aiter_lines()])
        assert chunks[-1]["error"]["reason"] == "INCOMPLETE_RESPONSE"
        assert chunks[-1]["finish_reason"] == "error"
        totals = await person.usage_when(lambda totals: totals["requests"] == 1)
        assert totals["requestsByEndState"] == {"provider_error_after_output": 1}

    async def test_failure_before_the_first_token_is_a_status(self, platform: Platform, person: Person):
        await platform.bad_day(person, status=429, headers={"retry-after": "30"})
        async with person.stream() as response:
            await response.aread()
            assert error_of(response) == (429, "PROVIDER_RATE_LIMITED")
            assert response.headers["retry-after"] == "30"


class TestClientHangsUp:
    @pytest.mark.parametrize(
        ("phase", "behaviour"),
        [
            ("unary", {"delay_ms": 20_000}),
            ("before the first token", {"first_chunk_delay_ms": 20_000}),
            ("in mid-stream", {"chunk_delay_ms": 100, "chunk_count": 500}),
        ],
    )
    async def test_provider_is_let_go_within_250_ms(
        self, platform: Platform, person: Person, phase: str, behaviour: dict
    ):
        await platform.bad_day(person, **behaviour)
        first_line = asyncio.Event()

        async def ask() -> None:
            if phase == "unary":
                await person.chat()
                return
            async with person.stream() as response:
                async for _ in response.aiter_lines():
                    first_line.set()

        asking = asyncio.create_task(ask())
        chat = await platform.chat_arrived(person)
        if phase == "in mid-stream":
            await first_line.wait()
        left = time.monotonic()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        closed = await platform.sandbox.wait_closed(key=person.key, request_id=chat)
        assert closed.ended == "client_closed"
        assert (closed.ended_monotonic or inf) - left < 0.25  # the promise itself, with room for a busy machine
        state = "cancelled_after_output" if phase == "in mid-stream" else "cancelled_before_output"
        totals = await person.usage_when(lambda totals: totals["requests"] == 1)
        assert totals["requestsByEndState"] == {state: 1}


class TestManyAtOnce:
    async def test_a_hundred_streams_do_not_mix(self, platform: Platform, person: Person):
        await platform.bad_day(person, chunk_delay_ms=5)

        async def ask(number: int) -> str:
            body = {"messages": [{"role": "user", "content": f"number {number}."}]}
            response = await person.http.post("/api/chat/openai/stream", json=body)
            return "".join(chunk.get("content", "") for chunk in events(response.text.splitlines()))

        answers = await asyncio.gather(*(ask(number) for number in range(100)))
        assert all(f"number {number}." in answer for number, answer in enumerate(answers))


class TestWholeAndStreamed:
    async def test_stream_option_on_the_whole_path_names_the_other(self, person: Person):
        response = await person.http.post("/api/chat/openai", json={"messages": HELLO, "options": {"stream": True}})
        assert error_of(response) == (400, "INVALID_ARGUMENT")
        assert "/api/chat/openai/stream" in response.json()["message"]

    async def test_both_spellings_are_understood(self, person: Person):
        for options in ({"max_tokens": 2}, {"maxTokens": 2}):
            response: httpx.Response = await person.chat(options=options)
            assert response.json()["choices"][0]["finish_reason"] == "length"
