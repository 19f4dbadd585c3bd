"""What xAI does its own way, fact by fact."""

from typing import Any

import orjson
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs import errors
from libs.errors import InvalidRequest, ProviderError
from libs.provider_keys import ProviderKey
from services.workers.grok.adapter import ADAPTER
from tests.support.wire import asked, body_of, put_together, read_events

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
KEY = "xai-sandbox-hunter2hunter2"
REASONING = (
    "grok-4.7",
    "grok-4.6",
    "grok-4.5",
    "grok-4.3",
    "grok-4.20",
    "grok-4-1-fast-reasoning",
    "grok-4-0709",
    "grok-4",
    "grok-code-fast-1",
    "grok-3-mini",
    "grok-latest",
)
PLAIN = ("grok-4-1-fast-non-reasoning", "grok-4.20-0309-non-reasoning", "grok-3", "grok-2-vision-1212")


def usage(prompt: int, completion: int, reasoning: int, total: int, cached: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "prompt_tokens_details": {
            "text_tokens": prompt,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": cached,
        },
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
        "num_sources_used": 0,
        **more,
    }


def answer(message: dict[str, Any] | None = None, **more: Any) -> bytes:
    said = {"role": "assistant", "content": "Hi.", **(message or {})}
    choice = {"index": 0, "finish_reason": "stop", "message": said}
    return orjson.dumps({"id": "1", "model": "grok-4.3", "created": 1, "choices": [choice]} | more)


def chunk(delta: dict[str, Any] | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta or {}, **more.pop("ending", {})}]
    return orjson.dumps({"id": "1", "model": "grok-4.3", "choices": choices} | more)


def refused(status: int, words: str = "", code: str = "Client specified an invalid argument") -> ProviderError:
    body = orjson.dumps({"code": code, "error": f"{words} {KEY}"})
    return ADAPTER.read_error(status, lambda _: None, body)


class TestReasoningContent:
    def test_is_read_whole_and_streamed(self) -> None:
        assert ADAPTER.read_answer(answer({"reasoning_content": "Hm."})).choices[0].message.reasoning_content == "Hm."
        deltas = [chunk({"role": "assistant", "reasoning_content": text}) for text in ("H", "m.")]
        merged, _ = read_events(ADAPTER, *deltas)
        assert (merged.reasoning_content, merged.content) == ("Hm.", "")

    def test_placeholders_are_what_the_model_says_it_thinks(self) -> None:
        merged, _ = read_events(ADAPTER, *[chunk({"reasoning_content": "Thinking... "})] * 3, chunk({"content": "Hi."}))
        assert (merged.reasoning_content, merged.content) == ("Thinking... " * 3, "Hi.")


class TestUsage:
    def test_reasoning_beside_the_completion_is_added(self) -> None:
        # xAI's reference: 32 sent, 6 of them cached; 9 said and 94 thought, 32 + 9 + 94 = 135 in all.
        counts = usage(32, 9, 94, 135, cached=6)
        expected = chat.Usage(
            prompt_tokens=32,
            completion_tokens=9 + 94,
            total_tokens=135,
            prompt_tokens_details=chat.PromptTokensDetails(cached_tokens=6),
            completion_tokens_details=chat.CompletionTokensDetails(reasoning_tokens=94),
        )
        whole = ADAPTER.read_answer(answer(usage=counts))
        streamed = put_together(
            ADAPTER,
            chunk({"content": "Hi."}),
            chunk({}, ending={"finish_reason": "stop"}),
            chunk(choices=[], usage=counts),
        )
        assert whole.usage == streamed.usage == expected

    @pytest.mark.parametrize(
        ("counts", "completion"),
        [
            (usage(4643, 1187, 860, 6690, cached=6), 2047),  # 4643 + 1187 + 860 = 6690: beside
            (usage(100, 50, 30, 150), 50),  # 100 + 50 = 150: within
            (usage(100, 50, 0, 150), 50),
            (usage(100, 50, 30, 0), 50),  # without a total nothing says that they stand side by side
            (usage(100, 0, 30, 130), 30),  # cut off before the first word
        ],
    )
    def test_the_total_decides(self, counts: dict[str, Any], completion: int) -> None:
        found = ADAPTER.read_answer(answer(usage=counts)).usage
        assert found.completion_tokens == completion
        assert found.total_tokens == found.prompt_tokens + completion
        assert found.completion_tokens_details.reasoning_tokens <= completion

    def test_nonsense_does_not_cost_the_answer(self) -> None:
        for counts in ("x", [1], {"prompt_tokens": "x"}, {"completion_tokens_details": 3}):
            assert ADAPTER.read_answer(answer(usage=counts)).usage.total_tokens == 0


class TestCost:
    def test_ticks_are_ten_thousand_millionths_of_a_dollar(self) -> None:
        assert ADAPTER.read_cost({"cost_in_usd_ticks": 10_000_000_000}) == 1.0

    def test_of_an_answer_whole_and_streamed(self) -> None:
        # At $1.25 and $2.50 a million tokens, which is 12,500 and 25,000 ticks a token:
        # 32 x 12,500 + (9 + 94) x 25,000 = 2,975,000 ticks = $0.0002975.
        counts = usage(32, 9, 94, 135, cost_in_usd_ticks=2_975_000)
        streamed = put_together(
            ADAPTER, chunk({"content": "Hi."}, ending={"finish_reason": "stop"}), chunk(choices=[], usage=counts)
        )
        assert ADAPTER.read_answer(answer(usage=counts)).cost_usd == streamed.cost_usd == 0.0002975

    @pytest.mark.parametrize("ticks", [None, "1", -1, True, 1.5])
    def test_nonsense_is_none(self, ticks: Any) -> None:
        assert ADAPTER.read_cost({"cost_in_usd_ticks": ticks}) is None


class TestOptions:
    @pytest.mark.parametrize("model", REASONING)
    def test_stop_is_refused_on_models_that_reason(self, model: str) -> None:
        with pytest.raises(InvalidRequest) as raised:
            asked(ADAPTER, {**HELLO, "options": {"stop": ["x"]}}, model=model)
        (violation,) = raised.value.violations
        assert violation.field == "options.stop"
        assert model in violation.description

    def test_more_than_four_stop_texts_are_refused(self) -> None:
        with pytest.raises(InvalidRequest) as raised:
            asked(ADAPTER, {**HELLO, "options": {"stop": list("abcde")}}, model=PLAIN[0])
        assert [violation.field for violation in raised.value.violations] == ["options.stop"]

    @pytest.mark.parametrize("model", PLAIN)
    def test_stop_is_taken_by_others(self, model: str) -> None:
        assert body_of(asked(ADAPTER, {**HELLO, "options": {"stop": ["x"]}}, model=model))["stop"] == ["x"]

    @pytest.mark.parametrize("model", REASONING + PLAIN)
    @pytest.mark.parametrize("value", [0, 1, -1])
    def test_penalties_are_left_out_and_told_where_they_are_any(self, model: str, value: float) -> None:
        options = {"presencePenalty": value, "frequencyPenalty": value}
        request = asked(ADAPTER, {**HELLO, "options": options}, model=model)
        assert not {"presence_penalty", "frequency_penalty"} & body_of(request).keys()
        told = {each.option: each.reason for each in request.dropped}
        reason = f"{model} takes no penalties."
        expected = {"options.presencePenalty": reason, "options.frequencyPenalty": reason}
        assert told == (expected if value else {})

    @pytest.mark.parametrize("model", REASONING + PLAIN)
    def test_other_sampling_is_taken(self, model: str) -> None:
        request = asked(ADAPTER, {**HELLO, "options": {"temperature": 0.2, "topP": 0.5, "seed": 7}}, model=model)
        body = body_of(request)
        assert (body["temperature"], body["top_p"], body["seed"], list(request.dropped)) == (0.2, 0.5, 7, [])

    @pytest.mark.parametrize(
        ("model", "effort", "sent"),
        [
            ("grok-4.7", "xhigh", "xhigh"),
            ("grok-4.6", "max", "xhigh"),
            ("grok-4.6", "none", "low"),
            ("grok-4.5", "xhigh", "high"),
            ("grok-4.3", "none", "none"),
            ("grok-4.3", "max", "high"),
            ("grok-4.20-multi-agent", "minimal", "low"),
            ("grok-3-mini", "medium", "low"),
            ("grok-3-mini", "xhigh", "high"),
            ("grok-4.20", "high", None),
            ("grok-4.20-0309-reasoning", "high", None),
            ("grok-4-1-fast-reasoning", "high", None),
            ("grok-4-0709", "low", None),
            ("grok-code-fast-1", "low", None),
            ("grok-3", "low", None),
            (PLAIN[0], "low", None),
        ],
    )
    def test_effort_is_for_models_that_take_it(self, model: str, effort: str, sent: str | None) -> None:
        request = asked(ADAPTER, {**HELLO, "options": {"reasoningEffort": effort}}, model=model)
        assert body_of(request).get("reasoning_effort") == sent
        told = [each.option for each in request.dropped]
        assert told == ([] if sent == effort else ["options.reasoningEffort"])

    @pytest.mark.parametrize("model", ["grok-4.7", "grok-4.6", "grok-4.5"])
    def test_reasoning_that_cannot_be_turned_off_is_asked_to_be_short(self, model: str) -> None:
        request = asked(ADAPTER, {**HELLO, "options": {"reasoningEffort": "none"}}, model=model)
        (dropped,) = request.dropped
        assert body_of(request)["reasoning_effort"] == "low"
        assert (dropped.option, "low" in dropped.reason) == ("options.reasoningEffort", True)

    @pytest.mark.parametrize("seed", [2**31, -(2**31) - 1])
    def test_seed_of_more_than_32_bits_is_left_out(self, seed: int) -> None:
        request = asked(ADAPTER, {**HELLO, "options": {"seed": str(seed)}})
        assert "seed" not in body_of(request)
        told = [(each.option, each.reason) for each in request.dropped]
        assert told == [("options.seed", "Grok takes seeds of 32 bits only.")]

    def test_top_p_of_zero_is_left_out(self) -> None:
        request = asked(ADAPTER, {**HELLO, "options": {"topP": 0}})
        assert "top_p" not in body_of(request)
        assert [each.option for each in request.dropped] == ["options.topP"]

    def test_every_tool_has_parameters(self) -> None:
        (tool,) = body_of(asked(ADAPTER, {**HELLO, "options": {"tools": [{"name": "clock"}]}}))["tools"]
        assert tool["function"] == {"name": "clock", "parameters": {"type": "object", "properties": {}}}

    def test_limit_and_system_role_have_xais_names(self) -> None:
        messages = [{"role": "system", "content": "Be brief."}, *HELLO["messages"]]
        body = body_of(asked(ADAPTER, {"messages": messages, "options": {"maxTokens": 5}}))
        assert (body["max_completion_tokens"], body["messages"][0]["role"]) == (5, "system")

    def test_stream_asks_for_its_usage(self) -> None:
        assert body_of(asked(ADAPTER, HELLO, stream=True))["stream_options"] == {"include_usage": True}


class TestToolCalls:
    WEATHER = chat.FunctionCall(name="weather", arguments='{"at":"Rome"}')
    CLOCK = chat.FunctionCall(name="clock", arguments="{}")

    @staticmethod
    def whole(name: str, arguments: str, **more: Any) -> dict[str, Any]:
        return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}, **more}

    @pytest.mark.parametrize("places", [(0, 1), (None, None), (0, 0)], ids=["index", "no index", "one index for all"])
    def test_whole_calls_each_in_a_chunk(self, places: tuple[int | None, int | None]) -> None:
        first, second = ({} if place is None else {"index": place} for place in places)
        answered = put_together(
            ADAPTER,
            chunk({"tool_calls": [self.whole("weather", '{"at":"Rome"}', **first)]}),
            chunk({"tool_calls": [self.whole("clock", "{}", **second)]}),
            chunk({}, ending={"finish_reason": "tool_calls"}),
        )
        calls = answered.choices[0].message.tool_calls
        assert [call.id for call in calls] == ["call_weather", "call_clock"]
        assert [call.function for call in calls] == [self.WEATHER, self.CLOCK]

    def test_whole_calls_in_one_chunk_without_index(self) -> None:
        both = [self.whole("weather", '{"at":"Rome"}'), self.whole("clock", "{}")]
        calls = put_together(ADAPTER, chunk({"tool_calls": both})).choices[0].message.tool_calls
        assert [call.function for call in calls] == [self.WEATHER, self.CLOCK]

    def test_fragments_as_openai_sends_them(self) -> None:
        answered = put_together(
            ADAPTER,
            chunk({"tool_calls": [self.whole("weather", "", index=0)]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"at":'}}]}),
            chunk({"tool_calls": [self.whole("clock", "{}", index=1)]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]}),
            chunk({}, ending={"finish_reason": "tool_calls"}),
        )
        calls = answered.choices[0].message.tool_calls
        assert [call.function for call in calls] == [self.WEATHER, self.CLOCK]


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "words", "kind"),
        [
            (400, "Incorrect API key provided: xa***ef.", errors.ProviderKeyRejected),
            (400, "Model grok-4.5 does not support parameter presencePenalty.", errors.ProviderRejectedRequest),
            (
                400,
                "This model's maximum prompt length is 131072 but the request contains 136973 tokens.",
                errors.ContextLengthExceeded,
            ),
            (401, "", errors.ProviderKeyRejected),
            (403, "Access to the chat endpoint is denied.", errors.ProviderPermissionDenied),
            (403, "Your newly created team doesn't have any credits or licenses yet.", errors.ProviderQuotaExhausted),
            (404, "The model grok-0 does not exist or your team does not have access.", errors.ModelNotFound),
            (429, "Too many requests for team t and model grok-4.3.", errors.ProviderRateLimited),
            (
                429,
                "Your team t has either used all available credits or reached its monthly spending limit.",
                errors.ProviderQuotaExhausted,
            ),
            (500, "", errors.ProviderUnavailable),
            (503, "The model is at capacity.", errors.ProviderUnavailable),
        ],
    )
    def test_text_and_status_tell_the_kind(self, status: int, words: str, kind: type[ProviderError]) -> None:
        found = refused(status, words)
        assert type(found) is kind
        assert KEY not in f"{found.message} {found.metadata}"

    def test_openai_shaped_ones_are_read_as_well(self) -> None:
        body = orjson.dumps(
            {"error": {"message": "Incorrect API key provided", "type": "x", "code": "invalid_api_key"}}
        )
        assert type(ADAPTER.read_error(400, lambda _: None, body)) is errors.ProviderKeyRejected

    def test_plain_text_is_read_as_well(self) -> None:
        words = b"Failed to deserialize the JSON body into the target type: messages[0]: missing field `role`"
        assert type(ADAPTER.read_error(422, lambda _: None, words)) is errors.ProviderRejectedRequest

    @pytest.mark.parametrize(
        ("code", "words", "kind"),
        [
            ("Internal error", "Internal server error", errors.ProviderUnavailable),
            ("Some resource has been exhausted", "Too many requests", errors.ProviderRateLimited),
            ("Some resource has been exhausted", "used all available credits", errors.ProviderQuotaExhausted),
            ("Client specified an invalid argument", "Incorrect API key provided", errors.ProviderKeyRejected),
        ],
    )
    def test_in_a_stream_the_code_stands_for_the_status(self, code: str, words: str, kind: type[ProviderError]) -> None:
        with pytest.raises(ProviderError) as raised:
            read_events(ADAPTER, orjson.dumps({"code": code, "error": words}))
        assert type(raised.value) is kind

    def test_rate_limits_in_headers_tell_when_to_come_back(self) -> None:
        headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2s"}
        body = orjson.dumps({"code": "Some resource has been exhausted", "error": "Too many requests"})
        assert ADAPTER.read_error(429, headers.get, body).retry_after == 62.0


class TestKey:
    def test_is_tried_by_its_own_description_or_by_the_model(self) -> None:
        assert ADAPTER.key_test_request(ProviderKey(KEY), "").path == "/api-key"
        assert ADAPTER.key_test_request(ProviderKey(KEY), "grok-4.3").path == "/models/grok-4.3"

    @pytest.mark.parametrize(
        ("flags", "kind"),
        [
            ({"api_key_blocked": True}, errors.ProviderKeyRejected),
            ({"api_key_disabled": True}, errors.ProviderKeyRejected),
            ({"team_blocked": True}, errors.ProviderPermissionDenied),
        ],
    )
    def test_flags_say_what_is_wrong(self, flags: dict[str, bool], kind: type[ProviderError]) -> None:
        good = {"name": "My key", "acls": ["api-key:endpoint:*"], "api_key_blocked": False, "team_blocked": False}
        ADAPTER.read_key_test(orjson.dumps(good), "")
        with pytest.raises(kind):
            ADAPTER.read_key_test(orjson.dumps(good | flags), "")


class TestModels:
    def test_are_those_that_chat(self) -> None:
        assert ADAPTER.models_request(ProviderKey(KEY), 0, "").path == "/language-models"
        models, token = ADAPTER.read_models(orjson.dumps({"models": [{"id": "grok-4.6", "aliases": ["grok-latest"]}]}))
        assert ([model.id for model in models], token) == (["grok-4.6"], "")
