"""The OpenAI dialect against the official SDK: what it sends are its request types, what it reads its answer types."""

from typing import Any

import orjson
import pydantic
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs import errors
from libs.errors import ProviderError
from libs.provider_keys import ProviderKey
from libs.worker.adapter import NOT_UNDERSTOOD, Credential
from libs.worker.openai_dialect import OpenAIDialect
from tests.support.chat_requests import chat_request
from tests.support.openai_types import accepted

DIALECT = OpenAIDialect(
    provider="openai",
    display_name="OpenAI",
    endpoint="https://api.openai.com/v1",
    default_model="gpt-4o-mini",
    answer_limit_field="max_completion_tokens",
    extra_headers={"x-title": "RealMultiLLM"},
)
KEY = "sk-sandbox-hunter2hunter2"
CREDENTIAL = Credential(ProviderKey(KEY))

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
TOOL = {
    "name": "weather",
    "description": "Tells it.",
    "parameters": {"type": "object", "maxLength": 5, "x": [1.5, None]},
}

IN_WORDS = {"tools": [{"type": "function", "function": TOOL}]}


def sent(request: dict[str, Any], credential: Credential = CREDENTIAL, *, stream: bool = False) -> dict[str, Any]:
    """Returns the body for a request as REST callers write it, after the SDK's own types have accepted it."""
    message = chat_request(request)
    body: dict[str, Any] = orjson.loads(DIALECT.chat_request(message, "gpt-4o", credential, stream=stream).body)
    accepted(body)
    return body


def options(**options: Any) -> dict[str, Any]:
    """Returns what options add to the body."""
    body = sent({**HELLO, "options": options})
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


class TestTheReferenceItself:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"unknown": 1},
            {"temperature": "0.7"},
            {"messages": [{"role": "user", "content": "x", "unknown": 1}]},
            {"messages": [{"role": "nobody", "content": "x"}]},
            {"tools": [{"type": "function", "function": {"description": "without a name"}}]},
        ],
    )
    def test_refuses_what_the_dialect_has_not(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(pydantic.ValidationError):
            accepted({"model": "m", "messages": [{"role": "user", "content": "x"}], **wrong})


class TestRequest:
    def test_goes_where_it_belongs_with_the_key_in_its_header_alone(self) -> None:
        message = chat_request(HELLO)
        request = DIALECT.chat_request(message, "gpt-4o", CREDENTIAL, stream=False)
        assert (request.method, request.path) == ("POST", "/chat/completions")
        assert request.headers == {
            "authorization": f"Bearer {KEY}",
            "content-type": "application/json",
            "x-title": "RealMultiLLM",
        }
        assert KEY.encode() not in request.body
        assert KEY not in repr(request)

    def test_a_plain_request_says_nothing_but_model_and_messages(self) -> None:
        assert sent(HELLO) == {"model": "gpt-4o", **HELLO}

    def test_a_stream_asks_for_its_usage(self) -> None:
        body = sent(HELLO, stream=True)
        assert body["stream"] is True
        assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}

    def test_what_is_for_this_platform_only_stays_here(self) -> None:
        request = {**HELLO, "provider": "openai", "conversationId": "c", "store": True, "metadata": {"k": "v"}}
        assert sent(request) == sent(HELLO)

    def test_the_key_test_is_the_cheapest_call_with_the_key(self) -> None:
        request = DIALECT.key_test_request(ProviderKey(KEY), "")
        assert (request.method, request.path, request.body) == ("GET", "/models", b"")
        assert request.headers["authorization"] == f"Bearer {KEY}"

    @pytest.mark.parametrize(
        ("message", "wire"),
        [
            ({"role": "system", "content": "Be brief."}, {"role": "system", "content": "Be brief."}),
            (
                {"role": "user", "parts": [{"text": "What is it?"}, {"imageUrl": {"url": "https://x/y.png"}}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                    ],
                },
            ),
            (
                {"role": "user", "parts": [{"imageUrl": {"url": "data:image/png;base64,AA==", "detail": "low"}}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
                    ],
                },
            ),
            (
                {"role": "assistant", "toolCalls": [{"id": "c1", "name": "weather", "arguments": "{}"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
                    ],
                },
            ),
            (
                {"role": "assistant", "content": "Wait.", "toolCalls": [{"id": "c1", "name": "w", "arguments": ""}]},
                {
                    "role": "assistant",
                    "content": "Wait.",
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "w", "arguments": ""}}],
                },
            ),
            ({"role": "assistant", "content": ""}, {"role": "assistant", "content": ""}),
            (
                {"role": "tool", "toolCallId": "c1", "content": "Rain."},
                {"role": "tool", "tool_call_id": "c1", "content": "Rain."},
            ),
            (
                {"role": "tool", "toolCallId": "c1", "parts": [{"text": "Rain."}]},
                {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "Rain."}]},
            ),
        ],
    )
    def test_messages(self, message: dict[str, Any], wire: dict[str, Any]) -> None:
        assert sent({"messages": [message]})["messages"] == [wire]

    @pytest.mark.parametrize(
        ("given_options", "wire"),
        [
            ({"temperature": 0}, {"temperature": 0.0}),
            ({"maxTokens": 5}, {"max_completion_tokens": 5}),
            ({"topP": 0}, {"top_p": 0.0}),
            ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
            ({"seed": 0}, {"seed": 0}),
            ({"seed": "9007199254740993"}, {"seed": 9007199254740993}),
            ({"presencePenalty": 0}, {"presence_penalty": 0.0}),
            ({"frequencyPenalty": -2}, {"frequency_penalty": -2.0}),
            ({"stream": False}, {}),
            (
                {"tools": [TOOL, {"name": "bare"}]},
                {
                    "tools": [
                        {"type": "function", "function": TOOL},
                        {"type": "function", "function": {"name": "bare"}},
                    ]
                },
            ),
            ({"toolChoice": "auto"}, {}),
            ({"tools": [TOOL], "toolChoice": "required"}, {**IN_WORDS, "tool_choice": "required"}),
            (
                {"tools": [TOOL], "toolChoice": "weather"},
                {**IN_WORDS, "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            ),
            ({"tools": [TOOL], "parallelToolCalls": False}, {**IN_WORDS, "parallel_tool_calls": False}),
            ({"responseFormat": {"type": "text"}}, {"response_format": {"type": "text"}}),
            ({"responseFormat": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
            (
                {
                    "responseFormat": {
                        "type": "json_schema",
                        "jsonSchema": {"type": "object", "minProperties": 2},
                        "strict": True,
                    }
                },
                {
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {
                            "name": "response",
                            "schema": {"type": "object", "minProperties": 2},
                            "strict": True,
                        },
                    }
                },
            ),
            ({"reasoningEffort": "low"}, {"reasoning_effort": "low"}),
            ({"parallelToolCalls": False}, {}),
        ],
    )
    def test_options(self, given_options: dict[str, Any], wire: dict[str, Any]) -> None:
        assert options(**given_options) == wire

    def test_every_option_has_its_case_above(self) -> None:
        cases = next(mark for mark in type(self).test_options.pytestmark if mark.name == "parametrize").args[1]
        covered = {name for given_options, _ in cases for name in given_options}
        assert covered == {field.json_name for field in chat.ChatOptions.DESCRIPTOR.fields}

    def test_whole_numbers_of_a_schema_stay_whole(self) -> None:
        (tool,) = options(tools=[TOOL])["tools"]
        found, written = tool["function"]["parameters"], TOOL["parameters"]
        assert orjson.dumps(found, option=orjson.OPT_SORT_KEYS) == orjson.dumps(written, option=orjson.OPT_SORT_KEYS)

    def test_the_persons_own_defaults_fill_what_the_request_leaves_open(self) -> None:
        credential = Credential(ProviderKey(KEY), temperature=0.0, max_tokens=100)
        body = sent(HELLO, credential)
        assert (body["temperature"], body["max_completion_tokens"]) == (0.0, 100)
        body = sent({**HELLO, "options": {"temperature": 1, "maxTokens": 7}}, credential)
        assert (body["temperature"], body["max_completion_tokens"]) == (1.0, 7)


USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def answer(message: dict[str, Any] | None = None, **more: Any) -> bytes:
    """Makes a whole answer of the SDK's type."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "logprobs": None,
        "message": {"role": "assistant", "content": "Hi.", **(message or {})},
    }
    completion = ChatCompletion.model_validate(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": "gpt-4o-2026"}
        | {"choices": [choice], "usage": USAGE}
    )
    return orjson.dumps(completion.model_dump(mode="json") | more)


class TestWholeAnswer:
    def test_is_read(self) -> None:
        assert MessageToDict(DIALECT.read_answer(answer()), preserving_proto_field_name=True) == {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": "gpt-4o-2026",
            "provider": "openai",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hi."},
                    "finish_reason": "stop",
                    "native_finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        }

    def test_tool_calls(self) -> None:
        call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Rome"}'}}
        message = DIALECT.read_answer(answer({"content": None, "tool_calls": [call]})).choices[0].message
        assert message.content == ""
        assert [MessageToDict(found) for found in message.tool_calls] == [call]

    def test_calls_of_custom_tools_are_left_out(self) -> None:
        custom = {"id": "c0", "type": "custom", "custom": {"name": "grammar", "input": "x = 1"}}
        call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        message = DIALECT.read_answer(answer({"content": None, "tool_calls": [custom, call]})).choices[0].message
        assert [MessageToDict(found) for found in message.tool_calls] == [call]

    def test_a_refusal_is_what_the_model_said(self) -> None:
        (choice,) = DIALECT.read_answer(answer({"content": None, "refusal": "I will not."})).choices
        assert (choice.message.content, choice.finish_reason) == ("I will not.", "content_filter")

    def test_reasoning(self) -> None:
        completion = DIALECT.read_answer(answer({"reasoning_content": "Hm."}))
        assert completion.choices[0].message.reasoning_content == "Hm."

    @pytest.mark.parametrize("usage", [None, {}])
    def test_usage_may_be_missing(self, usage: object) -> None:
        assert not DIALECT.read_answer(answer(usage=usage)).HasField("usage")

    @pytest.mark.parametrize(
        "nonsense", ["abc", [1], {"prompt_tokens": "abc", "prompt_tokens_details": 3}, {"prompt_tokens": -1}]
    )
    def test_nonsense_in_the_counts_does_not_cost_the_answer(self, nonsense: object) -> None:
        completion = DIALECT.read_answer(answer(usage=nonsense))
        assert completion.choices[0].message.content == "Hi."
        assert completion.usage.prompt_tokens == 0

    def test_counts_beyond_all_measure_do_not_either(self) -> None:
        huge = {"prompt_tokens": 2**31 - 1, "completion_tokens": 2**31 - 1, "prompt_tokens_details": None}
        assert DIALECT.read_answer(answer(usage=huge, created=2**40)).usage.total_tokens == 2**31 - 1
        assert DIALECT.read_answer(answer(usage={"prompt_tokens": 1e300})).usage.total_tokens == 0

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>502</html>",
            b"null",
            b"[]",
            b'"text"',
            b"{}",
            answer(choices=[]),
            answer(choices=None),
            answer(choices={"0": {}}),
            answer(choices=[1]),
            answer(choices=["x"]),
            answer(choices=[{"message": "x"}]),
            answer(choices=[{"message": {"content": ["x"]}}]),
            answer(choices=[{"message": {"tool_calls": 5}}]),
            answer(choices=[{"message": {"tool_calls": [{"function": "x"}]}}]),
            answer(choices=[{"finish_reason": ["stop"]}]),
            answer(id=7),
            answer(model={"a": 1}),
            b"\xff\xfe",
        ],
    )
    def test_one_that_makes_no_sense_is_not_understood(self, body: bytes) -> None:
        with pytest.raises(NOT_UNDERSTOOD):
            DIALECT.read_answer(body)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
            lambda members: (
                st.lists(members, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["choices", "message", "content", "usage", "error", "code", "finish_reason", "created"]
                    ),
                    members,
                    max_size=4,
                )
            ),
        )
    )
    def test_any_json_is_an_answer_or_a_failure_of_the_provider(self, value: object) -> None:
        for body in (value, {"choices": value}, {"choices": [value]}, {"choices": [{"message": value}]}):
            try:
                completion = DIALECT.read_answer(orjson.dumps(body))
            except orjson.JSONEncodeError:  # a lone surrogate
                return
            except (ProviderError, *NOT_UNDERSTOOD):
                continue
            assert len(completion.choices) == 1


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """Makes an event of the SDK's type."""
    event = ChatCompletionChunk.model_validate(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_790_000_000,
            "model": "gpt-4o-2026",
            "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish, "logprobs": None}],
            "usage": None,
        }
    )
    return orjson.dumps(event.model_dump(mode="json") | more)


def read(*events: bytes) -> tuple[chat.ChatCompletionChunk, Any]:
    """Reads events into one chunk."""
    reader, merged = DIALECT.answer_reader(), chat.ChatCompletionChunk()
    for event in events:
        reader.read(b"", event, merged)
    return merged, reader


class TestStreamedAnswer:
    def test_is_read(self) -> None:
        merged, reader = read(
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Hel"}),
            chunk({"content": "lo"}),
            chunk(finish="stop"),
            chunk(choices=[], usage=USAGE),
            b"[DONE]",
        )
        assert (merged.content, merged.id, merged.model, merged.provider) == (
            "Hello",
            "chatcmpl-1",
            "gpt-4o-2026",
            "openai",
        )
        assert (reader.finish_reason, reader.finished, reader.closed) == ("stop", True, True)
        assert MessageToDict(reader.usage(), preserving_proto_field_name=True) == USAGE

    def test_facts_about_the_answer_come_once(self) -> None:
        reader, first, second = DIALECT.answer_reader(), chat.ChatCompletionChunk(), chat.ChatCompletionChunk()
        reader.read(b"", chunk({"content": "a"}), first)
        reader.read(b"", chunk({"content": "b"}), second)
        assert first.HasField("model")
        assert MessageToDict(second) == {"content": "b"}

    def test_a_role_alone_is_no_output(self) -> None:
        merged, _ = read(chunk({"role": "assistant", "content": ""}))
        assert not merged.HasField("content")

    @pytest.mark.parametrize("event", [chunk(choices=[]), chunk(choices=None), chunk(usage=None), chunk({}), b"{}"])
    def test_an_event_that_says_nothing_is_nothing(self, event: bytes) -> None:
        merged, reader = read(event)
        assert (merged.content, reader.finished, reader.usage()) == ("", False, None)

    def test_the_reason_ends_the_answer_where_done_never_comes(self) -> None:
        _, reader = read(chunk({"content": "a"}), chunk(finish="length"))
        assert (reader.finish_reason, reader.finished, reader.closed) == ("length", True, False)

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("stop", "stop"),
            ("length", "length"),
            ("tool_calls", "tool_calls"),
            ("function_call", "tool_calls"),
            ("content_filter", "content_filter"),
            ("error", "error"),
            ("novel", "error"),
        ],
    )
    def test_reasons(self, theirs: str, ours: str) -> None:
        end = [{"index": 0, "delta": {}, "finish_reason": theirs}]
        assert read(chunk(choices=end))[1].finish_reason == ours
        said = [{"index": 0, "message": {"content": "x"}, "finish_reason": theirs}]
        assert DIALECT.read_answer(answer(choices=said)).choices[0].finish_reason == ours

    def test_usage_on_every_event_is_cumulative(self) -> None:
        _, reader = read(chunk({"content": "a"}, usage=USAGE | {"completion_tokens": 1}), chunk(usage=USAGE))
        assert reader.usage().completion_tokens == 5

    def test_usage_of_an_answer_that_was_broken_off_is_not_final(self) -> None:
        _, reader = read(chunk({"content": "a"}, usage=USAGE))
        assert reader.usage().estimated
        reader.read(b"", chunk(finish="stop"), chat.ChatCompletionChunk())
        assert not reader.usage().estimated

    def test_nonsense_in_the_counts_does_not_cost_the_answer(self) -> None:
        merged, reader = read(
            chunk({"content": "a"}, usage={"prompt_tokens": "abc", "completion_tokens": 2**80 // 2**17})
        )
        assert merged.content == "a"
        assert reader.usage() is None  # for the worker to estimate

    def test_a_refusal_is_what_the_model_said(self) -> None:
        merged, reader = read(chunk({"refusal": "I will "}), chunk({"refusal": "not."}), chunk(finish="stop"))
        assert (merged.content, reader.finish_reason) == ("I will not.", "content_filter")

    def test_reasoning(self) -> None:
        events = [chunk(choices=[{"delta": {"reasoning_content": text}}]) for text in ("H", "m.")]
        assert read(*events)[0].reasoning_content == "Hm."

    def test_fragments_of_tool_calls_are_joined_in_order(self) -> None:
        def fragment(index: int, arguments: str, **first: str) -> bytes:
            function = {"arguments": arguments} | ({"name": first["name"]} if first else {})
            call = {"index": index, "function": function} | ({"id": first["id"], "type": "function"} if first else {})
            return chunk({"tool_calls": [call]})

        merged, _ = read(
            fragment(0, "", id="c0", name="weather"),
            fragment(0, '{"at":'),
            fragment(0, '"Rome"}'),
            fragment(1, "", id="c1", name="time"),
            fragment(1, "{"),
            fragment(0, " "),
            fragment(1, "}"),
        )
        fragments = [MessageToDict(call) for call in merged.tool_calls]
        assert fragments[0] == {"index": 0, "id": "c0", "name": "weather", "arguments": '{"at":"Rome"}'}
        joined = {0: "", 1: ""}
        for call in merged.tool_calls:
            joined[call.index] += call.arguments
        assert joined == {0: '{"at":"Rome"} ', 1: "{}"}

    def test_calls_of_custom_tools_are_left_out(self) -> None:
        """Their later fragments have neither type nor name."""
        custom = {"index": 0, "id": "c0", "type": "custom", "custom": {"name": "grammar", "input": ""}}
        more = {"index": 0, "custom": {"input": "x = 1"}}
        call = {"index": 1, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        also = {"index": 2, "id": "c2", "type": "function", "function": {"name": "time"}, "custom": None}
        merged, _ = read(*(chunk(choices=[{"delta": {"tool_calls": [each]}}]) for each in (custom, more, call, also)))
        assert [(found.id, found.name, found.arguments) for found in merged.tool_calls] == [
            ("c1", "weather", "{}"),
            ("c2", "time", ""),
        ]

    def test_calls_without_an_index_are_told_apart_by_their_ids(self) -> None:
        calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("c0", "c1")]
        merged, _ = read(chunk(choices=[{"delta": {"tool_calls": calls}}]))
        assert [call.name for call in merged.tool_calls] == ["c0", "c1"]

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            ({"message": KEY, "type": "server_error"}, errors.ProviderUnavailable),
            ({"message": KEY, "code": 429}, errors.ProviderRateLimited),
            ({"message": KEY, "code": 402}, errors.ProviderQuotaExhausted),
            ({"message": KEY, "code": "insufficient_quota"}, errors.ProviderQuotaExhausted),
            ({"message": KEY, "code": 7}, errors.ProviderUnavailable),
            (KEY, errors.ProviderUnavailable),
        ],
    )
    def test_an_error_within_a_success_is_an_error(self, error: object, kind: type[ProviderError]) -> None:
        for read_it in (
            lambda: read(chunk({"content": "x"}, error=error)),
            lambda: DIALECT.read_answer(answer(error=error)),
        ):
            with pytest.raises(ProviderError) as caught:
                read_it()
            assert type(caught.value) is kind
            assert KEY not in caught.value.message

    @pytest.mark.parametrize("event", [b"not json", b"[1]", b'"x"', b"{"])
    def test_an_event_that_makes_no_sense_is_not_understood(self, event: bytes) -> None:
        with pytest.raises(NOT_UNDERSTOOD):
            read(event)


class TestWorkedUsage:
    def test_cached_written_and_reasoning_tokens_are_within_the_counts_and_count_once(self) -> None:
        # Sent 2,048 = 1,024 read from the cache + 512 written to it + 512 neither.
        # Received 700 = 448 thought + 192 of text + 60 predicted and not used, which are paid for all the same.
        # 2,048 + 700 make 2,748 in all.
        counts = CompletionUsage.model_validate(
            {
                "prompt_tokens": 2_048,
                "completion_tokens": 700,
                "total_tokens": 2_748,
                "prompt_tokens_details": {"cached_tokens": 1_024, "cache_write_tokens": 512, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 448,
                    "text_tokens": 192,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 60,
                    "audio_tokens": 0,
                },
            }
        ).model_dump(mode="json")
        expected = {
            "prompt_tokens": 2_048,
            "completion_tokens": 700,
            "total_tokens": 2_748,
            "prompt_tokens_details": {"cached_tokens": 1_024, "cache_write_tokens": 512},
            "completion_tokens_details": {"reasoning_tokens": 448},
        }
        _, reader = read(chunk({"content": "Hi."}), chunk(finish="stop"), chunk(choices=[], usage=counts), b"[DONE]")
        for usage in (DIALECT.read_answer(answer(usage=counts)).usage, reader.usage()):
            assert MessageToDict(usage, preserving_proto_field_name=True) == expected


def refused(status: int, error: Any = None, **headers: str) -> ProviderError:
    body = orjson.dumps({"error": error}) if error is not None else b""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return DIALECT.read_error(status, named.get, body)


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "error", "kind"),
        [
            (400, {"type": "invalid_request_error"}, errors.ProviderRejectedRequest),
            (400, {"code": "context_length_exceeded"}, errors.ContextLengthExceeded),
            (400, {"code": "string_above_max_length"}, errors.ContextLengthExceeded),
            (
                400,
                {"code": 400, "message": "This model's maximum context length is 4096."},
                errors.ContextLengthExceeded,
            ),
            (400, {"code": "invalid_api_key"}, errors.ProviderKeyRejected),
            (400, {"code": "model_not_found"}, errors.ModelNotFound),
            (401, {"code": "invalid_api_key"}, errors.ProviderKeyRejected),
            (401, None, errors.ProviderKeyRejected),
            (402, None, errors.ProviderQuotaExhausted),
            (403, {"code": "unsupported_country"}, errors.ProviderPermissionDenied),
            (404, {"code": "model_not_found"}, errors.ModelNotFound),
            (404, None, errors.ModelNotFound),
            (408, None, errors.ProviderUnavailable),
            (409, None, errors.ProviderUnavailable),
            (413, None, errors.ProviderRejectedRequest),
            (422, None, errors.ProviderRejectedRequest),
            (429, {"code": "rate_limit_exceeded"}, errors.ProviderRateLimited),
            (429, {"code": "insufficient_quota"}, errors.ProviderQuotaExhausted),
            (429, {"type": "insufficient_quota"}, errors.ProviderQuotaExhausted),
            (429, {"code": "billing_hard_limit_reached"}, errors.ProviderQuotaExhausted),
            (429, None, errors.ProviderRateLimited),
            (302, None, errors.ProviderUnavailable),
            (500, None, errors.ProviderUnavailable),
            (503, {"message": "overloaded"}, errors.ProviderUnavailable),
            (529, None, errors.ProviderUnavailable),
        ],
    )
    def test_statuses_and_codes(self, status: int, error: Any, kind: type[ProviderError]) -> None:
        found = refused(status, error)
        assert type(found) is kind
        assert found.metadata == {"provider": "openai"}

    @pytest.mark.parametrize("status", [302, 400, 401, 402, 403, 404, 429, 500, 503])
    def test_the_providers_own_words_stay_here(self, status: int) -> None:
        words = {"message": f"Incorrect API key: {KEY}", "param": f"<{KEY}>", "type": KEY, "code": KEY}
        found = refused(status, words)
        assert KEY not in f"{found.message} {found.metadata}"

    def test_the_parameter_is_named_where_it_has_the_form_of_one(self) -> None:
        assert "`messages[0].content`" in refused(400, {"param": "messages[0].content"}).message
        for param in ("a b", "x" * 100, "<script>", 5, ["a"], ""):
            assert "`" not in refused(400, {"param": param}).message

    @pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'{"error": "text"}', b'{"error": [1]}', b"\xff"])
    @pytest.mark.parametrize("status", [400, 500])
    def test_any_body_is_taken(self, status: int, body: bytes) -> None:
        assert isinstance(DIALECT.read_error(status, lambda _: None, body), ProviderError)

    def test_when_to_come_back_is_kept(self) -> None:
        assert refused(429, retry_after="7").retry_after == 7.0
        assert refused(503, retry_after_ms="1500").retry_after == 1.5
        limit = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m2s"}
        assert refused(429, **limit).retry_after == 62.0
        assert refused(429, retry_after="7", **limit).retry_after == 7.0
        assert refused(503, **limit).retry_after is None
        assert refused(429, {"code": "insufficient_quota"}, retry_after="7").retry_after is None

    @pytest.mark.parametrize("name", ["tokens", "project_tokens"])
    def test_waits_for_the_limit_that_is_used_up_whichever_it_is(self, name: str) -> None:
        limits = {"x_ratelimit_remaining_requests": "4999", "x_ratelimit_reset_requests": "120ms"}
        limits |= {f"x_ratelimit_remaining_{name}": "0", f"x_ratelimit_reset_{name}": "6m0s"}
        assert refused(429, **limits).retry_after == 360.0

    def test_does_not_guess_by_limits_that_leave_something(self) -> None:
        limits = {"x_ratelimit_remaining_requests": "4999", "x_ratelimit_reset_requests": "120ms"}
        assert refused(429, **limits).retry_after is None
        assert refused(429, x_ratelimit_reset_requests="120ms").retry_after is None

    def test_only_what_may_pass_later_is_retryable(self) -> None:
        assert [status for status in range(400, 600) if refused(status).retryable] == [408, 409, 429, *range(500, 600)]
