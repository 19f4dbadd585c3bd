"""What Anthropic's errors mean: the whole table, by status, by body and inside a stream."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from deploy.local.sandbox_provider.dialects.anthropic.errors import LOW_CREDIT, OWN_SPEND_LIMIT, SPEND_LIMIT, bad_day
from libs.errors import ProviderError
from libs.worker.retry_after import should_retry
from services.workers.anthropic.adapter import ADAPTER

SECRET = "your key sk-ant-1 and your prompt"


def read(status: int, body: Any = None, **headers: str) -> ProviderError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    encoded = body if isinstance(body, bytes) else orjson.dumps(body)
    error = ADAPTER.read_error(status, named.get, encoded)
    assert SECRET not in str(error) + str(error.metadata)
    return error


def body(kind: str, message: str = "", code: str | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message + SECRET}
    if code is not None:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": "req_1"}


class TestTable:
    @pytest.mark.parametrize(
        ("status", "kind", "message", "reason", "retryable"),
        [
            (400, "invalid_request_error", "", "PROVIDER_REJECTED_REQUEST", False),
            (400, "invalid_request_error", "Your credit balance is too low", "PROVIDER_QUOTA_EXHAUSTED", False),
            (
                400,
                "invalid_request_error",
                "You have reached your specified API usage limits.",
                "PROVIDER_QUOTA_EXHAUSTED",
                False,
            ),
            (
                400,
                "invalid_request_error",
                "You have reached your specified workspace API usage limits.",
                "PROVIDER_QUOTA_EXHAUSTED",
                False,
            ),
            (
                400,
                "invalid_request_error",
                "prompt is too long: 210000 tokens > 200000 maximum",
                "CONTEXT_LENGTH_EXCEEDED",
                False,
            ),
            (
                400,
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
                "CONTEXT_LENGTH_EXCEEDED",
                False,
            ),
            (400, "invalid_request_error", "This organization has been disabled.", "PROVIDER_PERMISSION_DENIED", False),
            (401, "authentication_error", "", "INVALID_API_KEY", False),
            (402, "billing_error", "", "PROVIDER_QUOTA_EXHAUSTED", False),
            (403, "permission_error", "", "PROVIDER_PERMISSION_DENIED", False),
            (404, "not_found_error", "model: claude-x ", "MODEL_NOT_FOUND", False),
            (404, "not_found_error", "Not Found", "PROVIDER_REJECTED_REQUEST", False),
            (408, "timeout_error", "", "PROVIDER_UNAVAILABLE", True),
            (409, "conflict_error", "", "PROVIDER_UNAVAILABLE", True),
            (413, "request_too_large", "", "PROVIDER_REJECTED_REQUEST", False),
            (424, "api_error", "", "PROVIDER_UNAVAILABLE", True),
            (422, "invalid_request_error", "", "PROVIDER_REJECTED_REQUEST", False),
            (429, "rate_limit_error", "", "PROVIDER_RATE_LIMITED", True),
            (500, "api_error", "", "PROVIDER_UNAVAILABLE", True),
            (503, "api_error", "", "PROVIDER_UNAVAILABLE", True),
            (504, "timeout_error", "", "PROVIDER_UNAVAILABLE", True),
            (529, "overloaded_error", "", "PROVIDER_UNAVAILABLE", True),
            (307, "", "", "PROVIDER_UNAVAILABLE", True),
        ],
    )
    def test_by_status_and_body(self, status: int, kind: str, message: str, reason: str, retryable: bool) -> None:
        error = read(status, body(kind, message))
        assert (error.reason, error.retryable) == (reason, retryable)

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 413, 429, 500, 503, 504, 529])
    def test_the_bad_days_of_the_sandbox(self, status: int) -> None:
        """Whether to try again is in its headers too, which agree."""
        reply = bad_day(status)
        named = dict(reply.headers)
        told = ADAPTER.read_error(status, named.get, reply.body)
        assert told.retryable == should_retry(named.get)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
    @pytest.mark.parametrize("encoded", [b"", b"<html>", b"[]", b"5", b'{"error":5}', b'{"error":{"details":[1]}}'])
    def test_a_body_of_another_kind_leaves_the_status(self, status: int, encoded: bytes) -> None:
        reasons = {
            400: "PROVIDER_REJECTED_REQUEST",
            401: "INVALID_API_KEY",
            403: "PROVIDER_PERMISSION_DENIED",
            404: "PROVIDER_REJECTED_REQUEST",
            429: "PROVIDER_RATE_LIMITED",
            500: "PROVIDER_UNAVAILABLE",
        }
        assert read(status, encoded).reason == reasons[status]


class TestMoney:
    @pytest.mark.parametrize(
        ("status", "body"), [(429, SPEND_LIMIT), (400, LOW_CREDIT), (400, OWN_SPEND_LIMIT), (429, OWN_SPEND_LIMIT)]
    )
    def test_does_not_come_back_by_waiting(self, status: int, body: dict[str, Any]) -> None:
        error = read(status, body, retry_after="1")
        assert (error.reason, error.retryable, error.retry_after) == ("PROVIDER_QUOTA_EXHAUSTED", False, None)

    def test_a_limit_on_growth_does(self) -> None:
        error = read(429, body("rate_limit_error", code="ramp_limit_exceeded"), retry_after="30")
        assert (error.reason, error.retryable, error.retry_after) == ("PROVIDER_RATE_LIMITED", True, 30)

    @pytest.mark.parametrize("code", ["contract_spend_limit_reached", "enforced_spend_limit_reached"])
    def test_is_told_by_code(self, code: str) -> None:
        assert read(429, body("rate_limit_error", code=code)).reason == "PROVIDER_QUOTA_EXHAUSTED"


class TestTryingAgain:
    def test_waits_as_long_as_anthropic_says(self) -> None:
        assert read(429, body("rate_limit_error"), retry_after="12").retry_after == 12
        assert read(529, body("overloaded_error"), retry_after="3").retry_after == 3
        assert read(529, body("overloaded_error")).retry_after is None

    def test_else_until_the_limit_that_is_used_up_is_renewed(self) -> None:
        """The times are in RFC 3339; those of limits that leave something do not count."""

        def after(seconds: int) -> str:
            return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")

        headers = {
            "anthropic-ratelimit-requests-remaining": "5",
            "anthropic-ratelimit-requests-reset": after(50_000),
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": after(4_000),
            "anthropic-ratelimit-tokens-remaining": "0",
            "anthropic-ratelimit-tokens-reset": after(2_000),
        }
        error = ADAPTER.read_error(429, headers.get, orjson.dumps(body("rate_limit_error")))
        assert error.retry_after == pytest.approx(4_000, abs=1_000)

    @pytest.mark.parametrize("reset", ["", "soon", "2026-13-45", "2020-01-01T00:00:00", "9999-12-31T00:00:00Z"])
    def test_survives_times_that_make_no_sense(self, reset: str) -> None:
        headers = {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": reset}
        wait = ADAPTER.read_error(429, headers.get, b"").retry_after
        assert wait is None or 0 <= wait <= 86_400


class TestPlace:
    @pytest.mark.parametrize(
        ("message", "place"),
        [
            ("max_tokens: 70000 > 64000, which is too many", "max_tokens"),
            ("messages.3.content.0.text: Field required", "messages.3.content.0.text"),
            ("tools.0.custom.input_schema.type: Field required", "tools.0.custom.input_schema.type"),
            ("`temperature` is deprecated for this model.", "temperature"),
        ],
    )
    def test_is_told(self, message: str, place: str) -> None:
        assert f"at `{place}`" in read(400, body("invalid_request_error", message)).message

    @pytest.mark.parametrize("message", ["hunter2: wrong", "the prompt: messages.1", "messages: `"])
    def test_is_never_the_providers_words(self, message: str) -> None:
        told = read(400, body("invalid_request_error", message)).message
        assert "hunter2" not in told
        assert "the prompt" not in told


class TestInStream:
    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            ("invalid_request_error", 400),
            ("authentication_error", 401),
            ("billing_error", 402),
            ("permission_error", 403),
            ("rate_limit_error", 429),
            ("api_error", 500),
            ("timeout_error", 504),
            ("overloaded_error", 529),
        ],
    )
    def test_is_the_same_as_its_status(self, kind: str, status: int) -> None:
        event = body(kind)
        with pytest.raises(ProviderError) as raised:
            ADAPTER.answer_reader().read(b"error", orjson.dumps(event), chat.ChatCompletionChunk())
        twin = read(status, event)
        assert (raised.value.reason, raised.value.retryable) == (twin.reason, twin.retryable)
        assert SECRET not in str(raised.value)

    @pytest.mark.parametrize("event", [{"type": "error"}, {"type": "error", "error": {"type": "brand_new_error"}}])
    def test_that_is_not_known_may_pass(self, event: dict[str, Any]) -> None:
        with pytest.raises(ProviderError) as raised:
            ADAPTER.answer_reader().read(b"error", orjson.dumps(event), chat.ChatCompletionChunk())
        assert (raised.value.reason, raised.value.retryable) == ("PROVIDER_UNAVAILABLE", True)
