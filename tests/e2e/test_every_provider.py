"""Every provider through the front door, the same requests to each."""

import uuid
from collections.abc import AsyncIterator

import pytest

from deploy.local.topology import SANDBOX_ROLES
from tests.e2e.conftest import Person, Platform, error_of, events

TOOLS = [
    {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    }
]

pytestmark = pytest.mark.parametrize("provider", sorted(SANDBOX_ROLES))


@pytest.fixture
async def owner(platform: Platform, provider: str) -> AsyncIterator[Person]:
    """Somebody with a stored key of the provider."""
    async with platform.person(with_key=False) as somebody:
        somebody.key = f"{SANDBOX_ROLES[provider].key_prefix}-{uuid.uuid4().hex}"
        stored = await somebody.http.post(f"/api/provider-config/{provider}", json={"apiKey": somebody.key})
        assert stored.json()["testResult"]["success"], stored.text
        yield somebody


class TestChat:
    async def test_whole(self, owner: Person, provider: str) -> None:
        answer = await owner.chat(provider)
        assert answer.status_code == 200, answer.text
        completion = answer.json()
        assert (completion["provider"], completion["object"]) == (provider, "chat.completion")
        assert completion["choices"][0]["message"]["content"]
        usage = completion["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
        assert ("upstream_provider" in completion.get("metadata", {})) == (provider == "openrouter")
        assert completion["cost_usd"] > 0  # by its own word, or by the catalogue's prices

    async def test_streamed(self, owner: Person, provider: str) -> None:
        async with owner.stream(provider) as response:
            assert response.headers["content-type"] == "text/event-stream"
            found = events([line async for line in response.aiter_lines()])
        assert found[0]["provider"] == provider
        assert "".join(event.get("content", "") for event in found)
        assert found[-1]["finish_reason"] == "stop"
        assert found[-1]["usage"]["completion_tokens"] > 0
        assert ("upstream_provider" in found[-1].get("metadata", {})) == (provider == "openrouter")

    async def test_an_answer_can_be_sent_back_as_it_came(self, owner: Person, provider: str) -> None:
        messages = [{"role": "user", "content": "Use the tool: how is it in Rome?"}]
        options = {"tools": TOOLS, "maxTokens": 2000}
        first = await owner.chat(provider, messages=messages, options=options)
        assert first.status_code == 200, first.text
        message = first.json()["choices"][0]["message"]
        (call,) = message["tool_calls"]
        messages += [message, {"role": "tool", "toolCallId": call["id"], "content": "Rain."}]
        second = await owner.chat(provider, messages=messages, options=options)
        assert second.status_code == 200, second.text
        assert second.json()["choices"][0]["finish_reason"] == "stop"

    async def test_wrong_key(self, platform: Platform, owner: Person, provider: str) -> None:
        refused = await owner.http.post(f"/api/provider-config/{provider}", json={"apiKey": "wrong-key-0123456789"})
        assert refused.status_code == 200
        assert refused.json()["testResult"]["error"] == "INVALID_API_KEY"
        assert (await owner.chat(provider)).status_code == 200  # the earlier key stays

    async def test_without_a_key(self, platform: Platform, provider: str) -> None:
        async with platform.person(with_key=False) as stranger:
            assert error_of(await stranger.chat(provider)) == (400, "PROVIDER_NOT_CONFIGURED")


class TestModels:
    async def test_are_live_for_who_has_a_key(self, owner: Person, provider: str) -> None:
        answer = await owner.http.get(f"/api/models/{provider}")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["source"] == "live"
        assert all(model["provider"] == provider and model["id"] for model in found["models"])
        assert found["models"]


class TestKeyTest:
    async def test_of_the_stored_key(self, owner: Person, provider: str) -> None:
        answer = await owner.http.post("/api/provider-config/test", json={"provider": provider})
        assert answer.status_code == 200, answer.text
        assert answer.json()["success"] is True

    async def test_of_another_key(self, owner: Person, provider: str) -> None:
        body = {"provider": provider, "apiKey": "wrong-key-0123456789"}
        answer = await owner.http.post("/api/provider-config/test", json=body)
        assert (answer.status_code, answer.json()["success"], answer.json()["error"]) == (200, False, "INVALID_API_KEY")
