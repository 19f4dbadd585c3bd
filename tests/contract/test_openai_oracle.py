"""OpenAI's worker against OpenAI's own SDK: what it sends are its types, what both read is the same; fact by fact."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar
from uuid import uuid4

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from realmultillm.chat.v1 import chat_service_pb2 as chat

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.sandbox_provider.server import running
from libs import errors
from libs.errors import ProviderError
from libs.provider_keys import ProviderKey
from services.workers.openai.adapter import ADAPTER
from services.workers.openai.model_rules import rules_of
from tests.support.full_requests import CONVERSATION, HELLO, OPTIONS, WEATHER, uncovered
from tests.support.openai_types import accepted
from tests.support.wire import asked, body_of, events_of, exchange, put_together, read_events, read_stream

REASONING = ("o3", "o4-mini", "gpt-5", "gpt-5.4", "gpt-5.6-sol", "gpt-6.2-sol")
MODELS = ("gpt-4o", "gpt-4.1-mini", *REASONING)


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with running() as url:
        yield f"{url}/openai/v1"


@pytest.fixture
async def control(base_url: str) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(base_url.removesuffix("/openai/v1")) as client:
        yield client


@pytest.fixture
def key() -> str:
    return f"sk-sandbox-{uuid4().hex}"


def options_for(model: str, effort: str = "") -> list[dict[str, Any]]:
    """Returns the options a model does not refuse; JSON is asked for in words too, as OpenAI demands."""
    return [options for options in OPTIONS if "stop" not in options or rules_of(model, effort).stop]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, "logprobs": None}
    frame = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    event = ChatCompletionChunk.model_validate(frame | {"usage": None})
    return orjson.dumps(event.model_dump(mode="json") | more)


def refused(status: int, error: dict[str, Any], **headers: str) -> ProviderError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ADAPTER.read_error(status, named.get, orjson.dumps({"error": error}))


class TestRequest:
    JSON: ClassVar = {"messages": [{"role": "user", "content": "Hello, in JSON"}]}

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("model", MODELS)
    async def test_conversation_with_tools_and_pictures(
        self, base_url: str, key: str, model: str, stream: bool
    ) -> None:
        request = asked(ADAPTER, CONVERSATION, model=model, key=key, stream=stream)
        accepted(body_of(request))
        assert (await exchange(base_url, request)).status_code == 200

    @pytest.mark.parametrize("model", ["gpt-4o", "o3", "gpt-5"])
    async def test_every_option(self, base_url: str, key: str, model: str) -> None:
        for options in options_for(model):
            request = asked(ADAPTER, {**self.JSON, "options": options}, model=model, key=key)
            accepted(body_of(request))
            response = await exchange(base_url, request)
            assert response.status_code == 200, (options, response.text)

    def test_no_option_is_forgotten(self) -> None:
        assert uncovered() == set()
        assert options_for("gpt-4o") == list(OPTIONS)


class TestAnswer:
    REQUESTS = (
        pytest.param(HELLO, {}, id="text"),
        pytest.param(
            {**HELLO, "options": {"tools": [WEATHER, {"name": "clock"}], "toolChoice": "required"}}, {}, id="tools"
        ),
        pytest.param({**HELLO, "options": {"maxTokens": 70}}, {}, id="cut short"),
        pytest.param(HELLO, {"finish_reason": "content_filter"}, id="blocked"),
        pytest.param(HELLO, {"usage": {"prompt_tokens_details": {"cached_tokens": 5}}}, id="cached"),
    )

    @pytest.mark.parametrize(("request_", "behaviour"), REQUESTS)
    @pytest.mark.parametrize("model", ["gpt-4o", "gpt-5"])
    async def test_whole_streamed_and_sdk_say_the_same(
        self, base_url: str, control: SandboxControl, key: str, model: str, request_: Any, behaviour: Any
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), **behaviour))
        body = (await exchange(base_url, asked(ADAPTER, request_, model=model, key=key))).content
        streamed = (await exchange(base_url, asked(ADAPTER, request_, model=model, key=key, stream=True))).content
        ours, theirs = ADAPTER.read_answer(body), ChatCompletion.model_validate_json(body)
        merged, reader = read_stream(ADAPTER, streamed)
        choice, their_choice = ours.choices[0], theirs.choices[0]
        assert choice.message.content == merged.content == (their_choice.message.content or "")
        assert choice.finish_reason == reader.finish_reason == their_choice.finish_reason
        their_calls: list[Any] = their_choice.message.tool_calls or []
        arguments = "".join(call.function.arguments for call in their_calls)
        assert arguments == "".join(call.arguments for call in merged.tool_calls)
        assert arguments == "".join(call.function.arguments for call in choice.message.tool_calls)
        assert ours.usage == reader.usage()
        assert theirs.usage is not None
        assert theirs.usage.prompt_tokens_details is not None
        assert theirs.usage.completion_tokens_details is not None
        assert (
            ours.usage.prompt_tokens,
            ours.usage.completion_tokens,
            ours.usage.total_tokens,
            ours.usage.prompt_tokens_details.cached_tokens,
            ours.usage.completion_tokens_details.reasoning_tokens,
        ) == (
            theirs.usage.prompt_tokens,
            theirs.usage.completion_tokens,
            theirs.usage.total_tokens,
            theirs.usage.prompt_tokens_details.cached_tokens,
            theirs.usage.completion_tokens_details.reasoning_tokens,
        )
        assert [each for each in events_of(streamed) if b"obfuscation" in each] == []


class TestUsage:
    def test_cached_and_reasoning_tokens_are_within_the_counts(self) -> None:
        # 1,200 sent, 1,024 of them cached; 300 received, 256 of them thought: 1,500 in all, none counted twice.
        counts = {
            "prompt_tokens": 1_200,
            "completion_tokens": 300,
            "total_tokens": 1_500,
            "prompt_tokens_details": {"cached_tokens": 1_024},
            "completion_tokens_details": {"reasoning_tokens": 256},
        }
        expected = chat.Usage(
            prompt_tokens=1_200,
            completion_tokens=300,
            total_tokens=1_500,
            prompt_tokens_details=chat.PromptTokensDetails(cached_tokens=1_024),
            completion_tokens_details=chat.CompletionTokensDetails(reasoning_tokens=256),
        )
        whole = {"id": "1", "model": "m", "choices": [{"message": {"content": "x"}}], "usage": counts}
        streamed = put_together(ADAPTER, chunk({"content": "x"}, "stop"), chunk(choices=[], usage=counts), b"[DONE]")
        assert ADAPTER.read_answer(orjson.dumps(whole)).usage == streamed.usage == expected

    @pytest.mark.parametrize("choices", [[], None])
    def test_chunk_with_it_has_no_choices(self, choices: Any) -> None:
        counts = {"prompt_tokens": 1, "completion_tokens": 1}
        _, reader = read_events(ADAPTER, chunk({"content": "x"}), chunk(choices=choices, usage=counts))
        assert reader.usage() is not None

    def test_is_always_asked_for_and_padding_never(self) -> None:
        wanted = {"include_usage": True, "include_obfuscation": False}
        assert body_of(asked(ADAPTER, HELLO, stream=True))["stream_options"] == wanted

    def test_interrupted_stream_has_none(self) -> None:
        _, reader = read_events(ADAPTER, chunk({"content": "x"}))
        assert (reader.usage(), reader.finished) == (None, False)


class TestModels:
    @pytest.mark.parametrize("model", MODELS)
    def test_max_tokens_is_called_max_completion_tokens_for_all(self, model: str) -> None:
        body = body_of(asked(ADAPTER, {**HELLO, "options": {"maxTokens": 5}}, model=model))
        assert (body["max_completion_tokens"], "max_tokens" in body) == (5, False)

    @pytest.mark.parametrize("model", REASONING)
    def test_reasoning_ones_take_only_the_default_temperature(self, model: str) -> None:
        request = asked(ADAPTER, {**HELLO, "options": {"temperature": 0.2}}, model=model)
        assert "temperature" not in body_of(request)
        assert [each.option for each in request.dropped] == ["options.temperature"]

    @pytest.mark.parametrize("model", ["gpt-5.1", "gpt-5.4", "gpt-6.2-sol"])
    def test_sampling_is_taken_where_the_effort_is_none(self, model: str) -> None:
        request = asked(ADAPTER, {**HELLO, "options": {"temperature": 0.2, "reasoningEffort": "none"}}, model=model)
        assert (body_of(request)["temperature"], list(request.dropped)) == (0.2, [])

    @pytest.mark.parametrize("model", REASONING)
    def test_developer_replaces_system_on_reasoning_ones(self, model: str) -> None:
        messages = [{"role": "system", "content": "Be brief."}, *HELLO["messages"]]
        assert body_of(asked(ADAPTER, {"messages": messages}, model=model))["messages"][0]["role"] == "developer"


class TestDeltas:
    def test_refusal_is_what_the_model_said(self) -> None:
        merged, reader = read_events(ADAPTER, chunk({"refusal": "I will "}), chunk({"refusal": "not."}, "stop"))
        assert (merged.content, reader.finish_reason) == ("I will not.", "content_filter")

    @pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "function_call"])
    def test_finish_reasons(self, reason: str) -> None:
        _, reader = read_events(ADAPTER, chunk({"content": "x"}, reason))
        assert reader.native_finish_reason == reason
        assert reader.finish_reason == {"function_call": "tool_calls"}.get(reason, reason)

    def test_tool_calls_are_keyed_by_index_and_named_once(self) -> None:
        first = {"index": 1, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
        merged, _ = read_events(
            ADAPTER,
            chunk({"tool_calls": [{"index": 0, "id": "c0", "function": {"name": "clock", "arguments": "{"}}]}),
            chunk({"tool_calls": [first]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}),
        )
        assert [(call.index, call.id, call.name) for call in merged.tool_calls] == [
            (0, "c0", "clock"),
            (1, "c1", "weather"),
            (0, "", ""),
        ]

    def test_arguments_that_are_no_json_pass_through(self) -> None:
        broken = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"at": "Ro'}}
        merged, _ = read_events(ADAPTER, chunk({"tool_calls": [broken]}, "length"))
        assert merged.tool_calls[0].arguments == '{"at": "Ro'

    def test_service_tier_of_the_answer_is_kept(self) -> None:
        _, reader = read_events(ADAPTER, chunk({"content": "x"}, service_tier="priority"))
        body = {"choices": [{"message": {"content": "x"}}], "service_tier": "priority"}
        assert reader.service_tier == ADAPTER.read_answer(orjson.dumps(body)).service_tier == "priority"


class TestErrors:
    @pytest.mark.parametrize("code", ["rate_limit_exceeded", "slow_down"])
    def test_429_for_the_rate_is_tried_again(self, code: str) -> None:
        found = refused(429, {"code": code})
        assert (type(found), found.retryable) == (errors.ProviderRateLimited, True)

    @pytest.mark.parametrize("code", ["insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"])
    def test_429_for_money_is_not(self, code: str) -> None:
        found = refused(429, {"code": code}, retry_after="1")
        assert (type(found), found.retryable, found.retry_after) == (errors.ProviderQuotaExhausted, False, None)

    @pytest.mark.parametrize(("reset", "seconds"), [("1s", 1.0), ("6m0s", 360.0), ("120ms", 0.12)])
    def test_reset_headers_are_go_durations(self, reset: str, seconds: float) -> None:
        limit = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": reset}
        assert refused(429, {}, **limit).retry_after == pytest.approx(seconds)

    def test_retry_after_counts_before_them(self) -> None:
        limit = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1s"}
        assert refused(429, {}, retry_after="7", **limit).retry_after == 7.0


class TestKeyAndModels:
    @pytest.mark.parametrize("model", ["", "gpt-4o"])
    async def test_key_of_the_sandbox_is_accepted(self, base_url: str, key: str, model: str) -> None:
        response = await exchange(base_url, ADAPTER.key_test_request(ProviderKey(key), model))
        assert response.status_code == 200
        ADAPTER.read_key_test(response.content, model)

    async def test_models_are_listed(self, base_url: str, key: str) -> None:
        response = await exchange(base_url, ADAPTER.models_request(ProviderKey(key), 0, ""))
        models, _ = ADAPTER.read_models(response.content)
        assert {"gpt-4o", "gpt-5"} <= {model.id for model in models}
