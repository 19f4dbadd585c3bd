"""OpenAI's own SDK for JavaScript as a client, with only its address and key changed, against every provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.conftest import Platform
from tests.e2e.sdk_users import PICTURE, PLACE, PROVIDERS, QUESTION, USE_THE_TOOLS, SdkUser, routed, sdk_user
from tests.support import npm_client

TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"Tells the {name}.", "parameters": PLACE}}
    for name in ("weather", "time")
]
ASKED = [{"role": "user", "content": QUESTION}]
PICTURED = [
    {"type": "text", "text": QUESTION},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE, "strict": True}}


@pytest.fixture(scope="module")
async def user(platform: Platform) -> AsyncIterator[SdkUser]:
    await npm_client.install()
    async with sdk_user(platform) as somebody:
        yield somebody


async def outcomes(user: SdkUser, *calls: dict[str, Any], token: str = "") -> list[dict[str, Any]]:
    """Makes the calls, and returns what became of each."""
    return await npm_client.outcomes(f"{user.url}/v1", token or user.token, list(calls))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_chats(user: SdkUser, provider: str) -> None:
    model = routed(provider)
    used = {"model": model, "messages": [{"role": "user", "content": USE_THE_TOOLS}], "tools": TOOLS}
    found = await outcomes(
        user,
        {"how": "chat", "body": {"model": model, "messages": ASKED}},
        {
            "how": "stream",
            "body": {"model": model, "messages": ASKED, "stream_options": {"include_usage": True}},
        },
        {"how": "chat", "body": used},
        {"how": "assembled", "body": used},
        {"how": "chat", "body": {"model": model, "messages": [{"role": "user", "content": PICTURED}]}},
        {"how": "chat", "body": {"model": model, "messages": ASKED, "response_format": SCHEMA}},
    )

    assert not [each for each in found if "error" in each], found
    whole, chunks, tools, assembled, seen, structured = (each["answer"] for each in found)
    assert whole["choices"][0]["message"]["content"]
    assert "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert (chunks[-1]["choices"] == []) is (provider != "openrouter")  # which says it all at once
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    for completion in (tools, assembled):
        calls = completion["choices"][0]["message"]["tool_calls"]
        assert [call["function"]["name"] for call in calls] == ["weather", "time"]
        assert completion["choices"][0]["finish_reason"] == "tool_calls"
    assert seen["usage"]["prompt_tokens"] > whole["usage"]["prompt_tokens"]
    assert '"place"' in structured["choices"][0]["message"]["content"]


async def test_errors(user: SdkUser) -> None:
    async with user.bad_day("grok", status=429), user.bad_day("openai", delay_ms=20_000):
        cut = {"chunk_delay_ms": 20, "chunk_count": 6, "cut_after_chunks": 3}
        async with user.bad_day("google-ai", **cut), user.bad_day("anthropic", status=503):
            found = await outcomes(
                user,
                {"how": "chat", "body": {"model": routed("grok"), "messages": ASKED}},
                {"how": "chat", "body": {"model": routed("openai"), "messages": ASKED}, "options": {"timeout": 1000}},
                {"how": "stream", "body": {"model": routed("google-ai"), "messages": ASKED}},
                {"how": "chat", "body": {"model": routed("anthropic"), "messages": ASKED}},
                {"how": "chat", "body": {"model": "no-such-model-anywhere", "messages": ASKED}},
            )
    (stranger,) = await outcomes(user, {"how": "models"}, token="sk-nobody")

    errors = [each["error"] for each in (*found, stranger)]
    assert [(error["name"], error.get("status"), error.get("code")) for error in errors] == [
        ("RateLimitError", 429, "rate_limit_exceeded"),
        ("APIConnectionTimeoutError", None, None),
        ("APIError", None, "incomplete_response"),
        ("InternalServerError", 503, "provider_unavailable"),
        ("NotFoundError", 404, "model_not_found"),
        ("AuthenticationError", 401, "invalid_api_key"),
    ]


async def test_models_and_embeddings(user: SdkUser) -> None:
    name = routed("openai")
    embedding = {"model": "openai/text-embedding-3-small", "input": ["one", "two"]}
    models, model, embedded = await outcomes(
        user, {"how": "models"}, {"how": "model", "body": {"model": name}}, {"how": "embeddings", "body": embedding}
    )

    assert name in [each["id"] for each in models["answer"]]
    assert model["answer"]["id"] == name
    assert [len(each["embedding"]) > 1 for each in embedded["answer"]["data"]] == [True, True]


@pytest.mark.parametrize("provider", ["openai", "google-ai"])
async def test_who_hangs_up_ends_the_provider_s_work(user: SdkUser, provider: str) -> None:
    after = await user.last_request(provider)
    async with user.bad_day(provider, chunk_delay_ms=100, chunk_count=500):
        (left,) = await outcomes(
            user, {"how": "stream", "body": {"model": routed(provider), "messages": ASKED}, "leaveAfter": 2}
        )
        received = await user.platform.sandbox.wait_started(key=user.keys[provider], after=after)
        closed = await user.platform.sandbox.wait_closed(key=user.keys[provider], request_id=received.id)

    assert len(left["answer"]) == 2
    assert closed.ended == "client_closed"
