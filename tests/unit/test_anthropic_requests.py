"""What the Anthropic adapter asks, compared with the bodies Anthropic's reference shows."""

import re
from typing import Any

import orjson
import pytest

from libs.errors import InvalidRequest
from libs.provider_keys import ProviderKey
from libs.worker.adapter import Credential, ProviderRequest
from services.workers.anthropic.adapter import ADAPTER
from tests.support.chat_requests import chat_request

NEW, OLD = "claude-haiku-5-5", "claude-haiku-4-5"
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
CALL: dict[str, Any] = {"id": "toolu_1", "function": {"name": "weather", "arguments": '{"place":"Rome"}'}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Rome"}}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
}


def asked(
    *messages: dict[str, Any], model: str = OLD, stream: bool = False, own: dict[str, Any] | None = None, **options: Any
) -> ProviderRequest:
    """Returns the request for a conversation; `own` is the person's configuration."""
    request = chat_request({"messages": list(messages) or HELLO, "options": options})
    return ADAPTER.chat_request(request, model, Credential(ProviderKey("sk-ant-1"), **own or {}), stream=stream)


def body(*messages: dict[str, Any], **options: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = orjson.loads(asked(*messages, **options).body)
    return parsed


def dropped(*messages: dict[str, Any], **options: Any) -> list[str]:
    return [dropped.option for dropped in asked(*messages, **options).dropped]


def reasons(*messages: dict[str, Any], **options: Any) -> dict[str, str]:
    return {dropped.option: dropped.reason for dropped in asked(*messages, **options).dropped}


def refused(*messages: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as raised:
        asked(*messages, **options)
    assert all(violation.description.endswith(".") for violation in raised.value.violations)
    return [violation.field for violation in raised.value.violations]


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [text(each) if isinstance(each, str) else each for each in content]}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def result(words: str | None, identity: str = "toolu_1") -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": identity}
    return block if words is None else block | {"content": [text(words)]}


class TestSimplest:
    def test_is_the_body_of_the_reference(self) -> None:
        request = asked(model=NEW)
        assert (request.method, request.path, request.streamed, list(request.dropped)) == (
            "POST",
            "/messages",
            False,
            [],
        )
        assert orjson.loads(request.body) == {"model": NEW, "max_tokens": 16_384, "messages": [user("Hello")]}
        assert dict(request.headers) == {
            "x-api-key": "sk-ant-1",
            "anthropic-version": "2026-10-21",
            "content-type": "application/json",
        }

    def test_a_stream_is_asked_for_in_the_body(self) -> None:
        request = asked(stream=True)
        assert (request.streamed, orjson.loads(request.body)["stream"]) == (True, True)

    def test_the_key_is_in_its_header_alone(self) -> None:
        request = asked()
        assert b"sk-ant-1" not in request.body
        assert "sk-ant-1" not in request.path + repr(request)


class TestTurns:
    def test_system_messages_go_to_the_top_in_their_order(self) -> None:
        sent = body(
            {"role": "system", "content": "Be brief."},
            *HELLO,
            {"role": "assistant", "content": "Yes?"},
            {"role": "system", "parts": [{"text": "Speak French."}, {"text": " "}]},
            {"role": "user", "content": "Go on."},
        )
        assert sent["system"] == [text("Be brief."), text("Speak French.")]
        assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]

    def test_turns_of_one_role_become_one(self) -> None:
        sent = body(*HELLO, {"role": "user", "parts": [{"text": "It's me."}]}, {"role": "user", "content": "Hm?"})
        assert sent["messages"] == [user("Hello", "It's me.", "Hm?")]

    def test_an_assistant_that_said_nothing_is_left_out(self) -> None:
        sent = body(*HELLO, {"role": "assistant"}, {"role": "assistant", "content": "\n\n"}, *HELLO)
        assert sent["messages"] == [user("Hello", "Hello")]

    def test_parallel_calls_and_their_results_keep_together(self) -> None:
        other = {"id": "call_2", "name": "time", "arguments": ""}
        sent = body(
            *HELLO,
            {"role": "assistant", "content": "Let me see.", "toolCalls": [CALL, other]},
            {"role": "tool", "toolCallId": "toolu_1", "content": "Rain."},
            {"role": "tool", "toolCallId": "call_2", "content": ""},
            {"role": "user", "content": "And?"},
        )
        assert sent["messages"][1:] == [
            {
                "role": "assistant",
                "content": [
                    text("Let me see."),
                    USE,
                    {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
                ],
            },
            user(result("Rain."), result(None, "call_2"), "And?"),
        ]

    def test_ids_of_other_providers_are_spelt_in_its_letters_and_kept_apart(self) -> None:
        identities = ["a b", "a_b", "a.b", "a ", "ä", "functions.f:0", "functions.f:1", "toolu_1-2"]
        calls = [{"id": identity, "name": "time"} for identity in identities]
        results = [{"role": "tool", "toolCallId": identity, "content": identity} for identity in identities]
        said, heard = body(*HELLO, {"role": "assistant", "toolCalls": calls}, *results)["messages"][1:]
        spelt = [block["id"] for block in said["content"]]

        assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", identity) for identity in spelt)
        assert len(set(spelt)) == len(identities)
        assert [(block["tool_use_id"], block["content"][0]["text"]) for block in heard["content"]] == list(
            zip(spelt, identities, strict=True)
        )
        assert {"a_b", "toolu_1-2"} <= set(spelt)  # what it takes stays as it is

    def test_results_stand_before_what_the_user_says_though_it_came_first(self) -> None:
        sent = body(
            *HELLO,
            {"role": "assistant", "toolCalls": [CALL]},
            {"role": "user", "content": "Hurry!"},
            {"role": "tool", "toolCallId": "toolu_1", "content": "Rain."},
        )
        assert sent["messages"][-1] == user(result("Rain."), "Hurry!")

    @pytest.mark.parametrize("arguments", ["{", "[]", '"x"', "null"])
    def test_arguments_that_are_no_object_are_refused(self, arguments: str) -> None:
        call = {"id": "1", "name": "weather", "arguments": arguments}
        turns = [*HELLO, {"role": "assistant", "toolCalls": [CALL, call]}]
        assert refused(*turns, *HELLO) == ["messages[1].toolCalls[1].arguments"]

    def test_arguments_go_as_they_stand(self) -> None:
        call = {"id": "1", "name": "f", "arguments": ' {"big": 123456789012345678901234567890, "n": 2.50} '}
        answered = {"role": "tool", "toolCallId": "1", "content": "x"}
        sent = asked(*HELLO, {"role": "assistant", "toolCalls": [call]}, answered).body
        assert b'{"big": 123456789012345678901234567890, "n": 2.50}' in sent

    @pytest.mark.parametrize("levels", [255, 400, 1_000, 5_000])
    def test_arguments_too_deep_to_be_read_again_are_refused(self, levels: int) -> None:
        for opened, closed in (('{"a":', "}"), ("[", "]")):
            arguments = '{"a":' + opened * (levels - 1) + "1" + closed * (levels - 1) + "}"
            call = {"id": "1", "name": "weather", "arguments": arguments}
            assert refused(*HELLO, {"role": "assistant", "toolCalls": [CALL, call]}, *HELLO) == [
                "messages[1].toolCalls[1].arguments"
            ]

    def test_arguments_as_deep_as_can_be_read_are_sent(self) -> None:
        deep = '{"a":' * 254 + "1" + "}" * 254
        call = {"id": "1", "name": "weather", "arguments": deep}
        result_of_it = {"role": "tool", "toolCallId": "1", "content": "x"}
        assert deep.encode() in asked(*HELLO, {"role": "assistant", "toolCalls": [call]}, result_of_it).body

    def test_a_conversation_without_a_user_is_refused(self) -> None:
        assert refused({"role": "system", "content": "Be brief."}) == ["messages"]

    def test_an_assistant_turn_is_continued_where_the_model_can(self) -> None:
        turns = [*HELLO, {"role": "assistant", "content": "It is \n"}]
        assert body(*turns)["messages"][-1] == {"role": "assistant", "content": [text("It is")]}
        for model in ("claude-sonnet-4-6", NEW, "claude-of-tomorrow"):
            assert refused(*turns, model=model) == ["messages"]
            with pytest.raises(InvalidRequest, match=model):
                asked(*turns, model=model)


class TestPictures:
    def parts(self, url: str, **more: Any) -> dict[str, Any]:
        return {"role": "user", "parts": [{"imageUrl": {"url": url, **more}}, {"text": "What is it?"}]}

    def sources(self, *urls: str) -> list[dict[str, Any]]:
        blocks = body(*(self.parts(url) for url in urls))["messages"][0]["content"]
        return [block["source"] for block in blocks if block["type"] == "image"]

    def test_come_by_address_or_in_base64(self) -> None:
        assert self.sources(
            "https://example.com/a.png",
            "data:image/png;base64,aGk=",
            "data:image/jpg;base64,aGk=",
            "data:image/WebP;x=y;base64,aGk=",
        ) == [
            {"type": "url", "url": "https://example.com/a.png"},
            {"type": "base64", "media_type": "image/png", "data": "aGk="},
            {"type": "base64", "media_type": "image/jpeg", "data": "aGk="},
            {"type": "base64", "media_type": "image/webp", "data": "aGk="},
        ]

    @pytest.mark.parametrize(
        "url", ["data:image/tiff;base64,aGk=", "data:image/png,hi", "data:image/svg+xml;utf8,<svg/>", "data:image/png"]
    )
    def test_of_another_kind_are_refused(self, url: str) -> None:
        assert refused(self.parts(url)) == ["messages[0].parts[0].imageUrl.url"]

    def test_detail_is_left_out_with_a_note(self) -> None:
        assert dropped(self.parts("https://a/b", detail="low")) == ["messages[0].parts[0].imageUrl.detail"]
        assert dropped(self.parts("https://a/b", detail="auto")) == []

    def test_detail_is_noted_once_for_all(self) -> None:
        close = self.parts("https://a/b", detail="high")
        assert dropped(*HELLO, close, close) == ["messages[1].parts[0].imageUrl.detail"]

    @pytest.mark.parametrize("role", ["system", "assistant"])
    def test_are_refused_where_claude_takes_none(self, role: str) -> None:
        turn = self.parts("https://a/b") | {"role": role}
        assert refused(*HELLO, turn, *HELLO) == ["messages[1].parts[0].imageUrl"]

    def test_a_tool_may_return_one(self) -> None:
        turn = {"role": "tool", "toolCallId": "toolu_1", "parts": [{"imageUrl": {"url": "https://a/b"}}]}
        sent = body(*HELLO, {"role": "assistant", "toolCalls": [CALL]}, turn)
        assert sent["messages"][-1]["content"][0]["content"] == [
            {"type": "image", "source": {"type": "url", "url": "https://a/b"}}
        ]


class TestLimit:
    def test_is_the_requests_then_the_persons_then_ours(self) -> None:
        assert body(maxTokens=7, own={"max_tokens": 9})["max_tokens"] == 7
        assert body(own={"max_tokens": 9})["max_tokens"] == 9
        assert body()["max_tokens"] == 16_384

    @pytest.mark.parametrize(
        ("model", "effort", "limit"),
        [
            ("claude-3-haiku-20240307", "", 4_096),
            ("claude-3-5-haiku-20241022", "", 8_192),
            (OLD, "high", 16_384 + 16_384),
            (NEW, "low", 16_384),
            (NEW, "high", 64_000),
            ("claude-of-tomorrow", "max", 64_000),
        ],
    )
    def test_ours_is_what_the_model_and_its_thoughts_need(self, model: str, effort: str, limit: int) -> None:
        assert body(model=model, reasoningEffort=effort)["max_tokens"] == limit

    @pytest.mark.parametrize(("limit", "streamed"), [(21_333, False), (21_334, True)])
    def test_what_may_take_ten_minutes_comes_as_a_stream(self, limit: int, streamed: bool) -> None:
        """An hour for 128,000 tokens makes 600 s for 21,333.3 of them."""
        request = asked(maxTokens=limit)
        assert (request.streamed, orjson.loads(request.body).get("stream", False)) == (streamed, streamed)


class TestSampling:
    def test_goes_to_older_models_in_the_version_that_knows_it(self) -> None:
        for request in (asked(model="claude-sonnet-4-6", temperature=0.3), asked(model="claude-sonnet-4-6", topP=0.9)):
            assert request.headers["anthropic-version"] == "2023-06-01"
            assert not request.dropped
        assert body(temperature=0.3)["temperature"] == 0.3
        assert body(topP=0.9)["top_p"] == 0.9
        assert body(own={"temperature": 0.0})["temperature"] == 0

    @pytest.mark.parametrize("model", ["claude-opus-4-7", "claude-opus-4-8", NEW, "claude-of-tomorrow"])
    def test_is_left_out_where_newer_models_refuse_it(self, model: str) -> None:
        request = asked(model=model, temperature=0.3, topP=0.9)
        assert [each.option for each in request.dropped] == ["options.temperature", "options.topP"]
        assert request.headers["anthropic-version"] == "2026-10-21"
        assert not {"temperature", "top_p"} & orjson.loads(request.body).keys()

    def test_of_the_persons_own_is_named_as_such(self) -> None:
        assert dropped(model=NEW, own={"temperature": 0.3}) == ["temperature"]

    def test_above_one_is_one(self) -> None:
        assert body(temperature=1.7)["temperature"] == 1
        assert dropped(temperature=1.7) == ["options.temperature"]

    def test_takes_temperature_before_top_p(self) -> None:
        sent = body(temperature=0.3, topP=0.9)
        assert (sent["temperature"], "top_p" in sent) == (0.3, False)
        assert dropped(temperature=0.3, topP=0.9) == ["options.topP"]

    def test_does_not_go_with_thinking(self) -> None:
        assert dropped(temperature=0.3, reasoningEffort="low") == ["options.temperature"]
        assert dropped(topP=0.9, reasoningEffort="low") == ["options.topP"]
        assert body(topP=0.95, reasoningEffort="low")["top_p"] == 0.95

    def test_seed_and_penalties_are_left_out_with_a_note(self) -> None:
        assert reasons(seed=0, presencePenalty=0.5, frequencyPenalty=-0.5) == {
            "options.seed": "Anthropic has no seed.",
            "options.presencePenalty": "Anthropic has no penalties.",
            "options.frequencyPenalty": "Anthropic has no penalties.",
        }

    def test_a_penalty_of_zero_is_none(self) -> None:
        assert dropped(presencePenalty=0, frequencyPenalty=0) == []

    @pytest.mark.parametrize(
        ("model", "options", "option"),
        [
            (NEW, {"temperature": 0.3}, "options.temperature"),
            (NEW, {"topP": 0.9}, "options.topP"),
            (OLD, {"temperature": 0.3, "topP": 0.9}, "options.topP"),
            (OLD, {"temperature": 0.3, "reasoningEffort": "low"}, "options.temperature"),
            (OLD, {"topP": 0.9, "reasoningEffort": "low"}, "options.topP"),
        ],
    )
    def test_names_the_model_where_the_model_decides(self, model: str, options: dict[str, Any], option: str) -> None:
        assert reasons(model=model, **options)[option].startswith(f"{model} takes ")

    def test_names_anthropic_where_anthropic_decides(self) -> None:
        assert reasons(temperature=1.7) == {
            "options.temperature": "Anthropic takes no temperature above 1; 1 was used."
        }


class TestStop:
    def test_is_called_stop_sequences(self) -> None:
        assert body(stop=["END", "\n\nHuman"])["stop_sequences"] == ["END", "\n\nHuman"]

    def test_of_white_space_alone_is_refused(self) -> None:
        with pytest.raises(InvalidRequest) as raised:
            asked(stop=["END", "\n"])
        told = [(violation.field, violation.description) for violation in raised.value.violations]
        assert told == [("options.stop", "must have no texts of white space alone for Anthropic; leave them out.")]


class TestTools:
    def test_are_described_in_anthropics_words(self) -> None:
        sent = body(tools=[WEATHER, {"name": "time"}])
        assert sent["tools"] == [
            {"name": "weather", "description": "Tells the weather.", "input_schema": WEATHER["parameters"]},
            {"name": "time", "input_schema": {"type": "object"}},
        ]
        assert "tool_choice" not in sent

    def test_keep_the_order_of_their_properties(self) -> None:
        properties = {name: {"type": "string"} for name in ("z", "a", "m")}
        sent = body(tools=[{"name": "t", "parameters": {"properties": properties}}])
        assert list(sent["tools"][0]["input_schema"]["properties"]) == ["z", "a", "m"]
        assert sent["tools"][0]["input_schema"]["type"] == "object"

    @pytest.mark.parametrize(
        ("options", "choice"),
        [
            ({"toolChoice": "auto"}, None),
            ({"toolChoice": "none"}, {"type": "none"}),
            ({"toolChoice": "required"}, {"type": "any"}),
            ({"toolChoice": "weather"}, {"type": "tool", "name": "weather"}),
            ({"parallelToolCalls": True}, None),
            ({"parallelToolCalls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
            (
                {"toolChoice": "required", "parallelToolCalls": False},
                {"type": "any", "disable_parallel_tool_use": True},
            ),
            ({"toolChoice": "none", "parallelToolCalls": False}, {"type": "none"}),
        ],
    )
    def test_are_chosen(self, options: dict[str, Any], choice: dict[str, Any] | None) -> None:
        assert body(tools=[WEATHER], **options).get("tool_choice") == choice

    @pytest.mark.parametrize(
        "model", ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1", "claude-mythos-5-2", "claude-opus-6"]
    )
    def test_cannot_be_forced_on_models_that_decide_themselves(self, model: str) -> None:
        for choice in ("required", "weather"):
            assert refused(model=model, tools=[WEATHER], toolChoice=choice) == ["options.toolChoice"]
        body(model=model, tools=[WEATHER], toolChoice="none")

    def test_strict_ones_take_nothing_but_what_they_name(self) -> None:
        sent = body(tools=[WEATHER | {"strict": True}, {"name": "time", "strict": True}])
        assert [tool["strict"] for tool in sent["tools"]] == [True, True]
        assert sent["tools"][0]["input_schema"]["additionalProperties"] is False
        assert sent["tools"][1]["input_schema"] == {
            "properties": {},
            "type": "object",
            "additionalProperties": False,
        }
        assert "strict" not in body(tools=[WEATHER | {"strict": False}])["tools"][0]

    def test_strict_ones_are_refused_for_models_that_cannot(self) -> None:
        assert refused(model="claude-sonnet-4-0", tools=[WEATHER | {"strict": True}]) == ["options.tools[0].strict"]


class TestForm:
    def form(self, schema: dict[str, Any], **options: Any) -> Any:
        return body(responseFormat={"type": "json_schema", "jsonSchema": schema}, **options)["output_config"]["format"]

    def test_a_schema_is_an_output_format(self) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        assert self.form(schema) == {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}

    def test_open_objects_are_closed_wherever_they_stand(self) -> None:
        inner = {"type": "object", "properties": {"additionalProperties": {"type": "string"}}}
        schema = {
            "type": "object",
            "properties": {"list": {"type": "array", "items": inner}, "either": {"anyOf": [inner, {"type": "null"}]}},
            "$defs": {"x": inner},
        }
        closed = {**inner, "additionalProperties": False}
        found = self.form(schema)["schema"]
        assert found["properties"]["list"]["items"] == closed
        assert found["properties"]["either"]["anyOf"] == [closed, {"type": "null"}]
        assert found["$defs"]["x"] == closed
        assert found["additionalProperties"] is False

    def test_what_the_caller_says_about_more_properties_stays(self) -> None:
        """Anthropic refuses both, which is better than an object that may only be empty."""
        assert self.form({"type": "object"})["schema"] == {"type": "object"}
        opened = {"type": "object", "properties": {}, "additionalProperties": True}
        assert self.form(opened)["schema"] == opened

    def test_any_json_is_refused_with_advice(self) -> None:
        assert refused(responseFormat={"type": "json_object"}) == ["options.responseFormat.type"]

    def test_a_schema_is_refused_for_models_that_cannot(self) -> None:
        form = {"type": "json_schema", "jsonSchema": {"type": "object"}}
        assert refused(model="claude-sonnet-4-0", responseFormat=form) == ["options.responseFormat.type"]

    def test_text_says_nothing(self) -> None:
        assert "output_config" not in body(responseFormat={"type": "text"})


ADAPTIVE = {"type": "adaptive", "display": "summarized"}


class TestThinking:
    @pytest.mark.parametrize(
        ("model", "effort", "thinking", "level"),
        [
            (NEW, "", None, None),
            (NEW, "none", {"type": "disabled"}, None),
            (NEW, "minimal", ADAPTIVE, "low"),
            (NEW, "max", ADAPTIVE, "max"),
            ("claude-sonnet-4-6", "xhigh", ADAPTIVE, "high"),
            ("claude-sonnet-4-6", "max", ADAPTIVE, "max"),
            ("claude-opus-4-8", "xhigh", ADAPTIVE, "xhigh"),
            ("claude-opus-4-8", "none", {"type": "disabled"}, None),
            ("claude-sonnet-5-5", "none", {"type": "between_tools"}, None),
            ("claude-opus-5-5", "high", ADAPTIVE, "high"),
            ("claude-of-tomorrow", "medium", ADAPTIVE, "medium"),
            (OLD, "minimal", {"type": "enabled", "budget_tokens": 1_024}, None),
            (OLD, "medium", {"type": "enabled", "budget_tokens": 8_192}, None),
            (OLD, "max", {"type": "enabled", "budget_tokens": 32_000}, None),
            (OLD, "none", {"type": "disabled"}, None),
            ("claude-opus-4-5", "low", {"type": "enabled", "budget_tokens": 2_048}, None),
            ("claude-3-5-haiku-latest", "none", None, None),
        ],
    )
    def test_is_what_the_model_has_and_rounding_is_told(
        self, model: str, effort: str, thinking: Any, level: str | None
    ) -> None:
        request = asked(model=model, reasoningEffort=effort)
        sent = orjson.loads(request.body)
        assert (sent.get("thinking"), sent.get("output_config", {}).get("effort")) == (thinking, level)
        rounded = (level is not None and level != effort) or thinking == {"type": "between_tools"}
        assert [dropped.option for dropped in request.dropped] == ["options.reasoningEffort"] * rounded

    @pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-fable-5-2", "claude-mythos-5", "claude-of-tomorrow"])
    def test_that_cannot_be_stopped_is_kept_short_and_told(self, model: str) -> None:
        sent = body(model=model, reasoningEffort="none")
        assert (sent.get("thinking"), sent["output_config"]) == (None, {"effort": "low"})
        assert dropped(model=model, reasoningEffort="none") == ["options.reasoningEffort"]

    def test_is_left_out_for_models_that_cannot(self) -> None:
        model = "claude-3-5-haiku-20241022"
        assert dropped(model=model, reasoningEffort="high") == ["options.reasoningEffort"]
        assert "thinking" not in body(model=model, reasoningEffort="high")

    @pytest.mark.parametrize(
        ("limit", "budget"),
        [(64_000, 16_384), (20_480, 16_384), (10_000, 8_000), (1_200, 1_024), (1_025, 1_024), (1_024, None)],
    )
    def test_by_hand_leaves_room_for_the_answer_and_says_so(self, limit: int, budget: int | None) -> None:
        """A fifth: 20,480 - 4,096 = 16,384, which is all of `high`."""
        sent = body(maxTokens=limit, reasoningEffort="high")
        assert sent.get("thinking", {}).get("budget_tokens") == budget
        assert sent["max_tokens"] == limit
        found = reasons(maxTokens=limit, reasoningEffort="high")
        assert list(found) == ([] if budget == 16_384 else ["options.reasoningEffort"])
        assert all(f" {limit} " in f"{reason} " and str(budget or 1_024) in reason for reason in found.values())

    def test_by_hand_leaves_room_in_the_longest_answer_there_is(self) -> None:
        """Opus 4.1 answers with 32,000 tokens at most, four fifths of which are 25,600; `max` is 32,000."""
        sent = body(model="claude-opus-4-1", reasoningEffort="max")
        assert (sent["max_tokens"], sent["thinking"]["budget_tokens"]) == (32_000, 25_600)
        assert dropped(model="claude-opus-4-1", reasoningEffort="max") == ["options.reasoningEffort"]

    @pytest.mark.parametrize("choice", ["required", "weather"])
    def test_by_hand_gives_way_to_a_call_that_must_be_made(self, choice: str) -> None:
        """Adaptive thinking goes with it."""
        options: dict[str, Any] = {"tools": [WEATHER], "toolChoice": choice, "reasoningEffort": "high"}
        assert "thinking" not in body(**options)
        assert dropped(**options) == ["options.reasoningEffort"]
        for model in ("claude-sonnet-4-6", NEW):
            assert body(model=model, **options)["thinking"] == ADAPTIVE
            assert dropped(model=model, **options) == []

    def test_of_older_models_does_not_begin_in_the_middle_of_a_tool_loop(self) -> None:
        turns: list[dict[str, Any]] = [
            *HELLO,
            {"role": "assistant", "toolCalls": [CALL]},
            {"role": "tool", "toolCallId": "toolu_1", "content": "Rain."},
        ]
        assert "thinking" not in body(*turns, reasoningEffort="low")
        assert dropped(*turns, reasoningEffort="low") == ["options.reasoningEffort"]
        assert dropped(*turns, model=NEW, reasoningEffort="low") == []
        assert dropped(*turns, {"role": "assistant", "content": "Rain."}, *HELLO, reasoningEffort="low") == []


FORMAT = {"format": "anthropic-claude-v1"}
THOUGHT = {"type": "reasoning.text", "text": "Hm.", "signature": "c2ln", **FORMAT}
SEALED = {"type": "reasoning.encrypted", "data": "ZGF0YQ==", **FORMAT}


class TestReasoningDetails:
    def turn(self, *details: dict[str, Any], content: str = "Let me see.") -> list[dict[str, Any]]:
        """Returns the blocks an assistant turn becomes."""
        said = {"role": "assistant", "content": content, "toolCalls": [CALL], "reasoningDetails": list(details)}
        answered = {"role": "tool", "toolCallId": "toolu_1", "content": "Rain."}
        blocks: list[dict[str, Any]] = body(*HELLO, said, answered, reasoningEffort="low")["messages"][1]["content"]
        return blocks

    def test_stand_before_what_was_said_and_called(self) -> None:
        assert self.turn(THOUGHT, SEALED) == [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZGF0YQ=="},
            text("Let me see."),
            USE,
        ]

    def test_stand_where_they_stood(self) -> None:
        later = THOUGHT | {"text": "So…", "after_characters": 4}
        last = SEALED | {"after_characters": 11, "after_calls": 1}
        kinds = [block["type"] for block in self.turn(THOUGHT, later, last)]
        assert kinds == ["thinking", "text", "thinking", "text", "tool_use", "redacted_thinking"]
        assert [block["text"] for block in self.turn(THOUGHT, later, last) if block["type"] == "text"] == [
            "Let ",
            "me see.",
        ]

    def test_had_under_another_system_prompt_stay_out_where_models_refuse_them(self) -> None:
        """A later system message goes to the top, and so changes what came before every thought."""
        said = {"role": "assistant", "content": "Yes?", "reasoningDetails": [THOUGHT]}
        first, later = {"role": "system", "content": "Be brief."}, {"role": "system", "content": "Speak French."}
        for model, kept in ((NEW, False), ("claude-of-tomorrow", False), (OLD, True), ("claude-opus-5", True)):
            sent = body(first, *HELLO, said, later, *HELLO, said, *HELLO, model=model)["messages"]
            assert [turn["content"][0]["type"] == "thinking" for turn in (sent[1], sent[3])] == [kept, True]
            sent = body(first, *HELLO, said, *HELLO, model=model)["messages"]
            assert sent[1]["content"][0]["type"] == "thinking"

    def test_that_were_kept_back_come_back_empty(self) -> None:
        assert self.turn(THOUGHT | {"text": ""})[0] == {"type": "thinking", "thinking": "", "signature": "c2ln"}

    @pytest.mark.parametrize(
        "detail",
        [
            {"type": "reasoning.encrypted", "data": "x", "format": "google-gemini-v1"},
            {"type": "reasoning.text", "text": "x", "signature": "y"},
            THOUGHT | {"index": 0, "id": None},
            {"type": "reasoning.text", "text": "unsigned", **FORMAT},
            {"type": "reasoning.summary", "summary": "x", **FORMAT},
            SEALED | {"data": 5},
            {},
        ],
    )
    def test_of_others_or_of_no_use_are_not_sent(self, detail: dict[str, Any]) -> None:
        assert [block["type"] for block in self.turn(detail)] == ["text", "tool_use"]

    def test_survive_places_that_make_no_sense(self) -> None:
        wild = THOUGHT | {"after_characters": 10_000, "after_calls": 99}
        odd = SEALED | {"after_characters": -5, "after_calls": "x"}
        assert sorted(block["type"] for block in self.turn(wild, odd)) == [
            "redacted_thinking",
            "text",
            "thinking",
            "tool_use",
        ]


class TestKeyTestAndModels:
    def test_the_cheapest_call_lists_one_model(self) -> None:
        request = ADAPTER.key_test_request(ProviderKey("sk-ant-1"), "")
        assert (request.method, request.path) == ("GET", "/models?limit=1")
        assert request.headers["x-api-key"] == "sk-ant-1"

    @pytest.mark.parametrize(("model", "path"), [(NEW, f"/models/{NEW}"), ("../x?y", "/models/..%2Fx%3Fy")])
    def test_a_model_is_asked_for_by_name(self, model: str, path: str) -> None:
        assert ADAPTER.key_test_request(ProviderKey("k"), model).path == path

    @pytest.mark.parametrize(
        ("size", "token", "path"),
        [
            (0, "", "/models"),
            (50, "", "/models?limit=50"),
            (0, "claude-x", "/models?after_id=claude-x"),
            (2, "a&b", "/models?limit=2&after_id=a%26b"),
        ],
    )
    def test_models_come_in_pages(self, size: int, token: str, path: str) -> None:
        assert ADAPTER.models_request(ProviderKey("k"), size, token).path == path

    def test_a_page_tells_sizes_and_the_next(self) -> None:
        page = {
            "data": [
                {"type": "model", "id": "a", "display_name": "A", "max_input_tokens": 200_000, "max_tokens": 64_000},
                {"type": "model", "id": "b", "max_input_tokens": None},
            ],
            "has_more": True,
            "first_id": "a",
            "last_id": "b",
        }
        models, token = ADAPTER.read_models(orjson.dumps(page))
        assert [(model.id, model.display_name, model.context_length, model.max_output_tokens) for model in models] == [
            ("a", "A", 200_000, 64_000),
            ("b", "b", 0, 0),
        ]
        assert not models[1].HasField("context_length")
        assert token == "b"
        assert ADAPTER.read_models(orjson.dumps(page | {"has_more": False}))[1] == ""
