"""The sandbox's OpenRouter, judged by OpenRouter's own SDK and, where that hides the wire, by plain HTTP."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from openrouter import OpenRouter, errors
from openrouter.components import ChatResult, ChatStreamChunk
from openrouter.operations import ListModelsUserSecurity

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.sandbox_provider.server import running

HELLO: list[Any] = [{"role": "user", "content": "hello, wörld"}]
MODEL = "openai/gpt-6.1-terra"
CLAUDE = "anthropic/claude-sonnet-5.5"
THOUGHT = "First the greeting, then the answer."
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with running() as url:
        yield url


@pytest.fixture
def key() -> str:
    return f"sk-or-sandbox-{uuid4().hex}"


@pytest.fixture
async def control(base_url: str) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(base_url) as client:
        yield client


@pytest.fixture
async def sdk(base_url: str, key: str) -> AsyncIterator[OpenRouter]:
    async with OpenRouter(api_key=key, server_url=f"{base_url}/openrouter/v1", retry_config=None) as client:
        yield client


@pytest.fixture
async def http(base_url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=f"{base_url}/openrouter/v1", headers=headers) as client:
        yield client


async def chat(sdk: OpenRouter, **options: Any) -> ChatResult:
    result = await sdk.chat.send_async(**{"model": MODEL, "messages": HELLO, **options})
    assert isinstance(result, ChatResult)
    return result


async def stream(sdk: OpenRouter, **options: Any) -> list[ChatStreamChunk]:
    async with await sdk.chat.send_async(**{"model": MODEL, "messages": HELLO, "stream": True, **options}) as events:
        return [chunk async for chunk in events]


def streamed_text(chunks: list[ChatStreamChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def request(**options: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": HELLO, **options}


def events(body: str) -> list[dict[str, Any]]:
    data = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


class TestAnswer:
    async def test_parses_whole_and_streamed_to_the_same(self, sdk: OpenRouter) -> None:
        whole, chunks = await chat(sdk), await stream(sdk)
        assert "“hello, wörld”" in str(whole.choices[0].message.content)
        assert streamed_text(chunks) == whole.choices[0].message.content
        assert (whole.choices[0].finish_reason, chunks[-1].choices[0].finish_reason) == ("stop", "stop")

    async def test_names_the_provider_that_answered_and_its_own_finish_reason(self, http: httpx.AsyncClient) -> None:
        answer = (await http.post("/chat/completions", json=request(model=CLAUDE, max_tokens=2))).json()
        assert answer["provider"] == "Anthropic"
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["choices"][0]["native_finish_reason"] == "max_tokens"

    async def test_generation_id_is_in_a_header(self, http: httpx.AsyncClient) -> None:
        for streamed in (False, True):
            response = await http.post("/chat/completions", json=request(stream=streamed))
            assert response.headers["x-generation-id"].startswith("gen-")
            assert response.headers["x-generation-id"] in response.text

    async def test_success_tells_no_rate_limits(self, http: httpx.AsyncClient) -> None:
        response = await http.post("/chat/completions", json=request())
        assert not any(name.startswith("x-ratelimit") for name in response.headers)

    async def test_same_request_gets_the_same_bytes(self, http: httpx.AsyncClient) -> None:
        first, second = [await http.post("/chat/completions", json=request(stream=True)) for _ in range(2)]
        assert first.content == second.content

    async def test_unknown_parameters_are_ignored(self, http: httpx.AsyncClient) -> None:
        response = await http.post("/chat/completions", json=request(no_such_parameter=1, top_k=40))
        assert response.status_code == 200

    async def test_calls_tools(self, sdk: OpenRouter) -> None:
        whole = await chat(sdk, tools=[TOOL], tool_choice="required")
        (call,) = whole.choices[0].message.tool_calls or []
        assert whole.choices[0].finish_reason == "tool_calls"
        assert json.loads(call.function.arguments) == {"city": "sandbox city"}
        chunks = await stream(sdk, tools=[TOOL], tool_choice="required")
        fragments = [each for chunk in chunks for choice in chunk.choices for each in choice.delta.tool_calls or []]
        assert "".join(part.function.arguments or "" for part in fragments if part.function) == call.function.arguments


class TestUsage:
    async def test_counts_and_costs(self, sdk: OpenRouter) -> None:
        usage = (await chat(sdk)).usage
        assert usage is not None
        # 3 a reply, 3 a message, 2 tokens of text; at $2 and $10 a million tokens
        assert usage.prompt_tokens == 8
        assert usage.total_tokens == 8 + usage.completion_tokens
        assert usage.cost == pytest.approx(8 * 2e-6 + usage.completion_tokens * 1e-5)
        assert usage.cost_details is not None

    async def test_comes_last_on_every_stream_and_repeats_the_finish_reason(self, sdk: OpenRouter) -> None:
        chunks = await stream(sdk)
        whole = await chat(sdk)
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        last = chunks[-1]
        assert last.usage is not None
        assert whole.usage is not None
        assert last.usage.completion_tokens == whole.usage.completion_tokens
        assert (last.choices[0].delta.content, last.choices[0].finish_reason) == ("", "stop")
        assert chunks[-2].choices[0].finish_reason == "stop"


class TestReasoning:
    async def test_is_told_only_when_asked_for(self, sdk: OpenRouter) -> None:
        quiet, thinking = await chat(sdk), await chat(sdk, reasoning={"effort": "low"})
        assert not quiet.choices[0].message.reasoning
        assert thinking.choices[0].message.reasoning
        assert thinking.usage is not None
        details = thinking.usage.completion_tokens_details
        assert details
        assert details.reasoning_tokens == 16

    async def test_is_part_of_the_completion(self, sdk: OpenRouter) -> None:
        thinking = await chat(sdk, reasoning={"effort": "low"})
        assert thinking.usage is not None
        assert thinking.usage.completion_tokens == 16 + tokens.count(str(thinking.choices[0].message.content))

    @pytest.mark.parametrize("model", [MODEL, CLAUDE, "deepseek/deepseek-v4.1-flash", "google/gemini-3.8-flash"])
    async def test_details_come_in_fragments_by_index(
        self, http: httpx.AsyncClient, control: SandboxControl, key: str, model: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), reasoning=THOUGHT))
        whole = (await http.post("/chat/completions", json=request(model=model))).json()
        streamed = await http.post("/chat/completions", json=request(model=model, stream=True))
        deltas = [choice["delta"] for event in events(streamed.text) for choice in event["choices"]]
        assert "".join(delta.get("reasoning") or "" for delta in deltas) == THOUGHT
        merged: dict[int, dict[str, Any]] = {}
        for fragment in (detail for delta in deltas for detail in delta.get("reasoning_details") or ()):
            known = merged.setdefault(fragment["index"], {})
            for name, value in fragment.items():
                known[name] = known[name] + value if name in ("text", "summary") and name in known else value
        assert list(merged.values()) == whole["choices"][0]["message"]["reasoning_details"]

    async def test_sdk_reads_the_details(self, sdk: OpenRouter) -> None:
        chunks = await stream(sdk, model=CLAUDE, reasoning={"effort": "high"})
        details = [each for chunk in chunks for each in chunk.choices[0].delta.reasoning_details or []]
        assert {detail.type for detail in details} == {"reasoning.text"}
        assert len(details) > 2

    async def test_signed_thought_must_come_back_as_it_was(self, sdk: OpenRouter) -> None:
        asked = await chat(sdk, model=CLAUDE, reasoning={"effort": "low"}, tools=[TOOL], tool_choice="required")
        said = asked.choices[0].message.model_dump(mode="json", exclude_none=True)
        called = said["tool_calls"][0]["id"]
        turns = [*HELLO, said, {"role": "tool", "tool_call_id": called, "content": "sunny"}]
        assert "sunny" in str((await chat(sdk, model=CLAUDE, messages=turns)).choices[0].message.content)
        said["reasoning_details"][0]["text"] += " And more."
        with pytest.raises(errors.BadRequestResponseError):
            await chat(sdk, model=CLAUDE, messages=turns)


class TestWaiting:
    async def test_comments_come_before_the_first_chunk(
        self, http: httpx.AsyncClient, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), first_chunk_delay_ms=450))
        text = (await http.post("/chat/completions", json=request(stream=True))).text
        assert text.startswith(": OPENROUTER PROCESSING\n\n" * 3 + "data: {")
        assert text.count("OPENROUTER PROCESSING") == 3


class TestErrors:
    async def test_error_in_mid_stream(self, sdk: OpenRouter, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), error_in_stream_after_chunks=1))
        chunks = await stream(sdk)
        error = chunks[-1].error
        assert error is not None
        assert error.code == 502
        assert error.metadata is not None
        assert error.metadata.error_type == "provider_unavailable"
        assert chunks[-1].choices[0].finish_reason == "error"

    async def test_error_in_a_200(self, http: httpx.AsyncClient, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), error_in_body=True))
        response = await http.post("/chat/completions", json=request())
        assert response.status_code == 200
        assert response.json()["error"]["code"] == 500

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (401, errors.UnauthorizedResponseError),
            (402, errors.PaymentRequiredResponseError),
            (403, errors.ForbiddenResponseError),
            (404, errors.NotFoundResponseError),
            (429, errors.TooManyRequestsResponseError),
            (500, errors.InternalServerResponseError),
            (502, errors.BadGatewayResponseError),
            (503, errors.ServiceUnavailableResponseError),
        ],
    )
    async def test_bad_day_parses(
        self, sdk: OpenRouter, control: SandboxControl, key: str, status: int, error: type[Exception]
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), status=status, headers={"retry-after": "7"}))
        with pytest.raises(error) as refused:
            await chat(sdk)
        assert refused.value.headers["retry-after"] == "7"  # type: ignore[attr-defined] # of all the SDK's errors

    async def test_moderation_tells_its_reasons(self, sdk: OpenRouter, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), block_prompt=True))
        for streamed in (False, True):
            with pytest.raises(errors.ForbiddenResponseError) as refused:
                await (stream if streamed else chat)(sdk)
        assert (refused.value.data.error.metadata or {})["reasons"] == ["violence"]

    async def test_passing_failure_says_that_it_is(
        self, http: httpx.AsyncClient, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), status=429))
        response = await http.post("/chat/completions", json=request())
        assert response.json()["error"]["availability"] == {"retryable": True}

    async def test_wrong_key(self, base_url: str) -> None:
        url = f"{base_url}/openrouter/v1"
        async with OpenRouter(api_key="sk-or-v1-0", server_url=url, retry_config=None) as stranger:
            with pytest.raises(errors.UnauthorizedResponseError, match=r"User not found\."):
                await chat(stranger)

    async def test_missing_key(self, base_url: str) -> None:
        async with httpx.AsyncClient(base_url=f"{base_url}/openrouter/v1") as anonymous:
            for path in ("/key", "/chat/completions"):
                response = await anonymous.get(path)
                assert (response.status_code, response.json()["error"]["code"]) == (401, 401)

    @pytest.mark.parametrize(
        "change",
        [
            {"messages": []},
            {"model": "openai/gpt-0"},
            {"messages": [{"role": "robot", "content": "hi"}]},
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "no object"}]}]},
            {"messages": [*HELLO, {"role": "tool", "tool_call_id": "call_0", "content": "of no call"}]},
            {"temperature": 3},
            {"stop": ["a", "b", "c", "d", "e"]},
            {"reasoning": {"effort": "colossal"}},
            {"reasoning": {"effort": "low"}, "reasoning_effort": "high"},
            {"response_format": {"type": "json_schema"}},
            {"tools": [{"type": "function", "function": {}}]},
        ],
    )
    async def test_invalid_request(self, http: httpx.AsyncClient, change: dict[str, Any]) -> None:
        response = await http.post("/chat/completions", json=request(**change))
        assert (response.status_code, response.json()["error"]["code"]) == (400, 400)


class TestKey:
    @pytest.mark.filterwarnings("ignore:.*DEPRECATED:DeprecationWarning")  # of `rate_limit`, which every key has
    async def test_describes_itself(self, sdk: OpenRouter, key: str) -> None:
        data = (await sdk.api_keys.get_current_key_metadata_async()).data
        assert data.label.endswith(key[-3:])
        assert key not in data.label
        assert (data.limit, data.limit_remaining, data.usage, data.is_free_tier) == (100, 99.5, 0.5, False)


class TestModels:
    async def test_are_public(self, base_url: str) -> None:
        async with httpx.AsyncClient() as anonymous:
            response = await anonymous.get(f"{base_url}/openrouter/v1/models")
        assert response.status_code == 200

    async def test_of_a_key_are_not(self, sdk: OpenRouter, key: str, base_url: str) -> None:
        own = await sdk.models.list_for_user_async(security=ListModelsUserSecurity(bearer=key))
        assert own is not None
        assert MODEL in {model.id for model in own.result.data}
        async with httpx.AsyncClient() as anonymous:
            response = await anonymous.get(f"{base_url}/openrouter/v1/models/user")
        assert response.status_code == 401

    async def test_parse(self, sdk: OpenRouter) -> None:
        listed = await sdk.models.list_async()
        assert listed is not None
        models = {model.id: model for model in listed.result.data}
        assert models[MODEL].context_length == 1_050_000
        assert all("/" in name for name in models)
