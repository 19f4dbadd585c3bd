"""What OpenRouter does its own way, fact by fact."""

from typing import Any, ClassVar

import orjson
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs import errors
from libs.errors import InvalidRequest, ProviderError
from libs.provider_keys import ProviderKey
from libs.settings import from_env
from libs.worker.json_object import plain
from libs.worker.settings import PREFIX
from services.workers.openrouter.adapter import ADAPTER, adapter_of
from services.workers.openrouter.settings import AppSettings
from tests.support.wire import asked, body_of, put_together, read_events, read_stream

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
KEY = "sk-or-sandbox-hunter2hunter2"
# What OpenRouter's guide to usage shows, with its total and a cache that was read.
USAGE: dict[str, Any] = {
    "prompt_tokens": 194,
    "completion_tokens": 52,
    "total_tokens": 246,
    "prompt_tokens_details": {"cached_tokens": 90, "cache_write_tokens": 100, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 40},
    "cost": 0.0014,
    "cost_details": {"upstream_inference_cost": None},
    "is_byok": False,
}


def answer(message: dict[str, Any] | None = None, **more: Any) -> bytes:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "native_finish_reason": "end_turn",
        "message": {"role": "assistant", "content": "Hi.", **(message or {})},
    }
    body = {"id": "gen-1", "provider": "Anthropic", "model": "m", "created": 1, "choices": [choice], "usage": USAGE}
    return orjson.dumps(body | more)


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, native: str | None = None, **more: Any
) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, "native_finish_reason": native}
    return orjson.dumps({"id": "gen-1", "provider": "Anthropic", "model": "m", "choices": [choice]} | more)


def refused(status: int, body: Any = None, **headers: str) -> ProviderError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ADAPTER.read_error(status, named.get, orjson.dumps(body))


def error(code: Any, message: str = "", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": f"{message} {KEY}", **more}}


class TestHeaders:
    def test_title_of_the_deployment_goes_with_every_request(self) -> None:
        for request in (
            asked(ADAPTER, HELLO),
            ADAPTER.key_test_request(ProviderKey(KEY), ""),
            ADAPTER.models_request(ProviderKey(KEY), 0, ""),
        ):
            assert request.headers["x-title"] == request.headers["x-openrouter-title"] == "RealMultiLLM"
            assert "http-referer" not in request.headers

    def test_address_and_title_can_be_set(self) -> None:
        app = from_env(AppSettings, PREFIX, {"WORKER_APP_TITLE": "Acme Chat", "WORKER_APP_URL": "https://chat.example"})
        headers = asked(adapter_of(app), HELLO).headers
        assert (headers["x-title"], headers["http-referer"]) == ("Acme Chat", "https://chat.example")


class TestRequest:
    def test_effort_is_asked_for_in_openrouters_form(self) -> None:
        body = body_of(asked(ADAPTER, {**HELLO, "options": {"reasoningEffort": "high"}}))
        assert body["reasoning"] == {"effort": "high"}
        assert "reasoning_effort" not in body

    def test_what_a_model_does_not_take_is_openrouters_to_leave_out(self) -> None:
        options = {"temperature": 0.5, "presencePenalty": 1, "stop": ["x"], "seed": 1, "topP": 0.5}
        request = asked(ADAPTER, {**HELLO, "options": options}, model="openai/gpt-6.1-sol")
        assert body_of(request).keys() >= {"temperature", "presence_penalty", "stop", "seed", "top_p"}
        assert request.dropped == []

    @pytest.mark.parametrize(
        ("options", "insists"),
        [
            ({}, False),
            ({"temperature": 0.5, "responseFormat": {"type": "text"}}, False),
            ({"stop": ["x"]}, True),
            ({"responseFormat": {"type": "json_object"}}, True),
            ({"responseFormat": {"type": "json_schema", "jsonSchema": {"type": "object"}}}, True),
        ],
    )
    def test_what_would_change_the_meaning_must_not_be_passed_over(
        self, options: dict[str, Any], insists: bool
    ) -> None:
        body = body_of(asked(ADAPTER, {**HELLO, "options": options}))
        assert body.get("provider") == ({"require_parameters": True} if insists else None)

    def test_more_than_four_stop_texts_are_refused(self) -> None:
        with pytest.raises(InvalidRequest) as raised:
            asked(ADAPTER, {**HELLO, "options": {"stop": list("abcde")}})
        assert [violation.field for violation in raised.value.violations] == ["options.stop"]

    def test_usage_is_not_asked_for_because_it_always_comes(self) -> None:
        body = body_of(asked(ADAPTER, HELLO, stream=True))
        assert body == {"model": ADAPTER.default_model, "messages": HELLO["messages"], "stream": True}

    def test_limit_has_the_name_that_is_not_deprecated(self) -> None:
        assert body_of(asked(ADAPTER, {**HELLO, "options": {"maxTokens": 5}}))["max_completion_tokens"] == 5

    def test_reasoning_details_go_back_unchanged(self) -> None:
        details = [
            {"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "anthropic-claude-v1", "index": 0},
            {"type": "reasoning.encrypted", "data": "x", "id": None, "format": "openai-responses-v1", "index": 1},
        ]
        messages = [*HELLO["messages"], {"role": "assistant", "content": "Hi.", "reasoningDetails": details}]
        sent = body_of(asked(ADAPTER, {"messages": messages}))["messages"][1]
        assert orjson.dumps(sent["reasoning_details"]) == orjson.dumps(details)

    @pytest.mark.parametrize(
        "detail",
        [
            {"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "anthropic-claude-v1"},
            {"type": "reasoning.encrypted", "data": "x", "format": "anthropic-claude-v1", "after_calls": 1},
            {"type": "reasoning.encrypted", "data": "x", "format": "google-gemini-v1"},
        ],
    )
    def test_reasoning_details_of_another_provider_stay_behind(self, detail: dict[str, Any]) -> None:
        messages = [*HELLO["messages"], {"role": "assistant", "content": "Hi.", "reasoningDetails": [detail]}]
        sent = body_of(asked(ADAPTER, {"messages": messages}))["messages"][1]
        assert sent == {"role": "assistant", "content": "Hi."}

    def test_default_model_is_of_a_provider_where_cancelling_stops_the_bill(self) -> None:
        does_not = ("google/", "amazon/", "mistralai/", "ai21/", "minimax/", "perplexity/", "qwen/")
        assert not ADAPTER.default_model.startswith(does_not)


class TestReasoning:
    def test_text_is_reasoning_content(self) -> None:
        assert ADAPTER.read_answer(answer({"reasoning": "Hm."})).choices[0].message.reasoning_content == "Hm."
        merged, _ = read_events(ADAPTER, chunk({"reasoning": "H"}), chunk({"reasoning": "m."}))
        assert merged.reasoning_content == "Hm."

    def test_details_of_a_whole_answer_are_kept(self) -> None:
        details = [{"type": "reasoning.summary", "summary": "Hm.", "id": "r", "format": "unknown", "index": 0}]
        message = ADAPTER.read_answer(answer({"reasoning_details": details})).choices[0].message
        assert [plain(detail) for detail in message.reasoning_details] == details

    def test_fragments_are_merged_by_index_and_told_once_and_whole(self) -> None:
        form = {"format": "anthropic-claude-v1"}
        reader, told = ADAPTER.answer_reader(), []
        for event in (
            chunk({"reasoning_details": [{"type": "reasoning.text", "text": "Let ", "index": 0, **form}]}),
            chunk({"reasoning_details": [{"type": "reasoning.text", "text": "me.", "index": 0, **form}]}),
            chunk({"reasoning_details": [{"type": "reasoning.text", "signature": "s1", "index": 0, **form}]}),
            chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x", "index": 1, **form}]}),
            chunk({"content": "Hi."}),
            chunk(finish="stop", native="end_turn"),
            chunk(finish="stop", native="end_turn", usage=USAGE),
            b"[DONE]",
        ):
            said = chat.ChatCompletionChunk()
            reader.read(b"", event, said)
            told.append([plain(detail) for detail in said.reasoning_details])
        whole = [
            {"type": "reasoning.text", "text": "Let me.", "index": 0, **form, "signature": "s1"},
            {"type": "reasoning.encrypted", "data": "x", "index": 1, **form},
        ]
        assert [each for each in told if each] == [whole]

    @pytest.mark.parametrize("end", [chunk(finish="stop"), b"[DONE]"], ids=["reason alone", "done alone"])
    def test_details_are_told_however_the_stream_ends(self, end: bytes) -> None:
        detail = {"type": "reasoning.text", "text": "Hm.", "index": 0}
        merged, _ = read_events(ADAPTER, chunk({"content": "x", "reasoning_details": [detail]}), end)
        assert [plain(each) for each in merged.reasoning_details] == [detail]


class TestFinishReason:
    @pytest.mark.parametrize("reason", ["tool_calls", "stop", "length", "content_filter", "error"])
    def test_is_normalised_and_the_raw_one_is_kept(self, reason: str) -> None:
        said = [{"index": 0, "message": {"content": "x"}, "finish_reason": reason, "native_finish_reason": "RAW"}]
        choice = ADAPTER.read_answer(answer(choices=said)).choices[0]
        assert (choice.finish_reason, choice.native_finish_reason) == (reason, "RAW")
        _, reader = read_events(ADAPTER, chunk({"content": "x"}), chunk(finish=reason, native="RAW"))
        assert (reader.finish_reason, reader.native_finish_reason) == (reason, "RAW")

    def test_usage_chunk_that_repeats_it_is_no_second_end(self) -> None:
        merged, reader = read_events(
            ADAPTER,
            chunk({"role": "assistant", "content": "Hi."}),
            chunk({"content": ""}, "stop", "stop"),
            chunk({"content": "", "role": "assistant"}, "stop", "stop", usage=USAGE),
            b"[DONE]",
        )
        assert (merged.content, reader.finish_reason, reader.finished, reader.closed) == ("Hi.", "stop", True, True)
        assert reader.usage() is not None

    def test_usage_chunk_without_choices_is_read_as_well(self) -> None:
        _, reader = read_events(ADAPTER, chunk({"content": "Hi."}, "stop", "stop"), chunk(choices=[], usage=USAGE))
        assert reader.usage() is not None


class TestComments:
    def test_are_no_output(self) -> None:
        merged, reader = read_stream(ADAPTER, b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n")
        assert merged == chat.ChatCompletionChunk()
        assert not reader.finished


class TestUsage:
    """194 sent, of them 90 from the cache, 100 into it, 4 neither; 52 received, of them 40 thought: 246 in all."""

    EXPECTED = chat.Usage(
        prompt_tokens=194,
        completion_tokens=52,
        total_tokens=194 + 52,
        prompt_tokens_details=chat.PromptTokensDetails(cached_tokens=90, cache_write_tokens=100),
        completion_tokens_details=chat.CompletionTokensDetails(reasoning_tokens=40),
    )

    def test_whole_and_streamed_are_equal_to_the_token(self) -> None:
        whole = ADAPTER.read_answer(answer())
        streamed = put_together(
            ADAPTER, chunk({"content": "Hi."}), chunk({}, "stop", "stop"), chunk({}, "stop", "stop", usage=USAGE)
        )
        assert whole.usage == streamed.usage == self.EXPECTED
        assert whole.cost_usd == streamed.cost_usd == 0.0014

    def test_id_names_the_generation_for_an_audit(self) -> None:
        assert ADAPTER.read_answer(answer()).id == "gen-1"


class TestCost:
    def test_is_what_openrouter_charged(self) -> None:
        assert ADAPTER.read_cost(USAGE) == 0.0014

    def test_with_the_persons_own_provider_key_the_providers_charge_comes_on_top(self) -> None:
        # The guide's example: a fee of 5 % of 19 is 0.95, and 19 went to the provider.
        usage = {"cost": 0.95, "cost_details": {"upstream_inference_cost": 19}, "is_byok": True}
        assert ADAPTER.read_cost(usage) == pytest.approx(0.95 + 19)

    def test_free_is_a_cost(self) -> None:
        assert ADAPTER.read_cost({"cost": 0}) == 0.0

    @pytest.mark.parametrize("usage", [{}, {"cost": None}, {"cost": "0.1"}, {"cost": -1}, {"cost": True}, [1], "x"])
    def test_nonsense_is_none(self, usage: Any) -> None:
        assert ADAPTER.read_cost(usage) is None


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (400, error(400, "foo/bar is not a valid model ID"), errors.ModelNotFound),
            (404, error(404, "No endpoints found for foo/bar."), errors.ModelNotFound),
            (
                404,
                error(404, "No endpoints found that can handle the requested parameters."),
                errors.ProviderRejectedRequest,
            ),
            (404, error(404, "No endpoints found that support tool use."), errors.ProviderRejectedRequest),
            (401, error(401, "User not found."), errors.ProviderKeyRejected),
            (402, error(402, "Insufficient credits."), errors.ProviderQuotaExhausted),
            (403, error(403), errors.ProviderPermissionDenied),
            (408, error(408), errors.ProviderUnavailable),
            (429, error(429), errors.ProviderRateLimited),
            (429, error(429, "Rate limit exceeded: free-models-per-day."), errors.ProviderQuotaExhausted),
            (502, error(502), errors.ProviderUnavailable),
            (503, error(503), errors.ProviderUnavailable),
            (400, error(400), errors.ProviderRejectedRequest),
        ],
    )
    def test_statuses(self, status: int, body: Any, kind: type[ProviderError]) -> None:
        found = refused(status, body)
        assert type(found) is kind
        assert KEY not in f"{found.message} {found.metadata}"

    @pytest.mark.parametrize(
        ("kind", "status", "found"),
        [
            ("context_length_exceeded", 400, errors.ContextLengthExceeded),
            ("string_too_long", 400, errors.ContextLengthExceeded),
            ("max_tokens_exceeded", 400, errors.ProviderRejectedRequest),
            ("authentication", 401, errors.ProviderKeyRejected),
            ("permission_denied", 403, errors.ProviderPermissionDenied),
            ("payment_required", 402, errors.ProviderQuotaExhausted),
            ("rate_limit_exceeded", 429, errors.ProviderRateLimited),
            ("provider_overloaded", 503, errors.ProviderUnavailable),
            ("provider_unavailable", 502, errors.ProviderUnavailable),
            ("not_found", 404, errors.ModelNotFound),
            ("invalid_prompt", 400, errors.ProviderRejectedRequest),
            ("image_not_found", 404, errors.ProviderRejectedRequest),
            ("content_policy_violation", 400, errors.ProviderRejectedRequest),
            ("server", 500, errors.ProviderUnavailable),
            ("timeout", 504, errors.ProviderUnavailable),
            ("unmapped", 500, errors.ProviderUnavailable),
        ],
    )
    def test_typed_codes(self, kind: str, status: int, found: type[ProviderError]) -> None:
        body = error(status, metadata={"error_type": kind, "provider_code": "x"})
        assert type(refused(status, body)) is found
        # In a stream the code may be a word of no meaning here; the type counts.
        with pytest.raises(found):
            read_events(ADAPTER, chunk(**error("server_error", metadata={"error_type": kind})))

    @pytest.mark.parametrize(
        "metadata",
        [
            {"reasons": ["violence"], "flagged_input": KEY, "provider_name": "OpenAI", "model_slug": "m"},
            {"patterns": ["ignore all previous instructions"]},
        ],
    )
    def test_moderation_is_no_matter_of_permission(self, metadata: dict[str, Any]) -> None:
        found = refused(403, error(403, metadata=metadata))
        assert type(found) is errors.ProviderRejectedRequest
        assert "rules on content" in found.message
        assert KEY not in found.message

    def test_error_inside_a_200_is_seen_before_the_choices(self) -> None:
        for body in (orjson.dumps(error(502)), answer(**error(429)), answer(choices=[{"message": {}, **error(502)}])):
            with pytest.raises(ProviderError):
                ADAPTER.read_answer(body)

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (402, errors.ProviderQuotaExhausted),
            (429, errors.ProviderRateLimited),
            (502, errors.ProviderUnavailable),
            ("server_error", errors.ProviderUnavailable),
        ],
    )
    def test_mid_stream_error_is_that_of_its_code(self, code: Any, kind: type[ProviderError]) -> None:
        event = chunk({"content": ""}, "error", None, **error(code))
        with pytest.raises(ProviderError) as raised:
            read_events(ADAPTER, chunk({"content": "Hi"}), event)
        assert type(raised.value) is kind

    def test_mid_stream_error_may_stand_in_the_choice(self) -> None:
        broken = [{"index": 0, "delta": {"content": ""}, "finish_reason": "error", **error(429)}]
        with pytest.raises(errors.ProviderRateLimited):
            read_events(ADAPTER, chunk({"content": "Hi"}), chunk(choices=broken))

    def test_error_that_is_the_only_event_is_no_success(self) -> None:
        with pytest.raises(errors.ProviderUnavailable):
            read_events(ADAPTER, chunk({"content": ""}, "error", None, **error(502)))


class TestRetry:
    def test_no_credits_is_never_tried_again(self) -> None:
        bodies = (error(402), error(402, metadata={"reason": "in_flight_budget_exhausted"}))
        assert [refused(402, body, retry_after="1").retryable for body in bodies] == [False, False]

    @pytest.mark.parametrize("status", [429, 503])
    def test_retry_after_header_is_kept(self, status: int) -> None:
        assert refused(status, error(status), retry_after="60").retry_after == 60.0

    @pytest.mark.parametrize("status", [429, 502, 503])
    @pytest.mark.parametrize("retryable", [True, False])
    def test_availability_says_whether_and_when(self, status: int, retryable: bool) -> None:
        found = refused(status, error(status, availability={"retryable": retryable, "retry_after": 3}))
        assert (found.retryable, found.retry_after) == (retryable, 3.0)

    def test_availability_counts_inside_a_stream_too(self) -> None:
        with pytest.raises(errors.ProviderRateLimited) as raised:
            read_events(ADAPTER, chunk(**error(429, availability={"retryable": False, "retry_after": 9})))
        assert (raised.value.retryable, raised.value.retry_after) == (False, 9.0)

    def test_upstreams_own_delay_is_kept(self) -> None:
        assert refused(429, error(429, metadata={"retry_after_seconds": 17})).retry_after == 17.0

    @pytest.mark.parametrize(
        "availability", [None, "x", [1], {"retryable": "no", "retry_after": "soon"}, {"retry_after": -1}]
    )
    def test_nonsense_is_as_if_unsaid(self, availability: Any) -> None:
        found = refused(503, error(503, availability=availability, metadata={"error_type": availability}))
        assert (found.retryable, found.retry_after) == (True, None)


class TestKey:
    GOOD: ClassVar[dict[str, Any]] = {"label": "sk-or-v1-0e6...1c9", "limit": 100, "limit_remaining": 74.5}

    @pytest.mark.parametrize(("model", "path"), [("", "/key"), ("openai/gpt-6.1-terra", "/models/user")])
    def test_is_tried_where_the_key_counts(self, model: str, path: str) -> None:
        # What is at `/models` is public: it would accept any key.
        request = ADAPTER.key_test_request(ProviderKey(KEY), model)
        assert (request.method, request.path) == ("GET", path)

    @pytest.mark.parametrize("model", ["a/b", "a/b:nitro", "~a/family-latest", "@preset/mine"])
    def test_is_good_for_a_model_it_may_use(self, model: str) -> None:
        ADAPTER.read_key_test(orjson.dumps({"data": [{"id": "a/b"}]}), model)

    @pytest.mark.parametrize("model", ["a/c", "a", "b", "c/b:free"])
    def test_is_not_good_for_another(self, model: str) -> None:
        with pytest.raises(errors.ModelNotFound):
            ADAPTER.read_key_test(orjson.dumps({"data": [{"id": "a/b"}]}), model)

    @pytest.mark.parametrize(
        "data",
        [
            GOOD,
            GOOD | {"limit": None, "limit_remaining": None},
            GOOD | {"effective_budget": None},
            GOOD | {"effective_budget": {"remaining_usd": 1.5}},
        ],
    )
    def test_good_one_is_accepted(self, data: dict[str, Any]) -> None:
        ADAPTER.read_key_test(orjson.dumps({"data": data}), "")

    @pytest.mark.parametrize(
        "spent", [{"limit_remaining": 0}, {"limit_remaining": -0.2}, {"effective_budget": {"remaining_usd": 0}}]
    )
    def test_spent_one_is_out_of_quota(self, spent: dict[str, Any]) -> None:
        with pytest.raises(errors.ProviderQuotaExhausted):
            ADAPTER.read_key_test(orjson.dumps({"data": self.GOOD | spent}), "")

    def test_one_that_manages_keys_may_not_chat(self) -> None:
        with pytest.raises(errors.ProviderPermissionDenied):
            ADAPTER.read_key_test(orjson.dumps({"data": self.GOOD | {"is_management_key": True}}), "")

    def test_error_with_the_status_of_a_success_is_one(self) -> None:
        with pytest.raises(errors.ProviderKeyRejected):
            ADAPTER.read_key_test(orjson.dumps(error(401)), "")


class TestModels:
    def test_are_those_the_key_may_use(self) -> None:
        assert ADAPTER.models_request(ProviderKey(KEY), 0, "").path == "/models/user"

    def test_have_name_and_sizes_and_answer_with_text(self) -> None:
        entry = {
            "id": "a/b",
            "name": "A: B",
            "context_length": 1000,
            "architecture": {"output_modalities": ["text"]},
            "top_provider": {"max_completion_tokens": 100},
        }
        painter = {**entry, "id": "a/paint", "architecture": {"output_modalities": ["image"]}}
        sparse = {"id": "a/c", "context_length": None, "top_provider": {"max_completion_tokens": None}}
        (full, bare), token = ADAPTER.read_models(orjson.dumps({"data": [entry, painter, sparse]}))
        assert (full.id, full.display_name, full.context_length, full.max_output_tokens) == ("a/b", "A: B", 1000, 100)
        assert (bare.display_name, bare.HasField("context_length"), bare.HasField("max_output_tokens")) == (
            "a/c",
            False,
            False,
        )
        assert token == ""
