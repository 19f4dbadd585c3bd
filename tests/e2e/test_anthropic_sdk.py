"""Anthropic's own SDK for Python as a client, with only its address and key changed, against every provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import Message

from tests.e2e.conftest import Platform
from tests.e2e.sdk_users import (
    MODELS,
    PICTURE,
    PLACE,
    PROVIDERS,
    QUESTION,
    USE_THE_TOOLS,
    SdkUser,
    drain,
    routed,
    sdk_user,
)
from tests.support.waiting import within_bound

TOOLS: list[Any] = [
    {"name": name, "description": f"Tells the {name}.", "input_schema": PLACE} for name in ("weather", "time")
]
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
every_provider = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture(scope="module")
async def user(platform: Platform) -> AsyncIterator[SdkUser]:
    async with sdk_user(platform) as somebody:
        yield somebody


@pytest.fixture(scope="module")
async def client(user: SdkUser) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with user.anthropic() as opened:
        yield opened


@every_provider
class TestMessages:
    async def test_whole(self, client: anthropic.AsyncAnthropic, provider: str) -> None:
        raw = await client.messages.with_raw_response.create(
            model=routed(provider), max_tokens=1000, system="Be brief.", messages=ASKED
        )

        message = Message.model_validate_json(await raw.text())  # strict, where the SDK is not
        assert "".join(block.text for block in message.content if block.type == "text")
        assert message.stop_reason == "end_turn"
        assert message.usage.input_tokens > 0
        assert message.usage.output_tokens > 0
        assert (raw.headers["x-provider"], raw.headers["x-model"]) == (provider, MODELS[provider])
        assert raw.headers["request-id"] == raw.headers["x-request-id"]

    async def test_streamed(self, client: anthropic.AsyncAnthropic, provider: str) -> None:
        async with client.messages.stream(model=routed(provider), max_tokens=1000, messages=ASKED) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            message = await stream.get_final_message()

        assert text == "".join(block.text for block in message.content if block.type == "text") != ""
        assert message.stop_reason == "end_turn"
        assert message.usage.output_tokens > 0

    async def test_parallel_tools_and_what_follows(self, client: anthropic.AsyncAnthropic, provider: str) -> None:
        messages: list[Any] = [{"role": "user", "content": USE_THE_TOOLS}]
        request: dict[str, Any] = {"model": routed(provider), "max_tokens": 2000, "tools": TOOLS}
        whole = await client.messages.create(messages=messages, **request)
        async with client.messages.stream(messages=messages, **request) as stream:
            assembled = await stream.get_final_message()

        messages_with_calls: tuple[Any, ...] = (whole, assembled)
        for message in messages_with_calls:
            assert message.stop_reason == "tool_use"
            calls = [block for block in message.content if block.type == "tool_use"]
            assert [call.name for call in calls] == ["weather", "time"]
            assert len({call.id for call in calls}) == 2
            assert all(call.input.keys() == {"place"} for call in calls)
            results: list[Any] = [{"type": "tool_result", "tool_use_id": call.id, "content": "Rain."} for call in calls]
            said: list[Any] = [block.model_dump(exclude_none=True) for block in message.content]
            after = await client.messages.create(
                messages=[*messages, {"role": "assistant", "content": said}, {"role": "user", "content": results}],
                **request,
            )
            assert after.stop_reason == "end_turn"

    async def test_vision(self, client: anthropic.AsyncAnthropic, provider: str) -> None:
        source: Any = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        text: Any = {"type": "text", "text": QUESTION}
        seen, unseen = await asyncio.gather(
            *(
                client.messages.create(
                    model=routed(provider), max_tokens=1000, messages=[{"role": "user", "content": content}]
                )
                for content in ([{"type": "image", "source": source}, text], [text])
            )
        )

        assert seen.content
        assert seen.usage.input_tokens > unseen.usage.input_tokens

    async def test_tokens_are_counted(self, client: anthropic.AsyncAnthropic, provider: str) -> None:
        counted = await client.messages.count_tokens(model=routed(provider), messages=ASKED)

        assert counted.input_tokens > 0

    async def test_straight_at_the_provider(self, user: SdkUser, provider: str) -> None:
        async with user.anthropic(f"/{provider}") as direct:
            message = await direct.messages.create(model=MODELS[provider], max_tokens=1000, messages=ASKED)

        assert message.content

    async def test_a_failure_of_the_provider(
        self, user: SdkUser, client: anthropic.AsyncAnthropic, provider: str
    ) -> None:
        async with user.bad_day(provider, status=429, headers={"retry-after": "600"}):
            with pytest.raises(anthropic.RateLimitError) as caught:
                await client.messages.create(model=routed(provider), max_tokens=1000, messages=ASKED, stream=True)

        assert caught.value.type == "rate_limit_error"
        assert caught.value.response.headers["retry-after"] == "600"
        assert caught.value.request_id == caught.value.response.headers["x-request-id"]

    async def test_a_failure_in_mid_stream(
        self, user: SdkUser, client: anthropic.AsyncAnthropic, provider: str
    ) -> None:
        events: list[Any] = []
        async with user.bad_day(provider, chunk_delay_ms=20, chunk_count=6, cut_after_chunks=3):
            stream = aiter(
                await client.messages.create(model=routed(provider), max_tokens=1000, messages=ASKED, stream=True)
            )
            with pytest.raises(anthropic.APIStatusError) as caught:
                await drain(stream, events)

        assert [event for event in events if event.type == "content_block_delta"]
        assert caught.value.type in ("api_error", "overloaded_error")

    async def test_who_hangs_up_ends_the_provider_s_work(
        self, user: SdkUser, client: anthropic.AsyncAnthropic, provider: str
    ) -> None:
        after = await user.last_request(provider)
        async with user.bad_day(provider, chunk_delay_ms=100, chunk_count=500):
            stream = await client.messages.create(model=routed(provider), max_tokens=1000, messages=ASKED, stream=True)
            await within_bound(anext(aiter(stream)))
            await stream.close()
        received = await user.platform.sandbox.wait_started(key=user.keys[provider], after=after)
        closed = await user.platform.sandbox.wait_closed(key=user.keys[provider], request_id=received.id)

        assert closed.ended == "client_closed"


class TestKeys:
    """Older versions of the SDK, and most examples, send the token as `x-api-key`."""

    async def test_the_token_may_come_as_one(self, user: SdkUser) -> None:
        question = {"model": routed("anthropic"), "messages": ASKED}
        body = {**question, "max_tokens": 100}
        headers = {"x-api-key": user.token, "anthropic-version": "2023-06-01"}
        async with httpx.AsyncClient(base_url=user.url, headers=headers, timeout=30) as http:
            answers = [
                await http.post("/v1/messages", json=body),
                await http.post("/v1/messages/count_tokens", json=question),
                await http.get("/v1/models"),
            ]
            elsewhere = await http.post("/v1/chat/completions", json=body)

        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert elsewhere.status_code == 401

    async def test_headers_that_grpc_cannot_carry_are_no_outage(self, user: SdkUser) -> None:
        body = {"model": routed("anthropic"), "messages": ASKED, "max_tokens": 100}
        async with httpx.AsyncClient(base_url=user.url, timeout=30) as http:
            headers = {"authorization": f"Bearer {user.token}", "anthropic-beta": "one,\ttwo"}
            with_tab = await http.post("/v1/messages", json=body, headers=headers)
            headers["anthropic-beta"] = "caf\u00e9"
            unreadable = await http.post("/v1/messages", json=body, headers=httpx.Headers(headers, encoding="utf-8"))

        assert with_tab.status_code == 200, with_tab.text
        (*_, received) = await user.platform.sandbox.requests(key=user.keys["anthropic"])
        assert received.headers["anthropic-beta"] == "one, two"
        assert (unreadable.status_code, unreadable.json()["error"]["type"]) == (400, "invalid_request_error")


class TestErrors:
    async def test_a_token_that_is_none(self, user: SdkUser) -> None:
        async with user.anthropic(api_key="sk-ant-nobody") as stranger:
            with pytest.raises(anthropic.AuthenticationError) as caught:
                await stranger.messages.create(model=routed("openai"), max_tokens=10, messages=ASKED)
        assert caught.value.type == "authentication_error"

    async def test_a_model_there_is_not(self, client: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(anthropic.NotFoundError) as caught:
            await client.messages.create(model="no-such-model-anywhere", max_tokens=10, messages=ASKED)
        assert caught.value.type == "not_found_error"

    @pytest.mark.parametrize("provider", ["openai", "anthropic"])
    async def test_a_request_that_is_wrong(self, client: anthropic.AsyncAnthropic, provider: str) -> None:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await client.messages.create(model=routed(provider), max_tokens=-1, messages=ASKED)
        assert caught.value.type == "invalid_request_error"

    async def test_who_waits_no_longer(self, user: SdkUser, client: anthropic.AsyncAnthropic) -> None:
        async with user.bad_day("openai", delay_ms=20_000):
            with pytest.raises(anthropic.APITimeoutError):
                await client.with_options(timeout=1).messages.create(
                    model=routed("openai"), max_tokens=10, messages=ASKED
                )


class TestModels:
    async def test_every_listed_model_can_be_fetched_by_its_name(self, client: anthropic.AsyncAnthropic) -> None:
        listed = [model async for model in client.models.list()]
        assert {model.id.partition("/")[0] for model in listed} == set(PROVIDERS)
        one = listed[0]
        assert (await client.models.retrieve(one.id)).display_name == one.display_name != ""
