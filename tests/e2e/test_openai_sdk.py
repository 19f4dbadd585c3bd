"""OpenAI's own SDK for Python as a client, with only its address and key changed, against every provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tests.e2e.conftest import Platform
from tests.e2e.people import api_token
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
    {"type": "function", "function": {"name": name, "description": f"Tells the {name}.", "parameters": PLACE}}
    for name in ("weather", "time")
]
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
every_provider = pytest.mark.parametrize("provider", PROVIDERS)


class Weather(BaseModel):
    """What a structured answer is to be."""

    place: str
    degrees: int
    dry: bool


@pytest.fixture(scope="module")
async def user(platform: Platform) -> AsyncIterator[SdkUser]:
    async with sdk_user(platform) as somebody:
        yield somebody


@pytest.fixture(scope="module")
async def client(user: SdkUser) -> AsyncIterator[openai.AsyncOpenAI]:
    async with user.openai() as opened:
        yield opened


@every_provider
class TestChat:
    async def test_whole(self, client: openai.AsyncOpenAI, provider: str) -> None:
        raw = await client.chat.completions.with_raw_response.create(model=routed(provider), messages=ASKED)

        completion = ChatCompletion.model_validate_json(raw.text)  # strict, where the SDK is not
        (choice,) = completion.choices
        assert choice.message.content
        assert choice.finish_reason == "stop"
        usage = completion.usage
        assert usage is not None
        assert usage.completion_tokens > 0
        assert usage.total_tokens >= usage.prompt_tokens + usage.completion_tokens
        assert raw.headers["content-type"] == "application/json"
        assert (raw.headers["x-provider"], raw.headers["x-model"]) == (provider, MODELS[provider])
        assert "x-failed-attempts" not in raw.headers

    async def test_streamed(self, client: openai.AsyncOpenAI, provider: str) -> None:
        chunks = [
            ChatCompletionChunk.model_validate(chunk.to_dict())
            async for chunk in await client.chat.completions.create(
                model=routed(provider), messages=ASKED, stream=True, stream_options={"include_usage": True}
            )
        ]

        assert len({chunk.id for chunk in chunks}) == 1
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
        assert set(reasons) == {"stop"}
        assert (chunks[-1].choices == []) is (provider != "openrouter")  # which says it all at once
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens > 0

    async def test_streamed_without_asking_for_usage(self, client: openai.AsyncOpenAI, provider: str) -> None:
        stream = await client.chat.completions.create(model=routed(provider), messages=ASKED, stream=True)
        chunks = [chunk async for chunk in stream]

        assert all(chunk.choices for chunk in chunks)
        # OpenRouter says it always, with whatever comes last.
        assert provider == "openrouter" or not any(chunk.usage for chunk in chunks)

    async def test_parallel_tools_and_what_follows(self, client: openai.AsyncOpenAI, provider: str) -> None:
        messages: list[Any] = [{"role": "user", "content": USE_THE_TOOLS}]
        whole = await client.chat.completions.create(model=routed(provider), messages=messages, tools=TOOLS)
        async with client.chat.completions.stream(model=routed(provider), messages=messages, tools=TOOLS) as stream:
            assembled = await stream.get_final_completion()

        for completion in (whole, assembled):
            (choice,) = completion.choices
            assert choice.finish_reason == "tool_calls"
            calls = choice.message.tool_calls or []
            assert [call.function.name for call in calls if call.type == "function"] == ["weather", "time"]
            assert len({call.id for call in calls}) == 2
            for call in calls:
                assert call.type == "function"
                assert json.loads(call.function.arguments).keys() == {"place"}
            answers: list[Any] = [{"role": "tool", "tool_call_id": call.id, "content": "Rain."} for call in calls]
            said: Any = choice.message.model_dump(exclude_none=True, exclude={"parsed"})
            # Grok and OpenRouter say it with every piece, and the SDK puts the pieces together.
            said["role"] = "assistant"
            for call in said["tool_calls"]:
                call["function"].pop("parsed_arguments", None)
            after = await client.chat.completions.create(
                model=routed(provider), messages=[*messages, said, *answers], tools=TOOLS
            )
            assert after.choices[0].finish_reason == "stop"

    async def test_vision(self, client: openai.AsyncOpenAI, provider: str) -> None:
        picture: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
        text: Any = {"type": "text", "text": QUESTION}
        seen, unseen = await asyncio.gather(
            *(
                client.chat.completions.create(model=routed(provider), messages=[{"role": "user", "content": content}])
                for content in ([text, picture], [text])
            )
        )

        assert seen.choices[0].message.content
        assert seen.usage is not None
        assert unseen.usage is not None
        assert seen.usage.prompt_tokens > unseen.usage.prompt_tokens

    async def test_json_schema(self, client: openai.AsyncOpenAI, provider: str) -> None:
        completion = await client.chat.completions.parse(
            model=routed(provider), messages=ASKED, response_format=Weather
        )

        assert isinstance(completion.choices[0].message.parsed, Weather)

    async def test_straight_at_the_provider(self, user: SdkUser, provider: str) -> None:
        async with user.openai(f"/{provider}/v1") as direct:
            completion = await direct.chat.completions.create(model=MODELS[provider], messages=ASKED)

        assert completion.choices[0].message.content

    async def test_a_failure_of_the_provider(self, user: SdkUser, client: openai.AsyncOpenAI, provider: str) -> None:
        async with user.bad_day(provider, status=429, headers={"retry-after": "600"}):
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model=routed(provider), messages=ASKED, stream=True)

        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.response.headers["retry-after"] == "600"
        assert caught.value.request_id == caught.value.response.headers["x-request-id"]

    async def test_a_failure_in_mid_stream(self, user: SdkUser, client: openai.AsyncOpenAI, provider: str) -> None:
        chunks: list[ChatCompletionChunk] = []
        async with user.bad_day(provider, chunk_delay_ms=20, chunk_count=6, cut_after_chunks=3):
            stream = aiter(await client.chat.completions.create(model=routed(provider), messages=ASKED, stream=True))
            with pytest.raises(openai.APIError) as caught:
                await drain(stream, chunks)

        assert chunks
        assert caught.value.code == "incomplete_response"

    async def test_who_hangs_up_ends_the_provider_s_work(
        self, user: SdkUser, client: openai.AsyncOpenAI, provider: str
    ) -> None:
        after = await user.last_request(provider)
        async with user.bad_day(provider, chunk_delay_ms=100, chunk_count=500):
            stream = await client.chat.completions.create(model=routed(provider), messages=ASKED, stream=True)
            await within_bound(anext(aiter(stream)))
            await stream.close()
        received = await user.platform.sandbox.wait_started(key=user.keys[provider], after=after)
        closed = await user.platform.sandbox.wait_closed(key=user.keys[provider], request_id=received.id)

        assert closed.ended == "client_closed"

    async def test_who_waits_no_longer(self, user: SdkUser, client: openai.AsyncOpenAI, provider: str) -> None:
        after = await user.last_request(provider)
        async with user.bad_day(provider, delay_ms=20_000):
            asking = asyncio.create_task(
                client.with_options(timeout=1).chat.completions.create(model=routed(provider), messages=ASKED)
            )
            received = await user.platform.sandbox.wait_started(key=user.keys[provider], after=after)
            with pytest.raises(openai.APITimeoutError):
                await asking
            closed = await user.platform.sandbox.wait_closed(key=user.keys[provider], request_id=received.id)

        assert closed.ended == "client_closed"


class TestErrors:
    async def test_a_token_that_is_none(self, user: SdkUser) -> None:
        async with user.openai(api_key="sk-nobody") as stranger:
            with pytest.raises(openai.AuthenticationError) as caught:
                await stranger.chat.completions.create(model=routed("openai"), messages=ASKED)
        assert caught.value.code == "invalid_api_key"

    async def test_a_token_for_something_else(self, platform: Platform) -> None:
        async with platform.person(with_key=False) as person:
            token = await api_token(person.http, "analytics:read")
            async with openai.AsyncOpenAI(base_url=f"{platform.stack.base_url}/v1", api_key=token) as other:
                with pytest.raises(openai.PermissionDeniedError) as caught:
                    await other.chat.completions.create(model=routed("openai"), messages=ASKED)
        assert caught.value.code == "insufficient_scope"

    @pytest.mark.parametrize("model", ["no-such-model-anywhere", "nobody/gpt-4o"])
    async def test_a_model_there_is_not(self, client: openai.AsyncOpenAI, model: str) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model=model, messages=ASKED)
        assert caught.value.code == "model_not_found"

    async def test_no_key_of_the_provider(self, platform: Platform) -> None:
        async with platform.person(with_key=False) as person:
            token = await api_token(person.http, "chat")
            async with openai.AsyncOpenAI(base_url=f"{platform.stack.base_url}/v1", api_key=token) as poor:
                with pytest.raises(openai.BadRequestError) as caught:
                    await poor.chat.completions.create(model=routed("grok"), messages=ASKED)
        assert caught.value.code == "provider_not_configured"

    @pytest.mark.parametrize("provider", ["openai", "anthropic"])
    async def test_a_request_that_is_wrong(self, client: openai.AsyncOpenAI, provider: str) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model=routed(provider), messages=ASKED, temperature=-7)
        assert caught.value.type == "invalid_request_error"

    async def test_a_provider_that_is_down(self, user: SdkUser, client: openai.AsyncOpenAI) -> None:
        async with user.bad_day("anthropic", status=503):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(model=routed("anthropic"), messages=ASKED)
        assert (caught.value.status_code, caught.value.code) == (503, "provider_unavailable")

    async def test_what_cannot_pass_is_not_tried_again(self, user: SdkUser) -> None:
        after = await user.last_request("openai")
        body = {"error": {"message": "Pay.", "type": "insufficient_quota", "code": "insufficient_quota", "param": None}}
        async with user.bad_day("openai", status=429, body=body), user.openai(max_retries=2) as patient:
            with pytest.raises(openai.RateLimitError) as caught:
                await patient.chat.completions.create(model=routed("openai"), messages=ASKED)
        assert caught.value.code == "insufficient_quota"
        received = await user.platform.sandbox.requests(key=user.keys["openai"], after=after)
        assert len(received) == 1


class TestEmbeddings:
    @pytest.mark.parametrize(
        "model",
        ["openai/text-embedding-3-small", "google-ai/gemini-embedding-001", "openrouter/openai/text-embedding-3-small"],
    )
    async def test_of_several_texts(self, client: openai.AsyncOpenAI, model: str) -> None:
        raw = await client.embeddings.with_raw_response.create(
            model=model, input=["one", "two"], encoding_format="float"
        )
        CreateEmbeddingResponse.model_validate_json(raw.text)
        in_base64 = await client.embeddings.create(model=model, input=["one", "two"])  # what the SDK asks for by itself

        for found in (raw.parse(), in_base64):
            assert [each.index for each in found.data] == [0, 1]
            assert all(isinstance(number, float) for each in found.data for number in each.embedding)

    async def test_a_provider_without(self, client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.embeddings.create(model=routed("anthropic"), input="one")
        assert caught.value.code == "embeddings_not_supported"


class TestModels:
    async def test_every_listed_model_can_be_fetched_by_its_name(self, client: openai.AsyncOpenAI) -> None:
        listed = [model async for model in client.models.list()]
        assert {model.id.partition("/")[0] for model in listed} == set(PROVIDERS)

        for provider in PROVIDERS:
            one = next(model for model in listed if model.id.startswith(f"{provider}/"))
            assert (await client.models.retrieve(one.id)).id == one.id

    async def test_one_there_is_not(self, client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("openai/no-such-model")
        assert caught.value.code == "model_not_found"
