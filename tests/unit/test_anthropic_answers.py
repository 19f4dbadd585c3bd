"""How the Anthropic adapter reads answers, whole and event by event, and what it counts."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import ProviderError
from libs.worker.adapter import NOT_UNDERSTOOD
from libs.worker.assembly import whole_answer
from libs.worker.json_object import plain
from services.workers.anthropic.adapter import ADAPTER
from services.workers.anthropic.answer import AnthropicAnswerReader

MODEL = "claude-haiku-5-5"
USAGE = {"input_tokens": 10, "output_tokens": 5}
FORMAT = {"format": "anthropic-claude-v1"}

Block = dict[str, Any]


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def thinking(words: str, signature: str = "c2ln") -> Block:
    return {"type": "thinking", "thinking": words, "signature": signature}


def use(name: str, arguments: dict[str, Any]) -> Block:
    return {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": arguments}


def message(*content: Block, stop_reason: str = "end_turn", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    """Returns a message as the API sends it."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
        **more,
    }


def deltas(block: Block) -> tuple[Block, list[Block]]:
    """Divides a block into its start and its deltas, each text in two."""

    def halves(words: str) -> list[str]:
        return [words[: len(words) // 2], words[len(words) // 2 :]]

    match block["type"]:
        case "text":
            return text(""), [{"type": "text_delta", "text": half} for half in halves(block["text"])]
        case "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": half} for half in halves(block["thinking"])]
            return thinking("", ""), [*thoughts, {"type": "signature_delta", "signature": block["signature"]}]
        case "tool_use":
            fragments = ["", *halves(orjson.dumps(block["input"]).decode())] if block["input"] else [""]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": each} for each in fragments]
        case _:
            return block, []


def events(whole: dict[str, Any], final_usage: Any = None) -> list[dict[str, Any]]:
    """Returns the events of the same message streamed."""
    ending = {name: whole.get(name) for name in ("stop_reason", "stop_sequence", "stop_details")}
    opened = {**whole, "content": [], "stop_reason": None}
    if whole["usage"]:
        opened["usage"] = whole["usage"] | {"output_tokens": 1}
    told: list[dict[str, Any]] = [{"type": "message_start", "message": opened}]
    for index, block in enumerate(whole["content"]):
        start, changes = deltas(block)
        told.append({"type": "content_block_start", "index": index, "content_block": start})
        told += [{"type": "content_block_delta", "index": index, "delta": change} for change in changes]
        told.append({"type": "content_block_stop", "index": index})
    end: dict[str, Any] = {"type": "message_delta", "delta": ending, "usage": final_usage or whole["usage"]}
    return [*told, end, {"type": "message_stop"}]


def fed(told: Sequence[dict[str, Any]]) -> tuple[AnthropicAnswerReader, chat.ChatCompletionChunk]:
    reader, chunk = ADAPTER.answer_reader(), chat.ChatCompletionChunk()
    for event in told:
        reader.read(str(event["type"]).encode(), orjson.dumps(event), chunk)
    return reader, chunk


def streamed(whole: dict[str, Any], final_usage: Any = None) -> chat.ChatCompletion:
    reader, chunk = fed(events(whole, final_usage))
    assert (reader.finished, reader.closed) == (True, True)
    return whole_answer(chunk, reader)


def at_once(whole: dict[str, Any]) -> chat.ChatCompletion:
    return ADAPTER.read_answer(orjson.dumps(whole))


both_ways = pytest.mark.parametrize("read", [at_once, streamed], ids=["whole", "streamed"])


class TestAnswer:
    @both_ways
    def test_holds_what_was_said(self, read: Any) -> None:
        answer = read(message(text("Hello, "), text("wörld 🌍.")))
        assert (answer.id, answer.object, answer.model, answer.provider) == (
            "msg_1",
            "chat.completion",
            MODEL,
            "anthropic",
        )
        (choice,) = answer.choices
        assert (choice.message.role, choice.message.content) == ("assistant", "Hello, wörld 🌍.")
        assert (choice.finish_reason, choice.native_finish_reason) == ("stop", "end_turn")
        assert answer.created > 0

    @both_ways
    def test_holds_every_call(self, read: Any) -> None:
        answer = read(message(text("So."), use("weather", {"a": [1, "ü"]}), use("time", {}), stop_reason="tool_use"))
        (choice,) = answer.choices
        calls = [
            (call.id, call.type, call.function.name, call.function.arguments) for call in choice.message.tool_calls
        ]
        assert calls == [
            ("toolu_weather", "function", "weather", '{"a":[1,"ü"]}'),
            ("toolu_time", "function", "time", "{}"),
        ]
        assert (choice.finish_reason, choice.native_finish_reason) == ("tool_calls", "tool_use")

    @both_ways
    def test_holds_thoughts_and_their_seals_in_place(self, read: Any) -> None:
        blocks = (
            thinking("First."),
            text("Well, "),
            thinking("Then.", "czI="),
            {"type": "redacted_thinking", "data": "ZGF0YQ=="},
            use("weather", {}),
            thinking("", "czM="),
        )
        said = read(message(*blocks, stop_reason="tool_use")).choices[0].message
        assert said.reasoning_content == "First.\n\nThen."
        assert [plain(detail) for detail in said.reasoning_details] == [
            {"type": "reasoning.text", "text": "First.", "signature": "c2ln", **FORMAT},
            {"type": "reasoning.text", "text": "Then.", "signature": "czI=", **FORMAT, "after_characters": 6},
            {"type": "reasoning.encrypted", "data": "ZGF0YQ==", **FORMAT, "after_characters": 6},
            {
                "type": "reasoning.text",
                "text": "",
                "signature": "czM=",
                **FORMAT,
                "after_characters": 6,
                "after_calls": 1,
            },
        ]

    @both_ways
    def test_without_thoughts_has_none(self, read: Any) -> None:
        said = read(message(text("Hi."))).choices[0].message
        assert not said.HasField("reasoning_content")
        assert not said.reasoning_details

    @pytest.mark.parametrize(
        ("native", "finish"),
        [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("pause_turn", "length"),
            ("tool_use", "tool_calls"),
            ("refusal", "content_filter"),
            ("a_new_way_to_end", "error"),
        ],
    )
    @both_ways
    def test_says_why_it_ended(self, read: Any, native: str, finish: str) -> None:
        (choice,) = read(message(text("Hi."), stop_reason=native)).choices
        assert (choice.finish_reason, choice.native_finish_reason) == (finish, native)

    @both_ways
    def test_that_is_declined_says_why_where_it_says_nothing_else(self, read: Any) -> None:
        details = {"type": "refusal", "category": "bio", "explanation": "Not that."}
        declined = read(message(stop_reason="refusal", stop_details=details))
        assert declined.choices[0].message.content == "Not that."
        late = read(message(text("It is"), stop_reason="refusal", stop_details=details))
        assert late.choices[0].message.content == "It is"
        silent = read(message(stop_reason="refusal", stop_details=details | {"explanation": None}))
        assert silent.choices[0].message.content == ""

    @both_ways
    def test_ignores_blocks_it_does_not_know(self, read: Any) -> None:
        search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
        found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
        answer = read(message(search, found, {"type": "hologram", "light": 1}, text("Found it.")))
        assert answer.choices[0].message.content == "Found it."
        assert not answer.choices[0].message.tool_calls

    @both_ways
    def test_names_the_class_of_service(self, read: Any) -> None:
        assert read(message(text("Hi."), usage=USAGE | {"service_tier": "priority"})).service_tier == "priority"
        assert not read(message(text("Hi."))).HasField("service_tier")

    @both_ways
    def test_without_usage_has_none(self, read: Any) -> None:
        assert not read(message(text("Hi."), usage=None)).HasField("usage")


class TestStream:
    def test_names_the_answer_at_its_start(self) -> None:
        reader, chunk = fed(events(message(text("Hi.")))[:1])
        assert (chunk.id, chunk.model, chunk.provider, reader.model) == ("msg_1", MODEL, "anthropic", MODEL)
        assert (reader.finished, reader.finish_reason) == (False, "")

    def test_fragments_of_calls_come_as_they_arrive(self) -> None:
        _, chunk = fed(events(message(text("So."), use("a", {"x": 1}), use("b", {}), stop_reason="tool_use")))
        fragments = [(call.index, call.id, call.name, call.arguments) for call in chunk.tool_calls]
        assert fragments == [
            (0, "toolu_a", "a", ""),
            (0, "", "", '{"x'),
            (0, "", "", '":1}'),
            (1, "toolu_b", "b", ""),
            (1, "", "", "{}"),
        ]

    def test_input_of_tools_that_run_at_anthropic_is_no_call(self) -> None:
        start = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
        told = events(message(text("Hi.")))
        told[1:1] = [
            {"type": "content_block_start", "index": 7, "content_block": start},
            {"type": "content_block_delta", "index": 7, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
            {"type": "content_block_stop", "index": 7},
        ]
        _, chunk = fed(told)
        assert (chunk.content, len(chunk.tool_calls)) == ("Hi.", 0)

    def test_is_whole_with_its_last_event_only(self) -> None:
        told = events(message(text("Hi.")))
        for end in range(len(told)):
            reader, _ = fed(told[:end])
            assert not reader.finished
            assert not reader.closed

    @pytest.mark.parametrize(
        "told",
        [
            [{"type": "message_stop"}],
            [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}],
            [{"type": "content_block_stop", "index": 0}],
            [{"type": "message_start", "message": {"id": 5, "model": MODEL}}],
            [{"type": "message_start"}],
            [{"kind": "message_start", "type": {}}, {"type": "message_stop"}],
            [*events(message(text("Hi.")))[:-2], {"type": "message_stop"}],
        ],
    )
    def test_that_makes_no_sense_is_not_understood(self, told: list[dict[str, Any]]) -> None:
        with pytest.raises(NOT_UNDERSTOOD):
            fed(told)


class TestUsage:
    """Worked examples: what Anthropic reports, and what it makes by the table of the design."""

    def counted(self, usage: chat.Usage) -> tuple[int, ...]:
        sent, received = usage.prompt_tokens_details, usage.completion_tokens_details
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert not usage.estimated
        return (
            usage.prompt_tokens,
            usage.completion_tokens,
            sent.cached_tokens,
            sent.cache_write_tokens,
            sent.cache_write_1h_tokens,
            received.reasoning_tokens,
        )

    @pytest.mark.parametrize(
        ("reported", "counted"),
        [
            # 40 in, 12 out, nothing else.
            ({"input_tokens": 40, "output_tokens": 12}, (40, 12, 0, 0, 0, 0)),
            # A cached prompt: 21 new tokens and 188,086 from the cache are 21 + 188,086 = 188,107 sent.
            (
                {"input_tokens": 21, "cache_read_input_tokens": 188_086, "output_tokens": 393},
                (188_107, 393, 188_086, 0, 0, 0),
            ),
            # Written for five minutes: 50 + 0 + 248 = 298 sent, 248 of them written, none for an hour.
            (
                {
                    "input_tokens": 50,
                    "cache_read_input_tokens": 0,
                    "cache_creation_input_tokens": 248,
                    "cache_creation": {"ephemeral_5m_input_tokens": 248, "ephemeral_1h_input_tokens": 0},
                    "output_tokens": 10,
                },
                (298, 10, 0, 248, 0, 0),
            ),
            # Both: 2,048 + 1,800 + (456 + 100 = 556) = 4,404 sent; 100 of the 556 written for an hour.
            (
                {
                    "input_tokens": 2_048,
                    "cache_read_input_tokens": 1_800,
                    "cache_creation_input_tokens": 556,
                    "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
                    "output_tokens": 503,
                },
                (4_404, 503, 1_800, 556, 100, 0),
            ),
            # Thinking: the 600 tokens thought are among the 750 received, not beside them.
            (
                {"input_tokens": 30, "output_tokens": 750, "output_tokens_details": {"thinking_tokens": 600}},
                (30, 750, 0, 0, 0, 600),
            ),
        ],
        ids=["plain", "cached", "written", "written for an hour", "thinking"],
    )
    @both_ways
    def test_adds_up(self, read: Any, reported: dict[str, Any], counted: tuple[int, ...]) -> None:
        assert self.counted(read(message(text("Hi."), usage=reported)).usage) == counted

    def test_reported_again_takes_the_place_of_what_was_before(self) -> None:
        """12 tokens after 1 are 12, not 13; null says nothing."""
        final = {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 12}
        usage = streamed(message(text("Hi."), usage={"input_tokens": 40, "cache_read_input_tokens": 7}), final).usage
        assert self.counted(usage) == (47, 12, 7, 0, 0, 0)

    def test_of_tools_that_run_at_anthropic_counts_all_rounds(self) -> None:
        """The start knows the first round: 1,000 + 0 + 500. The end knows all: 3,000 + 2,500 + 900 = 6,400 sent."""
        start = {
            "input_tokens": 1_000,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 500,
            "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 1,
        }
        final = {
            "input_tokens": 3_000,
            "cache_read_input_tokens": 2_500,
            "cache_creation_input_tokens": 900,
            "output_tokens": 400,
            "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 0},
        }
        assert self.counted(streamed(message(text("Hi."), usage=start), final).usage) == (6_400, 400, 2_500, 900, 0, 0)

    def test_of_a_cache_for_an_hour_grows_with_the_rounds(self) -> None:
        start = {
            "input_tokens": 0,
            "cache_creation_input_tokens": 500,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 500},
        }
        final = {"cache_creation_input_tokens": 900, "output_tokens": 4}
        assert self.counted(streamed(message(text("Hi."), usage=start), final).usage) == (900, 4, 0, 900, 900, 0)

    def test_before_the_end_is_that_of_the_prompt_and_not_final(self) -> None:
        """12 + 1,000 + 200 = 1,212 sent. The start says one token out too, whatever will come."""
        start = {
            "input_tokens": 12,
            "cache_read_input_tokens": 1_000,
            "cache_creation_input_tokens": 200,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 200},
        }
        told = events(message(text("Hi."), usage=start), {"output_tokens": 5})
        broken, whole = (fed(told[:end])[0].usage() for end in (-2, -1))
        assert broken is not None
        assert whole is not None
        assert broken.estimated
        broken.ClearField("estimated")
        assert self.counted(broken) == (1_212, 0, 1_000, 200, 200, 0)
        assert self.counted(whole) == (1_212, 5, 1_000, 200, 200, 0)

    def test_before_anything_was_told_is_none(self) -> None:
        assert fed(events(message(text("Hi."), usage=None))[:-2])[0].usage() is None

    @pytest.mark.parametrize("nonsense", [-1, "12", None, [], 2**40, 1e300])
    def test_that_makes_no_sense_counts_nothing(self, nonsense: Any) -> None:
        reported = {"input_tokens": nonsense, "output_tokens": 5, "cache_creation": nonsense}
        assert at_once(message(text("Hi."), usage=reported)).usage.prompt_tokens == 0


def tried(body: bytes) -> None:
    ADAPTER.read_key_test(body, "")


class TestErrorInside:
    def test_a_body_with_status_200(self) -> None:
        body = {"type": "error", "error": {"type": "overloaded_error", "message": "secret words"}}
        with pytest.raises(ProviderError) as raised:
            ADAPTER.read_answer(orjson.dumps(body))
        assert raised.value.reason == "PROVIDER_UNAVAILABLE"
        assert "secret" not in str(raised.value)

    @pytest.mark.parametrize("read", [tried, ADAPTER.read_models])
    def test_a_list_of_models(self, read: Any) -> None:
        body = {"type": "error", "error": {"type": "authentication_error", "message": "secret words"}}
        with pytest.raises(ProviderError) as raised:
            read(orjson.dumps(body))
        assert raised.value.reason == "INVALID_API_KEY"

    @pytest.mark.parametrize("body", [b"[]", b"5", b"{}", b'{"hello":1}', b"<html>"])
    def test_what_is_no_answer_is_not_understood(self, body: bytes) -> None:
        for read in (ADAPTER.read_answer, ADAPTER.read_models, tried):
            with pytest.raises(NOT_UNDERSTOOD):
                read(body)
