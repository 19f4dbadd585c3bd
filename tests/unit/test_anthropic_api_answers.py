"""Answers in Anthropic's words, judged by the types of its own SDK and by what that puts together from events."""

import random
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from google.protobuf.any_pb2 import Any as Detail
from google.rpc import code_pb2, error_details_pb2, status_pb2
from pydantic import TypeAdapter
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.anthropic_api.answer import Events, message_body
from libs.anthropic_api.errors import error_body
from libs.anthropic_api.request import to_hub
from libs.errors import IncompleteResponse
from libs.json_members import JsonMembers
from libs.worker.assembly import merged
from libs.worker.json_object import json_object, plain
from libs.worker.sse import EventParser

EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
NOTE = json_object({"type": "reasoning.encrypted", "data": "s", "format": "google-gemini-v1"})
USAGE = chat.Usage(
    prompt_tokens=100,
    completion_tokens=20,
    total_tokens=120,
    prompt_tokens_details=chat.PromptTokensDetails(cached_tokens=60, cache_write_tokens=10, cache_write_1h_tokens=4),
    completion_tokens_details=chat.CompletionTokensDetails(reasoning_tokens=5),
)
SIGNED = chat.ExtraContent(google=chat.GoogleExtraContent(thought_signature="signed"))


def first(**fields: Any) -> chat.ChatCompletionChunk:
    return chat.ChatCompletionChunk(id="chatcmpl-1", model="gpt", provider="openai", **fields)


def fragment(index: int, arguments: str = "", **fields: Any) -> chat.ChatCompletionChunk:
    return chat.ChatCompletionChunk(tool_calls=[chat.ToolCallDelta(index=index, arguments=arguments, **fields)])


def last(finish_reason: str = "stop", **fields: Any) -> chat.ChatCompletionChunk:
    return chat.ChatCompletionChunk(finish_reason=finish_reason, usage=USAGE, **fields)


def said_in(chunks: Iterable[chat.ChatCompletionChunk]) -> list[tuple[str, dict[str, Any]]]:
    """Writes chunks as events and reads those, as any client would."""
    events, parser = Events(), EventParser()
    wire = b"".join([events.events(chunk) for chunk in chunks])
    return [(name.decode(), orjson.loads(data)) for name, data in parser.feed(wire)]


def put_together(chunks: Iterable[chat.ChatCompletionChunk]) -> Message:
    """Lets the SDK put an answer together, after a look at the order of its events."""
    message: Any = None
    buffers: dict[int, bytes] = {}
    opened: list[int] = []
    stopped: list[int] = []
    for name, event in said_in(chunks):
        assert event["type"] == name
        if name == "content_block_start":
            assert event["index"] == len(opened)
            opened.append(event["index"])
        elif name in ("content_block_delta", "content_block_stop"):
            assert event["index"] in opened
            assert event["index"] not in stopped
            stopped += [event["index"]] * (name == "content_block_stop")
        elif name == "message_delta":
            assert sorted(stopped) == opened
        parsed: Any = EVENT.validate_python(event, strict=True)
        message = accumulate_event(event=parsed, current_snapshot=message, json_bufs=buffers)
    return Message.model_validate_json(message.to_json(), strict=True)


def completion(finish_reason: str = "stop", **message: Any) -> chat.ChatCompletion:
    choice = chat.Choice(message=chat.AssistantMessage(role="assistant", **message), finish_reason=finish_reason)
    return chat.ChatCompletion(id="chatcmpl-1", model="gpt", provider="openai", choices=[choice], usage=USAGE)


def whole(finish_reason: str = "stop", **message: Any) -> Message:
    return Message.model_validate_json(message_body(completion(finish_reason, **message)), strict=True)


def call(identity: str, arguments: str, **fields: Any) -> chat.FunctionToolCall:
    function = chat.FunctionCall(name="weather", arguments=arguments)
    return chat.FunctionToolCall(id=identity, type="function", function=function, **fields)


def contents(message: Message) -> list[dict[str, Any]]:
    return [block.to_dict() for block in message.content]


def sent_back(message: Message) -> chat.ChatMessage:
    """Returns what the hub has of an answer that its caller sends back, as the SDK does."""
    turn = {"role": "assistant", "content": contents(message)}
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}, turn]}
    return to_hub(JsonMembers(orjson.dumps(body)), provider="openai", model="m").request.messages[1]


class TestWholeAnswers:
    def test_text_and_what_it_used(self) -> None:
        message = whole(content="Hello.")
        assert (message.id, message.model, message.stop_reason) == ("chatcmpl-1", "gpt", "end_turn")
        assert contents(message) == [{"type": "text", "text": "Hello.", "citations": None}]
        used = message.usage
        assert (used.input_tokens, used.cache_read_input_tokens, used.cache_creation_input_tokens) == (30, 60, 10)
        assert used.output_tokens_details is not None
        assert (used.output_tokens, used.output_tokens_details.thinking_tokens) == (20, 5)
        assert used.cache_creation is not None
        assert used.cache_creation.ephemeral_1h_input_tokens == 4

    def test_thoughts_calls_and_notes_come_back(self) -> None:
        made = [call("a", '{"city":"Rome"}', extra_content=SIGNED), call("b", "")]
        message = whole(
            "tool_calls", content="Look:", reasoning_content="hm", reasoning_details=[NOTE], tool_calls=made
        )
        assert [block.type for block in message.content] == [
            "thinking",
            "text",
            "tool_use",
            "tool_use",
            "redacted_thinking",
        ]
        assert message.stop_reason == "tool_use"
        turn = sent_back(message)
        assert turn.content == "Look:"
        assert [(each.id, each.name, each.arguments) for each in turn.tool_calls] == [
            ("a", "weather", '{"city":"Rome"}'),
            ("b", "weather", "{}"),
        ]
        assert [plain(note) for note in turn.reasoning_details] == [plain(NOTE)]
        assert [each.HasField("extra_content") for each in turn.tool_calls] == [True, False]
        assert turn.tool_calls[0].extra_content == SIGNED

    @pytest.mark.parametrize("arguments", ["{", "[1]", '{"a":' * 300 + "1" + "}" * 300])
    def test_arguments_that_are_no_object_are_told_as_such(self, arguments: str) -> None:
        (block,) = contents(whole("tool_calls", tool_calls=[call("a", arguments)]))
        assert block["input"] == {"INVALID_JSON": arguments}

    @pytest.mark.parametrize(
        ("finish_reason", "stop_reason"),
        [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("tool_calls", "end_turn")],
    )
    def test_how_it_ended(self, finish_reason: str, stop_reason: str) -> None:
        assert whole(finish_reason).stop_reason == stop_reason

    def test_one_that_ended_with_an_error_is_none(self) -> None:
        with pytest.raises(IncompleteResponse):
            whole("error", content="Hel")

    def test_what_this_platform_adds_is_told_beside_it(self) -> None:
        found = completion(content="Hello.")
        found.cost_usd, found.service_tier = 0.5, "priority"
        found.metadata.dropped_options.add(option="top_k", reason="Why.")
        body = orjson.loads(message_body(found))
        assert (body["provider"], body["cost_usd"], body["usage"]["service_tier"]) == ("openai", 0.5, "priority")
        assert body["metadata"] == {"dropped_options": [{"option": "top_k", "reason": "Why."}]}


class TestEvents:
    def test_text(self) -> None:
        message = put_together([first(content="Hel"), chat.ChatCompletionChunk(content="lo. ✓"), last()])
        assert contents(message) == [{"type": "text", "text": "Hello. ✓"}]
        assert (message.id, message.model, message.stop_reason) == ("chatcmpl-1", "gpt", "end_turn")
        assert (message.usage.input_tokens, message.usage.output_tokens) == (30, 20)
        assert message.usage.cache_read_input_tokens == 60

    def test_thoughts_are_sealed_before_the_text_begins(self) -> None:
        message = put_together(
            [
                first(reasoning_content="h"),
                chat.ChatCompletionChunk(reasoning_content="m", reasoning_details=[NOTE]),
                chat.ChatCompletionChunk(content="Hello."),
                last(),
            ]
        )
        thought, text = contents(message)
        assert (thought["thinking"], text["text"]) == ("hm", "Hello.")
        assert [plain(note) for note in sent_back(message).reasoning_details] == [plain(NOTE)]

    def test_thoughts_without_notes_are_marked_as_not_claudes(self) -> None:
        streamed = put_together([first(reasoning_content="hm"), last()])
        for message in (streamed, whole(reasoning_content="hm")):
            (thought,) = contents(message)
            assert thought["signature"] == "rmllm1."
            assert not sent_back(message).reasoning_details

    def test_notes_without_thoughts_come_last(self) -> None:
        chunks = [first(content="Hello."), chat.ChatCompletionChunk(reasoning_details=[NOTE]), last()]
        message = put_together(chunks)
        assert [block.type for block in message.content] == ["text", "redacted_thinking"]
        assert [plain(note) for note in sent_back(message).reasoning_details] == [plain(NOTE)]

    def test_calls_follow_each_other(self) -> None:
        chunks = [
            first(content="Look:"),
            fragment(0, id="a", name="weather", extra_content=SIGNED),
            fragment(0, '{"city":'),
            fragment(0, '"Rome"}'),
            fragment(1, "{}", id="b", name="time"),
            last("tool_calls"),
        ]
        steps = [name.removeprefix("content_block_") for name, _ in said_in(chunks) if "delta" not in name]
        assert steps == ["message_start", *["start", "stop"] * 4, "message_stop"]
        message = put_together(chunks)
        assert message.stop_reason == "tool_use"
        assert [(block.type, getattr(block, "input", None)) for block in message.content[:3]] == [
            ("text", None),
            ("tool_use", {"city": "Rome"}),
            ("tool_use", {}),
        ]
        assert sent_back(message).tool_calls[0].extra_content == SIGNED

    def test_calls_that_are_written_at_the_same_time_stay_open(self) -> None:
        chunks = [
            first(),
            fragment(0, '{"a":', id="a", name="one"),
            fragment(1, '{"b":', id="b", name="two"),
            fragment(0, "1}"),
            fragment(1, "2}"),
            last("tool_calls"),
        ]
        assert [block.input for block in put_together(chunks).content if block.type == "tool_use"] == [
            {"a": 1},
            {"b": 2},
        ]

    def test_however_chunks_are_merged_the_answer_is_the_same(self) -> None:
        chance = random.Random(6)
        chunks = [
            first(reasoning_content="h"),
            *(chat.ChatCompletionChunk(reasoning_content=word) for word in "mmm"),
            *(chat.ChatCompletionChunk(content=word) for word in "Hello"),
            fragment(0, "", id="a", name="one"),
            *(fragment(0, piece) for piece in ("{", '"a"', ":1", "}")),
            fragment(1, "{}", id="b", name="two"),
        ]
        expected = put_together([*chunks, last("tool_calls")])
        for _ in range(50):
            rest = [chat.ChatCompletionChunk.FromString(chunk.SerializeToString()) for chunk in chunks]
            groups = []
            while rest:
                size = chance.randint(1, 5)
                groups.append(merged(rest[:size]))
                rest = rest[size:]
            assert put_together([*groups, last("tool_calls")]) == expected

    def test_an_answer_that_says_nothing_is_whole(self) -> None:
        message = put_together([last("content_filter")])
        assert (message.content, message.stop_reason) == ([], "refusal")

    def test_facts_before_the_answer_wait_for_it(self) -> None:
        dropped = chat.AnswerMetadata(dropped_options=[chat.DroppedOption(option="top_k", reason="Why.")])
        routed = chat.AnswerMetadata(upstream_provider="mistral")
        chunks = [chat.ChatCompletionChunk(metadata=dropped), first(content="Hi"), last(metadata=routed, cost_usd=0.5)]
        name, end = said_in(chunks)[-2]
        assert name == "message_delta"
        assert end["cost_usd"] == 0.5
        assert end["metadata"] == {
            "dropped_options": [{"option": "top_k", "reason": "Why."}],
            "upstream_provider": "mistral",
        }

    @pytest.mark.parametrize("begun", [True, False])
    def test_a_failure_is_the_last_event(self, begun: bool) -> None:
        error = chat.ChatError(reason="PROVIDER_UNAVAILABLE", message="Try again.")
        *_, (name, event) = said_in([*[first(content="Hel")] * begun, chat.ChatCompletionChunk(error=error)])
        assert name == "error"
        assert event == {
            "type": "error",
            "error": {
                "type": "overloaded_error",
                "message": "Try again.",
                "details": {"error_code": "provider_unavailable"},
            },
        }

    def test_an_end_with_an_error_is_a_failure(self) -> None:
        assert [name for name, _ in said_in([first(content="Hel"), last("error")])][-1] == "error"


class TestErrors:
    def body(self, code: int, reason: str, message: str = "Why.", *fields: str) -> dict[str, Any]:
        details = [error_details_pb2.ErrorInfo(reason=reason)]
        bad = error_details_pb2.BadRequest()
        for field in fields:
            bad.field_violations.add(field=field, description="must be set in options.tools.")
        packed = []
        for detail in [*details, *[bad] * bool(fields)]:
            packed.append(Detail())
            packed[-1].Pack(detail)
        error: dict[str, Any] = orjson.loads(error_body(status_pb2.Status(code=code, message=message, details=packed)))
        assert error["type"] == "error"
        found: dict[str, Any] = error["error"]
        return found

    @pytest.mark.parametrize(
        ("code", "reason", "kind"),
        [
            (code_pb2.UNAUTHENTICATED, "UNAUTHENTICATED", "authentication_error"),
            (code_pb2.PERMISSION_DENIED, "MODEL_NOT_ALLOWED", "permission_error"),
            (code_pb2.NOT_FOUND, "MODEL_NOT_FOUND", "not_found_error"),
            (code_pb2.RESOURCE_EXHAUSTED, "RATE_LIMIT_EXCEEDED", "rate_limit_error"),
            (code_pb2.RESOURCE_EXHAUSTED, "PROVIDER_QUOTA_EXHAUSTED", "billing_error"),
            (code_pb2.FAILED_PRECONDITION, "PROVIDER_NOT_CONFIGURED", "invalid_request_error"),
            (code_pb2.UNAVAILABLE, "SERVICE_OVERLOADED", "overloaded_error"),
            (code_pb2.DEADLINE_EXCEEDED, "CONNECTION_TIMEOUT", "timeout_error"),
            (code_pb2.INTERNAL, "INTERNAL", "api_error"),
            (code_pb2.DATA_LOSS, "", "api_error"),
        ],
    )
    def test_kinds(self, code: int, reason: str, kind: str) -> None:
        error = self.body(code, reason)
        assert error["type"] == kind
        assert error.get("details", {}).get("error_code", "") == reason.lower()

    def test_fields_are_called_as_the_caller_calls_them(self) -> None:
        names = ("options.tools[0].parameters", "options.responseFormat.jsonSchema", "messages[3].parts[0]", "tools.1")
        text = self.body(code_pb2.INVALID_ARGUMENT, "INVALID_ARGUMENT", "…", *names)["message"]
        places = [sentence.partition(":")[0] for sentence in text.split("must be set in tools. ")]
        assert places == ["tools[0].input_schema", "output_config.format.schema", "messages", "tools.1"]

    def test_a_long_message_fits_into_a_header(self) -> None:
        for letter in ("x", "ä", "😀"):
            status = status_pb2.Status(code=3, message=letter * 100_000)
            body = error_body(status)
            assert len(body) < 1_200
            assert body.isascii()
