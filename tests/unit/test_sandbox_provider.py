"""The sandbox provider, judged by OpenAI's own SDK and, where that hides the wire, by plain HTTP."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.sandbox_provider.server import running

HELLO: list[Any] = [{"role": "user", "content": "hello, wörld"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
            "required": ["city"],
        },
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}
FOREVER_MS = 60_000


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with running() as url:
        yield url


@pytest.fixture
def key() -> str:
    return f"sk-sandbox-{uuid4().hex}"


@pytest.fixture
async def control(base_url: str) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(base_url) as client:
        yield client


@pytest.fixture
async def sdk(base_url: str, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{base_url}/openai/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
async def http(base_url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=f"{base_url}/openai/v1", headers=headers) as client:
        yield client


async def chat(sdk: openai.AsyncOpenAI, **options: Any) -> ChatCompletion:
    completion = await sdk.chat.completions.create(**{"model": "gpt-4o", "messages": HELLO, **options})
    assert isinstance(completion, ChatCompletion)
    return completion


async def stream(sdk: openai.AsyncOpenAI, **options: Any) -> list[ChatCompletionChunk]:
    request = {"model": "gpt-4o", "messages": HELLO, "stream": True, **options}
    return [chunk async for chunk in await sdk.chat.completions.create(**request)]


def streamed_text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def streaming(key: str | None = None) -> dict[str, Any]:
    request: dict[str, Any] = {"model": "gpt-4o", "messages": HELLO, "stream": True}
    return {"json": request} if key is None else {"json": request, "headers": {"authorization": f"Bearer {key}"}}


class TestAnswer:
    async def test_quotes_the_last_user_message(self, sdk: openai.AsyncOpenAI) -> None:
        completion = await chat(sdk)
        assert "“hello, wörld”" in (completion.choices[0].message.content or "")
        assert completion.choices[0].finish_reason == "stop"

    async def test_same_request_gets_the_same_bytes(self, http: httpx.AsyncClient) -> None:
        request = {"model": "gpt-4o", "messages": HELLO}
        first, second = [await http.post("/chat/completions", json=request) for _ in range(2)]
        assert first.content == second.content

    async def test_names_the_snapshot_that_answered(self, sdk: openai.AsyncOpenAI) -> None:
        assert (await chat(sdk, model="gpt-4o-mini")).model == "gpt-4o-mini-2024-07-18"

    async def test_usage_counts_by_the_documented_rule(self, sdk: openai.AsyncOpenAI) -> None:
        completion = await chat(sdk)
        usage = completion.usage
        assert usage is not None
        assert usage.prompt_tokens == 3 + 3 + tokens.count("hello, wörld")
        assert usage.completion_tokens == tokens.count(completion.choices[0].message.content or "")
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

    @pytest.mark.parametrize("option", ["max_tokens", "max_completion_tokens"])
    async def test_token_limit_cuts_the_answer(self, sdk: openai.AsyncOpenAI, option: str) -> None:
        completion = await chat(sdk, **{option: 4})
        assert completion.choices[0].finish_reason == "length"
        assert completion.usage is not None
        assert completion.usage.completion_tokens == 4
        assert tokens.count(completion.choices[0].message.content or "") == 4

    @pytest.mark.parametrize("stop", [" said", ["nowhere", " said"]])
    async def test_ends_before_a_stop_sequence(self, sdk: openai.AsyncOpenAI, stop: Any) -> None:
        completion = await chat(sdk, stop=stop)
        assert completion.choices[0].message.content == "You"
        assert completion.choices[0].finish_reason == "stop"

    async def test_accepts_images(self, sdk: openai.AsyncOpenAI) -> None:
        parts = [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]
        completion = await chat(sdk, messages=[{"role": "user", "content": parts}])
        assert "“what is this?”" in (completion.choices[0].message.content or "")
        assert completion.usage is not None
        assert completion.usage.prompt_tokens == 3 + 3 + 3 + 85

    async def test_lists_its_models(self, sdk: openai.AsyncOpenAI) -> None:
        models = {model.id async for model in sdk.models.list()}
        assert {"gpt-4o", "gpt-4o-2024-08-06", "gpt-5", "o3"} <= models
        assert (await sdk.models.retrieve("gpt-4o")).id == "gpt-4o"


class TestReasoningModel:
    async def test_reasoning_is_part_of_the_completion(self, sdk: openai.AsyncOpenAI) -> None:
        completion = await chat(sdk, model="gpt-5", reasoning_effort="low")
        usage = completion.usage
        assert usage is not None
        assert usage.completion_tokens_details is not None
        assert usage.completion_tokens_details.reasoning_tokens == 16
        text = completion.choices[0].message.content or ""
        assert usage.completion_tokens == 16 + tokens.count(text)

    async def test_reasoning_can_use_up_the_limit(self, sdk: openai.AsyncOpenAI) -> None:
        completion = await chat(sdk, model="o3", max_completion_tokens=10)
        assert completion.choices[0].message.content == ""
        assert completion.choices[0].finish_reason == "length"

    @pytest.mark.parametrize(
        ("option", "code", "words"),
        [
            ({"max_tokens": 10}, "unsupported_parameter", "Use 'max_completion_tokens' instead."),
            ({"temperature": 0.2}, "unsupported_value", "'temperature' does not support 0.2"),
        ],
    )
    async def test_refuses_what_only_other_models_take(
        self, sdk: openai.AsyncOpenAI, option: dict[str, Any], code: str, words: str
    ) -> None:
        with pytest.raises(openai.BadRequestError, match=words) as refused:
            await chat(sdk, model="o4-mini", **option)
        assert (refused.value.code, refused.value.param) == (code, next(iter(option)))


class TestStream:
    async def test_says_the_same_as_the_whole_answer(self, sdk: openai.AsyncOpenAI) -> None:
        chunks = await stream(sdk)
        assert streamed_text(chunks) == (await chat(sdk)).choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"

    async def test_usage_comes_last_and_only_when_asked_for(self, sdk: openai.AsyncOpenAI) -> None:
        chunks = await stream(sdk, stream_options={"include_usage": True})
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == len(chunks) - 3 == tokens.count(streamed_text(chunks))
        assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])
        assert not any("usage" in chunk.model_fields_set for chunk in await stream(sdk))

    async def test_ends_with_done(self, http: httpx.AsyncClient) -> None:
        response = await http.post("/chat/completions", **streaming())
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.text.endswith("}\n\ndata: [DONE]\n\n")

    async def test_obfuscation_can_be_turned_off(self, sdk: openai.AsyncOpenAI) -> None:
        assert "obfuscation" in (await stream(sdk))[1].model_fields_set
        plain = await stream(sdk, stream_options={"include_obfuscation": False})
        assert "obfuscation" not in plain[1].model_fields_set


class TestTools:
    async def test_required_tools_are_all_called(self, sdk: openai.AsyncOpenAI) -> None:
        completion = await chat(sdk, tools=[WEATHER, CLOCK], tool_choice="required")
        choice = completion.choices[0]
        calls: list[Any] = choice.message.tool_calls or []
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        assert [call.function.name for call in calls] == ["get_weather", "get_time"]
        assert json.loads(calls[0].function.arguments) == {"city": "sandbox city", "days": 2}
        assert len({call.id for call in calls}) == 2

    async def test_named_function_is_called_alone(self, sdk: openai.AsyncOpenAI) -> None:
        choice = {"type": "function", "function": {"name": "get_time"}}
        completion = await chat(sdk, tools=[WEATHER, CLOCK], tool_choice=choice)
        calls: list[Any] = completion.choices[0].message.tool_calls or []
        assert [call.function.name for call in calls] == ["get_time"]

    async def test_user_can_ask_for_the_tool_and_gets_an_answer_from_its_result(self, sdk: openai.AsyncOpenAI) -> None:
        messages: list[Any] = [{"role": "user", "content": "Please use the tool."}]
        options: dict[str, Any] = {"tools": [WEATHER, CLOCK], "parallel_tool_calls": False}
        asked = (await chat(sdk, messages=messages, **options)).choices[0].message
        assert asked.tool_calls is not None
        (call,) = asked.tool_calls
        messages += [
            asked.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ]
        told = (await chat(sdk, messages=messages, **options)).choices[0]
        assert told.finish_reason == "stop"
        assert "sunny" in (told.message.content or "")

    async def test_streamed_calls_come_in_fragments_by_index(self, sdk: openai.AsyncOpenAI) -> None:
        chunks = await stream(sdk, tools=[WEATHER, CLOCK], tool_choice="required")
        fragments = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
        first = [fragment for fragment in fragments if fragment.index == 0]
        assert first[0].id
        assert first[0].function is not None
        assert first[0].function.name == "get_weather"
        assert [(later.id, later.function and later.function.name) for later in first[1:]] == [(None, None)] * (
            len(first) - 1
        )
        arguments = "".join(part.function.arguments or "" for part in first if part.function)
        assert json.loads(arguments) == {"city": "sandbox city", "days": 2}
        assert {fragment.index for fragment in fragments} == {0, 1}
        assert chunks[-1].choices[0].finish_reason == "tool_calls"

    async def test_sdk_assembles_the_same_calls(self, sdk: openai.AsyncOpenAI) -> None:
        request: Any = {
            "model": "gpt-4o",
            "messages": HELLO,
            "tools": [WEATHER, CLOCK],
            "tool_choice": "required",
        }
        async with sdk.chat.completions.stream(**request) as events:
            assembled = (await events.get_final_completion()).choices[0].message
        whole = (await chat(sdk, **request)).choices[0].message
        assert [call.function.arguments for call in assembled.tool_calls or []] == [
            call.function.arguments for call in whole.tool_calls or [] if call.type == "function"
        ]


class Step(BaseModel):
    text: str
    next: "Step | None"


class Plan(BaseModel):
    title: str
    steps: list[Step]
    share: float
    done: bool


class TestStructuredOutput:
    async def test_fits_the_schema(self, sdk: openai.AsyncOpenAI) -> None:
        completion = await sdk.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Plan)
        assert completion.choices[0].message.parsed is not None
        assert completion.choices[0].message.parsed.title == "sandbox title"

    async def test_json_object_is_json(self, sdk: openai.AsyncOpenAI) -> None:
        messages = [{"role": "user", "content": "answer in JSON"}]
        completion = await chat(sdk, messages=messages, response_format={"type": "json_object"})
        assert isinstance(json.loads(completion.choices[0].message.content or ""), dict)


class TestRefusal:
    async def test_wrong_key_is_quoted_masked(self, sdk: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.AuthenticationError) as refused:
            await chat(sdk.with_options(api_key="sk-proj-0123456789abcdef"))
        assert refused.value.code == "invalid_api_key"
        assert "sk-proj-************cdef." in str(refused.value)
        assert "0123456789" not in str(refused.value)

    async def test_missing_key(self, base_url: str) -> None:
        async with httpx.AsyncClient() as anonymous:
            response = await anonymous.get(f"{base_url}/openai/v1/models")
        assert response.status_code == 401
        assert response.json()["error"]["message"].startswith("You didn't provide an API key.")

    async def test_unknown_model(self, sdk: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="The model `unknown-1` does not exist") as refused:
            await chat(sdk, model="unknown-1")
        assert refused.value.code == "model_not_found"

    @pytest.mark.parametrize(
        ("change", "param", "code"),
        [
            ({"messages": []}, "messages", "empty_array"),
            ({"messages": "hi"}, "messages", "invalid_type"),
            ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role", "invalid_value"),
            ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
            ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_type"),
            (
                {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
                "messages[0].content[0].type",
                "invalid_value",
            ),
            (
                {"messages": [{"role": "tool", "content": "1", "tool_call_id": "x"}]},
                "messages.[0].role",
                None,
            ),
            ({"temperature": 3}, "temperature", "decimal_above_max_value"),
            ({"temperature": "hot"}, "temperature", "invalid_type"),
            ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
            ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
            ({"n": 2}, "n", "integer_above_max_value"),
            ({"stream_options": {"include_usage": True}}, "stream_options", None),
            ({"tool_choice": "required"}, "tool_choice", None),
            ({"response_format": {"type": "json_object"}}, "messages", None),
            ({"no_such_parameter": 1}, "no_such_parameter", "unknown_parameter"),
        ],
    )
    async def test_invalid_request_names_the_parameter(
        self, http: httpx.AsyncClient, change: dict[str, Any], param: str, code: str | None
    ) -> None:
        request = {"model": "gpt-4o", "messages": HELLO, **change}
        response = await http.post("/chat/completions", json=request)
        error = response.json()["error"]
        assert response.status_code == 400
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)

    async def test_broken_json(self, http: httpx.AsyncClient) -> None:
        response = await http.post("/chat/completions", content="{")
        assert response.status_code == 400
        assert "We could not parse the JSON body" in response.json()["error"]["message"]

    async def test_unknown_path_and_method(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/nowhere")).status_code == 404
        assert (await http.get("/chat/completions")).status_code == 405


class TestBadDay:
    async def test_status_comes_with_the_providers_words(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), status=429, headers={"retry-after": "2"}))
        with pytest.raises(openai.RateLimitError) as refused:
            await chat(sdk)
        assert refused.value.code == "rate_limit_exceeded"
        assert refused.value.response.headers["retry-after"] == "2"

    async def test_lasts_as_often_as_told_for_whom_it_matches(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key, model="gpt-4.1"), times=1, status=500))
        await chat(sdk, model="gpt-4o")
        await chat(sdk.with_options(api_key="sk-sandbox-other"), model="gpt-4.1")
        with pytest.raises(openai.InternalServerError):
            await chat(sdk, model="gpt-4.1")
        await chat(sdk, model="gpt-4.1")

    @pytest.mark.parametrize("body", [{"error": {"code": "insufficient_quota"}}, "<html>bad gateway</html>"])
    async def test_body_is_given_as_it_is(
        self, http: httpx.AsyncClient, control: SandboxControl, key: str, body: Any
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), status=502, body=body))
        response = await http.get("/models")
        assert response.status_code == 502
        assert (response.text if isinstance(body, str) else response.json()) == body

    async def test_error_in_a_200(self, http: httpx.AsyncClient, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), error_in_body=True))
        response = await http.post("/chat/completions", **streaming())
        assert response.status_code == 200
        assert response.json()["error"]["type"] == "server_error"

    async def test_content_and_its_chunks_are_as_told(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), content="abcdefg", chunk_count=3))
        chunks = await stream(sdk)
        assert [chunk.choices[0].delta.content for chunk in chunks[1:-1]] == ["ab", "cd", "efg"]

    async def test_answer_is_made_as_long_as_told(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), chunk_count=100))
        chunks = await stream(sdk, stream_options={"include_usage": True})
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 100 == len(chunks) - 3

    async def test_usage_finish_reason_and_fields_are_as_told(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        behaviour = Behaviour(
            match=Match(key=key),
            usage={"prompt_tokens": 7},
            finish_reason="content_filter",
            extra_fields={"novelty": 1},
        )
        await control.behave(behaviour)
        completion = await chat(sdk)
        assert completion.usage is not None
        assert completion.usage.prompt_tokens == 7
        assert completion.choices[0].finish_reason == "content_filter"
        assert completion.model_dump()["novelty"] == 1

    async def test_usage_can_be_missing(self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), omit_usage=True))
        assert (await chat(sdk)).usage is None
        assert (await stream(sdk, stream_options={"include_usage": True}))[-1].choices

    async def test_error_event_in_a_stream(self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), error_in_stream_after_chunks=2))
        with pytest.raises(openai.APIError, match="The server had an error"):
            await stream(sdk)
        assert (await control.wait_closed(key=key)).chunks_sent == 2

    async def test_malformed_event(self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), malformed_after_chunks=0))
        with pytest.raises(json.JSONDecodeError):
            await stream(sdk)

    async def test_end_without_terminal_event(self, http: httpx.AsyncClient, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), end_after_chunks=1))
        text = (await http.post("/chat/completions", **streaming())).text
        assert text.count('"content":"You"') == 1
        assert '"finish_reason":"stop"' not in text
        assert "[DONE]" not in text

    async def test_held_until_forgotten(self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), content="one two three", hold_after_chunks=2))
        chunks = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        said = ""
        async for chunk in chunks:
            said += chunk.choices[0].delta.content or ""
            if said == "one two":
                assert [request.ended for request in await control.requests(key=key)] == [None]
                await control.forget_behaviours(key="another")
                await control.forget_behaviours(key=key)
        assert said == "one two three"

    async def test_done_can_be_missing(self, http: httpx.AsyncClient, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), omit_done=True))
        text = (await http.post("/chat/completions", **streaming())).text
        assert '"finish_reason":"stop"' in text
        assert "[DONE]" not in text

    @pytest.mark.parametrize(
        "behaviour",
        [Behaviour(cut_before_headers=True), Behaviour(cut_after_chunks=3, chunk_delay_ms=1)],
        ids=["before headers", "in mid-stream"],
    )
    async def test_cut_connection(
        self, http: httpx.AsyncClient, control: SandboxControl, key: str, behaviour: Behaviour
    ) -> None:
        await control.behave(behaviour.model_copy(update={"match": Match(key=key)}))
        with pytest.raises(httpx.ReadError):
            await http.post("/chat/completions", **streaming())
        closed = await control.wait_closed(key=key)
        assert (closed.ended, closed.chunks_sent) == ("cut", behaviour.cut_after_chunks or 0)

    async def test_cut_in_the_middle_of_a_whole_answer(
        self, http: httpx.AsyncClient, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), cut_after_chunks=0))
        received = b""
        async with http.stream("GET", "/models") as response:
            with pytest.raises(httpx.ReadError):  # noqa: PT012 - what came before the error counts
                async for part in response.aiter_raw():
                    received += part
        assert received.startswith(b'{"object":"list"')
        assert not received.endswith(b"}")


class TestWireForm:
    @pytest.mark.parametrize(
        "form",
        [
            Behaviour(split_bytes=1),
            Behaviour(split_bytes=7, crlf=True),
            Behaviour(comment="keep-alive"),
            Behaviour(comment="OPENROUTER PROCESSING", crlf=True, chunk_delay_ms=1),
        ],
        ids=["byte by byte", "crlf in sevens", "comments", "all but split"],
    )
    async def test_does_not_change_what_is_said(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str, form: Behaviour
    ) -> None:
        usual = streamed_text(await stream(sdk))
        await control.behave(form.model_copy(update={"match": Match(key=key)}))
        assert streamed_text(await stream(sdk)) == usual

    async def test_line_ends_and_comments_are_on_the_wire(
        self, http: httpx.AsyncClient, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), comment="keep-alive", crlf=True))
        body = (await http.post("/chat/completions", **streaming())).content
        assert body.startswith(b": keep-alive\r\n\r\ndata: {")
        assert body.count(b"\n") == body.count(b"\r\n")


class TestRecord:
    async def test_holds_what_arrived_and_what_was_sent(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        before = time.monotonic()
        completion = await chat(sdk)
        closed = await control.wait_closed(key=key)
        assert (closed.method, closed.path) == ("POST", "/openai/v1/chat/completions")
        assert closed.headers["authorization"] == f"Bearer {key}"
        assert closed.body == {"model": "gpt-4o", "messages": HELLO}
        assert (closed.key, closed.model, closed.status, closed.ended) == (key, "gpt-4o", 200, "completed")
        assert closed.bytes_sent >= len(completion.choices[0].message.content or "")
        assert closed.ended_monotonic is not None
        assert before <= closed.started_monotonic <= closed.ended_monotonic <= time.monotonic()

    async def test_first_chunk_leaves_before_the_last(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), content="one two", chunk_delay_ms=5))
        assert streamed_text(await stream(sdk)) == "one two"
        closed = await control.wait_closed(key=key)
        assert closed.chunks_sent == 2
        assert closed.first_chunk_monotonic is not None
        assert closed.last_chunk_monotonic is not None
        assert closed.first_chunk_monotonic < closed.last_chunk_monotonic

    async def test_is_listed_by_key_and_past_an_id(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        await chat(sdk)
        await chat(sdk.with_options(api_key="sk-sandbox-other"))
        await chat(sdk)
        first, second = await control.requests(key=key)
        assert await control.requests(key=key, after=first.id) == [second]
        await control.reset(key=key)
        assert [request.key for request in await control.requests()] == ["sk-sandbox-other"]

    async def test_waiting_ends_when_the_request_comes(
        self, sdk: openai.AsyncOpenAI, control: SandboxControl, key: str
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(control.wait_closed(key=key))
            tasks.create_task(chat(sdk))
        assert waiting.result().key == key

    async def test_waiting_gives_up(self, control: SandboxControl, key: str) -> None:
        with pytest.raises(TimeoutError):
            await control.wait_started(key=key, timeout_ms=1)


class TestHangUp:
    """Whatever the server is doing, it notices at once that the client has gone."""

    @pytest.mark.parametrize(
        ("behaviour", "streamed"),
        [
            (Behaviour(delay_ms=FOREVER_MS), True),
            (Behaviour(delay_ms=FOREVER_MS), False),
            (Behaviour(silent=True), False),
            (Behaviour(first_chunk_delay_ms=FOREVER_MS), True),
            (Behaviour(chunk_delay_ms=FOREVER_MS), True),
        ],
        ids=["before headers", "whole answer", "silent", "before the first chunk", "mid-stream"],
    )
    async def test_is_recorded(
        self, base_url: str, control: SandboxControl, key: str, behaviour: Behaviour, streamed: bool
    ) -> None:
        await control.behave(behaviour.model_copy(update={"match": Match(key=key)}))
        url = f"{base_url}/openai/v1/chat/completions"
        request = streaming(key)
        request["json"]["stream"] = streamed
        async with httpx.AsyncClient() as client:
            call = asyncio.create_task(client.post(url, **request))
            started = await control.wait_started(key=key)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        closed = await control.wait_closed(key=key, request_id=started.id)
        assert closed.ended == "client_closed"


class TestControl:
    @pytest.mark.parametrize(
        ("rule", "word"),
        [
            ({"statsu": 500}, "statsu"),
            ({"match": {"modle": "gpt-4o"}}, "match.modle"),
            ({"status": "500"}, "status"),
            ({"times": 0}, "times"),
        ],
    )
    async def test_refuses_a_rule_it_does_not_understand(self, base_url: str, rule: dict[str, Any], word: str) -> None:
        async with httpx.AsyncClient() as client:
            response = await client.post(f"{base_url}/_sandbox/behaviours", json=rule)
        assert response.status_code == 400
        assert word in response.json()["error"]

    async def test_rules_are_in_lower_camel(self, base_url: str, sdk: openai.AsyncOpenAI, key: str) -> None:
        rule = {"match": {"key": key}, "endAfterChunks": 0, "chunkDelayMs": 1}
        async with httpx.AsyncClient(base_url=f"{base_url}/_sandbox") as client:
            assert (await client.post("/behaviours", json=rule)).status_code == 204
            assert streamed_text(await stream(sdk)) == ""
            assert (await client.delete("/behaviours")).status_code == 204
        assert streamed_text(await stream(sdk))

    async def test_reports_health(self, base_url: str) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{base_url}/_sandbox/health")).json() == {"status": "ok"}


class TestProcess:
    async def test_sigterm_stops_it_with_a_request_in_progress(self, key: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deploy.local.sandbox_provider", "--port", "0"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            base_url = (await process.stdout.readline()).decode().split()[-1]
            async with SandboxControl(base_url) as control, httpx.AsyncClient(timeout=None) as client:
                await control.behave(Behaviour(silent=True))
                call = asyncio.create_task(client.post(f"{base_url}/openai/v1/chat/completions", **streaming(key)))
                await control.wait_started(key=key)
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
                with pytest.raises(httpx.RemoteProtocolError):
                    await call
