"""The sandbox's Gemini API, judged by Google's own SDK and, where that hides the wire, by plain HTTP."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import pytest
from google import genai
from google.genai import errors, types

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match

MODEL = "gemini-3.8-flash"
OLDER = "gemini-2.5-flash"
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "parametersJsonSchema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
        "required": ["city"],
    },
}
CLOCK: dict[str, Any] = {"name": "get_time", "description": "Tells the time."}
TOOLS = [types.Tool(function_declarations=[types.FunctionDeclaration(**WEATHER), types.FunctionDeclaration(**CLOCK)])]
ANY = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY))
HELLO: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hello, wörld"}]}]}
DEEP: dict[str, Any] = {}
for _ in range(120):
    DEEP = {"a": DEEP}
QUIET = types.AutomaticFunctionCallingConfig(disable=True)


@pytest.fixture
def key() -> str:
    return f"AIza-sandbox-{uuid4().hex}"


@pytest.fixture
async def sdk(sandbox_url: str, key: str) -> AsyncIterator[genai.client.AsyncClient]:
    # The session the SDK would make itself is of a subclass that aiohttp warns of.
    async with aiohttp.ClientSession() as session:
        options = types.HttpOptions(
            base_url=f"{sandbox_url}/google-ai",
            api_version="v1beta",
            retry_options=types.HttpRetryOptions(attempts=1),
            aiohttp_client=session,
        )
        client = genai.Client(api_key=key, vertexai=False, http_options=options)
        yield client.aio
        client.close()


@pytest.fixture
async def http(sandbox_url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-goog-api-key": key}
    async with httpx.AsyncClient(base_url=f"{sandbox_url}/google-ai/v1beta", headers=headers) as client:
        yield client


@pytest.fixture
async def behave(sandbox_url: str, key: str) -> AsyncIterator[Any]:
    async with SandboxControl(sandbox_url) as control:

        async def once(**behaviour: Any) -> None:
            await control.behave(Behaviour(match=Match(key=key), **behaviour))

        yield once


async def ask(
    sdk: genai.client.AsyncClient, contents: Any = "hello, wörld", model: str = MODEL, **config: Any
) -> types.GenerateContentResponse:
    settings = types.GenerateContentConfig(automatic_function_calling=QUIET, **config)
    return await sdk.models.generate_content(model=model, contents=contents, config=settings)


async def stream(
    sdk: genai.client.AsyncClient, contents: Any = "hello, wörld", model: str = MODEL, **config: Any
) -> list[types.GenerateContentResponse]:
    settings = types.GenerateContentConfig(automatic_function_calling=QUIET, **config)
    chunks = await sdk.models.generate_content_stream(model=model, contents=contents, config=settings)
    return [chunk async for chunk in chunks]


def content(response: types.GenerateContentResponse) -> types.Content:
    assert response.candidates
    assert response.candidates[0].content is not None
    return response.candidates[0].content


def parts(response: types.GenerateContentResponse) -> list[types.Part]:
    return content(response).parts or []


def text(chunks: list[types.GenerateContentResponse]) -> str:
    return "".join(part.text or "" for chunk in chunks for part in parts(chunk) if not part.thought)


def finish(response: types.GenerateContentResponse) -> types.FinishReason | None:
    assert response.candidates
    return response.candidates[0].finish_reason


def usage(response: types.GenerateContentResponse) -> types.GenerateContentResponseUsageMetadata:
    assert response.usage_metadata is not None
    return response.usage_metadata


class TestAnswer:
    async def test_quotes_the_last_user_message(self, sdk: genai.client.AsyncClient) -> None:
        response = await ask(sdk)
        assert "“hello, wörld”" in (response.text or "")
        assert finish(response) == types.FinishReason.STOP
        assert response.model_version == MODEL
        assert response.response_id

    async def test_same_request_gets_the_same_bytes(self, http: httpx.AsyncClient) -> None:
        first, second = [await http.post(f"/models/{MODEL}:generateContent", json=HELLO) for _ in range(2)]
        assert first.content == second.content

    async def test_counts_thoughts_apart_from_what_is_said(self, sdk: genai.client.AsyncClient) -> None:
        counted = usage(await ask(sdk, thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)))
        assert counted.prompt_token_count == 1 + tokens.count("hello, wörld")
        assert counted.thoughts_token_count == 16
        assert counted.total_token_count == (counted.prompt_token_count + (counted.candidates_token_count or 0) + 16)

    async def test_token_limit_covers_thoughts(self, sdk: genai.client.AsyncClient) -> None:
        level = types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)
        response = await ask(sdk, max_output_tokens=20, thinking_config=level)
        assert finish(response) == types.FinishReason.MAX_TOKENS
        assert usage(response).candidates_token_count == 4

    async def test_ends_before_a_stop_sequence(self, sdk: genai.client.AsyncClient) -> None:
        assert (await ask(sdk, stop_sequences=["nowhere", " said"])).text == "You"

    async def test_takes_a_system_instruction_and_pictures(self, sdk: genai.client.AsyncClient) -> None:
        picture = types.Part.from_bytes(data=b"png", mime_type="image/png")
        linked = types.Part.from_uri(file_uri="https://example.com/cat.png", mime_type="image/png")
        response = await ask(sdk, [picture, linked, "what is this?"], system_instruction="Be brief.")
        assert "“what is this?”" in (response.text or "")
        expected = 1 + tokens.count("what is this?") + 2 * 258 + 1 + tokens.count("Be brief.")
        assert usage(response).prompt_token_count == expected

    async def test_follows_a_json_schema(self, sdk: genai.client.AsyncClient) -> None:
        schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}
        response = await ask(sdk, response_mime_type="application/json", response_json_schema=schema)
        assert list(json.loads(response.text or "")) == ["b", "a"]

    async def test_answers_with_some_object_without_a_schema(self, sdk: genai.client.AsyncClient) -> None:
        assert json.loads((await ask(sdk, response_mime_type="application/json")).text or "") != {}


class TestThoughts:
    async def test_are_told_when_asked_for(self, sdk: genai.client.AsyncClient, behave: Any) -> None:
        await behave(reasoning="First I think.")
        told = await ask(sdk, thinking_config=types.ThinkingConfig(include_thoughts=True))
        assert [part.text for part in parts(told) if part.thought] == ["First I think."]
        assert "First" not in (told.text or "")
        assert usage(told).thoughts_token_count == tokens.count("First I think.")
        assert not any(part.thought for part in parts(await ask(sdk)))

    async def test_come_first_in_a_stream(self, sdk: genai.client.AsyncClient, behave: Any) -> None:
        await behave(reasoning="First I think.")
        chunks = await stream(sdk, thinking_config=types.ThinkingConfig(include_thoughts=True))
        assert parts(chunks[0])[0].thought
        assert "First" not in text(chunks)

    async def test_can_be_turned_off_on_a_model_that_lets_them(self, sdk: genai.client.AsyncClient) -> None:
        response = await ask(sdk, model=OLDER, thinking_config=types.ThinkingConfig(thinking_budget=0))
        assert not usage(response).thoughts_token_count

    @pytest.mark.parametrize(
        ("model", "config", "words"),
        [
            (MODEL, {"thinking_level": "MINIMAL"}, "'minimal' is not a supported thinking level"),
            (MODEL, {"thinking_budget": 0}, "only works in thinking mode"),
            (MODEL, {"thinking_level": "LOW", "thinking_budget": 1024}, "only set only one"),
            (OLDER, {"thinking_level": "LOW"}, "Thinking level is not supported"),
            (OLDER, {"thinking_budget": 24_577}, "between 1 and 24576"),
            ("gemini-2.5-pro", {"thinking_budget": 0}, "only works in thinking mode"),
            ("gemini-2.5-pro", {"thinking_budget": 64}, "between 128 and 32768"),
            ("gemini-2.0-flash", {"thinking_budget": 64}, "Thinking is not enabled"),
        ],
    )
    async def test_are_limited_as_the_model_limits_them(
        self, sdk: genai.client.AsyncClient, model: str, config: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(errors.ClientError, match=words):
            await ask(sdk, model=model, thinking_config=types.ThinkingConfig(**config))


class TestStream:
    async def test_says_the_same_as_the_whole_answer(self, sdk: genai.client.AsyncClient) -> None:
        chunks = await stream(sdk)
        assert text(chunks) == (await ask(sdk)).text
        assert [finish(chunk) for chunk in chunks] == [None] * (len(chunks) - 1) + [types.FinishReason.STOP]

    async def test_usage_grows_with_every_chunk(self, sdk: genai.client.AsyncClient) -> None:
        chunks = await stream(sdk)
        said = [usage(chunk).candidates_token_count or 0 for chunk in chunks]
        assert said == [*range(1, len(chunks)), len(chunks) - 1]
        assert usage(chunks[-1]).total_token_count == usage(await ask(sdk)).total_token_count

    async def test_nothing_follows_the_last_chunk(self, http: httpx.AsyncClient) -> None:
        response = await http.post(f"/models/{MODEL}:streamGenerateContent?alt=sse", json=HELLO)
        assert response.headers["content-type"] == "text/event-stream"
        events = response.text.split("\n\n")
        assert events[-1] == ""
        assert all(event.startswith("data: {") for event in events[:-1])
        assert "[DONE]" not in response.text

    async def test_is_one_json_array_unless_events_are_asked_for(self, http: httpx.AsyncClient) -> None:
        response = await http.post(f"/models/{MODEL}:streamGenerateContent", json=HELLO)
        assert response.headers["content-type"].startswith("application/json")
        chunks = response.json()
        assert chunks[0]["candidates"][0]["content"]["parts"][0]["text"] == "You"
        assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"

    async def test_missing_usage_is_missing_everywhere(self, sdk: genai.client.AsyncClient, behave: Any) -> None:
        await behave(omit_usage=True)
        assert all(chunk.usage_metadata is None for chunk in await stream(sdk))
        assert (await ask(sdk)).usage_metadata is None

    async def test_usage_can_be_steered_in_googles_names(self, sdk: genai.client.AsyncClient, behave: Any) -> None:
        wanted = {
            "promptTokenCount": 1000,
            "cachedContentTokenCount": 800,
            "candidatesTokenCount": 50,
            "thoughtsTokenCount": 200,
            "toolUsePromptTokenCount": 30,
        }
        await behave(usage=wanted)
        for counted in (usage(await ask(sdk)), usage((await stream(sdk))[-1])):
            assert counted.cached_content_token_count == 800
            assert counted.tool_use_prompt_token_count == 30
            assert counted.total_token_count == 1000 + 30 + 50 + 200

    async def test_error_event_ends_it(self, sdk: genai.client.AsyncClient, behave: Any) -> None:
        await behave(error_in_stream_after_chunks=1)
        with pytest.raises(errors.ServerError) as failed:
            await stream(sdk)
        assert (failed.value.code, failed.value.status) == (503, "UNAVAILABLE")


class TestFunctions:
    async def test_are_all_called_in_one_chunk_each(self, sdk: genai.client.AsyncClient) -> None:
        chunks = await stream(sdk, tools=TOOLS, tool_config=ANY)
        calls = [part.function_call for chunk in chunks for part in parts(chunk) if part.function_call]
        assert [(call.name, call.args) for call in calls] == [
            ("get_weather", {"city": "sandbox city", "days": 2}),
            ("get_time", {}),
        ]
        assert finish(chunks[-1]) == types.FinishReason.STOP
        whole = await ask(sdk, tools=TOOLS, tool_config=ANY)
        assert [call.args for call in whole.function_calls or []] == [call.args for call in calls]

    async def test_only_the_allowed_are_called(self, sdk: genai.client.AsyncClient) -> None:
        config = types.FunctionCallingConfig(
            mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["get_time"]
        )
        whole = await ask(sdk, tools=TOOLS, tool_config=types.ToolConfig(function_calling_config=config))
        assert [call.name for call in whole.function_calls or []] == ["get_time"]

    @pytest.mark.parametrize(("model", "has_id"), [(MODEL, True), (OLDER, False)])
    async def test_calls_have_ids_since_gemini_3(self, sdk: genai.client.AsyncClient, model: str, has_id: bool) -> None:
        whole = await ask(sdk, model=model, tools=TOOLS, tool_config=ANY)
        assert all(bool(call.id) == has_id for call in whole.function_calls or [])

    async def test_result_is_answered_when_the_signature_comes_back(self, sdk: genai.client.AsyncClient) -> None:
        asked = await ask(sdk, "Please use the tool.", tools=TOOLS)
        assert [bool(part.thought_signature) for part in parts(asked)] == [True, False]
        told = await ask(sdk, conversation(asked), tools=TOOLS)
        assert "sunny" in (told.text or "")

    @pytest.mark.parametrize(
        ("signature", "words"),
        [(None, "missing a thought_signature"), (b"invented, and long enough to pass", "Corrupted thought signature")],
    )
    async def test_signature_must_be_the_one_given(
        self, sdk: genai.client.AsyncClient, signature: bytes | None, words: str
    ) -> None:
        asked = await ask(sdk, "Please use the tool.", tools=TOOLS)
        parts(asked)[0].thought_signature = signature
        with pytest.raises(errors.ClientError, match=words):
            await ask(sdk, conversation(asked), tools=TOOLS)

    @pytest.mark.parametrize("bypass", [b"skip_thought_signature_validator", b"context_engineering_is_the_way_to_go"])
    async def test_documented_bypass_passes(self, sdk: genai.client.AsyncClient, bypass: bytes) -> None:
        asked = await ask(sdk, "Please use the tool.", tools=TOOLS)
        parts(asked)[0].thought_signature = bypass
        assert (await ask(sdk, conversation(asked), tools=TOOLS)).text

    async def test_signature_is_not_asked_for_once_the_user_has_spoken_again(
        self, sdk: genai.client.AsyncClient
    ) -> None:
        asked = await ask(sdk, "Please use the tool.", tools=TOOLS)
        parts(asked)[0].thought_signature = None
        later = [
            *conversation(asked),
            types.Content(role="model", parts=[types.Part(text="It is sunny.")]),
            types.Content(role="user", parts=[types.Part(text="Thanks.")]),
        ]
        assert (await ask(sdk, later, tools=TOOLS)).text

    async def test_older_model_asks_for_no_signature(self, sdk: genai.client.AsyncClient) -> None:
        asked = await ask(sdk, "Please use the tool.", model=OLDER, tools=TOOLS)
        parts(asked)[0].thought_signature = None
        assert (await ask(sdk, conversation(asked), model=OLDER, tools=TOOLS)).text

    async def test_each_call_must_be_answered(self, sdk: genai.client.AsyncClient) -> None:
        asked = await ask(sdk, "Please use the tool.", tools=TOOLS)
        answered = conversation(asked)
        assert answered[-1].parts
        answered[-1].parts.pop()
        with pytest.raises(errors.ClientError, match="equal to the number of function call parts"):
            await ask(sdk, answered, tools=TOOLS)


def conversation(asked: types.GenerateContentResponse) -> list[types.Content]:
    """Answers the calls of a response to the words that led to them."""
    results = [
        types.Part(
            function_response=types.FunctionResponse(
                id=call.id, name=call.name, response={"result": "sunny" if call.name == "get_weather" else "noon"}
            )
        )
        for call in asked.function_calls or []
    ]
    return [
        types.Content(role="user", parts=[types.Part(text="Please use the tool.")]),
        content(asked),
        types.Content(role="user", parts=results),
    ]


class TestBlocks:
    async def test_blocked_prompt_is_a_success_without_an_answer(
        self, sdk: genai.client.AsyncClient, behave: Any
    ) -> None:
        await behave(block_prompt=True)
        for response in (await ask(sdk), *(await stream(sdk))):
            assert not response.candidates
            assert response.prompt_feedback is not None
            assert response.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT
            assert usage(response).prompt_token_count

    async def test_answer_can_be_cut_off_for_safety(self, sdk: genai.client.AsyncClient, behave: Any) -> None:
        await behave(finish_reason="content_filter", content="bad words", chunk_count=2)
        *said, last = await stream(sdk)
        assert text(said) == "bad words"
        assert finish(last) == types.FinishReason.SAFETY
        assert last.candidates
        assert last.candidates[0].content is None
        whole = await ask(sdk)
        assert finish(whole) == types.FinishReason.SAFETY


class TestCounts:
    async def test_a_count_of_turns_is_what_the_answer_will_say(self, sdk: genai.client.AsyncClient) -> None:
        counted = await sdk.models.count_tokens(model=MODEL, contents="hello, wörld")
        answered = await sdk.models.generate_content(model=MODEL, contents="hello, wörld")
        assert answered.usage_metadata is not None
        assert counted.total_tokens == answered.usage_metadata.prompt_token_count

    async def test_a_whole_request_names_its_model_again(self, http: httpx.AsyncClient) -> None:
        whole = {"model": f"models/{MODEL}", **HELLO, "systemInstruction": {"parts": [{"text": "Be brief."}]}}
        path = f"/models/{MODEL}:countTokens"
        counted = await http.post(path, json={"generateContentRequest": whole})
        alone = await http.post(path, json=HELLO)
        assert counted.json()["totalTokens"] > alone.json()["totalTokens"] > 0
        for body in (
            {"generateContentRequest": HELLO},
            {"generateContentRequest": {**whole, "model": "models/other"}},
            {"generateContentRequest": whole, **HELLO},
            {},
        ):
            assert (await http.post(path, json=body)).status_code == 400
        assert (await http.post("/models/unknown:countTokens", json=HELLO)).status_code == 404


class TestModels:
    async def test_are_listed_page_by_page(self, sdk: genai.client.AsyncClient, http: httpx.AsyncClient) -> None:
        pager = await sdk.models.list(config={"page_size": 5})
        names = [model.name async for model in pager]
        assert {f"models/{MODEL}", f"models/{OLDER}", "models/gemini-embedding-001"} <= set(names)
        assert len(names) == len(set(names))
        first = (await http.get("/models", params={"pageSize": 5})).json()
        assert len(first["models"]) == 5
        assert first["nextPageToken"]
        assert "nextPageToken" not in (await http.get("/models")).json()

    async def test_can_be_looked_up(self, sdk: genai.client.AsyncClient) -> None:
        model = await sdk.models.get(model=MODEL)
        assert (model.display_name, model.input_token_limit) == ("Gemini 3.8 Flash", 1_048_576)
        assert "generateContent" in (model.supported_actions or [])
        with pytest.raises(errors.ClientError) as missing:
            await sdk.models.get(model="gemini-9")
        assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")

    async def test_embedding_model_does_not_chat(self, sdk: genai.client.AsyncClient) -> None:
        with pytest.raises(errors.ClientError, match="not supported for generateContent"):
            await ask(sdk, model="gemini-embedding-001")


class TestKey:
    async def test_wrong_key_is_an_invalid_argument(self, http: httpx.AsyncClient) -> None:
        response = await http.get("/models", headers={"x-goog-api-key": "AIza-wrong"})
        error = response.json()["error"]
        assert (response.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
        assert error["details"][0]["reason"] == "API_KEY_INVALID"

    async def test_missing_key_is_forbidden(self, sandbox_url: str) -> None:
        async with httpx.AsyncClient() as client:
            response = await client.get(f"{sandbox_url}/google-ai/v1beta/models")
        assert (response.status_code, response.json()["error"]["status"]) == (403, "PERMISSION_DENIED")

    async def test_key_in_the_url_is_found_out(self, http: httpx.AsyncClient, key: str) -> None:
        response = await http.get("/models", params={"key": key})
        assert response.status_code == 403
        assert "x-goog-api-key" in response.text

    async def test_other_credentials_beside_the_key_spoil_it(self, http: httpx.AsyncClient) -> None:
        response = await http.get("/models", headers={"authorization": "Bearer our-own-token"})
        assert (response.status_code, response.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


class TestRefusal:
    @pytest.mark.parametrize(
        ("change", "at", "words"),
        [
            ({"messages": []}, None, 'Unknown name "messages": Cannot find field.'),
            ({"generationConfig": {"maxTokens": 1}}, "generation_config", 'Unknown name "maxTokens" at \'generation_'),
            ({"contents": [{"parts": [{"txt": "x"}]}]}, "contents[0].parts[0]", 'Unknown name "txt"'),
            ({"generationConfig": {"maxOutputTokens": "many"}}, "generation_config.max_output_tokens", "TYPE_INT32"),
            ({"generationConfig": {"seed": 2**31}}, "generation_config.seed", "TYPE_INT32"),
            ({"contents": [{"parts": [{"functionCall": {"name": "f", "args": DEEP}}]}]}, None, "too deep"),
            (
                {"generationConfig": {"thinkingConfig": {"thinkingLevel": "MAX"}}},
                "generation_config.thinking_config.thinking_level",
                "ThinkingConfig.ThinkingLevel",
            ),
        ],
    )
    async def test_form_is_checked_strictly(
        self, http: httpx.AsyncClient, change: dict[str, Any], at: str | None, words: str
    ) -> None:
        response = await http.post(f"/models/{MODEL}:generateContent", json={**HELLO, **change})
        error = response.json()["error"]
        assert (response.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
        assert words in error["message"]
        assert error["details"][0]["fieldViolations"][0].get("field") == at

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"contents": []}, "contents is not specified"),
            ({"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
            ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "valid role: user, model"),
            ({"contents": [{"parts": [{"thought": True}]}]}, "required oneof field 'data'"),
            ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/gif", "data": "AAAA"}}]}]}, "image/gif"),
            ({"generationConfig": {"temperature": 2.1}}, "temperature must be in the range"),
            ({"generationConfig": {"topP": 1.1}}, "top_p must be in the range"),
            ({"generationConfig": {"maxOutputTokens": 0}}, "supported range is from 1"),
            ({"generationConfig": {"stopSequences": list("abcdef")}}, "at most 5"),
            ({"generationConfig": {"presencePenalty": 0.5}}, "Penalty is not enabled"),
            ({"generationConfig": {"responseJsonSchema": {}}}, "response_mime_type"),
            ({"tools": [{"functionDeclarations": [{"name": "1st"}]}]}, "Invalid function name"),
            ({"tools": [{"functionDeclarations": [CLOCK, CLOCK]}]}, "Duplicate function declaration"),
            ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "without function_declarations"),
            (
                {
                    "tools": [{"functionDeclarations": [CLOCK]}],
                    "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["get_time"]}},
                },
                "only when function calling mode is ANY",
            ),
        ],
    )
    async def test_values_are_checked(self, http: httpx.AsyncClient, change: dict[str, Any], words: str) -> None:
        response = await http.post(f"/models/{MODEL}:generateContent", json={**HELLO, **change})
        assert response.status_code == 400
        assert words in response.json()["error"]["message"]

    async def test_functions_and_json_do_not_go_together_before_gemini_3(self, sdk: genai.client.AsyncClient) -> None:
        assert (await ask(sdk, tools=TOOLS, response_mime_type="application/json")).text
        with pytest.raises(errors.ClientError, match="response mime type: 'application/json' is unsupported"):
            await ask(sdk, model=OLDER, tools=TOOLS, response_mime_type="application/json")

    async def test_names_may_be_in_snake_case(self, http: httpx.AsyncClient) -> None:
        request = {
            "contents": {"parts": {"text": "hello"}},
            "system_instruction": {"parts": [{"text": "Be brief."}]},
            "generation_config": {"max_output_tokens": 500, "thinking_config": {"thinking_level": "low"}},
        }
        assert (await http.post(f"/models/{MODEL}:generateContent", json=request)).status_code == 200

    @pytest.mark.parametrize(
        ("status", "name", "detail"),
        [
            (400, "INVALID_ARGUMENT", None),
            (403, "PERMISSION_DENIED", None),
            (404, "NOT_FOUND", None),
            (429, "RESOURCE_EXHAUSTED", "google.rpc.RetryInfo"),
            (500, "INTERNAL", None),
            (503, "UNAVAILABLE", None),
            (504, "DEADLINE_EXCEEDED", None),
        ],
    )
    async def test_bad_day_is_an_error_of_the_sdk(
        self, sdk: genai.client.AsyncClient, behave: Any, status: int, name: str, detail: str | None
    ) -> None:
        await behave(status=status)
        with pytest.raises(errors.ClientError if status < 500 else errors.ServerError) as failed:
            await ask(sdk)
        assert (failed.value.code, failed.value.status) == (status, name)
        assert failed.value.message
        if detail:
            assert detail in str(failed.value.details)
