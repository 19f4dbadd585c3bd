"""The Google AI adapter against Google's own SDK, and against the facts of Gemini's wire format one by one.

What the adapter sends must be what the SDK's request types allow, and what the SDK itself sends for the same. What it
reads comes from the sandbox, whose Gemini API the SDK has judged in test_sandbox_google_ai.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import pydantic
import pytest
from google import genai
from google.genai import types
from realmultillm.chat.v1 import chat_service_pb2 as chat

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match, RecordedRequest
from deploy.local.sandbox_provider.dialects.google_ai.schema import parse
from libs import errors
from libs.json_members import JsonMembers
from libs.provider_keys import ProviderKey
from libs.worker.adapter import Credential, ProviderRequest
from libs.worker.assembly import whole_answer
from libs.worker.key_test import try_key
from libs.worker.streaming import AnswerStream
from libs.worker.upstream import Upstream, connect_upstream
from services.workers.google_ai.adapter import ADAPTER
from tests.support.chat_requests import chat_request
from tests.support.wire import LOCAL_RULES

NEWEST = "gemini-3.8-flash"
OLDER = "gemini-2.5-flash"
PNG = "data:image/png;base64,iVBORw0KGgo="
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Tells it.",
    "parameters": {
        "type": "object",
        "properties": {"zip": {"type": "string"}, "city": {"type": "string"}, "days": {"type": ["integer", "null"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TIME: dict[str, Any] = {"name": "time"}
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}, "required": ["b"]}


def say(*turns: Any, **options: Any) -> dict[str, Any]:
    """Makes a request of turns, a text being the user's, and options."""
    messages = [turn if isinstance(turn, dict) else {"role": "user", "content": turn} for turn in turns]
    return {"messages": messages, **({"options": options} if options else {})}


def called(*names: str) -> dict[str, Any]:
    calls = [{"id": f"c-{name}", "name": name, "arguments": '{"city":"Köln","n":1.5}'} for name in names]
    return {"role": "assistant", "toolCalls": calls}


def result(name: str, content: str = "sunny") -> dict[str, Any]:
    return {"role": "tool", "toolCallId": f"c-{name}", "content": content}


REQUESTS: dict[str, dict[str, Any]] = {
    "plain": say("Hello"),
    "instructed": say({"role": "system", "content": "Be brief."}, "Hello", {"role": "system", "content": "Be kind."}),
    "turns": say("Hello", {"role": "assistant", "content": "Hi."}, "How are you?", "Well?"),
    "pictures": say(
        {
            "role": "user",
            "parts": [
                {"text": "What is it?"},
                {"imageUrl": {"url": PNG}},
                {"imageUrl": {"url": "https://example.com/a.webp"}},
            ],
        }
    ),
    "sampling": say("Hello", temperature=0.5, topP=0.9, maxTokens=500, seed=7, stop=["END"], presencePenalty=1),
    "json": say("Hello", responseFormat={"type": "json_object"}),
    "schema": say("Hello", responseFormat={"type": "json_schema", "name": "n", "jsonSchema": SCHEMA}),
    "effort": say("Hello", reasoningEffort="low"),
    "no effort": say("Hello", reasoningEffort="none"),
    "tools": say("Hello", tools=[WEATHER, TIME], toolChoice="required"),
    "one tool": say("Hello", tools=[WEATHER, TIME], toolChoice="time"),
    "no tool": say("Hello", tools=[WEATHER], toolChoice="none"),
    "strict tool": say("Hello", tools=[{**WEATHER, "strict": True}]),
    "results": say(
        "Weather and time?",
        called("weather", "time"),
        result("time", '{"hour": 12}'),
        result("weather"),
        tools=[WEATHER, TIME],
    ),
    "results before": say(
        "Weather?", called("weather"), result("weather"), {"role": "assistant", "content": "Sunny."}, "Thanks."
    ),
}


def body_of(request: dict[str, Any], model: str) -> dict[str, Any]:
    sent = ADAPTER.chat_request(chat_request(request), model, Credential(ProviderKey("AIza-sandbox-x")), stream=False)
    body: dict[str, Any] = orjson.loads(sent.body)
    return body


def as_sdk_types(body: dict[str, Any]) -> tuple[list[types.Content], types.GenerateContentConfig]:
    """Reads a body as the SDK's own types; they forbid what they do not know."""
    rest = dict(body)
    contents = [types.Content.model_validate_json(orjson.dumps(turn)) for turn in rest.pop("contents")]
    config = {**rest.pop("generationConfig", {}), **rest}
    return contents, types.GenerateContentConfig.model_validate_json(orjson.dumps(config))


@pytest.fixture
def key() -> str:
    return f"AIza-sandbox-{uuid4().hex}"


@pytest.fixture
async def sdk(sandbox_url: str, key: str) -> AsyncIterator[genai.client.AsyncClient]:
    # The session the SDK would make itself is of a subclass that aiohttp warns of.
    async with aiohttp.ClientSession() as session:
        options = types.HttpOptions(base_url=f"{sandbox_url}/google-ai", api_version="v1beta", aiohttp_client=session)
        client = genai.Client(api_key=key, vertexai=False, http_options=options)
        yield client.aio
        client.close()


@dataclass
class Road:
    """The adapter's way to the sandbox and back, as a worker goes it."""

    upstream: Upstream
    control: SandboxControl
    key: str = field(repr=False)

    async def behave(self, **behaviour: Any) -> None:
        await self.control.behave(Behaviour(match=Match(key=self.key), **behaviour))

    async def received(self) -> RecordedRequest:
        return (await self.control.requests(key=self.key))[-1]

    def request(self, request: dict[str, Any], model: str, *, stream: bool) -> ProviderRequest:
        return ADAPTER.chat_request(chat_request(request), model, Credential(ProviderKey(self.key)), stream=stream)

    async def whole(self, request: dict[str, Any], model: str = NEWEST) -> chat.ChatCompletion:
        return ADAPTER.read_answer(await self.upstream.fetch(self.request(request, model, stream=False), 5))

    async def streamed(self, request: dict[str, Any], model: str = NEWEST) -> chat.ChatCompletion:
        """Puts a streamed answer together, so that it can be compared."""
        async with self.upstream.stream(self.request(request, model, stream=True)) as pieces:
            stream = AnswerStream(ADAPTER, pieces)
            return whole_answer(await stream.read_whole(), stream.reader)

    async def both(self, request: dict[str, Any], model: str = NEWEST) -> list[chat.ChatCompletion]:
        return [await self.whole(request, model), await self.streamed(request, model)]


@pytest.fixture
async def road(sandbox_url: str, key: str) -> AsyncIterator[Road]:
    async with (
        SandboxControl(sandbox_url) as control,
        connect_upstream(
            ADAPTER, f"{sandbox_url}/google-ai/v1beta", stream_idle_seconds=2, rules=LOCAL_RULES
        ) as upstream,
    ):
        yield Road(upstream, control, key)


class TestTheReferenceItself:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"contents": [{"role": "user", "parts": [{"txt": "x"}]}]},
            {"contents": [{"role": "user", "parts": [{"inlineData": {"mime": "image/png", "data": "AA=="}}]}]},
            {"contents": [], "messages": []},
            {"contents": [], "generationConfig": {"maxTokens": 5}},
            {"contents": [], "generationConfig": {"maxOutputTokens": "many"}},
            {"contents": [], "tools": [{"functions": []}]},
            {"contents": [], "toolConfig": {"functionCallingConfig": {"allowed": []}}},
        ],
    )
    def test_refuses_what_google_has_not(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(pydantic.ValidationError):
            as_sdk_types(wrong)


class TestRequests:
    @pytest.mark.parametrize("model", [NEWEST, OLDER])
    @pytest.mark.parametrize("name", REQUESTS)
    async def test_are_what_the_sdk_sends_for_the_same(
        self, sdk: genai.client.AsyncClient, road: Road, name: str, model: str
    ) -> None:
        body = body_of(REQUESTS[name], model)
        contents, config = as_sdk_types(body)
        config.automatic_function_calling = types.AutomaticFunctionCallingConfig(disable=True)
        await sdk.models.generate_content(model=model, contents=contents, config=config)
        # It mixes snake_case into it, and sends a configuration that is empty.
        theirs = parse((await road.received()).body)
        assert {name: member for name, member in theirs.items() if member} == body

    @pytest.mark.parametrize("model", [NEWEST, OLDER])
    @pytest.mark.parametrize("name", REQUESTS)
    async def test_are_taken_whole_and_streamed_with_one_answer(self, road: Road, name: str, model: str) -> None:
        whole, streamed = await road.both(REQUESTS[name], model)
        whole.created = streamed.created
        assert whole == streamed
        assert whole.choices[0].message.content or whole.choices[0].message.tool_calls

    async def test_go_where_the_sdk_goes(self, sdk: genai.client.AsyncClient, road: Road) -> None:
        async for _ in await sdk.models.generate_content_stream(model=NEWEST, contents="Hello"):
            pass
        theirs = await road.received()
        await road.streamed(say("Hello"))
        ours = await road.received()
        assert (ours.method, ours.path, ours.query) == (theirs.method, theirs.path, theirs.query)
        assert ours.headers["x-goog-api-key"] == theirs.headers["x-goog-api-key"]
        assert ours.headers["content-type"] == theirs.headers["content-type"]


class TestFactStreamsAreEventsOnlyWhenAskedFor:
    async def test_alt_sse_is_asked_for(self, road: Road) -> None:
        await road.streamed(say("Hello"))
        received = await road.received()
        assert received.path.endswith(f"/models/{NEWEST}:streamGenerateContent")
        assert received.query == "alt=sse"

    async def test_there_is_no_done_and_the_end_is_the_sign(self, road: Road) -> None:
        await road.behave(omit_done=True)
        assert (await road.streamed(say("Hello"))).choices[0].finish_reason == "stop"

    async def test_end_without_a_finish_reason_is_incomplete(self, road: Road) -> None:
        await road.behave(end_after_chunks=2)
        with pytest.raises(errors.IncompleteResponse):
            await road.streamed(say("Hello"))


class TestFactTheKeyTravelsInItsHeaderAlone:
    async def test_on_every_call(self, road: Road) -> None:
        await road.both(say("Hello"))
        await try_key(ADAPTER, road.upstream, ProviderKey(road.key), NEWEST)
        await road.upstream.fetch(ADAPTER.models_request(ProviderKey(road.key), 2, ""), 5)
        received = await road.control.requests(key=road.key)
        assert len(received) == 4
        for request in received:
            assert request.headers["x-goog-api-key"] == road.key
            assert road.key not in request.path + request.query + str(request.body)

    async def test_nothing_else_is_there_to_be_preferred_to_it(self, road: Road) -> None:
        await road.whole(say("Hello"))
        assert "authorization" not in (await road.received()).headers


class TestFactRolesAndNamesAreGooglesOwn:
    def test_user_and_model_with_instructions_apart(self) -> None:
        body = body_of(say({"role": "system", "content": "S"}, "U", {"role": "assistant", "content": "A"}), NEWEST)
        assert [turn["role"] for turn in body["contents"]] == ["user", "model"]
        assert body["systemInstruction"]["parts"] == [{"text": "S"}]

    def test_limit_and_functions_have_googles_names(self) -> None:
        body = body_of(say("Hello", maxTokens=5, tools=[TIME]), NEWEST)
        assert body["generationConfig"] == {"maxOutputTokens": 5}
        assert body["tools"] == [{"functionDeclarations": [{"name": "time"}]}]


class TestFactBlockedPromptIsA200WithoutCandidates:
    async def test_it_is_an_empty_filtered_answer(self, road: Road) -> None:
        await road.behave(block_prompt=True)
        for answer in await road.both(say("Hello")):
            choice = answer.choices[0]
            assert (choice.finish_reason, choice.native_finish_reason) == ("content_filter", "PROHIBITED_CONTENT")
            assert choice.message.content == ""
            assert answer.usage.prompt_tokens > 0
            assert answer.usage.completion_tokens == 0


class TestFactFinishReasonsOfGoogle:
    async def test_stop_is_said_of_calls_too(self, road: Road) -> None:
        for answer in await road.both(say("Hello", tools=[WEATHER, TIME], toolChoice="required")):
            choice = answer.choices[0]
            assert (choice.finish_reason, choice.native_finish_reason) == ("tool_calls", "STOP")

    async def test_limit_is_length(self, road: Road) -> None:
        for answer in await road.both(say("Hello", maxTokens=70)):
            assert answer.choices[0].finish_reason == "length"
            assert answer.usage.completion_tokens == 70

    async def test_safety_in_mid_stream_comes_without_content(self, road: Road) -> None:
        await road.behave(finish_reason="content_filter", content="bad words", chunk_count=2)
        streamed = (await road.streamed(say("Hello"))).choices[0]
        assert (streamed.message.content, streamed.finish_reason) == ("bad words", "content_filter")
        assert streamed.native_finish_reason == "SAFETY"

    @pytest.mark.parametrize(
        "reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "NO_IMAGE", "OTHER"]
    )
    async def test_failures_of_the_model_are_errors(self, road: Road, reason: str) -> None:
        await road.behave(status=200, body={"candidates": [{"finishReason": reason}]})
        assert (await road.whole(say("Hello"))).choices[0].finish_reason == "error"

    def test_every_reason_the_sdk_knows_is_mapped_on_purpose(self) -> None:
        """What Google adds shall be looked at, not fall into `error` unseen."""
        mapped = {
            reason.value: ADAPTER.read_answer(orjson.dumps({"candidates": [{"finishReason": reason.value}]}))
            .choices[0]
            .finish_reason
            for reason in types.FinishReason
            if reason != types.FinishReason.FINISH_REASON_UNSPECIFIED
        }
        assert {reason for reason, ours in mapped.items() if ours == "error"} == {
            "OTHER",
            "MALFORMED_FUNCTION_CALL",
            "NO_IMAGE",
            "UNEXPECTED_TOOL_CALL",
            "TOO_MANY_TOOL_CALLS",
            "MISSING_THOUGHT_SIGNATURE",
            "MALFORMED_RESPONSE",
            "PUP_LIMITED_DISABLED",
        }


class TestFactUsageIsCumulativeAndThoughtsStandApart:
    async def test_the_last_report_counts(self, road: Road) -> None:
        await road.behave(
            usage={
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 800,
                "toolUsePromptTokenCount": 30,
                "candidatesTokenCount": 50,
                "thoughtsTokenCount": 200,
            }
        )
        for answer in await road.both(say("Hello")):
            usage = answer.usage
            assert usage.prompt_tokens == 1000 + 30
            assert usage.prompt_tokens_details.cached_tokens == 800
            assert usage.prompt_tokens_details.tool_use_tokens == 30
            assert usage.completion_tokens == 50 + 200
            assert usage.completion_tokens_details.reasoning_tokens == 200
            assert usage.total_tokens == 1000 + 30 + 50 + 200

    async def test_reports_before_the_last_are_not_added(self, road: Road) -> None:
        await road.behave(chunk_count=40)
        whole, streamed = await road.both(say("Hello"))
        assert whole.usage == streamed.usage
        assert streamed.usage.completion_tokens == 40 + 64  # medium effort thinks 64 tokens in the sandbox


class TestFactCallsComeWholeAndWithArgumentsAsAnObject:
    @pytest.mark.parametrize("model", [NEWEST, OLDER])
    async def test_they_become_text_with_an_id_each(self, road: Road, model: str) -> None:
        for answer in await road.both(say("Hello", tools=[WEATHER, TIME], toolChoice="required"), model):
            first, second = answer.choices[0].message.tool_calls
            assert orjson.loads(first.function.arguments)["city"] == "sandbox city"
            assert second.function.arguments == "{}"
            assert first.id
            assert second.id
            assert first.id != second.id


class TestFactSignatureOfACallMustComeBack:
    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("model", [NEWEST, OLDER])
    async def test_it_goes_round(self, road: Road, model: str, streamed: bool) -> None:
        tools = {"tools": [WEATHER, TIME]}
        ask = road.streamed if streamed else road.whole
        message = (await ask(say("Please use the tool.", **tools), model)).choices[0].message
        signatures = [call.extra_content.google.thought_signature for call in message.tool_calls]
        assert signatures[0]
        assert not signatures[1]
        back = chat.CreateChatCompletionRequest(
            messages=[chat.ChatMessage(role="user", content="Please use the tool.")]
        )
        turn = back.messages.add(role="assistant", reasoning_details=message.reasoning_details)
        for call in message.tool_calls:
            turn.tool_calls.add(
                id=call.id,
                name=call.function.name,
                arguments=call.function.arguments,
                extra_content=call.extra_content if call.HasField("extra_content") else None,
            )
            back.messages.add(role="tool", tool_call_id=call.id, content="sunny")
        request = ADAPTER.chat_request(back, model, Credential(ProviderKey(road.key)), stream=False)
        assert not request.dropped
        answer = ADAPTER.read_answer(await road.upstream.fetch(request, 5))
        assert "sunny" in answer.choices[0].message.content

    async def test_it_is_never_invented_where_none_was_given(self, road: Road) -> None:
        conversation = say("Weather?", called("weather", "time"), result("weather"), result("time"))
        await road.whole(conversation)
        received: Any = (await road.received()).body
        parts = received["contents"][1]["parts"]
        assert [part.get("thoughtSignature") for part in parts] == ["skip_thought_signature_validator", None]
        assert "thoughtSignature" not in orjson.dumps(body_of(conversation, OLDER)).decode()

    async def test_an_invented_one_is_refused_by_google(self, road: Road) -> None:
        forged = called("weather")
        forged["toolCalls"][0]["extraContent"] = {"google": {"thought_signature": "aW52ZW50ZWQ="}}
        with pytest.raises(errors.ProviderRejectedRequest):
            await road.whole(say("Weather?", forged, result("weather")))

    async def test_of_a_text_goes_round_too(self, road: Road) -> None:
        for answer in await road.both(say("Hello")):
            message = answer.choices[0].message
            assert len(message.reasoning_details) == 1
            request = chat.CreateChatCompletionRequest(
                messages=[
                    chat.ChatMessage(role="user", content="Hello"),
                    chat.ChatMessage(
                        role="assistant", content=message.content, reasoning_details=message.reasoning_details
                    ),
                    chat.ChatMessage(role="user", content="And?"),
                ]
            )
            sent = ADAPTER.chat_request(request, NEWEST, Credential(ProviderKey(road.key)), stream=False)
            assert orjson.loads(sent.body)["contents"][1]["parts"][0]["thoughtSignature"]
            await road.upstream.fetch(sent, 5)  # Google would refuse a signature that is not its own


class TestFactThoughtPartsAreReasoning:
    async def test_they_are_told_apart_from_the_answer(self, road: Road) -> None:
        await road.behave(reasoning="First I think.", content="Then I speak.")
        for answer in await road.both(say("Hello", reasoningEffort="low")):
            message = answer.choices[0].message
            assert (message.reasoning_content, message.content) == ("First I think.", "Then I speak.")

    async def test_they_stay_unsaid_unless_effort_is_asked_for(self, road: Road) -> None:
        await road.behave(reasoning="First I think.")
        for answer in await road.both(say("Hello")):
            assert not answer.choices[0].message.HasField("reasoning_content")


class TestFactLimitsSayInTheirDetailsWhatToDo:
    async def test_a_minute_is_waited_for_as_long_as_it_says(self, road: Road) -> None:
        await road.behave(status=429)
        with pytest.raises(errors.ProviderRateLimited) as limited:
            await road.whole(say("Hello"))
        assert (limited.value.retryable, limited.value.retry_after) == (True, 34)

    @pytest.mark.parametrize(
        "violation",
        [
            {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"},
            {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "0"},
        ],
    )
    async def test_a_day_or_a_limit_of_0_is_not(self, road: Road, violation: dict[str, Any]) -> None:
        details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}]
        await road.behave(status=429, body={"error": {"code": 429, "details": details}})
        with pytest.raises(errors.ProviderQuotaExhausted) as exhausted:
            await road.whole(say("Hello"))
        assert not exhausted.value.retryable

    @pytest.mark.parametrize(("status", "retryable"), [(503, True), (402, False)])
    async def test_503_is_tried_again_and_402_never(self, road: Road, status: int, retryable: bool) -> None:
        await road.behave(status=status)
        with pytest.raises(errors.ProviderError) as failed:
            await road.whole(say("Hello"))
        assert failed.value.retryable == retryable

    async def test_error_in_mid_stream_is_read_like_any_other(self, road: Road) -> None:
        await road.behave(error_in_stream_after_chunks=1)
        with pytest.raises(errors.ProviderUnavailable):
            await road.streamed(say("Hello"))


class TestFactGenerateContentRemains:
    async def test_it_is_what_answers(self, road: Road) -> None:
        await road.whole(say("Hello"))
        assert (await road.received()).path.endswith(":generateContent")


class TestKey:
    @pytest.mark.parametrize("model", ["", NEWEST])
    async def test_good_key_passes(self, road: Road, model: str) -> None:
        assert (await try_key(ADAPTER, road.upstream, ProviderKey(road.key), model)).reason == ""

    async def test_wrong_key_is_found(self, road: Road) -> None:
        assert (await try_key(ADAPTER, road.upstream, ProviderKey("AIza-wrong"), "")).reason == "INVALID_API_KEY"

    async def test_model_that_is_not_there_is_found(self, road: Road) -> None:
        assert (await try_key(ADAPTER, road.upstream, ProviderKey(road.key), "gemini-9")).reason == "MODEL_NOT_FOUND"


class TestModelList:
    async def test_is_read_page_by_page_without_those_that_do_not_chat(
        self, sdk: genai.client.AsyncClient, road: Road
    ) -> None:
        found, token = [], ""
        while True:
            page = await road.upstream.fetch(ADAPTER.models_request(ProviderKey(road.key), 3, token), 5)
            models, token = ADAPTER.read_models(page)
            found += [(model.id, model.display_name, model.context_length) for model in models]
            if not token:
                break
        pager = await sdk.models.list()
        assert found == [
            ((model.name or "").removeprefix("models/"), model.display_name, model.input_token_limit)
            async for model in pager
            if "generateContent" in (model.supported_actions or [])
        ]
        assert len(found) > 3


class TestEmbeddings:
    MODEL = "gemini-embedding-001"

    async def test_are_asked_for_and_read_as_the_sdk_does(self, sdk: genai.client.AsyncClient, road: Road) -> None:
        config = types.EmbedContentConfig(output_dimensionality=16)
        theirs = await sdk.models.embed_content(model=self.MODEL, contents=["one", "two"], config=config)
        sent = await road.received()
        asked = JsonMembers(orjson.dumps({"input": ["one", "two"], "dimensions": 16}))
        wire = ADAPTER.embedding_request(asked, self.MODEL, Credential(ProviderKey(road.key)))
        embedded = ADAPTER.read_embeddings(await road.upstream.fetch(wire, 5), asked, self.MODEL)
        ours = await road.received()
        assert (ours.method, ours.path, ours.query) == (sent.method, sent.path, sent.query)
        assert ours.body == _without_roles(sent.body)
        vectors = [each["embedding"] for each in orjson.loads(embedded.body)["data"]]
        assert vectors == [each.values for each in theirs.embeddings or ()]

    def test_tell_the_usage_where_google_does(self) -> None:
        """The newer models report it; the counts of others are estimated."""
        told = types.EmbedContentResponse.model_validate(
            {"embeddings": [{"values": [0.5]}], "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7}}
        )
        answer = orjson.dumps(told.model_dump(mode="json", by_alias=True, exclude_none=True))
        asked = JsonMembers(b'{"input":"Hello"}')
        usage = ADAPTER.read_embeddings(answer, asked, self.MODEL).usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.total_tokens, usage.estimated) == (7, 7, False)
        estimated = ADAPTER.read_embeddings(b'{"embeddings":[{"values":[0.5]}]}', asked, self.MODEL).usage
        assert estimated is not None
        assert (estimated.prompt_tokens, estimated.estimated) == (2, True)

    def test_that_are_not_one_for_each_text_make_no_sense(self) -> None:
        for asked in (b'{"input":["a","b"]}', b'{"input":"a","encoding_format":"base64"}'):
            with pytest.raises(ValueError, match=r"embedding|vector"):
                ADAPTER.read_embeddings(b'{"embeddings":[{"values":["x"]}]}', JsonMembers(asked), self.MODEL)


def _without_roles(body: Any) -> Any:
    """Leaves out that a text to embed is the user's, which the SDK says of each."""
    for each in body["requests"]:
        each["content"].pop("role", None)
    return body
