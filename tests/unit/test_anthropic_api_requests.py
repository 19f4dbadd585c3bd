"""Requests of Anthropic's API in the hub's words. What is refused is named as Anthropic names it."""

import base64
from typing import Any

import orjson
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.anthropic_api.request import Translated, to_counted, to_hub
from libs.anthropic_api.sealed_notes import sealed, without_sealed
from libs.errors import InvalidRequest
from libs.json_members import JsonMembers
from libs.worker.json_object import json_object, plain
from libs.worker.request_amounts import MAX_JSON_VALUES, MAX_MESSAGES, MAX_PIECES, MAX_TOOLS, check_amounts
from libs.worker.request_check import check_chat_request

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}


def translated(**members: Any) -> Translated:
    body = orjson.dumps({"model": "claude", "max_tokens": 100, "messages": HELLO, **members})
    found = to_hub(JsonMembers(body), provider="openai", model="gpt")
    check_amounts(found.request)
    check_chat_request(found.request, streaming=found.streamed)
    return found


def options(**members: Any) -> chat.ChatOptions:
    return translated(**members).request.options


def messages(*turns: Any, **members: Any) -> list[chat.ChatMessage]:
    return list(translated(messages=list(turns), **members).request.messages)


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def refused(**members: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as raised:
        translated(**members)
    return {violation.field: violation.description for violation in raised.value.violations}


class TestConversation:
    def test_a_plain_chat(self) -> None:
        found = translated(system="Be brief.")
        assert (found.request.provider, found.request.model, found.streamed) == ("openai", "gpt", False)
        assert [(turn.role, turn.content) for turn in found.request.messages] == [
            ("system", "Be brief."),
            ("user", "Hello"),
        ]
        assert found.request.options == chat.ChatOptions(max_tokens=100)
        assert list(found.dropped) == []

    def test_a_system_prompt_in_blocks_keeps_its_pieces(self) -> None:
        cached = {"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        first, _ = messages(*HELLO, system=[{"type": "text", "text": "One."}, {"type": "text", "text": ""}, cached])
        assert [part.text for part in first.parts] == ["One.", "Two."]

    def test_a_system_message_in_the_middle_stays_there(self) -> None:
        turns = messages(*HELLO, {"role": "system", "content": "Now in verse."})
        assert [(turn.role, turn.content) for turn in turns][1] == ("system", "Now in verse.")

    def test_pictures_and_plain_documents(self) -> None:
        address = {"type": "image", "source": {"type": "url", "url": "https://example.org/cat.png"}}
        note = {
            "type": "document",
            "title": "Note",
            "source": {"type": "text", "media_type": "text/plain", "data": "x"},
        }
        (turn,) = messages(user({"type": "text", "text": "Look."}, PICTURE, address, note))
        assert [part.text or part.image_url.url for part in turn.parts] == [
            "Look.",
            "data:image/png;base64,AAAA",
            "https://example.org/cat.png",
            "Note\n\nx",
        ]

    def test_calls_and_their_results(self) -> None:
        other = {**CALL, "id": "toolu_2", "input": {}}
        failed = {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True}
        turns = messages(
            *HELLO,
            assistant({"type": "text", "text": "Let me "}, {"type": "text", "text": "see."}, CALL, other),
            user(RESULT, failed, {"type": "text", "text": "And?"}),
        )
        assert [(turn.role, turn.content, turn.tool_call_id) for turn in turns[1:]] == [
            ("assistant", "Let me see.", ""),
            ("tool", "sunny", "toolu_1"),
            ("tool", "Error: ", "toolu_2"),
            ("user", "And?", ""),
        ]
        assert [(call.id, call.name, call.arguments) for call in turns[1].tool_calls] == [
            ("toolu_1", "weather", '{"city":"Rome"}'),
            ("toolu_2", "weather", "{}"),
        ]

    def test_a_picture_of_a_tool_is_shown_behind_its_result(self) -> None:
        shown = {**RESULT, "content": [{"type": "text", "text": "sunny"}, PICTURE]}
        *_, result, turn = messages(*HELLO, assistant(CALL), user(shown, {"type": "text", "text": "And?"}))
        assert result.role == "tool"
        assert "sunny" in result.content
        assert "next message" in result.content
        assert [part.image_url.url or part.text for part in turn.parts] == ["data:image/png;base64,AAAA", "And?"]

    @pytest.mark.parametrize(
        ("turn", "field"),
        [
            ({"role": "user", "content": ""}, "messages.0.content"),
            ({"role": "user", "content": []}, "messages.0.content"),
            ({"role": "user", "content": 1}, "messages.0.content"),
            ({"role": "user", "content": ["Hello"]}, "messages.0.content.0"),
            ({"role": "robot", "content": "Hello"}, "messages.0.role"),
            ("Hello", "messages.0.role"),
            (user({"type": "text", "text": 1}), "messages.0.content.0.text"),
            (user(RESULT), "messages.0.content.0.tool_use_id"),
            (user({"type": "image", "source": {"type": "file", "file_id": "f"}}), "messages.0.content.0.source"),
            (
                user({"type": "image", "source": {"type": "url", "url": "http://example.org"}}),
                "messages.0.content.0.source.url",
            ),
            (
                user({"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": "A"}}),
                "messages.0.content.0.source",
            ),
            (user({"type": "document", "source": {"type": "file", "file_id": "f"}}), "messages.0.content.0.type"),
            (assistant({"type": "server_tool_use", "id": "s", "name": "web_search"}), "messages.0.content.0.type"),
            (assistant({**CALL, "input": "{}"}), "messages.0.content.0"),
        ],
    )
    def test_what_cannot_be_said_is_refused_at_its_place(self, turn: Any, field: str) -> None:
        assert refused(messages=[turn]).keys() == {field}

    def test_every_violation_is_told(self) -> None:
        found = refused(messages=[], max_tokens=0, temperature="hot", stream=1, mcp_servers=[{"url": "x"}])
        assert found.keys() == {"messages", "max_tokens", "temperature", "stream", "mcp_servers"}


class TestNotes:
    NOTES = json_object({"type": "reasoning.encrypted", "data": "s", "format": "google-gemini-v1"})

    def test_what_was_sealed_comes_back(self) -> None:
        seal = sealed([self.NOTES], {"toolu_1": "signed"})
        thought = {"type": "redacted_thinking", "data": seal}
        _, turn, _ = messages(*HELLO, assistant(CALL, thought), user(RESULT))
        assert [plain(note) for note in turn.reasoning_details] == [plain(self.NOTES)]
        assert turn.tool_calls[0].extra_content.google.thought_signature == "signed"

    def test_claudes_own_thoughts_keep_their_place(self) -> None:
        thought = {"type": "thinking", "thinking": "hm", "signature": "claude's"}
        _, turn = messages(*HELLO, assistant({"type": "text", "text": "Let me see."}, thought))
        assert [plain(note) for note in turn.reasoning_details] == [
            {
                "type": "reasoning.text",
                "text": "hm",
                "signature": "claude's",
                "format": "anthropic-claude-v1",
                "after_characters": 11,
            }
        ]

    @pytest.mark.parametrize(
        "seal",
        [
            "rmllm1.not base64",
            "rmllm1." + base64.b64encode(b"no JSON").decode(),
            "rmllm1." + base64.b64encode(b"[]").decode(),
            "rmllm1." + base64.b64encode(b'{"details": [1, "x"], "calls": [2]}').decode(),
            "rmllm1." + base64.b64encode(b'{"details": 3, "calls": {"toolu_1": 4}}').decode(),
            "",
            None,
        ],
    )
    def test_what_nobody_sealed_is_left_out(self, seal: Any) -> None:
        _, turn, _ = messages(
            *HELLO, assistant({"type": "thinking", "thinking": "hm", "signature": seal}, CALL), user(RESULT)
        )
        assert not turn.reasoning_details
        assert not turn.tool_calls[0].HasField("extra_content")

    def test_more_than_may_be_unfolded_is_refused(self) -> None:
        seal = sealed([json_object({"x": [0] * (MAX_JSON_VALUES // 2)})], {})
        thought = {"type": "redacted_thinking", "data": seal}
        assert refused(messages=[*HELLO, assistant(thought, thought, thought)]).keys() == {"messages"}


class TestOptions:
    def test_sampling_and_stops(self) -> None:
        found = options(temperature=0, top_p=0.5, stop_sequences=["a", "b"])
        assert (found.temperature, found.top_p, list(found.stop)) == (0, 0.5, ["a", "b"])

    def test_top_k_is_left_out_and_told(self) -> None:
        found = translated(top_k=5, metadata={"user_id": "u"}, cache_control={"type": "ephemeral"}, service_tier="auto")
        assert [each.option for each in found.dropped] == ["top_k"]

    @pytest.mark.parametrize("limit", [None, 0, -1, 1.5, True, "9", 2**31])
    def test_a_limit_must_be_given(self, limit: Any) -> None:
        assert refused(max_tokens=limit).keys() == {"max_tokens"}

    def test_a_count_needs_no_limit(self) -> None:
        body = orjson.dumps({"model": "claude", "messages": HELLO})
        assert not to_counted(JsonMembers(body), provider="openai", model="gpt").options.HasField("max_tokens")

    def test_tools(self) -> None:
        strict = {**WEATHER, "name": "strict", "type": "custom", "strict": True, "cache_control": {"type": "ephemeral"}}
        found = options(tools=[WEATHER, strict], tool_choice={"type": "any", "disable_parallel_tool_use": True})
        assert [(tool.name, tool.description, tool.HasField("strict")) for tool in found.tools] == [
            ("weather", "Tells the weather.", False),
            ("strict", "Tells the weather.", True),
        ]
        assert plain(found.tools[0].parameters) == WEATHER["input_schema"]
        assert (found.tool_choice, found.parallel_tool_calls) == ("required", False)

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [({"type": "auto"}, "auto"), ({"type": "none"}, "none"), ({"type": "tool", "name": "weather"}, "weather")],
    )
    def test_a_choice_of_tools(self, choice: Any, expected: str) -> None:
        found = options(tools=[WEATHER], tool_choice=choice)
        assert (found.tool_choice, found.HasField("parallel_tool_calls")) == (expected, False)

    @pytest.mark.parametrize("choice", [{"type": "some"}, "auto", {"type": "tool"}, {"type": "tool", "name": "none"}])
    def test_no_choice(self, choice: Any) -> None:
        assert refused(tools=[WEATHER], tool_choice=choice).keys() == {"tool_choice"}

    def test_tools_that_run_at_anthropic_are_refused_by_name(self) -> None:
        found = refused(tools=[WEATHER, {"type": "web_search_20260318", "name": "web_search"}])
        assert "`web_search_20260318`" in found["tools.1.type"]

    @pytest.mark.parametrize(
        ("members", "effort"),
        [
            ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "none"),
            ({"thinking": {"type": "adaptive"}}, ""),
            ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max"),
            ({"output_config": {"effort": "low"}}, "low"),
            ({"thinking": {"type": "enabled", "budget_tokens": 1_024}}, "minimal"),
            ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, "medium"),
            ({"thinking": {"type": "enabled", "budget_tokens": 31_999, "display": "omitted"}}, "high"),
        ],
    )
    def test_thinking(self, members: dict[str, Any], effort: str) -> None:
        assert options(**members).reasoning_effort == effort

    @pytest.mark.parametrize("closed", [True, False])
    def test_a_schema_for_the_answer(self, closed: bool) -> None:
        schema: dict[str, Any] = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "null"}}}
        if closed:
            schema |= {"required": ["a", "b"], "additionalProperties": False}
        found = options(output_config={"format": {"type": "json_schema", "schema": schema}}).response_format
        assert (found.type, found.strict, found.HasField("strict")) == ("json_schema", closed, closed)
        assert list(plain(found.json_schema)["properties"]) == ["b", "a"]

    @pytest.mark.parametrize(
        ("members", "field"),
        [
            ({"tools": {}}, "tools"),
            ({"tools": [1]}, "tools.0"),
            ({"tools": [{"name": "x"}]}, "tools.0.input_schema"),
            ({"tools": [{"name": 1, "input_schema": {}}]}, "tools.0.name"),
            ({"thinking": {"type": "enabled"}}, "thinking"),
            ({"output_config": {"effort": "extreme"}}, "output_config.effort"),
            ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format"),
            ({"stop_sequences": [""]}, "stop_sequences"),
            ({"temperature": 1.5}, "temperature"),
            ({"container": "c"}, "container"),
            ({"system": [PICTURE]}, "system.0.type"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, members: dict[str, Any], field: str) -> None:
        assert refused(**members).keys() == {field}


class TestAmounts:
    @pytest.mark.parametrize(
        ("members", "field"),
        [
            ({"messages": HELLO * (MAX_MESSAGES + 1)}, "messages"),
            ({"messages": [user(*[{"type": "text", "text": "x"}] * (MAX_PIECES + 1))]}, "messages"),
            ({"tools": [WEATHER] * (MAX_TOOLS + 1)}, "tools"),
            ({"tools": [{"name": "x", "input_schema": {"enum": [0] * MAX_JSON_VALUES}}]}, "tools.0.input_schema"),
            ({"metadata": [[]] * 1_000_000}, "body"),
        ],
    )
    def test_too_much_is_refused_before_it_is_read(self, members: dict[str, Any], field: str) -> None:
        assert refused(**members).keys() == {field}

    def test_a_schema_too_deep_is_refused(self) -> None:
        schema: dict[str, Any] = {}
        for _ in range(200):
            schema = {"items": schema}
        assert refused(tools=[{"name": "x", "input_schema": schema}]).keys() == {"tools.0.input_schema"}
        form = {"format": {"type": "json_schema", "schema": schema}}
        assert refused(output_config=form).keys() == {"output_config.format.schema"}

    def test_a_strange_schema_is_left_to_the_provider(self) -> None:
        schema = {"type": "object", "properties": [{}], "required": [{}], "additionalProperties": False}
        form = {"format": {"type": "json_schema", "schema": schema}}
        assert not options(output_config=form).response_format.strict

    def test_notes_in_a_conversation_too_deep_to_write_are_refused(self) -> None:
        deep = b'{"a":' * 300 + b"1" + b"}" * 300
        sealed_block = b'{"type":"redacted_thinking","data":"rmllm1."}'
        turn = b'{"role":"assistant","content":[%b,{"type":"tool_use","input":%b}]}' % (sealed_block, deep)
        with pytest.raises(InvalidRequest):
            without_sealed(JsonMembers(b'{"messages":[%b]}' % turn))
