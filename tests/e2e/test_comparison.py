"""One conversation put to several models, through the front door: each target for itself."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from tests.e2e.conftest import HELLO, Platform, error_of, events
from tests.e2e.people import KeyOwner, owner_of_keys

PATH = "/api/chat/compare"
STREAM = f"{PATH}/stream"
# Short for a target that hangs, long for those that answer.
PATIENCE_MS = 4_000


@pytest.fixture
async def owner(platform: Platform) -> AsyncIterator[KeyOwner]:
    async with owner_of_keys(platform) as somebody:
        yield somebody


def comparison(*providers: str, **more: Any) -> dict[str, Any]:
    return {"messages": HELLO, "targets": [{"provider": provider} for provider in providers], **more}


async def bad_day(platform: Platform, owner: KeyOwner, provider: str, **behaviour: Any) -> None:
    await platform.sandbox.behave(Behaviour(match=Match(key=owner.keys[provider]), **behaviour))


async def streamed(owner: KeyOwner, body: dict[str, Any]) -> dict[int, list[dict]]:
    """Returns the events of a streamed comparison by target."""
    async with owner.person.http.stream("POST", STREAM, json=body) as response:
        assert response.status_code == 200, await response.aread()
        found: dict[int, list[dict]] = {}
        for event in events([line async for line in response.aiter_lines()]):
            found.setdefault(event["target"], []).append(event)
    return found


def text(told: list[dict]) -> str:
    return "".join(event.get("chunk", {}).get("content", "") for event in told)


def reason(told: list[dict]) -> str | None:
    return next((event["chunk"]["error"]["reason"] for event in told if event.get("chunk", {}).get("error")), None)


class TestWhole:
    async def test_answers_of_all_in_the_order_asked(self, owner: KeyOwner) -> None:
        providers = ["grok", "anthropic", "openai", "google-ai", "openrouter", "anthropic"]
        answer = await owner.person.http.post(PATH, json=comparison(*providers))
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert [result["provider"] for result in results] == providers
        for result in results:
            assert result["completion"]["provider"] == result["provider"]
            assert result["completion"]["choices"][0]["message"]["content"]
            assert result["model"]
            assert result["latencyMs"] >= 0
            assert result.get("costUsd") == result["completion"].get("cost_usd")
        usage = await owner.person.usage_when(lambda totals: totals["requests"] == len(providers))
        assert usage["requestsByEndState"] == {"completed": len(providers)}

    async def test_a_hanging_a_refusing_and_a_broken_target_cost_the_others_nothing(
        self, platform: Platform, owner: KeyOwner
    ) -> None:
        await bad_day(platform, owner, "openai", silent=True)
        await bad_day(platform, owner, "anthropic", status=401)
        await bad_day(platform, owner, "openrouter", cut_after_chunks=1)
        body = comparison("openai", "anthropic", "grok", "openrouter", "google-ai", timeoutMs=PATIENCE_MS)
        answer = await owner.person.http.post(PATH, json=body)
        assert answer.status_code == 200, answer.text
        hanging, refusing, whole, cut, other = answer.json()["results"]
        assert hanging["error"]["reason"] == "CONNECTION_TIMEOUT"
        assert refusing["error"]["reason"] == "INVALID_API_KEY"
        assert cut["error"]["reason"] in ("INCOMPLETE_RESPONSE", "PROVIDER_UNAVAILABLE")
        for result in (whole, other):
            assert result["completion"]["choices"][0]["finish_reason"] == "stop"
            assert "error" not in result
        assert all("completion" not in result for result in (hanging, refusing, cut))
        usage = await owner.person.usage_when(lambda totals: totals["requests"] == 5)
        assert usage["requestsByEndState"]["completed"] == 2

    async def test_none_takes_longer_than_it_may(self, platform: Platform, owner: KeyOwner) -> None:
        for provider in ("grok", "anthropic"):
            await bad_day(platform, owner, provider, silent=True)
        answer = await owner.person.http.post(PATH, json=comparison("grok", "anthropic", timeoutMs=300))
        assert [result["error"]["reason"] for result in answer.json()["results"]] == ["CONNECTION_TIMEOUT"] * 2
        usage = await owner.person.usage_when(lambda totals: totals["requests"] == 2)
        assert usage["requestsByEndState"].get("completed") is None

    async def test_counts_once_whatever_the_number_of_targets(self, owner: KeyOwner) -> None:
        async def remaining(path: str, body: dict[str, Any]) -> int:
            answer = await owner.person.http.post(path, json=body)
            return int(answer.headers["ratelimit-remaining"])

        alone = "/api/chat/grok", {"messages": HELLO}
        of_chats = await remaining(*alone)
        of_comparisons = await remaining(PATH, comparison("grok", "grok", "grok"))
        assert await remaining(PATH, comparison("grok", "grok")) == of_comparisons - 1
        assert await remaining(*alone) == of_chats - 1

    async def test_a_target_without_a_key_is_an_answer(self, platform: Platform) -> None:
        async with owner_of_keys(platform, ["grok"]) as owner:
            answer = await owner.person.http.post(PATH, json=comparison("grok", "openai"))
        there, missing = answer.json()["results"]
        assert there["completion"]
        assert missing["error"]["reason"] == "PROVIDER_NOT_CONFIGURED"


class TestStreamed:
    async def test_every_target_says_the_same_as_alone(self, owner: KeyOwner) -> None:
        told = await streamed(owner, comparison("openai", "anthropic", "google-ai"))
        assert sorted(told) == [0, 1, 2]
        for place, provider in enumerate(("openai", "anthropic", "google-ai")):
            first, *_, last, end = told[place]
            assert first["chunk"]["provider"] == provider
            assert (last["chunk"]["finish_reason"], last["chunk"]["usage"]["completion_tokens"] > 0) == ("stop", True)
            assert (set(end), end["latencyMs"] >= 0) == ({"target", "latencyMs"}, True)
            alone = await owner.person.chat(provider)
            assert text(told[place]) == alone.json()["choices"][0]["message"]["content"]

    async def test_a_hanging_a_refusing_and_a_broken_target_cost_the_others_nothing(
        self, platform: Platform, owner: KeyOwner
    ) -> None:
        await bad_day(platform, owner, "openai", content="one two three", hold_after_chunks=1)
        await bad_day(platform, owner, "anthropic", status=401)
        await bad_day(platform, owner, "openrouter", content="one two three", cut_after_chunks=2)
        body = comparison("openai", "anthropic", "grok", "openrouter", "google-ai", timeoutMs=PATIENCE_MS)
        told = await streamed(owner, body)
        ends = [place for place, event in _in_order(told) if "latencyMs" in event]
        assert sorted(ends) == [0, 1, 2, 3, 4]
        assert (text(told[0]), reason(told[0])) == ("one", "CONNECTION_TIMEOUT")
        assert (text(told[1]), reason(told[1])) == ("", "INVALID_API_KEY")
        assert (text(told[3]), reason(told[3])) == ("one two", "INCOMPLETE_RESPONSE")
        for place in (2, 4):
            assert told[place][-2]["chunk"]["finish_reason"] == "stop"
            assert told[place][-1]["latencyMs"] < told[0][-1]["latencyMs"]

    async def test_targets_are_told_of_while_another_holds(self, platform: Platform, owner: KeyOwner) -> None:
        await bad_day(platform, owner, "openai", content="one two", hold_after_chunks=1)
        seen: list[int] = []
        async with owner.person.http.stream("POST", STREAM, json=comparison("openai", "grok")) as response:
            async for line in response.aiter_lines():
                seen += [event["target"] for event in events([line]) if "latencyMs" in event]
                if seen == [1]:
                    await platform.sandbox.forget_behaviours(key=owner.keys["openai"])
        assert seen == [1, 0]

    async def test_a_caller_who_leaves_ends_every_target(self, platform: Platform, owner: KeyOwner) -> None:
        providers = ("openai", "anthropic", "grok")
        for provider in providers:
            await bad_day(platform, owner, provider, content="one two", hold_after_chunks=1)
        async with owner.person.http.stream("POST", STREAM, json=comparison(*providers)) as response:
            begun: set[int] = set()
            async for line in response.aiter_lines():
                begun |= {event["target"] for event in events([line])}
                if len(begun) == len(providers):
                    break
        async with asyncio.TaskGroup() as tasks:
            for provider in providers:
                tasks.create_task(_left(platform, owner.keys[provider]))
        usage = await owner.person.usage_when(lambda totals: totals["requests"] == len(providers))
        assert usage["requestsByEndState"] == {"cancelled_after_output": len(providers)}


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (comparison("openai"), "targets"),
            (comparison(*["openai"] * 11), "targets"),
            (comparison("openai", "auto"), "targets[1].provider"),
            (comparison("openai", "nobody"), "targets[1].provider"),
            (comparison("openai", "grok", messages=[]), "messages"),
            (comparison("openai", "grok", options={"temperature": 3}), "options.temperature"),
            (comparison("openai", "grok", options={"stream": True}), "options.stream"),
            (comparison("openai", "grok", timeoutMs=1), "timeoutMs"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_once_for_all(self, owner: KeyOwner, body: dict[str, Any], field: str) -> None:
        answer = await owner.person.http.post(PATH, json=body)
        assert error_of(answer) == (400, "INVALID_ARGUMENT")
        (bad,) = [detail for detail in answer.json()["details"] if detail["@type"].endswith("BadRequest")]
        assert [violation["field"] for violation in bad["fieldViolations"]] == [field]


def _in_order(told: dict[int, list[dict]]) -> list[tuple[int, dict]]:
    return [(place, event) for place, found in told.items() for event in found]


async def _left(platform: Platform, key: str) -> None:
    """Waits until the provider has noticed that the caller is gone."""
    requests = await platform.sandbox.requests(key=key)
    ended = await platform.sandbox.wait_closed(key=key, request_id=requests[-1].id)
    assert ended.ended == "client_closed"
