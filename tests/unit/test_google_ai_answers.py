"""What Google AI answers, whole and streamed, as callers get it."""

from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs import errors
from libs.errors import ProviderError
from libs.worker.adapter import NOT_UNDERSTOOD, AnswerReader
from libs.worker.json_object import plain
from services.workers.google_ai.adapter import ADAPTER

Response = dict[str, Any]


def response(*parts: dict[str, Any], reason: str | None = None, **members: Any) -> Response:
    """Makes a response, or a part of one, with one candidate."""
    candidate: dict[str, Any] = {"index": 0}
    if parts:
        candidate["content"] = {"role": "model", "parts": list(parts)}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "gemini-3.8-flash", "responseId": "r-1", **members}


def whole(answer: Response) -> chat.ChatCompletion:
    return ADAPTER.read_answer(orjson.dumps(answer))


def streamed(*responses: Response) -> tuple[chat.ChatCompletionChunk, AnswerReader]:
    """Reads a stream into one chunk."""
    reader, chunk = ADAPTER.answer_reader(), chat.ChatCompletionChunk()
    for each in responses:
        reader.read(b"", orjson.dumps(each), chunk)
    return chunk, reader


def usage_of(answer: Response) -> dict[str, Any]:
    return MessageToDict(whole(answer).usage, preserving_proto_field_name=True)


class TestWholeAnswer:
    def test_has_text_and_says_who_spoke(self) -> None:
        answer = whole(response({"text": "Hel"}, {"text": "lo"}, reason="STOP"))
        assert (answer.id, answer.model, answer.provider, answer.object) == (
            "r-1",
            "gemini-3.8-flash",
            "google-ai",
            "chat.completion",
        )
        choice = answer.choices[0]
        assert (choice.message.role, choice.message.content) == ("assistant", "Hello")
        assert (choice.finish_reason, choice.native_finish_reason) == ("stop", "STOP")
        assert not answer.HasField("usage")
        assert not choice.message.HasField("reasoning_content")

    def test_thoughts_are_no_answer_text(self) -> None:
        answer = whole(response({"text": "Hm.", "thought": True}, {"text": "Yes."}, reason="STOP"))
        message = answer.choices[0].message
        assert (message.reasoning_content, message.content) == ("Hm.", "Yes.")

    def test_without_an_end_it_is_incomplete(self) -> None:
        for unfinished in (response({"text": "Hel"}), response(reason="FINISH_REASON_UNSPECIFIED")):
            with pytest.raises(errors.IncompleteResponse):
                whole(unfinished)

    def test_without_an_answer_it_makes_no_sense(self) -> None:
        for nothing in ({}, {"hello": "world"}, {"candidates": [], "responseId": "r", "usageMetadata": {}}):
            with pytest.raises(errors.ProviderUnavailable) as failed:
                whole(nothing)
            assert not failed.value.retryable

    def test_error_inside_a_200_is_an_error(self) -> None:
        with pytest.raises(errors.ProviderUnavailable):
            whole({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}})
        with pytest.raises(errors.ProviderUnavailable):
            ADAPTER.read_answer(b'[{"error": {"code": 500}}]')


class TestToolCalls:
    def test_arguments_become_text_and_ids_are_kept(self) -> None:
        call = {"id": "own", "name": "weather", "args": {"city": "Köln", "days": [1, 2.5], "x": None}}
        answer = whole(response({"functionCall": call}, reason="STOP"))
        (made,) = answer.choices[0].message.tool_calls
        assert (made.id, made.type, made.function.name) == ("own", "function", "weather")
        assert orjson.loads(made.function.arguments) == call["args"]
        assert (answer.choices[0].finish_reason, answer.choices[0].native_finish_reason) == ("tool_calls", "STOP")
        assert answer.choices[0].message.content == ""

    def test_ids_that_are_missing_are_made_and_differ(self) -> None:
        parts: list[dict[str, Any]] = [{"functionCall": {"name": "a"}}, {"functionCall": {"name": "a", "args": {}}}]
        calls = whole(response(*parts, reason="STOP")).choices[0].message.tool_calls
        assert [(call.id, call.function.arguments) for call in calls] == [("call_r-1_0", "{}"), ("call_r-1_1", "{}")]
        nameless = whole({**response(*parts, reason="STOP"), "responseId": None}).choices[0].message.tool_calls
        assert [call.id for call in nameless] == ["call_0", "call_1"]

    def test_several_calls_over_several_chunks_have_indexes_of_their_own(self) -> None:
        chunk, reader = streamed(
            response({"functionCall": {"name": "a"}}, {"functionCall": {"name": "b"}}),
            response({"functionCall": {"name": "c", "args": {"x": 1}}}),
            response({"text": ""}, reason="STOP"),
        )
        assert [(call.index, call.name, call.arguments) for call in chunk.tool_calls] == [
            (0, "a", "{}"),
            (1, "b", "{}"),
            (2, "c", '{"x":1}'),
        ]
        assert len({call.id for call in chunk.tool_calls}) == 3
        assert reader.finish_reason == "tool_calls"

    def test_cut_off_by_the_limit_is_length(self) -> None:
        assert (
            whole(response({"functionCall": {"name": "a"}}, reason="MAX_TOKENS")).choices[0].finish_reason == "length"
        )


class TestThoughtSignatures:
    def test_of_a_call_is_its_extra_content(self) -> None:
        signed = response(
            {"functionCall": {"name": "a"}, "thoughtSignature": "c2ln"}, {"functionCall": {"name": "b"}}, reason="STOP"
        )
        first, second = whole(signed).choices[0].message.tool_calls
        assert first.extra_content.google.thought_signature == "c2ln"
        assert not second.HasField("extra_content")
        fragment, other = streamed(signed)[0].tool_calls
        assert fragment.extra_content.google.thought_signature == "c2ln"
        assert not other.HasField("extra_content")

    @pytest.mark.parametrize("text", ["Yes.", ""])
    def test_of_a_text_is_a_reasoning_detail(self, text: str) -> None:
        signed = response({"text": text, "thoughtSignature": "c2ln"}, reason="STOP")
        expected = [{"type": "reasoning.encrypted", "data": "c2ln", "format": "google-gemini-v1"}]
        assert [plain(note) for note in whole(signed).choices[0].message.reasoning_details] == expected
        chunk, _ = streamed(response({"text": "Well. "}), signed)
        assert [plain(note) for note in chunk.reasoning_details] == expected
        assert chunk.content == f"Well. {text}"


class TestFinishReason:
    @pytest.mark.parametrize(
        ("native", "ours"),
        [
            ("STOP", "stop"),
            ("MAX_TOKENS", "length"),
            ("CONTINUATION", "length"),
            ("SAFETY", "content_filter"),
            ("RECITATION", "content_filter"),
            ("LANGUAGE", "content_filter"),
            ("BLOCKLIST", "content_filter"),
            ("PROHIBITED_CONTENT", "content_filter"),
            ("SPII", "content_filter"),
            ("IMAGE_SAFETY", "content_filter"),
            ("IMAGE_PROHIBITED_CONTENT", "content_filter"),
            ("IMAGE_RECITATION", "content_filter"),
            ("IMAGE_OTHER", "content_filter"),
            ("MALFORMED_FUNCTION_CALL", "error"),
            ("UNEXPECTED_TOOL_CALL", "error"),
            ("TOO_MANY_TOOL_CALLS", "error"),
            ("MISSING_THOUGHT_SIGNATURE", "error"),
            ("MALFORMED_RESPONSE", "error"),
            ("NO_IMAGE", "error"),
            ("OTHER", "error"),
            ("WHATEVER_COMES_NEXT", "error"),
        ],
    )
    def test_is_told_in_our_word_and_googles(self, native: str, ours: str) -> None:
        choice = whole(response({"text": "x"}, reason=native)).choices[0]
        assert (choice.finish_reason, choice.native_finish_reason) == (ours, native)
        _, reader = streamed(response({"text": "x"}), response(reason=native))
        assert (reader.finish_reason, reader.native_finish_reason, reader.finished) == (ours, native, True)

    def test_blocked_prompt_is_an_empty_filtered_answer_that_was_paid_for(self) -> None:
        blocked = {
            "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
            "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12},
            "modelVersion": "gemini-3.8-flash",
        }
        answer = whole(blocked)
        choice = answer.choices[0]
        assert (choice.message.content, choice.finish_reason, choice.native_finish_reason) == (
            "",
            "content_filter",
            "PROHIBITED_CONTENT",
        )
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (12, 0)
        _, reader = streamed(blocked)
        assert (reader.finished, reader.finish_reason) == (True, "content_filter")

    def test_prompt_that_was_only_looked_at_is_not_blocked(self) -> None:
        looked = response({"text": "x"}, reason="STOP", promptFeedback={"safetyRatings": []})
        assert whole(looked).choices[0].finish_reason == "stop"

    def test_answer_stopped_for_safety_keeps_what_was_said(self) -> None:
        chunk, reader = streamed(response({"text": "First I would"}), response(reason="SAFETY"))
        assert (chunk.content, reader.finish_reason) == ("First I would", "content_filter")


class TestStream:
    def test_first_event_names_the_answer(self) -> None:
        chunk, reader = streamed(response({"text": "x"}))
        assert (chunk.id, chunk.model, chunk.provider) == ("r-1", "gemini-3.8-flash", "google-ai")
        assert reader.model == "gemini-3.8-flash"
        assert (reader.finished, reader.closed) == (False, False)

    def test_error_event_is_an_error(self) -> None:
        error = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "x"}}
        with pytest.raises(errors.ProviderRateLimited):
            streamed(response({"text": "x"}), error)
        with pytest.raises(errors.ProviderUnavailable):
            streamed({"error": {"message": "no code"}})

    def test_is_the_same_as_the_whole_answer(self) -> None:
        parts: list[dict[str, Any]] = [
            {"text": "Hm.", "thought": True},
            {"text": "Hel"},
            {"text": "lo", "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "a", "args": {"x": 1}}, "thoughtSignature": "c2ln"},
        ]
        last = response(reason="STOP", usageMetadata={"promptTokenCount": 5, "candidatesTokenCount": 2})
        chunk, reader = streamed(*(response(part) for part in parts), last)
        answer = whole(response(*parts, reason="STOP", usageMetadata=last["usageMetadata"]))
        message = answer.choices[0].message
        assert (chunk.content, chunk.reasoning_content) == (message.content, message.reasoning_content)
        assert list(chunk.reasoning_details) == list(message.reasoning_details)
        assert [(call.id, call.name, call.arguments, call.extra_content) for call in chunk.tool_calls] == [
            (call.id, call.function.name, call.function.arguments, call.extra_content) for call in message.tool_calls
        ]
        assert reader.usage() == answer.usage
        assert reader.finish_reason == answer.choices[0].finish_reason


class TestUsage:
    """Worked examples, whole and streamed, equal to the token."""

    EXAMPLES = (
        # 1,000 sent of which 800 from the cache; 50 said after 200 thought: 50 + 200 = 250 received.
        (
            {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 800,
                "candidatesTokenCount": 50,
                "thoughtsTokenCount": 200,
                "totalTokenCount": 1250,
            },
            {"prompt": 1000, "cached": 800, "tool_use": 0, "completion": 250, "reasoning": 200, "total": 1250},
        ),
        # 100 sent and 40 more put in by Google's own tools: 100 + 40 = 140; 7 said after 3 thought: 7 + 3 = 10.
        (
            {
                "promptTokenCount": 100,
                "toolUsePromptTokenCount": 40,
                "candidatesTokenCount": 7,
                "thoughtsTokenCount": 3,
                "totalTokenCount": 150,
            },
            {"prompt": 140, "cached": 0, "tool_use": 40, "completion": 10, "reasoning": 3, "total": 150},
        ),
        # All at once: 2,000 + 500 = 2,500 sent, 1,500 of them cached; 300 + 700 = 1,000 received; 3,500 in all.
        (
            {
                "promptTokenCount": 2000,
                "cachedContentTokenCount": 1500,
                "toolUsePromptTokenCount": 500,
                "candidatesTokenCount": 300,
                "thoughtsTokenCount": 700,
                "totalTokenCount": 3500,
            },
            {"prompt": 2500, "cached": 1500, "tool_use": 500, "completion": 1000, "reasoning": 700, "total": 3500},
        ),
        # Thoughts that used up the limit: nothing was said, 64 are still to be paid for.
        (
            {"promptTokenCount": 9, "thoughtsTokenCount": 64, "totalTokenCount": 73},
            {"prompt": 9, "cached": 0, "tool_use": 0, "completion": 64, "reasoning": 64, "total": 73},
        ),
        # A plain answer of an older model.
        (
            {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14},
            {"prompt": 9, "cached": 0, "tool_use": 0, "completion": 5, "reasoning": 0, "total": 14},
        ),
    )

    @staticmethod
    def counts(usage: chat.Usage | None) -> dict[str, int]:
        assert usage is not None
        sent, received = usage.prompt_tokens_details, usage.completion_tokens_details
        return {
            "prompt": usage.prompt_tokens,
            "cached": sent.cached_tokens,
            "tool_use": sent.tool_use_tokens,
            "completion": usage.completion_tokens,
            "reasoning": received.reasoning_tokens,
            "total": usage.total_tokens,
        }

    @pytest.mark.parametrize(("told", "counted"), EXAMPLES)
    def test_whole_and_streamed_count_the_same(self, told: dict[str, int], counted: dict[str, int]) -> None:
        assert counted["total"] == told["totalTokenCount"]  # Google's own sum agrees
        assert self.counts(whole(response({"text": "x"}, reason="STOP", usageMetadata=told)).usage) == counted
        _, reader = streamed(response({"text": "x"}), response(reason="STOP", usageMetadata=told))
        assert self.counts(reader.usage()) == counted

    def test_each_report_replaces_the_one_before(self) -> None:
        """It is of all that was said so far: 3, then 5, then 8 is 8, not 16."""
        reports = [
            {"promptTokenCount": 10, "candidatesTokenCount": said, "thoughtsTokenCount": 20} for said in (3, 5, 8)
        ]
        first, second, last = (response({"text": "x"}, usageMetadata=report) for report in reports)
        _, reader = streamed(first, second, {**last, **response(reason="STOP")})
        assert self.counts(reader.usage())["completion"] == 8 + 20
        assert self.counts(reader.usage())["prompt"] == 10

    def test_of_an_answer_that_was_broken_off_it_is_not_final(self) -> None:
        told = {"promptTokenCount": 10, "candidatesTokenCount": 3}
        _, reader = streamed(response({"text": "x"}, usageMetadata=told))
        usage = reader.usage()
        assert self.counts(usage)["completion"] == 3
        assert usage is not None
        assert usage.estimated
        _, finished = streamed(response({"text": "x"}, usageMetadata=told, reason="STOP"))
        assert not (finished.usage() or chat.Usage()).estimated

    def test_none_reported_is_none(self) -> None:
        assert streamed(response({"text": "x"}, reason="STOP"))[1].usage() is None
        assert not whole(response({"text": "x"}, reason="STOP", usageMetadata={})).HasField("usage")

    @pytest.mark.parametrize(
        "nonsense", [{"promptTokenCount": "many"}, {"promptTokenCount": -1}, {"promptTokenCount": 2**40}, [], "x", 5]
    )
    def test_nonsense_does_not_cost_the_answer(self, nonsense: Any) -> None:
        answer = whole(response({"text": "x"}, reason="STOP", usageMetadata=nonsense))
        assert answer.choices[0].message.content == "x"
        assert answer.usage.prompt_tokens == 0

    def test_more_was_never_cached_than_sent(self) -> None:
        told = {"promptTokenCount": 5, "cachedContentTokenCount": 9}
        assert usage_of(response(reason="STOP", usageMetadata=told))["prompt_tokens_details"]["cached_tokens"] == 5


class TestModels:
    def test_only_those_that_chat_are_listed(self) -> None:
        listed = {
            "models": [
                {
                    "name": "models/gemini-3.8-flash",
                    "displayName": "Gemini 3.8 Flash",
                    "inputTokenLimit": 1_048_576,
                    "outputTokenLimit": 65_536,
                    "supportedGenerationMethods": ["generateContent", "countTokens"],
                },
                {"name": "models/embedding", "supportedGenerationMethods": ["embedContent"]},
                {"name": "tunedModels/mine", "supportedGenerationMethods": ["generateContent"]},
            ],
            "nextPageToken": "next",
        }
        models, token = ADAPTER.read_models(orjson.dumps(listed))
        assert token == "next"
        first, second = models
        assert (first.id, first.display_name, first.context_length, first.max_output_tokens) == (
            "gemini-3.8-flash",
            "Gemini 3.8 Flash",
            1_048_576,
            65_536,
        )
        assert (second.id, second.display_name, second.HasField("context_length")) == (
            "tunedModels/mine",
            "tunedModels/mine",
            False,
        )

    def test_last_page_may_be_empty(self) -> None:
        assert ADAPTER.read_models(b"{}") == ([], "")

    def test_error_in_a_200_is_an_error(self) -> None:
        body = b'{"error": {"code": 503}}'
        with pytest.raises(errors.ProviderUnavailable):
            ADAPTER.read_models(body)
        with pytest.raises(errors.ProviderUnavailable):
            ADAPTER.read_key_test(body, "")

    def test_key_test_passes_with_a_model_or_a_list(self) -> None:
        ADAPTER.read_key_test(b'{"models": []}', "")
        ADAPTER.read_key_test(b'{"name": "models/x"}', "x")
        with pytest.raises(NOT_UNDERSTOOD):
            ADAPTER.read_key_test(b"{}", "")


class TestNonsense:
    JSON = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *("candidates", "content", "parts", "text", "thought", "functionCall", "name", "args", "id"),
                        *(
                            "thoughtSignature",
                            "finishReason",
                            "usageMetadata",
                            "promptFeedback",
                            "blockReason",
                            "error",
                        ),
                        *("code", "details", "message", "modelVersion", "responseId", "promptTokenCount", "@type"),
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )

    @given(st.binary(max_size=60) | JSON.map(orjson.dumps))
    def test_is_never_taken_for_an_answer(self, body: bytes) -> None:
        try:
            answer = ADAPTER.read_answer(body)
        except (ProviderError, *NOT_UNDERSTOOD):
            return
        assert answer.choices[0].native_finish_reason

    @given(st.lists(JSON, max_size=4))
    def test_in_a_stream_never_ends_it_without_a_reason(self, events: list[Any]) -> None:
        reader, chunk = ADAPTER.answer_reader(), chat.ChatCompletionChunk()
        try:
            for event in events:
                reader.read(b"", orjson.dumps(event), chunk)
            reader.usage()
        except (ProviderError, *NOT_UNDERSTOOD):
            return
        assert reader.finished == bool(reader.native_finish_reason)

    @given(st.integers(min_value=300, max_value=599), st.binary(max_size=60) | JSON.map(orjson.dumps))
    def test_as_an_error_is_an_error(self, status: int, body: bytes) -> None:
        assert isinstance(ADAPTER.read_error(status, lambda name: None, body), ProviderError)
