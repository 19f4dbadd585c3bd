"""Chats that leave the choice of the provider to the platform, through the front door, and providers that fail them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.topology import SANDBOX_ROLES
from tests.e2e.conftest import HELLO, Platform, error_of, events
from tests.e2e.people import KeyOwner, owner_of_keys
from tests.support.waiting import eventually

FALLBACKS = [{"provider": "anthropic"}, {"provider": "grok"}]
OPENAI = "openai/gpt-4o"
# Of each provider before each test, and of all.
GOOD_CHATS = 4
GOOD = GOOD_CHATS * len(SANDBOX_ROLES)


@pytest.fixture
async def owner(platform: Platform) -> AsyncIterator[KeyOwner]:
    """Somebody with a key of each provider, all of which answer well."""
    async with owner_of_keys(platform) as somebody:
        await answer_well(somebody)
        yield somebody


async def answer_well(owner: KeyOwner) -> None:
    """Lets the providers answer more often than a test makes them fail: who fails most chats would be asked last."""
    async with asyncio.TaskGroup() as chats:
        for provider in owner.keys:
            for _ in range(GOOD_CHATS):
                chats.create_task(owner.person.chat(provider))


async def bad_day(platform: Platform, owner: KeyOwner, provider: str, **behaviour: Any) -> None:
    await platform.sandbox.behave(Behaviour(match=Match(key=owner.keys[provider]), **behaviour))


async def asked(platform: Platform, owner: KeyOwner, provider: str) -> int:
    """Counts the chats that have reached a provider since all answered well."""
    requests = await platform.sandbox.requests(key=owner.keys[provider])
    return sum(request.method == "POST" for request in requests) - GOOD_CHATS


async def streamed(owner: KeyOwner, **body: Any) -> tuple[dict[str, str], list[dict]]:
    async with owner.person.stream("auto", **body) as response:
        assert response.status_code == 200, await response.aread()
        return dict(response.headers), events([line async for line in response.aiter_lines()])


class TestChoice:
    @pytest.mark.parametrize(
        ("model", "provider"),
        [
            (OPENAI, "openai"),
            ("anthropic/claude-sonnet-5", "anthropic"),
            ("claude-sonnet-5", "anthropic"),
            ("google-ai/gemini-3.5-flash", "google-ai"),
            ("openrouter/z-ai/glm-5.3", "openrouter"),
            ("z-ai/glm-5.3", "openrouter"),
        ],
    )
    async def test_by_the_name_of_the_model(self, owner: KeyOwner, model: str, provider: str) -> None:
        answer = await owner.person.chat("auto", model=model)
        assert answer.status_code == 200, answer.text
        assert answer.json()["provider"] == answer.headers["x-provider"] == provider
        assert "metadata" not in answer.json() or "failed_attempts" not in answer.json()["metadata"]

    async def test_by_what_the_person_has_configured(self, platform: Platform) -> None:
        async with owner_of_keys(platform, ["grok"]) as owner:
            for body in ({}, {"model": "auto"}):
                answer = await owner.person.chat("auto", **body)
                assert answer.status_code == 200, answer.text
                assert answer.json()["provider"] == "grok"

    async def test_by_the_priorities_of_the_person(self, platform: Platform) -> None:
        async with owner_of_keys(platform, ["anthropic", "openai", "grok"]) as owner:
            await answer_well(owner)
            for provider, priority in (("grok", 1), ("openai", 2)):
                path = f"/api/provider-config/{provider}"
                (await owner.person.http.put(path, json={"priority": priority})).raise_for_status()
            await bad_day(platform, owner, "grok", status=503)
            answer = await owner.person.chat("auto")
        assert answer.json()["provider"] == "openai"
        assert answer.headers["x-failed-attempts"] == "grok=PROVIDER_UNAVAILABLE"

    async def test_nobody_to_ask(self, platform: Platform) -> None:
        async with platform.person(with_key=False) as stranger:
            assert error_of(await stranger.chat("auto")) == (400, "PROVIDER_NOT_CONFIGURED")

    async def test_unknown_model(self, owner: KeyOwner) -> None:
        assert error_of(await owner.person.chat("auto", model="nobody-has-this")) == (404, "MODEL_NOT_FOUND")

    @pytest.mark.parametrize(
        "fallbacks",
        [[{"provider": "nobody"}], [{"provider": "auto"}], [{"provider": "grok"}] * 11],
        ids=["unknown", "auto", "too many"],
    )
    async def test_wrong_fallbacks(self, owner: KeyOwner, fallbacks: list[dict]) -> None:
        answer = await owner.person.chat("auto", model=OPENAI, fallbacks=fallbacks)
        assert error_of(answer) == (400, "INVALID_ARGUMENT")

    async def test_fallbacks_are_for_auto_alone(self, owner: KeyOwner) -> None:
        assert error_of(await owner.person.chat("openai", fallbacks=FALLBACKS)) == (400, "INVALID_ARGUMENT")


class TestFallback:
    async def test_whole(self, platform: Platform, owner: KeyOwner) -> None:
        await bad_day(platform, owner, "openai", status=503)
        await bad_day(platform, owner, "anthropic", status=401)
        answer = await owner.person.chat("auto", model=OPENAI, fallbacks=FALLBACKS)
        assert answer.status_code == 200, answer.text
        completion = answer.json()
        assert completion["provider"] == answer.headers["x-provider"] == "grok"
        attempts = completion["metadata"]["failed_attempts"]
        assert [(each["provider"], each["reason"]) for each in attempts] == [
            ("openai", "PROVIDER_UNAVAILABLE"),
            ("anthropic", "INVALID_API_KEY"),
        ]
        assert (attempts[0]["model"], attempts[0]["latency_ms"] >= 0) == ("gpt-4o", True)
        assert answer.headers["x-failed-attempts"] == "openai=PROVIDER_UNAVAILABLE, anthropic=INVALID_API_KEY"
        usage = await owner.person.usage_when(lambda totals: totals["requests"] == GOOD + 3)
        assert usage["requestsByEndState"] == {"completed": GOOD + 1, "provider_error_before_output": 2}

    async def test_streamed(self, platform: Platform, owner: KeyOwner) -> None:
        # What comes before the first output is held back: an answer that dies in it has not begun.
        await bad_day(platform, owner, "openai", cut_after_chunks=0)
        await bad_day(platform, owner, "grok", content="one two three")
        headers, found = await streamed(owner, model=OPENAI, fallbacks=[{"provider": "grok"}])
        assert headers["x-provider"] == "grok"
        assert "".join(event.get("content", "") for event in found) == "one two three"
        assert found[0]["metadata"]["failed_attempts"][0]["provider"] == "openai"
        assert sum("failed_attempts" in event.get("metadata", {}) for event in found) == 1
        assert found[-1]["finish_reason"] == "stop"
        usage = await owner.person.usage_when(lambda totals: totals["requests"] == GOOD + 2)
        assert usage["requestsByEndState"] == {"completed": GOOD + 1, "provider_error_before_output": 1}

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            ({"cut_after_chunks": 2}, "INCOMPLETE_RESPONSE"),
            ({"error_in_stream_after_chunks": 2}, "PROVIDER_UNAVAILABLE"),
            ({"end_after_chunks": 2}, "INCOMPLETE_RESPONSE"),
        ],
        ids=["cut", "error", "end"],
    )
    async def test_never_after_the_first_output(
        self, platform: Platform, owner: KeyOwner, fault: dict[str, int], reason: str
    ) -> None:
        await bad_day(platform, owner, "openai", content="one two three four", **fault)
        _, found = await streamed(owner, model=OPENAI, fallbacks=FALLBACKS)
        assert "".join(event.get("content", "") for event in found) == "one two"
        assert (found[-1]["finish_reason"], found[-1]["error"]["reason"]) == ("error", reason)
        assert [await asked(platform, owner, provider) for provider in ("openai", "anthropic", "grok")] == [1, 0, 0]
        usage = await owner.person.usage_when(lambda totals: totals["requests"] == GOOD + 1)
        assert usage["requestsByEndState"] == {"completed": GOOD, "provider_error_after_output": 1}

    async def test_not_for_a_request_that_is_wrong_for_all(self, platform: Platform, owner: KeyOwner) -> None:
        answer = await owner.person.chat("auto", model=OPENAI, fallbacks=FALLBACKS, options={"temperature": 3})
        assert error_of(answer) == (400, "INVALID_ARGUMENT")
        assert await asked(platform, owner, "anthropic") == 0

    async def test_all_fail(self, platform: Platform, owner: KeyOwner) -> None:
        for provider, status in (("openai", 429), ("anthropic", 503), ("grok", 401)):
            await bad_day(platform, owner, provider, status=status)
        answer = await owner.person.chat("auto", model=OPENAI, fallbacks=FALLBACKS)
        status, reason = error_of(answer)
        assert (status, reason) == (429, "PROVIDER_RATE_LIMITED")
        told = answer.json()["details"][0]["metadata"]["attempts"]
        assert told == "openai=PROVIDER_RATE_LIMITED, anthropic=PROVIDER_UNAVAILABLE, grok=INVALID_API_KEY"

    async def test_a_caller_who_leaves_during_an_attempt_ends_it(self, platform: Platform, owner: KeyOwner) -> None:
        await bad_day(platform, owner, "openai", status=503)
        await bad_day(platform, owner, "anthropic", silent=True)
        before = (await platform.sandbox.requests(key=owner.keys["anthropic"]))[-1].id
        chat = asyncio.create_task(owner.person.chat("auto", model=OPENAI, fallbacks=FALLBACKS))
        request = await platform.sandbox.wait_started(key=owner.keys["anthropic"], after=before)
        chat.cancel()
        ended = await platform.sandbox.wait_closed(key=owner.keys["anthropic"], request_id=request.id)
        assert ended.ended == "client_closed"
        usage = await owner.person.usage_when(lambda totals: totals["requests"] == GOOD + 2)
        assert usage["requestsByEndState"] == {
            "completed": GOOD,
            "provider_error_before_output": 1,
            "cancelled_before_output": 1,
        }
        assert await asked(platform, owner, "grok") == 0


async def until_killed(platform: Platform, owner: KeyOwner, path: str, body: dict[str, Any]) -> str:
    """Streams from a worker that is killed after its first words, and returns all that was received."""
    # The router may still be on its way back to one that was killed before.
    await eventually(lambda: owner.person.chat("auto", model=OPENAI), lambda answer: answer.status_code == 200)
    await bad_day(platform, owner, "openai", content="one two", hold_after_chunks=1)
    received = ""
    async with owner.person.http.stream("POST", path, json={"messages": HELLO, **body}) as response:
        assert response.status_code == 200, await response.aread()
        async for text in response.aiter_text():
            if "one" in text:
                await platform.stack.kill("worker-openai")
            received += text
    return received


class TestKilledWorker:
    """The last class: a provider whose worker was away is asked after others for a moment."""

    @pytest.fixture(autouse=True)
    async def back_again(self, platform: Platform) -> AsyncIterator[None]:
        yield
        await platform.stack.wait_ready("worker-openai")

    @pytest.mark.parametrize(
        ("path", "body", "told"),
        [
            ("/api/chat/auto/stream", {"model": OPENAI}, '"error":{"reason":"SERVICE_UNAVAILABLE"'),
            ("/v1/chat/completions", {"model": OPENAI, "stream": True}, 'data: {"error":{'),
            ("/v1/messages", {"model": OPENAI, "stream": True, "max_tokens": 9}, "event: error\n"),
        ],
        ids=["native", "openai", "anthropic"],
    )
    async def test_through_the_router_the_answer_says_that_it_breaks_off(
        self, platform: Platform, owner: KeyOwner, path: str, body: dict[str, Any], told: str
    ) -> None:
        received = await until_killed(platform, owner, path, body)
        assert "one" in received
        assert told in received
        assert not any(whole in received for whole in ("[DONE]", "message_stop", '"finish_reason":"stop"'))

    async def test_on_the_direct_way_the_connection_breaks(self, platform: Platform, owner: KeyOwner) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await until_killed(platform, owner, "/openai/v1/chat/completions", {"model": "gpt-4o", "stream": True})
