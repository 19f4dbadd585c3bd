"""What Google AI is asked, for what callers ask."""

from typing import Any

import orjson
import pytest

from libs.errors import InvalidRequest, ModelNotFound
from libs.provider_keys import ProviderKey
from libs.worker.adapter import Credential, ProviderRequest
from services.workers.google_ai.adapter import ADAPTER
from tests.support.chat_requests import chat_request

KEY = "AIza-sandbox-hunter2hunter2"
CREDENTIAL = Credential(ProviderKey(KEY))
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
NEWEST = "gemini-4-argon"
OLDER = "gemini-2.5-flash"
PNG = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {
    "name": "weather",
    "description": "Tells it.",
    "parameters": {"type": "object", "properties": {"zip": {"type": "string"}, "city": {"type": "string"}}},
}


def asked(
    request: dict[str, Any], model: str = NEWEST, credential: Credential = CREDENTIAL, *, stream: bool = False
) -> ProviderRequest:
    return ADAPTER.chat_request(chat_request(request), model, credential, stream=stream)


def sent(request: dict[str, Any], model: str = NEWEST, credential: Credential = CREDENTIAL) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(asked(request, model, credential).body)
    return body


def turns(*messages: dict[str, Any], model: str = NEWEST) -> Any:
    return sent({"messages": list(messages)}, model)["contents"]


def config(model: str = NEWEST, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = sent({**HELLO, "options": options}, model).get("generationConfig", {})
    return found


def dropped(request: dict[str, Any], model: str = NEWEST) -> dict[str, str]:
    return {note.option: note.reason for note in asked(request, model).dropped}


def dropped_options(model: str = NEWEST, **options: Any) -> dict[str, str]:
    return dropped({**HELLO, "options": options}, model)


def refused(request: dict[str, Any], model: str = NEWEST) -> list[str]:
    with pytest.raises(InvalidRequest) as invalid:
        asked(request, model)
    return [violation.field for violation in invalid.value.violations]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def calls(*names: str, signature: str | None = None, **message: Any) -> dict[str, Any]:
    """Makes the message of an assistant who called tools; the first call bears the signature."""
    made: list[dict[str, Any]] = [{"id": f"c-{name}", "name": name, "arguments": '{"x":1}'} for name in names]
    if signature:
        made[0]["extraContent"] = {"google": {"thought_signature": signature}}
    return {"role": "assistant", "toolCalls": made, **message}


def result(name: str, content: str = "sunny", **message: Any) -> dict[str, Any]:
    return {"role": "tool", "toolCallId": f"c-{name}", **({"content": content} if content else {}), **message}


class TestWhereItGoes:
    def test_whole_answer_and_stream_have_paths_of_their_own(self) -> None:
        assert asked(HELLO).path == "/models/gemini-4-argon:generateContent"
        streamed = asked(HELLO, stream=True)
        assert streamed.path == "/models/gemini-4-argon:streamGenerateContent?alt=sse"
        assert (streamed.method, streamed.streamed, asked(HELLO).streamed) == ("POST", True, False)
        assert streamed.body == asked(HELLO).body

    @pytest.mark.parametrize(("limit", "in_events"), [(32_768, False), (32_769, True)])
    def test_long_answer_is_streamed_also_to_those_who_want_it_whole(self, limit: int, in_events: bool) -> None:
        request = asked({**HELLO, "options": {"maxTokens": limit}})
        assert request.streamed == in_events
        assert request.path.endswith(":streamGenerateContent?alt=sse" if in_events else ":generateContent")

    def test_the_key_is_in_its_header_alone(self) -> None:
        for request in (
            asked(HELLO),
            asked(HELLO, stream=True),
            ADAPTER.key_test_request(ProviderKey(KEY), ""),
            ADAPTER.models_request(ProviderKey(KEY), 0, ""),
        ):
            assert request.headers == {"x-goog-api-key": KEY, "content-type": "application/json"}
            assert KEY not in request.path
            assert KEY.encode() not in request.body
            assert KEY not in repr(request)

    @pytest.mark.parametrize(
        ("model", "path"),
        [
            ("gemini-2.5-pro", "/models/gemini-2.5-pro"),
            ("models/gemini-2.5-pro", "/models/gemini-2.5-pro"),
            ("tunedModels/my-model-123", "/tunedModels/my-model-123"),
        ],
    )
    def test_the_kind_before_a_name_is_understood(self, model: str, path: str) -> None:
        assert asked(HELLO, model).path == f"{path}:generateContent"
        assert ADAPTER.key_test_request(ProviderKey(KEY), model).path == path

    @pytest.mark.parametrize(
        "model",
        [
            "",
            "..",
            ".",
            "../files",
            "models/..",
            "models/../files",
            "a/b",
            "a?key=x",
            "a#b",
            "a b",
            "a%2fb",
            "a:countTokens",
            "a\n",
            "a\\b",
            "models/models/a",
            "gemini-ü",
        ],
    )
    def test_a_name_that_would_lead_elsewhere_is_no_model(self, model: str) -> None:
        with pytest.raises(ModelNotFound):
            asked(HELLO, model)
        if model:
            with pytest.raises(ModelNotFound):
                ADAPTER.key_test_request(ProviderKey(KEY), model)

    def test_key_test_and_model_list(self) -> None:
        assert ADAPTER.key_test_request(ProviderKey(KEY), "").path == "/models?pageSize=1"
        assert ADAPTER.models_request(ProviderKey(KEY), 0, "").path == "/models"
        page = ADAPTER.models_request(ProviderKey(KEY), 20, "a/b&key=c")
        assert (page.method, page.path) == ("GET", "/models?pageSize=20&pageToken=a%2Fb%26key%3Dc")

    def test_a_plain_request_says_nothing_but_the_words(self) -> None:
        assert sent(HELLO) == {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}

    def test_what_is_for_this_platform_only_stays_here(self) -> None:
        request = {**HELLO, "provider": "google-ai", "conversationId": "c", "store": True, "metadata": {"k": "v"}}
        assert sent(request) == sent(HELLO)


class TestTurns:
    def test_instructions_stand_apart_wherever_they_were(self) -> None:
        body = sent(
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    user("Hi"),
                    {"role": "system", "parts": [{"text": "Be kind."}, {"text": "Be true."}]},
                ]
            }
        )
        assert body["systemInstruction"] == {
            "parts": [{"text": "Be brief."}, {"text": "Be kind."}, {"text": "Be true."}]
        }
        assert body["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]

    def test_instructions_alone_are_no_conversation(self) -> None:
        assert refused({"messages": [{"role": "system", "content": "Be brief."}]}) == ["messages"]

    def test_pictures_are_no_instructions(self) -> None:
        request = {"messages": [{"role": "system", "parts": [{"imageUrl": {"url": PNG}}]}, user("Hi")]}
        assert refused(request) == ["messages[0].parts[0]"]

    def test_one_side_speaking_on_is_one_turn(self) -> None:
        said = turns(
            user("One"),
            user("Two"),
            {"role": "assistant", "content": "Three"},
            {"role": "assistant", "content": "Four"},
        )
        assert said == [
            {"role": "user", "parts": [{"text": "One"}, {"text": "Two"}]},
            {"role": "model", "parts": [{"text": "Three"}, {"text": "Four"}]},
        ]

    def test_an_assistant_who_said_nothing_is_no_turn(self) -> None:
        assert turns(user("One"), {"role": "assistant"}, user("Two")) == [
            {"role": "user", "parts": [{"text": "One"}, {"text": "Two"}]}
        ]


class TestPictures:
    @pytest.mark.parametrize(
        ("url", "part"),
        [
            (PNG, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}),
            ("data:image/jpg;base64,AA==", {"inlineData": {"mimeType": "image/jpeg", "data": "AA=="}}),
            ("data:image/WEBP;x=y;base64,AA==", {"inlineData": {"mimeType": "image/webp", "data": "AA=="}}),
            ("https://x.org/a.png", {"fileData": {"fileUri": "https://x.org/a.png", "mimeType": "image/png"}}),
            (
                "https://x.org/a.JPG?size=9#top",
                {"fileData": {"fileUri": "https://x.org/a.JPG?size=9#top", "mimeType": "image/jpeg"}},
            ),
            ("https://x.org/a", {"fileData": {"fileUri": "https://x.org/a"}}),
            ("https://[x", {"fileData": {"fileUri": "https://[x"}}),
        ],
    )
    def test_come_along_or_are_fetched_by_google(self, url: str, part: dict[str, Any]) -> None:
        said = turns({"role": "user", "parts": [{"text": "What is it?"}, {"imageUrl": {"url": url}}]})
        assert said == [{"role": "user", "parts": [{"text": "What is it?"}, part]}]

    @pytest.mark.parametrize(
        "url", ["data:image/gif;base64,AA==", "data:image/svg+xml;base64,AA==", "data:image/png,AA==", "data:image/png"]
    )
    def test_of_other_kinds_are_refused(self, url: str) -> None:
        request = {"messages": [{"role": "user", "parts": [{"imageUrl": {"url": url}}]}]}
        assert "messages[0].parts[0].imageUrl.url" in refused(request)

    def test_how_closely_to_look_is_left_to_google(self) -> None:
        close = {"imageUrl": {"url": PNG, "detail": "high"}}
        request = {
            "messages": [{"role": "user", "parts": [close, close, {"imageUrl": {"url": PNG, "detail": "auto"}}]}]
        }
        assert list(dropped(request)) == ["messages[0].parts[0].imageUrl.detail"]


class TestTools:
    def test_are_declared_with_their_schema_in_its_order(self) -> None:
        body = asked({**HELLO, "options": {"tools": [WEATHER, {"name": "time"}]}}).body
        assert b'"properties":{"zip":{"type":"string"},"city":{"type":"string"}}' in body
        assert orjson.loads(body)["tools"] == [
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": "Tells it.",
                        "parametersJsonSchema": WEATHER["parameters"],
                    },
                    {"name": "time"},
                ]
            }
        ]

    @pytest.mark.parametrize(
        ("choice", "calling"),
        [
            ("auto", {"mode": "AUTO"}),
            ("none", {"mode": "NONE"}),
            ("required", {"mode": "ANY"}),
            ("weather", {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
        ],
    )
    def test_choice(self, choice: str, calling: dict[str, Any]) -> None:
        body = sent({**HELLO, "options": {"tools": [WEATHER], "toolChoice": choice}})
        assert body["toolConfig"] == {"functionCallingConfig": calling}

    def test_choice_is_googles_when_nobody_makes_it(self) -> None:
        assert "toolConfig" not in sent({**HELLO, "options": {"tools": [WEATHER]}})
        assert "toolConfig" not in sent({**HELLO, "options": {"toolChoice": "auto"}})

    @pytest.mark.parametrize(
        ("choice", "mode"), [(None, "VALIDATED"), ("auto", "VALIDATED"), ("required", "ANY"), ("none", "NONE")]
    )
    def test_strict_arguments_are_asked_for(self, choice: str | None, mode: str) -> None:
        options = {"tools": [{**WEATHER, "strict": True}], **({"toolChoice": choice} if choice else {})}
        assert sent({**HELLO, "options": options})["toolConfig"] == {"functionCallingConfig": {"mode": mode}}

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"tools": [WEATHER, {"name": "1st"}]}, "options.tools[1].name"),
            ({"tools": [{"name": "-x"}]}, "options.tools[0].name"),
            ({"tools": [WEATHER], "parallelToolCalls": False}, "options.parallelToolCalls"),
        ],
    )
    def test_what_google_has_not_is_refused(self, options: dict[str, Any], field: str) -> None:
        assert refused({**HELLO, "options": options}) == [field]

    def test_several_calls_at_once_are_googles_way(self) -> None:
        assert "toolConfig" not in sent({**HELLO, "options": {"tools": [WEATHER], "parallelToolCalls": True}})
        assert "toolConfig" not in sent({**HELLO, "options": {"parallelToolCalls": False}})

    def test_results_find_the_name_of_their_call(self) -> None:
        said = turns(user("Weather?"), calls("weather", signature="c2ln"), result("weather"), model=OLDER)
        assert said[1] == {
            "role": "model",
            "parts": [
                {
                    "functionCall": {"id": "c-weather", "name": "weather", "args": {"x": 1}},
                    "thoughtSignature": "c2ln",
                }
            ],
        }
        assert said[2] == {
            "role": "user",
            "parts": [{"functionResponse": {"id": "c-weather", "name": "weather", "response": {"result": "sunny"}}}],
        }

    @pytest.mark.parametrize(
        ("content", "response"),
        [
            ('{"sky": "blue", "n": [1]}', {"sky": "blue", "n": [1]}),
            (' {"sky": "blue"}\n', {"sky": "blue"}),
            ("[1, 2]", {"result": "[1, 2]"}),
            ("{not json}", {"result": "{not json}"}),
            ("", {"result": ""}),
        ],
    )
    def test_result_is_an_object(self, content: str, response: dict[str, Any]) -> None:
        said = turns(user("?"), calls("weather"), result("weather", content), model=OLDER)
        assert said[2]["parts"][0]["functionResponse"]["response"] == response

    def test_result_after_very_much_json_is_a_text(self) -> None:
        """Reading it would keep everybody else waiting; the model reads the same either way."""
        long = '{"log":"' + "x" * 1_500_000 + '"}'
        plenty = '{"list":[' + "[]," * 99_998 + "1]}"
        for first, second in ((long, long), (plenty, '{"a":[]}'), ("x" * 3_000_000, '{"a":1}')):
            steps = [calls("a"), result("a", first), calls("b"), result("b", second), calls("c"), result("c", "no")]
            said = turns(user("?"), *steps, model=OLDER)
            responses = [said[turn]["parts"][0]["functionResponse"]["response"] for turn in (2, 4, 6)]
            if first.startswith("x"):  # a text is not read
                assert responses == [{"result": first}, {"a": 1}, {"result": "no"}]
            else:
                assert responses == [orjson.loads(first), {"result": second}, {"result": "no"}]

    def test_json_keeps_its_digits(self) -> None:
        made = calls("weather")
        made["toolCalls"][0]["arguments"] = '{"n": 1.00000000000000000001, "big": 123456789012345678901234567890}'
        body = asked({"messages": [user("?"), made, result("weather", '{"n": 2.50}')]}).body
        assert b"1.00000000000000000001" in body
        assert b"123456789012345678901234567890" in body
        assert b'{"n": 2.50}' in body

    def test_results_of_parallel_calls_are_one_turn_in_the_order_of_the_calls(self) -> None:
        made = calls("a", "b", "c")
        said = turns(user("?"), made, result("c"), result("a"), result("b"), user("Go on."), model=OLDER)
        assert [part["functionResponse"]["name"] for part in said[2]["parts"]] == ["a", "b", "c"]
        assert said[3] == {"role": "user", "parts": [{"text": "Go on."}]}
        assert len(said) == 4

    def test_step_after_step_keeps_its_order(self) -> None:
        said = turns(user("?"), calls("a"), result("a"), calls("b"), result("b"), model=OLDER)
        assert [turn["role"] for turn in said] == ["user", "model", "user", "model", "user"]

    def test_result_in_parts_and_with_pictures(self) -> None:
        parts = [{"text": "It is "}, {"text": "sunny."}, {"imageUrl": {"url": PNG}}]
        shown = result("weather", "", parts=parts)
        said = turns(user("?"), calls("weather"), shown)
        assert said[2]["parts"][0]["functionResponse"] == {
            "id": "c-weather",
            "name": "weather",
            "response": {"result": "It is sunny."},
            "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}],
        }
        conversation = {"messages": [user("?"), calls("weather"), shown]}
        assert refused(conversation, OLDER) == ["messages[2].parts"]
        with pytest.raises(InvalidRequest, match="Gemini 3 or later"):
            asked(conversation, OLDER)
        shown["parts"][2] = {"imageUrl": {"url": "https://x.org/a.png"}}
        assert refused(conversation) == ["messages[2].parts"]
        with pytest.raises(InvalidRequest, match="in data: URLs; Google AI fetches none"):
            asked(conversation)

    @pytest.mark.parametrize(
        ("messages", "fields"),
        [
            ([user("?"), result("weather")], ["messages[1].toolCallId"]),
            ([user("?"), calls("a"), result("a"), result("a")], ["messages[3].toolCallId"]),
            ([user("?"), calls("a", "b"), result("a")], ["messages[1].toolCalls"]),
            ([user("?"), calls("a"), user("!")], ["messages[1].toolCalls"]),
            ([user("?"), calls("a", "b"), result("a"), calls("c"), result("c")], ["messages[1].toolCalls"]),
            (
                [
                    user("?"),
                    {"role": "assistant", "toolCalls": [{"id": "c-a", "name": "a", "arguments": "[1]"}]},
                    result("a"),
                ],
                ["messages[1].toolCalls[0].arguments"],
            ),
            (
                [
                    user("?"),
                    {"role": "assistant", "toolCalls": [{"id": "c-a", "name": "a", "arguments": "{"}]},
                    result("a"),
                ],
                ["messages[1].toolCalls[0].arguments"],
            ),
            (
                [
                    user("?"),
                    {
                        "role": "assistant",
                        "toolCalls": [{"id": "c-a", "name": "a", "arguments": '{"a":' * 300 + "1" + "}" * 300}],
                    },
                    result("a"),
                ],
                ["messages[1].toolCalls[0].arguments"],
            ),
        ],
    )
    def test_conversation_google_would_refuse_is_refused_with_the_place(
        self, messages: list[dict[str, Any]], fields: list[str]
    ) -> None:
        assert refused({"messages": messages}) == fields

    def test_parallel_calls_split_over_messages_are_one_turn(self) -> None:
        said = turns(user("?"), calls("a"), calls("b"), result("a"), result("b"), model=OLDER)
        assert [next(iter(part)) for part in said[1]["parts"]] == ["functionCall", "functionCall"]

    def test_call_without_arguments_has_none(self) -> None:
        made = {"role": "assistant", "toolCalls": [{"id": "c-a", "name": "a"}]}
        assert turns(user("?"), made, result("a"), model=OLDER)[1]["parts"][0]["functionCall"]["args"] == {}


NOTE = {"type": "reasoning.encrypted", "data": "c2ln", "format": "google-gemini-v1"}


class TestThoughtSignatures:
    def test_of_a_call_comes_back_with_it(self) -> None:
        request = {"messages": [user("?"), calls("a", "b", signature="c2ln"), result("a"), result("b")]}
        first, second = sent(request)["contents"][1]["parts"]
        assert first["thoughtSignature"] == "c2ln"
        assert "thoughtSignature" not in second
        assert not dropped(request)

    def test_of_a_text_comes_back_with_it(self) -> None:
        said = turns(user("?"), {"role": "assistant", "content": "Yes.", "reasoningDetails": [NOTE]}, user("!"))
        assert said[1]["parts"] == [{"text": "Yes.", "thoughtSignature": "c2ln"}]

    def test_that_came_alone_goes_back_alone(self) -> None:
        said = turns(user("?"), {"role": "assistant", "reasoningDetails": [NOTE]}, user("!"))
        assert said[1]["parts"] == [{"text": "", "thoughtSignature": "c2ln"}]

    @pytest.mark.parametrize(
        "note",
        [
            {"type": "reasoning.text", "text": "Hm.", "signature": "x", "format": "anthropic-claude-v1"},
            {"type": "reasoning.encrypted", "data": "x", "format": "anthropic-claude-v1"},
            {"type": "reasoning.encrypted", "data": "x", "format": "google-gemini-v1", "id": "tool_1", "index": 0},
            {"type": "reasoning.text", "text": "Hm.", "format": "google-gemini-v1"},
            {"type": "reasoning.encrypted", "data": None, "format": "google-gemini-v1"},
            {},
        ],
    )
    def test_notes_of_other_providers_are_not_for_google(self, note: dict[str, Any]) -> None:
        said = turns(user("?"), {"role": "assistant", "content": "Yes.", "reasoningDetails": [note]}, user("!"))
        assert said[1]["parts"] == [{"text": "Yes."}]

    def test_missing_in_the_current_turn_is_stood_in_for_and_told(self) -> None:
        request = {"messages": [user("?"), calls("a", "b"), result("a"), result("b"), calls("c"), result("c")]}
        contents = sent(request)["contents"]
        bypass = "skip_thought_signature_validator"
        assert [part.get("thoughtSignature") for part in contents[1]["parts"]] == [bypass, None]
        assert [part.get("thoughtSignature") for part in contents[3]["parts"]] == [bypass]
        assert list(dropped(request)) == ["messages[4].toolCalls"]

    def test_missing_before_the_user_spoke_again_is_not_asked_for(self) -> None:
        request = {
            "messages": [user("?"), calls("a"), result("a"), {"role": "assistant", "content": "Yes."}, user("!")]
        }
        assert "thoughtSignature" not in sent(request)["contents"][1]["parts"][0]
        assert not dropped(request)

    def test_missing_for_an_older_model_stays_missing(self) -> None:
        request = {"messages": [user("?"), calls("a"), result("a")]}
        assert "thoughtSignature" not in sent(request, OLDER)["contents"][1]["parts"][0]
        assert not dropped(request, OLDER)


class TestOptions:
    def test_have_googles_names(self) -> None:
        options: dict[str, Any] = {"temperature": 0, "topP": 0.5, "maxTokens": 9, "stop": ["END", "."], "seed": -7}
        assert config(**options) == {
            "temperature": 0,
            "topP": 0.5,
            "maxOutputTokens": 9,
            "stopSequences": ["END", "."],
            "seed": -7,
        }

    def test_what_is_configured_holds_unless_the_request_says_otherwise(self) -> None:
        credential = Credential(ProviderKey(KEY), temperature=0.25, max_tokens=3)
        assert sent(HELLO, credential=credential)["generationConfig"] == {"temperature": 0.25, "maxOutputTokens": 3}
        request = {**HELLO, "options": {"temperature": 0, "maxTokens": 500}}
        assert sent(request, credential=credential)["generationConfig"] == {"temperature": 0, "maxOutputTokens": 500}

    def test_more_than_five_stop_texts_are_refused(self) -> None:
        assert len(config(stop=list("abcde"))["stopSequences"]) == 5
        assert refused({**HELLO, "options": {"stop": list("abcdef")}}) == ["options.stop"]

    @pytest.mark.parametrize(
        ("seed", "taken"), [(2**31 - 1, True), (-(2**31), True), (2**31, False), (-(2**40), False)]
    )
    def test_seed_of_more_than_32_bits_is_left_out(self, seed: int, taken: bool) -> None:
        assert config(seed=seed).get("seed") == (seed if taken else None)
        note = {"options.seed": "Google AI takes seeds of 32 bits only."}
        assert dropped_options(seed=seed) == ({} if taken else note)

    def test_penalties_are_left_out(self) -> None:
        assert config(presencePenalty=0.5, frequencyPenalty=-0.5) == {}
        assert list(dropped_options(presencePenalty=0.5, frequencyPenalty=-0.5)) == [
            "options.presencePenalty",
            "options.frequencyPenalty",
        ]
        assert set(dropped_options(presencePenalty=1).values()) == {"Google AI has no penalties."}
        assert not dropped_options(presencePenalty=0, frequencyPenalty=0)

    def test_json_mode_and_schema_in_its_order(self) -> None:
        assert config(responseFormat={"type": "text"}) == {}
        assert config(responseFormat={"type": "json_object"}) == {"responseMimeType": "application/json"}
        schema = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
        wanted = {"type": "json_schema", "name": "n", "strict": True, "jsonSchema": schema}
        assert config(responseFormat=wanted) == {"responseMimeType": "application/json", "responseJsonSchema": schema}
        assert b'"properties":{"b":' in asked({**HELLO, "options": {"responseFormat": wanted}}).body

    def test_json_and_tools_do_not_go_together_before_gemini_3(self) -> None:
        options = {"tools": [WEATHER], "responseFormat": {"type": "json_object"}}
        assert "tools" in sent({**HELLO, "options": options})
        assert refused({**HELLO, "options": options}, OLDER) == ["options.responseFormat"]
        assert sent({**HELLO, "options": {**options, "responseFormat": {"type": "text"}}}, OLDER)

    def test_everything_wrong_is_told_at_once(self) -> None:
        options = {"stop": list("abcdef"), "tools": [{"name": "1st"}]}
        assert refused({**HELLO, "options": options}) == ["options.tools[0].name", "options.stop"]


class TestEffort:
    @pytest.mark.parametrize(
        ("model", "effort", "thinking", "noted"),
        [
            ("gemini-4-argon", "low", {"thinkingLevel": "LOW"}, False),
            ("gemini-4-argon", "max", {"thinkingLevel": "HIGH"}, True),
            ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW"}, True),
            ("gemini-3.6-flash", "minimal", {"thinkingLevel": "MINIMAL"}, False),
            ("gemini-3-flash-preview", "medium", {"thinkingLevel": "MEDIUM"}, False),
            ("gemini-3.5-flash-lite", "minimal", {"thinkingLevel": "MINIMAL"}, False),
            ("gemini-3-pro-preview", "medium", {"thinkingLevel": "LOW"}, True),
            ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "MEDIUM"}, False),
            ("gemini-9-unheard-of", "medium", {"thinkingLevel": "MEDIUM"}, False),
            ("models/gemini-2.5-flash", "low", {"thinkingBudget": 1_024}, False),
            ("gemini-2.5-flash", "medium", {"thinkingBudget": 8_192}, False),
            ("gemini-2.5-pro", "high", {"thinkingBudget": 24_576}, False),
            ("gemini-2.5-flash-lite", "xhigh", {"thinkingBudget": 24_576}, True),
        ],
    )
    def test_is_a_level_since_gemini_3_and_a_budget_before(
        self, model: str, effort: str, thinking: dict[str, Any], noted: bool
    ) -> None:
        assert config(model, reasoningEffort=effort) == {"thinkingConfig": {**thinking, "includeThoughts": True}}
        assert list(dropped_options(model, reasoningEffort=effort)) == (["options.reasoningEffort"] if noted else [])

    @pytest.mark.parametrize(
        ("model", "thinking", "noted"),
        [
            ("gemini-2.5-flash", {"thinkingBudget": 0}, False),
            ("gemini-2.5-pro", {"thinkingBudget": 1_024}, True),
            ("gemini-3.6-flash", {"thinkingLevel": "MINIMAL"}, True),
            ("gemini-3.8-flash", {"thinkingLevel": "LOW"}, True),
        ],
    )
    def test_none_is_as_little_as_the_model_can_and_its_thoughts_stay_unsaid(
        self, model: str, thinking: dict[str, Any], noted: bool
    ) -> None:
        assert config(model, reasoningEffort="none") == {"thinkingConfig": thinking}
        assert bool(dropped_options(model, reasoningEffort="none")) == noted

    @pytest.mark.parametrize(
        "model", ["gemini-2.0-flash", "gemma-3-27b-it", "tunedModels/mine", "gemini-2.5-flash-image"]
    )
    def test_is_left_out_for_a_model_that_cannot_be_told(self, model: str) -> None:
        assert config(model, reasoningEffort="high") == {}
        assert list(dropped_options(model, reasoningEffort="high")) == ["options.reasoningEffort"]

    def test_is_the_models_own_when_nobody_says(self) -> None:
        assert config() == {}
