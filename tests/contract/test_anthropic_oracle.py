"""The Anthropic adapter against an oracle that is not ours: the request and event types of Anthropic's own SDK.

Its second judge is the sandbox, which refuses what the API refuses, in both versions of the API. The classes at the
end hold one test for each wire fact that is known to trip implementers.
"""

import types
import typing
from collections.abc import Iterator, Mapping
from itertools import pairwise, product
from typing import Any, Literal, NotRequired, Required

import orjson
import pytest
from anthropic.types import (
    Message,
    MessageCreateParams,
    ModelParam,
    RawMessageStreamEvent,
    StopReason,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from realmultillm.chat.v1 import chat_service_pb2 as chat
from typing_extensions import is_typeddict

from deploy.local.sandbox_provider.dialects.anthropic import models as sandbox_models
from deploy.local.sandbox_provider.dialects.anthropic.errors import SPEND_LIMIT
from deploy.local.sandbox_provider.dialects.anthropic.validation import check
from libs.errors import InvalidRequest, ProviderError
from libs.provider_keys import ProviderKey
from libs.worker.adapter import Credential, ProviderRequest
from libs.worker.reasoning_effort import EFFORTS
from services.workers.anthropic.adapter import ADAPTER
from services.workers.anthropic.answer import FINISH_REASONS, AnthropicAnswerReader
from services.workers.anthropic.model_rules import rules_of
from tests.support.chat_requests import chat_request

MODELS: tuple[str, ...] = typing.get_args(typing.get_args(ModelParam)[0])
KNOWN = [name for name in MODELS if sandbox_models.find(name) is not None]
SAMPLING = {"temperature", "top_p"}

PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def unfit(value: Any, kind: Any, at: str = "body") -> Iterator[str]:
    """Yields where a value departs from a type of the SDK, members it does not name included."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Required, NotRequired, typing.Annotated):
        yield from unfit(value, arguments[0], at)
    elif origin in (typing.Union, types.UnionType):
        if all(any(unfit(value, option, at)) for option in arguments):
            yield f"{at}: {value!r} is none of {kind}"
    elif origin is Literal:
        if value not in arguments:
            yield f"{at}: {value!r} is none of {arguments}"
    elif is_typeddict(kind):
        yield from _unfit_members(value, kind, at)
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{at}: {value!r} is no object"
    elif origin is not None:  # lists, iterables and the SDK's own kind of sequence
        if isinstance(value, list):
            for index, member in enumerate(value):
                yield from unfit(member, arguments[0], f"{at}[{index}]")
        else:
            yield f"{at}: {value!r} is no list"
    elif kind is type(None):
        if value is not None:
            yield f"{at}: {value!r} is not null"
    elif kind in (str, bool, int, float):
        if type(value) is not kind and not (kind is float and type(value) is int):
            yield f"{at}: {value!r} is no {kind.__name__}"
    elif kind is not object:
        yield f"{at}: {value!r} is no {kind}"


def _unfit_members(value: Any, kind: Any, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: {value!r} is no object"
        return
    members = typing.get_type_hints(kind, include_extras=True)
    for name in value.keys() - members.keys():
        yield f"{at}.{name}: not known"
    # The type's own `__required_keys__` does not see through annotations that are kept as text.
    for name in {name for name, hint in members.items() if typing.get_origin(hint) is Required} - value.keys():
        yield f"{at}.{name}: missing"
    for name in value.keys() & members.keys():
        yield from unfit(value[name], members[name], f"{at}.{name}")


def judged(request: ProviderRequest) -> dict[str, Any]:
    """Returns the body of a request that both judges let pass."""
    body: dict[str, Any] = orjson.loads(request.body)
    version = request.headers["anthropic-version"]
    # The SDK knows the newest version only; what that removed, the version before takes.
    current = {name: value for name, value in body.items() if name not in SAMPLING}
    assert (current != body) == (version == "2023-06-01")
    assert list(unfit(current, MessageCreateParams)) == []
    PARAMS.validate_python(current)
    if sandbox_models.find(body["model"]) is not None:
        check(body, version)
    return body


def asked(model: str, messages: Any = None, own: Mapping[str, Any] | None = None, **options: Any) -> ProviderRequest:
    request = chat_request(
        {"messages": messages or [{"role": "user", "content": "Hello"}], "options": options},
    )
    return ADAPTER.chat_request(request, model, Credential(ProviderKey("sk-ant-1"), **own or {}), stream=False)


WEATHER = {"name": "weather", "description": "Tells.", "parameters": {"properties": {"place": {"type": "string"}}}}
TIME = {"name": "time"}
PNG = "data:image/png;base64,aGVsbG8="
CALLS = [
    {"id": "toolu_1", "name": "weather", "arguments": '{"place":"Rome"}'},
    {"id": "call:2", "function": {"name": "time", "arguments": ""}},
]
TALK: dict[str, list[dict[str, Any]]] = {
    "hello": [{"role": "user", "content": "Hello"}],
    "all roles": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "parts": [{"text": "What is it?"}, {"imageUrl": {"url": PNG}}]},
        {"role": "user", "parts": [{"imageUrl": {"url": "https://example.com/a.png", "detail": "high"}}]},
    ],
    "tool results": [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": "Let me see.\n", "toolCalls": CALLS},
        {"role": "tool", "toolCallId": "toolu_1", "content": "Rain."},
        {"role": "tool", "toolCallId": "call:2", "parts": [{"imageUrl": {"url": PNG}}]},
        {"role": "user", "content": "Well?"},
    ],
}
FORM = {"type": "json_schema", "jsonSchema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "limits": {"maxTokens": 3_000, "stop": ["END"]},
    "sampling": {"temperature": 1.5, "topP": 0.5, "seed": 4, "presencePenalty": 1, "frequencyPenalty": 1},
    "top-p": {"topP": 0.5},
    "tools": {"tools": [WEATHER | {"strict": True}, TIME | {"strict": True}], "parallelToolCalls": False},
    "no tools": {"tools": [WEATHER, TIME], "toolChoice": "none"},
    "form": {"responseFormat": FORM},
    **{f"effort {effort}": {"reasoningEffort": effort, "topP": 0.5, "temperature": 0.5} for effort in EFFORTS},
    "little thought": {"reasoningEffort": "max", "maxTokens": 1_100},
    "no room for thought": {"reasoningEffort": "max", "maxTokens": 100},
}


class TestOracle:
    def test_sees_what_is_wrong(self) -> None:
        """Were it blind, everything below would pass."""
        good = orjson.loads(asked("claude-haiku-4-5").body)
        assert list(unfit(good, MessageCreateParams)) == []
        for wrong in (
            {"seed": 1},
            {"max_tokens": "9"},
            {"thinking": {"type": "adaptive", "budget_tokens": 5}},
            {"output_config": {"effort": "minimal"}},
            {"messages": [{"role": "tool", "content": "x"}]},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "name": "y"}]}]},
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]},
            {"tools": [{"type": "function", "function": {"name": "x"}}]},
            {"tool_choice": "auto"},
            {"system": [{"text": "x"}]},
        ):
            assert list(unfit(good | wrong, MessageCreateParams)), wrong

    @pytest.mark.parametrize("model", MODELS)
    def test_takes_what_is_sent(self, model: str) -> None:
        for talk, options in product(TALK.values(), OPTIONS.values()):
            judged(asked(model, talk, **options))

    @pytest.mark.parametrize("model", KNOWN)
    def test_takes_a_call_that_must_be_made_or_it_is_refused_before(self, model: str) -> None:
        found = sandbox_models.find(model)
        assert found is not None
        for choice, effort in product(("required", "weather"), ("", *EFFORTS)):
            options: dict[str, Any] = {"tools": [WEATHER], "toolChoice": choice, "reasoningEffort": effort}
            if found.forced_tools:
                judged(asked(model, **options))
            else:
                with pytest.raises(InvalidRequest) as refused:
                    asked(model, **options)
                assert [violation.field for violation in refused.value.violations] == ["options.toolChoice"]

    @pytest.mark.parametrize("model", KNOWN)
    def test_knows_models_as_the_sandbox_does(self, model: str) -> None:
        """Two tables, written apart from the same pages."""
        ours, theirs = rules_of(model), sandbox_models.find(model)
        assert theirs is not None
        assert ours.thinking == set(theirs.thinking)
        assert (ours.sampling, ours.forced_tools, ours.prefill) == (
            theirs.sampling,
            theirs.forced_tools,
            theirs.prefill,
        )
        assert ours.bound_thoughts == theirs.bound
        assert set(ours.efforts) <= set(theirs.efforts)
        assert ours.longest_answer <= theirs.max_tokens

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def test_takes_whatever_the_adapter_does_not_refuse(self, data: st.DataObject) -> None:
        words = st.text("ab \n\t é", max_size=6)
        # Of the user white space alone is not mended: Anthropic says that itself.
        spoken = words.map(lambda text: f"{text}.")
        part = st.one_of(
            st.fixed_dictionaries({"text": spoken}),
            st.sampled_from([{"imageUrl": {"url": PNG}}, {"imageUrl": {"url": "https://a/b"}}]),
        )
        turn = st.one_of(
            st.fixed_dictionaries({"role": st.sampled_from(["system", "assistant"]), "content": words}),
            st.fixed_dictionaries({"role": st.just("user"), "content": spoken}),
            st.fixed_dictionaries(
                {"role": st.just("user"), "parts": st.lists(part, max_size=3).map(lambda p: [*p, {"text": "?"}])}
            ),
        )
        loop = [
            {"role": "assistant", "toolCalls": CALLS},
            {"role": "tool", "toolCallId": "call:2", "content": data.draw(words)},
            {"role": "tool", "toolCallId": "toolu_1", "content": data.draw(words)},
        ]
        before, after = data.draw(st.lists(turn, max_size=4)), data.draw(st.lists(turn, max_size=3))
        talk = [*before, *(loop if data.draw(st.booleans()) else []), *after]
        options: dict[str, Any] = data.draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "temperature": st.floats(0, 2),
                    "topP": st.floats(0, 1),
                    "maxTokens": st.integers(1, 32_000),
                    "stop": st.lists(st.text(min_size=1, max_size=3), max_size=3),
                    "reasoningEffort": st.sampled_from(EFFORTS),
                    "tools": st.just([WEATHER, TIME]),
                    "parallelToolCalls": st.booleans(),
                    "responseFormat": st.sampled_from([FORM, {"type": "text"}]),
                },
            )
        )
        if "tools" in options:
            options["toolChoice"] = data.draw(st.sampled_from(["auto", "none", "required", "time"]))
        model = data.draw(st.sampled_from(KNOWN))
        try:
            request = asked(model, talk or None, **options)
        except InvalidRequest:
            return
        judged(request)


def event(data: dict[str, Any]) -> dict[str, Any]:
    """Returns an event that the SDK's types know."""
    EVENT.validate_python(data)
    return data


USAGE: dict[str, Any] = {"input_tokens": 10, "output_tokens": 1}


def start(**usage: Any) -> dict[str, Any]:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE | usage,
    }
    Message.model_validate(message)
    return event({"type": "message_start", "message": message})


def block(content: dict[str, Any], *deltas: dict[str, Any], index: int = 0) -> list[dict[str, Any]]:
    return [
        event({"type": "content_block_start", "index": index, "content_block": content}),
        *(event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas),
        event({"type": "content_block_stop", "index": index}),
    ]


def end(reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5} | usage}),
        event({"type": "message_stop"}),
    ]


def said(*words: str) -> list[dict[str, Any]]:
    return block({"type": "text", "text": ""}, *({"type": "text_delta", "text": word} for word in words))


def fed(*events: dict[str, Any]) -> tuple[AnthropicAnswerReader, chat.ChatCompletionChunk]:
    reader, chunk = ADAPTER.answer_reader(), chat.ChatCompletionChunk()
    for each in events:
        reader.read(each["type"].encode(), orjson.dumps(each), chunk)
    return reader, chunk


def failure(status: int, body: Any = None, **headers: str) -> ProviderError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ADAPTER.read_error(status, named.get, orjson.dumps(body))


class TestFactsOfRequests:
    def test_version_key_and_max_tokens_are_required(self) -> None:
        for model in MODELS:
            request = asked(model)
            assert request.headers["x-api-key"] == "sk-ant-1"
            assert request.headers["anthropic-version"] in ("2023-06-01", "2026-10-21")
            assert judged(request)["max_tokens"] > 0

    def test_system_is_top_level_and_not_a_message(self) -> None:
        body = judged(asked("claude-haiku-5-5", TALK["all roles"]))
        assert body["system"] == [{"type": "text", "text": "Be brief."}]
        assert "system" not in {turn["role"] for turn in body["messages"]}

    def test_tool_results_go_into_a_user_message(self) -> None:
        body = judged(asked("claude-haiku-5-5", TALK["tool results"]))
        last = body["messages"][-1]
        assert (last["role"], [each["type"] for each in last["content"]]) == (
            "user",
            ["tool_result", "tool_result", "text"],
        )

    def test_roles_alternate(self) -> None:
        for talk in TALK.values():
            roles = [turn["role"] for turn in judged(asked("claude-haiku-5-5", talk))["messages"]]
            assert all(one != other for one, other in pairwise(roles))

    def test_sampling_is_refused_from_opus_4_7_on(self) -> None:
        for model in KNOWN:
            body = judged(asked(model, own={"temperature": 0.7}))
            assert ("temperature" in body) == ("4-5" in model or "4-6" in model)

    def test_thinking_enabled_is_refused_from_opus_4_7_on(self) -> None:
        for model in KNOWN:
            kind = judged(asked(model, reasoningEffort="high"))["thinking"]["type"]
            assert kind == ("enabled" if "4-5" in model else "adaptive")

    def test_large_max_tokens_are_asked_for_streamed(self) -> None:
        """The SDK's own rule: an hour for 128,000 tokens, and ten minutes at most without a stream."""
        for limit in (1_000, 21_333, 21_334, 64_000):
            request = asked("claude-haiku-5-5", maxTokens=limit)
            assert request.streamed == (3_600 * limit / 128_000 > 600)


class TestFactsOfStreams:
    def test_events_come_in_their_order(self) -> None:
        reader, chunk = fed(start(), *said("Hel", "lo"), *end())
        assert (chunk.content, reader.finished, reader.finish_reason) == ("Hello", True, "stop")

    def test_pings_come_anywhere(self) -> None:
        told = [start(), *said("Hel", "lo"), *end()]
        ping = {"type": "ping"}
        pinged = [each for one in told for each in (ping, one, ping)]
        assert fed(*pinged)[1] == fed(*told)[1]

    def test_unknown_events_blocks_and_deltas_are_ignored(self) -> None:
        odd_block = [
            {"type": "content_block_start", "index": 1, "content_block": {"type": "hologram"}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "light_delta", "light": 1}},
            {"type": "content_block_stop", "index": 1},
        ]
        _, chunk = fed(start(), {"type": "brand_new"}, *said("Hello"), *odd_block, *end())
        assert chunk == fed(start(), *said("Hello"), *end())[1]

    def test_each_delta_belongs_to_the_block_of_its_index(self) -> None:
        """Blocks of several kinds: what a tool at Anthropic's gets for input is not the caller's to answer."""
        tool = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
        server = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
        _, chunk = fed(
            start(),
            *block(
                {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "Hm."}
            ),
            *block(server, {"type": "input_json_delta", "partial_json": '{"query":"x"}'}, index=1),
            *block({"type": "text", "text": ""}, {"type": "text_delta", "text": "So:"}, index=2),
            *block(tool, {"type": "input_json_delta", "partial_json": "{}"}, index=3),
            *end("tool_use"),
        )
        assert (chunk.content, chunk.reasoning_content) == ("So:", "Hm.")
        assert [(call.index, call.name, call.arguments) for call in chunk.tool_calls] == [
            (0, "weather", ""),
            (0, "", "{}"),
        ]

    def test_deltas_of_every_type_are_read(self) -> None:
        citation = {
            "type": "char_location",
            "cited_text": "x",
            "document_index": 0,
            "document_title": None,
            "start_char_index": 0,
            "end_char_index": 1,
            "file_id": None,
        }
        _, chunk = fed(
            start(),
            *block(
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "Hm."},
                {"type": "signature_delta", "signature": "c2ln"},
            ),
            *block(
                {"type": "text", "text": ""},
                {"type": "text_delta", "text": "Hello"},
                {"type": "citations_delta", "citation": citation},
                index=1,
            ),
            *end(),
        )
        assert (chunk.content, chunk.reasoning_content, len(chunk.reasoning_details)) == ("Hello", "Hm.", 1)

    def test_tool_input_is_text_in_fragments(self) -> None:
        tool = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
        fragments = ["", '{"pla', 'ce": "Ro', 'me"}']
        _, chunk = fed(
            start(),
            *block(tool, *({"type": "input_json_delta", "partial_json": fragment} for fragment in fragments)),
            *end("tool_use"),
        )
        first, *rest = chunk.tool_calls
        assert (first.id, first.name, first.arguments) == ("toolu_1", "weather", "")
        assert "".join(call.arguments for call in rest) == '{"place": "Rome"}'

    def test_usage_at_the_end_is_cumulative(self) -> None:
        usage = fed(start(output_tokens=3), *said("Hello"), *end(output_tokens=15))[0].usage()
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 15, 25)

    def test_usage_at_the_end_may_update_input_and_cache(self) -> None:
        """With tools at Anthropic's, the start knows the first round only: 10 becomes 30 + 200 + 7 = 237."""
        later: dict[str, Any] = {"input_tokens": 30, "cache_read_input_tokens": 200, "cache_creation_input_tokens": 7}
        usage = fed(start(cache_read_input_tokens=0), *said("Hello"), *end(**later))[0].usage()
        assert usage is not None
        assert usage.prompt_tokens == 237
        assert usage.prompt_tokens_details.cached_tokens == 200
        assert usage.prompt_tokens_details.cache_write_tokens == 7

    def test_output_tokens_details_are_for_information(self) -> None:
        usage = fed(start(), *said("Hi"), *end(output_tokens=9, output_tokens_details={"thinking_tokens": 6}))[
            0
        ].usage()
        assert usage is not None
        assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (9, 6)

    def test_error_in_mid_stream_is_529(self) -> None:
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        with pytest.raises(ProviderError) as raised:
            fed(start(), *said("Hel"), error)
        twin = failure(529, error)
        assert (
            (raised.value.reason, raised.value.retryable)
            == (twin.reason, twin.retryable)
            == (
                "PROVIDER_UNAVAILABLE",
                True,
            )
        )

    def test_every_stop_reason_is_known(self) -> None:
        assert set(FINISH_REASONS) == set(typing.get_args(StopReason))
        reasons = {native: fed(start(), *said("Hi"), *end(native))[0].finish_reason for native in FINISH_REASONS}
        assert (reasons["refusal"], reasons["pause_turn"]) == ("content_filter", "length")


class TestFactsOfErrors:
    @pytest.mark.parametrize("status", [408, 409, 424, 429, 500, 502, 503, 529])
    def test_passing_ones_are_retryable(self, status: int) -> None:
        assert failure(status).retryable

    def test_a_spend_limit_is_not_a_rate_limit(self) -> None:
        error = failure(429, SPEND_LIMIT)
        assert (error.reason, error.retryable, error.retry_after) == ("PROVIDER_QUOTA_EXHAUSTED", False, None)

    def test_an_own_spend_cap_comes_with_400(self) -> None:
        message = "You have reached your specified API usage limits."
        error = failure(400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}})
        assert (error.reason, error.retryable) == ("PROVIDER_QUOTA_EXHAUSTED", False)

    def test_billing_comes_with_402(self) -> None:
        assert (failure(402).reason, failure(402).retryable) == ("PROVIDER_QUOTA_EXHAUSTED", False)

    def test_retry_after_is_in_seconds_and_resets_are_in_rfc_3339(self) -> None:
        reset = "9999-01-01T00:00:00Z"
        limits = {"anthropic_ratelimit_tokens_remaining": "0", "anthropic_ratelimit_tokens_reset": reset}
        assert failure(429, None, retry_after="7", **limits).retry_after == 7
        assert failure(429, None, **limits).retry_after == 86_400  # a day at most
