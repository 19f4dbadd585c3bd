"""OpenRouter's worker against OpenRouter's own SDK: what it sends are its types, what both read is the same."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, get_args
from uuid import uuid4

import pytest
from openrouter import OpenRouter
from openrouter.components import APIErrorType, ChatRequest, ChatResult, ChatStreamChunk
from openrouter.types import UnrecognizedStr
from pydantic import ValidationError
from realmultillm.chat.v1 import chat_service_pb2 as chat

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.sandbox_provider.server import running
from libs.errors import ProviderTimeout
from libs.provider_keys import ProviderKey
from libs.worker.failures import Failures
from libs.worker.json_object import plain
from libs.worker.streaming import AnswerStream
from libs.worker.upstream import connect_upstream
from services.workers.openrouter.adapter import ADAPTER
from services.workers.openrouter.errors import read_own_error
from tests.support.full_requests import CONVERSATION, HELLO, OPTIONS, WEATHER, uncovered
from tests.support.wire import LOCAL_RULES, asked, body_of, events_of, exchange, put_together, read_stream

CLAUDE = "anthropic/claude-sonnet-5.5"
THOUGHT = "First the greeting, then the answer."
DETAILS = [
    {"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "x", "format": "openai-responses-v1", "id": "r", "index": 1},
]


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with running() as url:
        yield f"{url}/openrouter/v1"


@pytest.fixture
async def control(base_url: str) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(base_url.removesuffix("/openrouter/v1")) as client:
        yield client


@pytest.fixture
def key() -> str:
    return f"sk-or-sandbox-{uuid4().hex}"


@pytest.fixture
async def sdk(base_url: str, key: str) -> AsyncIterator[OpenRouter]:
    async with OpenRouter(api_key=key, server_url=base_url, retry_config=None) as client:
        yield client


def accepted(body: dict[str, Any]) -> None:
    """Checks a body against the SDK's request type, which lets unknown members and words pass: so they must be none."""
    request = ChatRequest.model_validate(body)
    assert request.model_dump(mode="json", by_alias=True, exclude_unset=True) == body
    assert list(unknown_words(request)) == []


def unknown_words(value: Any) -> Iterator[str]:
    """Yields the words that the SDK's open enumerations do not have."""
    if isinstance(value, UnrecognizedStr):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from unknown_words(member)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for member in value:
            yield from unknown_words(member)
    elif hasattr(value, "__pydantic_fields__"):
        yield from unknown_words(dict(value))


class TestTheReferenceItself:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"unknown": 1},
            {"reasoning": {"effort": "low", "unknown": 1}},
            {"reasoning": {"effort": "colossal"}},
            {"messages": [{"role": "user", "content": "x", "unknown": 1}]},
            {"messages": [{"role": "nobody", "content": "x"}]},
            {"stream_options": {"include_usage": True, "include_obfuscation": False}},
        ],
    )
    def test_refuses_what_openrouter_has_not(self, wrong: dict[str, Any]) -> None:
        with pytest.raises((ValidationError, AssertionError)):
            accepted({"model": "m", "messages": [{"role": "user", "content": "x"}], **wrong})


class TestRequest:
    @pytest.mark.parametrize("stream", [False, True])
    def test_conversation_with_tools_and_pictures(self, stream: bool) -> None:
        accepted(body_of(asked(ADAPTER, CONVERSATION, stream=stream)))

    @pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
    @pytest.mark.parametrize("model", [ADAPTER.default_model, "openai/gpt-6.1-sol"])
    def test_every_option(self, options: dict[str, Any], model: str) -> None:
        accepted(body_of(asked(ADAPTER, {**HELLO, "options": options}, model=model)))

    def test_no_option_is_forgotten(self) -> None:
        assert uncovered() == set()

    @pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
    def test_every_effort(self, effort: str) -> None:
        accepted(body_of(asked(ADAPTER, {**HELLO, "options": {"reasoningEffort": effort}})))

    def test_reasoning_details_sent_back(self) -> None:
        turns = [*HELLO["messages"], {"role": "assistant", "content": "Hi.", "reasoningDetails": DETAILS}]
        body = body_of(asked(ADAPTER, {"messages": turns}))
        accepted(body)
        assert body["messages"][1]["reasoning_details"] == DETAILS


class TestAnswer:
    REQUESTS = (
        pytest.param(HELLO, {}, id="text"),
        pytest.param({**HELLO, "options": {"reasoningEffort": "low"}}, {}, id="reasoning"),
        pytest.param(
            {**HELLO, "options": {"tools": [WEATHER, {"name": "clock"}], "toolChoice": "required"}}, {}, id="tools"
        ),
        pytest.param({**HELLO, "options": {"maxTokens": 3}}, {}, id="cut short"),
        pytest.param(HELLO, {"finish_reason": "content_filter"}, id="blocked"),
        pytest.param(
            HELLO,
            {"usage": {"prompt_tokens": 194, "cost": 0.25, "prompt_tokens_details": {"cached_tokens": 90}}},
            id="cached",
        ),
    )

    @pytest.mark.parametrize(("request_", "behaviour"), REQUESTS)
    async def test_whole_says_the_same_to_both(
        self, base_url: str, control: SandboxControl, key: str, request_: Any, behaviour: Any
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), **behaviour))
        wire = asked(ADAPTER, request_, model=CLAUDE, key=key)
        body = (await exchange(base_url, wire)).content
        ours, theirs = ADAPTER.read_answer(body), ChatResult.model_validate_json(body)
        (choice,), (their_choice,) = ours.choices, theirs.choices
        said, their_message = choice.message, their_choice.message
        assert (ours.model, choice.finish_reason) == (theirs.model, their_choice.finish_reason)
        assert said.content == (their_message.content or "")
        assert said.reasoning_content == (their_message.reasoning or "")
        assert [(call.function.name, call.function.arguments) for call in said.tool_calls] == [
            (call.function.name, call.function.arguments) for call in their_message.tool_calls or ()
        ]
        their_details = [
            detail.model_dump(mode="json", exclude_unset=True) for detail in their_message.reasoning_details or ()
        ]
        assert [plain(detail) for detail in said.reasoning_details] == their_details
        self.compare_usage(ours.usage, ours.cost_usd, theirs.usage)

    @pytest.mark.parametrize(("request_", "behaviour"), REQUESTS)
    async def test_streamed_says_the_same_to_both(
        self, base_url: str, control: SandboxControl, key: str, request_: Any, behaviour: Any
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), **behaviour))
        wire = asked(ADAPTER, request_, model=CLAUDE, key=key, stream=True)
        body = (await exchange(base_url, wire)).content
        ours, reader = read_stream(ADAPTER, body)
        chunks = [ChatStreamChunk.model_validate_json(event) for event in events_of(body)]
        deltas = [choice.delta for each in chunks for choice in each.choices]
        assert ours.content == "".join(delta.content or "" for delta in deltas)
        assert ours.reasoning_content == "".join(delta.reasoning or "" for delta in deltas)
        their_calls = [call for delta in deltas for call in delta.tool_calls or ()]
        their_arguments = [call.function.arguments or "" for call in their_calls if call.function]
        assert "".join(call.arguments for call in ours.tool_calls) == "".join(their_arguments)
        assert (reader.finish_reason, reader.closed) == (chunks[-1].choices[0].finish_reason, True)
        usage = reader.usage()
        assert usage is not None
        self.compare_usage(usage, reader.cost_usd, chunks[-1].usage)

    @pytest.mark.parametrize(("request_", "behaviour"), REQUESTS)
    async def test_whole_and_streamed_are_equal_to_the_token(
        self, base_url: str, control: SandboxControl, key: str, request_: Any, behaviour: Any
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), **behaviour))
        whole = await exchange(base_url, asked(ADAPTER, request_, model=CLAUDE, key=key))
        streamed = await exchange(base_url, asked(ADAPTER, request_, model=CLAUDE, key=key, stream=True))
        answer, (merged, reader) = ADAPTER.read_answer(whole.content), read_stream(ADAPTER, streamed.content)
        assert (answer.usage, answer.cost_usd) == (reader.usage(), reader.cost_usd)
        assert list(answer.choices[0].message.reasoning_details) == list(merged.reasoning_details)
        assert answer.choices[0].native_finish_reason == reader.native_finish_reason

    @staticmethod
    def compare_usage(ours: chat.Usage, cost: float | None, theirs: Any) -> None:
        sent, received = theirs.prompt_tokens_details, theirs.completion_tokens_details
        assert (ours.prompt_tokens, ours.completion_tokens) == (theirs.prompt_tokens, theirs.completion_tokens)
        assert ours.prompt_tokens_details.cached_tokens == (sent.cached_tokens or 0)
        assert ours.completion_tokens_details.reasoning_tokens == received.reasoning_tokens
        assert cost == theirs.cost


class TestReasoningGoesOn:
    """A tool call in the middle of a thought: the next turn is refused when the signed thought is not the same."""

    async def turn(self, base_url: str, key: str, *, stream: bool) -> list[dict[str, Any]]:
        options = {"tools": [WEATHER], "toolChoice": "required", "reasoningEffort": "low"}
        wire = asked(ADAPTER, {**HELLO, "options": options}, model=CLAUDE, key=key, stream=stream)
        body = (await exchange(base_url, wire)).content
        answered = put_together(ADAPTER, *events_of(body)) if stream else ADAPTER.read_answer(body)
        message = answered.choices[0].message
        (call,) = message.tool_calls
        said = {
            "role": "assistant",
            "toolCalls": [{"id": call.id, "name": call.function.name, "arguments": call.function.arguments}],
            "reasoningDetails": [plain(detail) for detail in message.reasoning_details],
        }
        return [*HELLO["messages"], said, {"role": "tool", "toolCallId": call.id, "content": "sunny"}]

    @pytest.mark.parametrize("stream", [False, True])
    async def test_after_a_tool_call(self, base_url: str, key: str, stream: bool) -> None:
        turns = await self.turn(base_url, key, stream=stream)
        assert turns[1]["reasoningDetails"]
        answered = await exchange(base_url, asked(ADAPTER, {"messages": turns}, model=CLAUDE, key=key))
        assert "sunny" in ADAPTER.read_answer(answered.content).choices[0].message.content
        turns[1]["reasoningDetails"][0]["text"] += "?"
        spoilt = await exchange(base_url, asked(ADAPTER, {"messages": turns}, model=CLAUDE, key=key))
        assert spoilt.status_code == 400


class TestComments:
    """They prove that OpenRouter is alive, and are nothing the model said."""

    async def test_keep_a_silent_stream_open(self, base_url: str, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), first_chunk_delay_ms=1_000))
        wire = asked(ADAPTER, HELLO, key=key, stream=True)
        async with (
            connect_upstream(ADAPTER, base_url, stream_idle_seconds=0.5, rules=LOCAL_RULES) as upstream,
            upstream.stream(wire) as pieces,
        ):
            answer = AnswerStream(ADAPTER, pieces)
            await answer.read_first_output()
            assert answer.has_output

    async def test_do_not_count_as_the_first_output(self, base_url: str, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), first_chunk_delay_ms=60_000))
        wire = asked(ADAPTER, HELLO, key=key, stream=True)
        async with (
            connect_upstream(ADAPTER, base_url, stream_idle_seconds=30, rules=LOCAL_RULES) as upstream,
            upstream.stream(wire) as pieces,
        ):
            comments = b""
            while comments.count(b"PROCESSING") < 3:
                comments += await anext(pieces)
            assert read_stream(ADAPTER, comments)[0] == chat.ChatCompletionChunk()

    async def test_silence_without_them_is_a_timeout(self, base_url: str, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), chunk_delay_ms=60_000))
        wire = asked(ADAPTER, HELLO, key=key, stream=True)
        async with (
            connect_upstream(ADAPTER, base_url, stream_idle_seconds=0.2, rules=LOCAL_RULES) as upstream,
            upstream.stream(wire) as pieces,
        ):
            with pytest.raises(ProviderTimeout):
                async for _ in pieces:
                    pass


class TestErrors:
    def test_every_kind_the_sdk_knows_has_its_meaning(self) -> None:
        literal, _ = get_args(APIErrorType)
        for kind in get_args(literal):
            # 418 is none that would decide it.
            found = read_own_error(Failures("p", "P"), 418, {"metadata": {"error_type": kind}}, None)
            assert found is not None, kind


class TestKeyAndModels:
    async def test_key_of_the_sandbox_is_accepted(self, base_url: str, key: str) -> None:
        response = await exchange(base_url, ADAPTER.key_test_request(ProviderKey(key), ""))
        ADAPTER.read_key_test(response.content, "")

    async def test_models_are_those_the_sdk_lists(self, base_url: str, sdk: OpenRouter, key: str) -> None:
        response = await exchange(base_url, ADAPTER.models_request(ProviderKey(key), 0, ""))
        ours, _ = ADAPTER.read_models(response.content)
        listed = await sdk.models.list_async()
        assert listed is not None
        assert [(model.id, model.display_name, model.context_length) for model in ours] == [
            (model.id, model.name, model.context_length) for model in listed.result.data
        ]
