"""Answers of the hub in the words of OpenAI's API, read by OpenAI's own SDK and by the adapter of OpenAI's worker."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.openai_api.answer import Chunks, completion_body
from libs.worker.json_object import json_object
from libs.worker.sse import EventParser
from services.workers.openai.adapter import ADAPTER

CALLS = [
    chat.FunctionToolCall(id="c1", type="function", function=chat.FunctionCall(name="weather", arguments='{"a":"Ü"}')),
    chat.FunctionToolCall(id="c2", type="function", function=chat.FunctionCall(name="clock", arguments="")),
]
USAGE = chat.Usage(
    prompt_tokens=10,
    completion_tokens=7,
    total_tokens=17,
    prompt_tokens_details=chat.PromptTokensDetails(cached_tokens=4, cache_write_tokens=2),
    completion_tokens_details=chat.CompletionTokensDetails(reasoning_tokens=3),
)


def completion(finish_reason: str = "stop", **message: Any) -> chat.ChatCompletion:
    said = chat.AssistantMessage(role="assistant", **message)
    return chat.ChatCompletion(
        id="msg_1",
        object="chat.completion",
        created=1_700_000_000,
        model="claude-1",
        provider="openai",
        choices=[chat.Choice(index=0, message=said, finish_reason=finish_reason, native_finish_reason="end_turn")],
        usage=USAGE,
    )


def whole(answer: chat.ChatCompletion) -> dict[str, Any]:
    body = completion_body(answer)
    ChatCompletion.model_validate_json(body, strict=True)
    read: dict[str, Any] = orjson.loads(body)
    return read


def events(chunks: Sequence[chat.ChatCompletionChunk], *, include_usage: bool = False) -> list[bytes]:
    """Returns the data of all events."""
    written = Chunks(include_usage)
    parser = EventParser()
    return [data for chunk in chunks for _, data in parser.feed(written.events(chunk))]


def streamed(chunks: Sequence[chat.ChatCompletionChunk], *, include_usage: bool = False) -> list[dict[str, Any]]:
    """Returns the chunks of a stream that ends as it should."""
    *said, done = events(chunks, include_usage=include_usage)
    assert done == b"[DONE]"
    for each in said:
        ChatCompletionChunk.model_validate_json(each, strict=True)
    read = [orjson.loads(each) for each in said]
    assert all(("usage" in each) == include_usage for each in read)
    assert [bool(each["choices"]) for each in read] == [True] * (len(read) - include_usage) + [False] * include_usage
    return read


FIRST = chat.ChatCompletionChunk(id="msg_1", model="claude-1", provider="openai")
LAST = chat.ChatCompletionChunk(finish_reason="stop", native_finish_reason="end_turn", usage=USAGE)


class TestWholeAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            completion(content="Hello."),
            completion(content=""),
            completion("tool_calls", tool_calls=CALLS),
            completion("tool_calls", content="Let me see.", tool_calls=CALLS, reasoning_content="Hm."),
            completion("length", content="Hel"),
            completion("content_filter", content=""),
        ],
    )
    def test_come_back_as_they_were(self, answer: chat.ChatCompletion) -> None:
        whole(answer)
        expected = chat.ChatCompletion()
        expected.CopyFrom(answer)
        expected.choices[0].message.content = answer.choices[0].message.content
        expected.metadata.upstream_provider = "openai"  # what others say there
        assert ADAPTER.read_answer(completion_body(answer)) == expected

    def test_have_all_that_openais_have(self) -> None:
        body = whole(completion(content="Hello."))
        assert body["object"] == "chat.completion"
        (choice,) = body["choices"]
        assert choice.items() >= {"index": 0, "logprobs": None, "finish_reason": "stop"}.items()
        assert choice["message"] == {"role": "assistant", "content": "Hello.", "refusal": None}
        assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 2}
        assert "estimated" not in body["usage"]

    def test_have_no_text_where_there_are_calls_alone(self) -> None:
        message = whole(completion("tool_calls", tool_calls=CALLS))["choices"][0]["message"]
        assert message["content"] is None
        assert [call["type"] for call in message["tool_calls"]] == ["function", "function"]

    def test_tell_what_the_hub_knows_besides(self) -> None:
        answer = completion(content="Hello.", reasoning_details=[json_object({"b": 1, "a": 2})], tool_calls=CALLS)
        answer.choices[0].message.tool_calls[0].extra_content.google.thought_signature = "c2ln"
        answer.cost_usd = 0.25
        answer.usage.estimated = True
        answer.metadata.upstream_provider = "Azure"
        answer.metadata.dropped_options.add(option="options.topP", reason="It takes none.")
        body = whole(answer)
        message = body["choices"][0]["message"]
        assert orjson.dumps(message["reasoning_details"]) == b'[{"b":1,"a":2}]'
        assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "c2ln"}}
        assert (body["provider"], body["cost_usd"], body["upstream_provider"]) == ("openai", 0.25, "Azure")
        assert body["dropped_options"] == [{"option": "top_p", "reason": "It takes none."}]
        assert body["usage"]["estimated"] is True

    def test_never_have_a_word_that_openai_does_not(self) -> None:
        answer = completion("error", content="Hel")
        answer.service_tier = "batch"
        assert whole(answer)["choices"][0]["finish_reason"] == "content_filter"
        assert "service_tier" not in whole(answer)
        answer.service_tier = "standard"
        assert whole(answer)["service_tier"] == "default"

    def test_have_an_id_and_a_time_whatever_the_provider_says(self) -> None:
        answer = completion(content="Hello.")
        answer.ClearField("id")
        answer.ClearField("created")
        body = whole(answer)
        assert body["id"].startswith("chatcmpl-")
        assert body["created"] > 1_700_000_000


class TestStreams:
    def test_begin_with_the_role_and_end_with_the_reason(self) -> None:
        said = streamed([FIRST, chat.ChatCompletionChunk(content="Hel"), chat.ChatCompletionChunk(content="lo"), LAST])
        assert [each["choices"][0]["delta"] for each in said] == [
            {"role": "assistant", "content": "Hel"},
            {"content": "lo"},
            {},
        ]
        assert [each["choices"][0]["finish_reason"] for each in said] == [None, None, "stop"]
        assert {(each["id"], each["model"], each["object"]) for each in said} == {
            ("msg_1", "claude-1", "chat.completion.chunk")
        }
        assert len({each["created"] for each in said}) == 1

    def test_tell_the_usage_only_where_it_was_asked_for(self) -> None:
        chunks = [chat.ChatCompletionChunk(content="Hello"), LAST]
        streamed(chunks)
        *said, last = streamed(chunks, include_usage=True)
        assert [each["usage"] for each in said] == [None, None]
        assert last["usage"].items() >= {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}.items()

    def test_may_say_all_in_one_chunk_or_nothing_at_all(self) -> None:
        everything = chat.ChatCompletionChunk(id="i", model="m", content="Hello", finish_reason="stop", usage=USAGE)
        assert [each["choices"][0]["delta"].get("content") for each in streamed([everything])] == ["Hello", None]
        empty = streamed([LAST])
        assert empty[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert empty[0]["id"].startswith("chatcmpl-")
        assert events([FIRST]) == []

    def test_name_each_call_once_and_then_go_on_with_it(self) -> None:
        fragments = [
            [chat.ToolCallDelta(index=0, id="c1", name="weather", arguments="")],
            [chat.ToolCallDelta(index=0, arguments='{"a"'), chat.ToolCallDelta(index=1, id="c2", name="clock")],
            [chat.ToolCallDelta(index=0, arguments=":1}"), chat.ToolCallDelta(index=1, arguments="{}")],
        ]
        fragments[1][1].extra_content.google.thought_signature = "c2ln"
        last = chat.ChatCompletionChunk(finish_reason="tool_calls", usage=USAGE)
        said = streamed([FIRST, *(chat.ChatCompletionChunk(tool_calls=each) for each in fragments), last])
        calls = [call for each in said for call in each["choices"][0]["delta"].get("tool_calls", ())]
        assert calls == [
            {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}},
            {"index": 0, "function": {"arguments": '{"a"'}},
            {
                "index": 1,
                "id": "c2",
                "type": "function",
                "function": {"name": "clock", "arguments": ""},
                "extra_content": {"google": {"thought_signature": "c2ln"}},
            },
            {"index": 0, "function": {"arguments": ":1}"}},
            {"index": 1, "function": {"arguments": "{}"}},
        ]
        state = ChatCompletionStreamState()
        for each in said:
            state.handle_chunk(ChatCompletionChunk.model_validate(each))
        message = state.get_final_completion().choices[0].message
        assert message.content is None
        assert [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()] == [
            ("c1", "weather", '{"a":1}'),
            ("c2", "clock", "{}"),
        ]

    def test_come_back_as_they_were(self) -> None:
        chunks = [
            FIRST,
            chat.ChatCompletionChunk(reasoning_content="Hm."),
            chat.ChatCompletionChunk(content="Hello."),
            LAST,
        ]
        reader, read = ADAPTER.answer_reader(), chat.ChatCompletionChunk()
        for data in events(chunks, include_usage=True):
            reader.read(b"", data, read)
        assert (read.id, read.model, read.content, read.reasoning_content) == ("msg_1", "claude-1", "Hello.", "Hm.")
        assert (reader.finish_reason, reader.native_finish_reason, reader.closed) == ("stop", "end_turn", True)
        assert reader.usage() == USAGE

    def test_that_break_off_say_why_and_have_no_end(self) -> None:
        error = chat.ChatError(reason="INCOMPLETE_RESPONSE", message="It broke off.")
        broken = chat.ChatCompletionChunk(finish_reason="error", usage=USAGE, error=error)
        for begun in ([], [chat.ChatCompletionChunk(content="Hel")]):
            *_, last = events([*begun, broken], include_usage=True)
            assert (
                orjson.loads(last)["error"].items()
                >= {
                    "message": "It broke off.",
                    "type": "server_error",
                    "reason": "INCOMPLETE_RESPONSE",
                }.items()
            )
