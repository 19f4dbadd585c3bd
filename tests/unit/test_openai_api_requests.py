"""Chat requests of OpenAI's API in the hub's words."""

from typing import Any

import orjson
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import InvalidRequest
from libs.json_members import JsonMembers
from libs.openai_api.request import Translated, to_hub
from libs.provider_keys import ProviderKey
from libs.worker.adapter import Credential
from libs.worker.json_object import plain
from libs.worker.request_amounts import check_amounts
from libs.worker.request_check import check_chat_request, unfold_tool_calls
from services.workers.openai.adapter import ADAPTER
from tests.support.chat_requests import chat_request
from tests.support.full_requests import CONVERSATION, OPTIONS
from tests.support.openai_types import accepted

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
CREDENTIAL = Credential(api_key=ProviderKey("sk-test"))


def translated(body: dict[str, Any]) -> Translated:
    return to_hub(JsonMembers(orjson.dumps({"model": "anything"} | body)), provider="anthropic", model="claude")


def hub(**body: Any) -> chat.CreateChatCompletionRequest:
    """Translates a request that OpenAI's own types accept, and the hub's rules as well."""
    accepted({"model": "m"} | HI | body)
    request = translated(HI | body).request
    check_amounts(request)
    unfold_tool_calls(request)
    check_chat_request(request, streaming=False)
    return request


def refused(**body: Any) -> list[str]:
    """Lists the fields that are refused."""
    with pytest.raises(InvalidRequest) as failure:
        translated(HI | body)
    assert all(each.description.endswith(".") for each in failure.value.violations)
    return [each.field for each in failure.value.violations]


class TestWhatTheHubSays:
    @pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
    def test_comes_back_as_it_was_after_openais_worker_put_it_into_openais_words(self, options: dict[str, Any]) -> None:
        """The adapter of the OpenAI worker is the judge: it is tested against OpenAI's own types."""
        said = chat_request(CONVERSATION | {"options": CONVERSATION["options"] | options})
        model = "gpt-5" if options.get("reasoningEffort") else "gpt-4o"
        sent = ADAPTER.chat_request(said, model, CREDENTIAL, stream=False)
        said.provider, said.model = "anthropic", "claude"
        if options.get("responseFormat", {}).get("jsonSchema"):
            said.options.response_format.name = "response"
        assert to_hub(JsonMembers(sent.body), provider="anthropic", model="claude").request == said

    def test_names_the_provider_and_model_it_is_for(self) -> None:
        request = translated(HI).request
        assert (request.provider, request.model) == ("anthropic", "claude")


class TestMessages:
    def test_of_every_role_and_form(self) -> None:
        request = hub(
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
                {
                    "role": "user",
                    "name": "Ann",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                    ],
                },
                {"role": "assistant", "content": None, "refusal": "I cannot say."},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{"}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "Rain."}]},
            ]
        )
        assert [turn.role for turn in request.messages] == ["system", "system", "user", *["assistant"] * 3, "tool"]
        assert [part.text for turn in request.messages for part in turn.parts] == [
            "Be kind.",
            "What is this?",
            "",
            "No.",
            "Rain.",
        ]
        assert request.messages[2].parts[1].image_url.detail == "low"
        assert request.messages[3].content == "I cannot say."
        assert request.messages[5].tool_calls[0].arguments == "{"
        assert request.messages[6].tool_call_id == "c1"

    def test_carry_what_a_provider_wants_back(self) -> None:
        extra = {"google": {"thought_signature": "c2ln"}}
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
        said = {"role": "assistant", "tool_calls": [call], "reasoning_details": [{"b": 1, "a": [None, 2.5]}]}
        turn = translated({"messages": [*HI["messages"], said]}).request.messages[1]
        assert turn.tool_calls[0].extra_content.google.thought_signature == "c2ln"
        assert orjson.dumps(plain(turn.reasoning_details[0])) == b'{"b":1,"a":[null,2.5]}'

    @pytest.mark.parametrize(
        ("message", "field"),
        [
            ("Hello", "messages[0]"),
            ({"content": "Hello"}, "messages[0].role"),
            ({"role": "function", "name": "f", "content": "1"}, "messages[0].role"),
            ({"role": "user", "content": 7}, "messages[0].content"),
            ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[0].content[0].type"),
            ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages[0].content[0].type"),
            (
                {"role": "user", "content": [{"type": "text"}, {"type": "text", "text": 7}]},
                "messages[0].content[1].text",
            ),
            ({"role": "user", "content": ["Hello"]}, "messages[0].content[0]"),
            (
                {"role": "user", "content": [{"type": "image_url", "image_url": "u"}]},
                "messages[0].content[0].image_url",
            ),
            ({"role": "assistant", "audio": {"id": "a"}}, "messages[0].audio"),
            ({"role": "assistant", "function_call": {"name": "f"}}, "messages[0].function_call"),
            ({"role": "assistant", "tool_calls": [{"type": "custom"}]}, "messages[0].tool_calls[0].type"),
            ({"role": "assistant", "tool_calls": {}}, "messages[0].tool_calls"),
        ],
    )
    def test_that_cannot_be_said_are_refused_by_their_place(self, message: Any, field: str) -> None:
        assert field in refused(messages=[message])


class TestOptions:
    def test_limits_have_two_names_and_that_of_today_counts(self) -> None:
        assert hub(max_tokens=5).options.max_tokens == 5
        assert hub(max_completion_tokens=6).options.max_tokens == 6
        assert hub(max_tokens=5, max_completion_tokens=6).options.max_tokens == 6

    def test_stop_may_be_a_text_a_list_or_nothing(self) -> None:
        assert list(hub(stop="END").options.stop) == ["END"]
        assert list(hub(stop=["a", "b"]).options.stop) == ["a", "b"]
        assert list(hub(stop=None).options.stop) == []

    def test_sampling_and_effort(self) -> None:
        options = hub(
            temperature=0, top_p=0.5, presence_penalty=-1, frequency_penalty=1.5, seed=-(2**63), reasoning_effort="low"
        ).options
        assert options.HasField("temperature")
        assert (options.top_p, options.presence_penalty, options.frequency_penalty) == (0.5, -1.0, 1.5)
        assert (options.seed, options.reasoning_effort) == (-(2**63), "low")

    def test_schemas_keep_the_order_of_their_members(self) -> None:
        schema = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"enum": [3, 1, None]}}}
        tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": True}}
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": False}}
        options = hub(tools=[tool], response_format=form).options
        assert orjson.dumps(plain(options.tools[0].parameters)) == orjson.dumps(schema)
        assert orjson.dumps(plain(options.response_format.json_schema)) == orjson.dumps(schema)
        assert (options.tools[0].strict, options.response_format.strict) == (True, False)
        assert (options.tools[0].description, options.response_format.name) == ("d", "n")

    def test_a_choice_may_name_a_tool(self) -> None:
        tool = {"type": "function", "function": {"name": "f"}}
        named = {"type": "function", "function": {"name": "f"}}
        assert hub(tools=[tool], tool_choice=named).options.tool_choice == "f"
        assert hub(tools=[tool], tool_choice="required").options.tool_choice == "required"
        assert hub(tools=[tool], parallel_tool_calls=False).options.parallel_tool_calls is False
        assert not hub(tools=[tool]).options.tools[0].HasField("parameters")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"n": 2}, "n"),
            ({"n": True}, "n"),
            ({"logprobs": True}, "logprobs"),
            ({"top_logprobs": 3}, "top_logprobs"),
            ({"logit_bias": {"50256": -100}}, "logit_bias"),
            ({"audio": {"voice": "alloy"}}, "audio"),
            ({"modalities": ["text", "audio"]}, "modalities"),
            ({"functions": [{"name": "f"}]}, "functions"),
            ({"function_call": "auto"}, "function_call"),
            ({"web_search_options": {}}, "web_search_options"),
            ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0].type"),
            (
                {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
                "tools[0].function.parameters",
            ),
            ({"tool_choice": "weather"}, "tool_choice"),
            ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
            ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice.function.name"),
            ({"response_format": "json"}, "response_format"),
            ({"stop": 7}, "stop"),
            ({"stop": ["a", 7]}, "stop"),
            ({"temperature": "hot"}, "temperature"),
            ({"temperature": True}, "temperature"),
            ({"max_tokens": 2**31}, "max_tokens"),
            ({"max_completion_tokens": 0}, "max_completion_tokens"),
            ({"seed": 1.5}, "seed"),
            ({"stream": "yes"}, "stream"),
            ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
            ({"reasoning_effort": 3}, "reasoning_effort"),
            ({"metadata": {"a": 1}}, "metadata"),
        ],
        ids=str,
    )
    def test_that_cannot_be_kept_are_refused_by_name(self, body: dict[str, Any], field: str) -> None:
        assert field in refused(**body)

    def test_all_that_is_wrong_is_told_at_once(self) -> None:
        assert refused(n=2, temperature="hot", tools=[{"type": "custom"}]) == ["n", "temperature", "tools[0].type"]

    def test_what_does_not_change_the_answer_is_passed_over(self) -> None:
        request = translated(
            HI
            | {
                "user": "me",
                "n": 1,
                "logprobs": False,
                "logit_bias": {},
                "modalities": ["text"],
                "service_tier": "auto",
            }
            | {"prompt_cache_key": "k", "safety_identifier": "s", "verbosity": "low", "store": True, "functions": []}
            | {"prediction": {"type": "content", "content": "x"}, "unheard_of": {"deep": [1]}, "metadata": {"a": "b"}}
        ).request
        assert request == translated(HI | {"metadata": {"a": "b"}}).request
        assert dict(request.metadata) == {"a": "b"}

    def test_what_the_caller_might_miss_is_told(self) -> None:
        left_out = {"verbosity": "low", "service_tier": "flex", "prediction": {"type": "content", "content": "x"}}
        assert {each.option for each in translated(HI | left_out).dropped} == left_out.keys()
        assert translated(HI | {"service_tier": "auto", "verbosity": None}).dropped == []

    def test_what_shall_not_be_kept_is_not(self) -> None:
        assert translated(HI | {"store": False}).request.store is False
        assert not translated(HI | {"store": True}).request.HasField("store")


class TestStreams:
    @pytest.mark.parametrize(
        ("body", "streamed", "include_usage"),
        [
            ({}, False, False),
            ({"stream": False, "stream_options": None}, False, False),
            ({"stream": True}, True, False),
            ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
            ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
            ({"stream_options": {"include_usage": True}}, False, False),
        ],
    )
    def test_are_asked_for_as_openai_does(self, body: dict[str, Any], streamed: bool, include_usage: bool) -> None:
        asked = translated(HI | body)
        assert (asked.streamed, asked.include_usage) == (streamed, include_usage)
        assert not asked.request.options.stream


class TestAmounts:
    """One person's request must not keep the worker from all others."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("messages", [{}] * 2_001),
            ("messages", [{"role": "user", "content": [{"type": "text", "text": "a"}] * 10_001}]),
            ("messages", [{"role": "user", "content": [{"type": "text", "text": "a"}] * 5_001}] * 2),
            ("messages", [{"role": "user", "content": "[" * 1_000_001}]),
            ("tools", [{"type": "function", "function": {"name": "f"}}] * 129),
            ("tools", [{"type": "function", "function": {"name": "f", "parameters": {"enum": [0] * 30_001}}}]),
            ("response_format", {"type": "json_schema", "json_schema": {"schema": {"enum": [[]] * 30_001}}}),
            ("stop", ["a"] * 129),
        ],
        ids=[
            "messages",
            "parts",
            "parts of all",
            "brackets",
            "tools",
            "values of tools",
            "values of a schema",
            "stops",
        ],
    )
    def test_are_bounded(self, name: str, value: Any) -> None:
        (field,) = refused(**{name: value})
        assert field.startswith(name)

    def test_of_levels_too(self) -> None:
        deep: Any = {}
        for _ in range(40):
            deep = {"a": deep}
        form = {"type": "json_schema", "json_schema": {"schema": deep}}
        assert refused(response_format=form) == ["response_format.json_schema.schema"]
