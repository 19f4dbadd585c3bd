"""The sandbox's xAI, judged by OpenAI's SDK, which xAI says to use, and by plain HTTP where that hides the wire.

xAI's own SDK speaks gRPC; its messages are the oracle for the names of what only xAI counts.
"""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from xai_sdk.proto import auth_pb2, models_pb2, usage_pb2  # type: ignore[import-untyped]

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.sandbox_provider.server import running

HELLO: list[Any] = [{"role": "user", "content": "hello, wörld"}]
MODEL = "grok-4.3"
PLAIN = "grok-4-1-fast-non-reasoning"
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with running() as url:
        yield url


@pytest.fixture
def key() -> str:
    return f"xai-sandbox-{uuid4().hex}"


@pytest.fixture
async def control(base_url: str) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(base_url) as client:
        yield client


@pytest.fixture
async def sdk(base_url: str, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{base_url}/grok/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
async def http(base_url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=f"{base_url}/grok/v1", headers=headers) as client:
        yield client


async def chat(sdk: openai.AsyncOpenAI, **options: Any) -> ChatCompletion:
    completion = await sdk.chat.completions.create(**{"model": MODEL, "messages": HELLO, **options})
    assert isinstance(completion, ChatCompletion)
    return completion


async def stream(sdk: openai.AsyncOpenAI, **options: Any) -> list[ChatCompletionChunk]:
    request = {"model": MODEL, "messages": HELLO, "stream": True, **options}
    return [chunk async for chunk in await sdk.chat.completions.create(**request)]


def request(**options: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": HELLO, **options}


class TestAnswer:
    async def test_parses_whole_and_streamed_to_the_same(self, sdk: openai.AsyncOpenAI) -> None:
        whole = (await chat(sdk)).choices[0]
        chunks = await stream(sdk)
        assert "“hello, wörld”" in (whole.message.content or "")
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
        assert (whole.finish_reason, chunks[-1].choices[0].finish_reason) == ("stop", "stop")

    async def test_alias_answers_as_the_model_behind_it(self, sdk: openai.AsyncOpenAI) -> None:
        assert (await chat(sdk, model="grok-code-fast-1")).model == "grok-build-0.1"

    async def test_same_request_gets_the_same_bytes(self, http: httpx.AsyncClient) -> None:
        first, second = [await http.post("/chat/completions", json=request(stream=True)) for _ in range(2)]
        assert first.content == second.content
        assert first.text.endswith("data: [DONE]\n\n")


class TestUsage:
    async def test_reasoning_is_outside_the_completion(self, sdk: openai.AsyncOpenAI) -> None:
        completion = await chat(sdk, reasoning_effort="medium")
        usage = completion.usage
        assert usage is not None
        assert usage.completion_tokens_details is not None
        assert usage.completion_tokens == tokens.count(completion.choices[0].message.content or "")
        assert usage.completion_tokens_details.reasoning_tokens == 64
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens + 64

    async def test_cost_is_in_ticks(self, http: httpx.AsyncClient) -> None:
        usage = (await http.post("/chat/completions", json=request())).json()["usage"]
        # $1.25 and $2.50 a million tokens are 12,500 and 25,000 ticks a token; reasoning costs as the completion does
        thought = usage["completion_tokens_details"]["reasoning_tokens"]
        ticks = usage["prompt_tokens"] * 12_500 + (usage["completion_tokens"] + thought) * 25_000
        assert usage["cost_in_usd_ticks"] == ticks
        assert thought == 16

    async def test_kinds_of_prompt_tokens(self, http: httpx.AsyncClient) -> None:
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}}
        parts = [{"type": "text", "text": "what is this?"}, picture]
        body = request(messages=[{"role": "user", "content": parts}])
        usage = (await http.post("/chat/completions", json=body)).json()["usage"]
        details = {"text_tokens": 9, "audio_tokens": 0, "image_tokens": 85, "cached_tokens": 0}
        assert (usage["prompt_tokens"], usage["prompt_tokens_details"]) == (94, details)

    async def test_names_are_those_of_xais_own_messages(self, http: httpx.AsyncClient) -> None:
        usage = (await http.post("/chat/completions", json=request())).json()["usage"]
        # The gRPC API has the details side by side, REST has OpenAI's nesting; the names of the leaves are the same.
        known = {field.name for field in usage_pb2.SamplingUsage.DESCRIPTOR.fields}
        own = {"reasoning_tokens", "completion_tokens", "prompt_tokens", "total_tokens", "cost_in_usd_ticks"}
        leaves = usage.keys() | usage["completion_tokens_details"].keys()
        assert own <= known & leaves

    async def test_comes_on_a_stream_when_asked_for(self, sdk: openai.AsyncOpenAI) -> None:
        chunks = await stream(sdk, stream_options={"include_usage": True})
        whole = await chat(sdk)
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert whole.usage is not None
        assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
        assert not any(chunk.usage for chunk in await stream(sdk))


class TestReasoning:
    async def test_most_models_do_not_tell_it(self, http: httpx.AsyncClient) -> None:
        answer = (await http.post("/chat/completions", json=request())).json()
        assert "reasoning_content" not in answer["choices"][0]["message"]

    async def test_is_told_in_message_and_deltas(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), reasoning="Thinking... Thinking... "))
        message: Any = (await chat(sdk)).choices[0].message
        deltas: list[Any] = [chunk.choices[0].delta for chunk in await stream(sdk)]
        assert message.reasoning_content == "Thinking... Thinking... "
        told = [delta.reasoning_content for delta in deltas if hasattr(delta, "reasoning_content")]
        assert "".join(told) == message.reasoning_content
        assert len(told) > 1

    async def test_limit_is_for_what_is_seen(self, sdk: openai.AsyncOpenAI) -> None:
        completion = await chat(sdk, max_completion_tokens=3)
        assert completion.choices[0].finish_reason == "length"
        assert completion.usage is not None
        assert completion.usage.completion_tokens == 3

    @pytest.mark.parametrize(
        ("model", "effort", "taken"),
        [
            ("grok-4.6", "xhigh", True),
            ("grok-4.6", "none", False),
            ("grok-4.5", "xhigh", False),
            ("grok-4.3", "none", True),
            ("grok-4.20", "low", False),
            ("grok-4.20-multi-agent", "xhigh", True),
            ("grok-4-1-fast-reasoning", "high", False),
            (PLAIN, "low", False),
            ("grok-3-mini", "high", True),
            ("grok-3-mini", "medium", False),
        ],
    )
    async def test_effort_is_taken_by_some_models_only(
        self, http: httpx.AsyncClient, model: str, effort: str, taken: bool
    ) -> None:
        response = await http.post("/chat/completions", json=request(model=model, reasoning_effort=effort))
        assert response.status_code == (200 if taken else 400)


class TestTools:
    async def test_each_call_comes_whole_in_one_chunk(self, sdk: openai.AsyncOpenAI) -> None:
        whole = (await chat(sdk, tools=[WEATHER, CLOCK], tool_choice="required")).choices[0]
        chunks = await stream(sdk, tools=[WEATHER, CLOCK], tool_choice="required")
        pieces = [chunk.choices[0].delta.tool_calls for chunk in chunks if chunk.choices[0].delta.tool_calls]
        assert [[piece.index for piece in each] for each in pieces] == [[0], [1]]
        calls = [piece for each in pieces for piece in each]
        assert all(call.id and call.type == "function" for call in calls)
        assert [call.function and call.function.arguments for call in calls] == [
            call.function.arguments for call in whole.message.tool_calls or [] if call.type == "function"
        ]
        assert calls[0].function is not None
        assert json.loads(calls[0].function.arguments or "") == {"city": "sandbox city"}
        assert (whole.finish_reason, chunks[-1].choices[0].finish_reason) == ("tool_calls", "tool_calls")


class TestErrors:
    async def test_wrong_key_is_a_400_and_quoted_masked(self, sdk: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            await chat(sdk.with_options(api_key="xai-0123456789abcdef"))
        assert refused.value.response.json()["error"].startswith("Incorrect API key provided: xa***ef.")
        assert "0123456789" not in refused.value.response.text

    async def test_missing_key_is_a_401(self, base_url: str) -> None:
        async with httpx.AsyncClient() as anonymous:
            response = await anonymous.get(f"{base_url}/grok/v1/models")
        assert response.status_code == 401
        assert {type(value) for value in response.json().values()} == {str}

    async def test_unknown_model(self, sdk: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as refused:
            await chat(sdk, model="grok-0")
        assert refused.value.response.json()["error"].startswith("The model grok-0 does not exist or your team")

    @pytest.mark.parametrize("option", [{"presence_penalty": 0}, {"frequency_penalty": 1}, {"stop": ["x"]}])
    async def test_reasoning_model_refuses(self, http: httpx.AsyncClient, option: dict[str, Any]) -> None:
        response = await http.post("/chat/completions", json=request(**option))
        assert (response.status_code, response.json()["code"]) == (400, "Client specified an invalid argument")
        assert "does not support parameter" in response.json()["error"]

    async def test_other_model_takes_stop(self, sdk: openai.AsyncOpenAI) -> None:
        completion = await chat(sdk, model=PLAIN, stop=[" said"])
        assert completion.choices[0].message.content == "You"

    @pytest.mark.parametrize(
        "change",
        [
            {"messages": "hi"},
            {"messages": [{"role": "developer", "content": "hi"}]},
            {"messages": [{"role": "user"}]},
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "no object"}]}]},
            {"model": None},
            {"temperature": "hot"},
            {"top_p": 0},
            {"seed": 2**40},
            {"stop": "not a list"},
            {"tools": [{"type": "function", "function": {"name": "without_parameters"}}]},
            {"response_format": {"type": "xml"}},
        ],
    )
    async def test_misshapen_request_is_a_422_in_plain_text(
        self, http: httpx.AsyncClient, change: dict[str, Any]
    ) -> None:
        response = await http.post("/chat/completions", json=request(**change))
        assert response.status_code == 422
        assert response.text.startswith("Failed to deserialize the JSON body into the target type: ")

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 503])
    async def test_bad_day_is_a_text_and_not_an_object(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str, status: int
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), status=status))
        with pytest.raises(openai.APIStatusError) as refused:
            await chat(sdk)
        assert refused.value.status_code == status
        assert isinstance(refused.value.response.json()["error"], str)

    async def test_error_in_a_stream(self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), error_in_stream_after_chunks=2))
        with pytest.raises(openai.APIError):
            await stream(sdk)

    async def test_unknown_path_and_method(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/nowhere")).status_code == 404
        assert (await http.get("/chat/completions")).status_code == 405


class TestKey:
    async def test_describes_itself_in_the_words_of_xais_messages(self, http: httpx.AsyncClient, key: str) -> None:
        data = (await http.get("/api-key")).json()
        # The gRPC message calls them disabled and api_key_blocked; REST has one prefix for both.
        known = {field.name for field in auth_pb2.ApiKey.DESCRIPTOR.fields} | {"api_key_disabled"}
        assert data.keys() <= known
        assert data["redacted_api_key"] == f"xai-...{key[-4:]}"
        assert (data["team_blocked"], data["api_key_blocked"], data["api_key_disabled"]) == (False, False, False)
        assert "api-key:endpoint:*" in data["acls"]


class TestModels:
    async def test_are_listed(self, sdk: openai.AsyncOpenAI) -> None:
        listed = {model.id async for model in sdk.models.list()}
        assert {"grok-4.6", "grok-4.3", PLAIN} <= listed
        assert (await sdk.models.retrieve("grok-latest")).id == "grok-4.6"

    async def test_have_prices_and_aliases(self, http: httpx.AsyncClient) -> None:
        models = {model["id"]: model for model in (await http.get("/language-models")).json()["models"]}
        assert models["grok-4.6"]["aliases"] == ["grok-latest"]
        assert (await http.get("/language-models/grok-latest")).json() == models["grok-4.6"]
        known = {field.name for field in models_pb2.LanguageModel.DESCRIPTOR.fields}
        assert {"aliases", "version", "created", "prompt_text_token_price", "search_price"} <= known & models[
            "grok-4.6"
        ].keys()
