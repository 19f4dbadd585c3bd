"""What Google AI's errors mean: status, words of `google.rpc` and in-band."""

from typing import Any

import orjson
import pytest

from libs import errors
from libs.errors import ProviderError
from services.workers.google_ai.adapter import ADAPTER

RPC = "type.googleapis.com/google.rpc."
SECRET = "quoting your key AIzaSyA1234567890 and your prompt"


def details(**kinds: Any) -> list[dict[str, Any]]:
    return [{"@type": RPC + kind, **members} for kind, members in kinds.items()]


def quota(quota_id: str, **violation: Any) -> dict[str, Any]:
    return {"violations": [{"quotaId": quota_id, **violation}]}


def error_of(
    status: int, error: Any = None, headers: dict[str, str] | None = None, body: bytes | None = None
) -> ProviderError:
    encoded = orjson.dumps({"error": error}) if body is None else body
    return ADAPTER.read_error(status, (headers or {}).get, encoded)


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "error", "kind", "retryable"),
        [
            (400, {"status": "INVALID_ARGUMENT"}, errors.ProviderRejectedRequest, False),
            (401, {"status": "UNAUTHENTICATED"}, errors.ProviderKeyRejected, False),
            (402, {}, errors.ProviderQuotaExhausted, False),
            (403, {"status": "PERMISSION_DENIED"}, errors.ProviderPermissionDenied, False),
            (404, {"status": "NOT_FOUND"}, errors.ModelNotFound, False),
            (408, {}, errors.ProviderUnavailable, True),
            (409, {"status": "ABORTED"}, errors.ProviderUnavailable, True),
            (413, {}, errors.ProviderRejectedRequest, False),
            (429, {"status": "RESOURCE_EXHAUSTED"}, errors.ProviderRateLimited, True),
            (499, {"status": "CANCELLED"}, errors.ProviderUnavailable, True),
            (500, {"status": "INTERNAL"}, errors.ProviderUnavailable, True),
            (503, {"status": "UNAVAILABLE"}, errors.ProviderUnavailable, True),
            (504, {"status": "DEADLINE_EXCEEDED"}, errors.ProviderUnavailable, True),
            (302, {}, errors.ProviderUnavailable, True),
        ],
    )
    def test_has_its_meaning_and_never_googles_words(
        self, status: int, error: dict[str, Any], kind: type[ProviderError], retryable: bool
    ) -> None:
        found = error_of(status, {"code": status, "message": SECRET, **error})
        assert (type(found), found.retryable) == (kind, retryable)
        assert "AIza" not in str(found)
        assert "quoting" not in found.message
        assert "Google AI" in found.message or kind is errors.ContextLengthExceeded

    @pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[]", b'"x"', b'{"error": "text"}', b"[1, 2]"])
    def test_holds_without_a_body_that_makes_sense(self, body: bytes) -> None:
        assert isinstance(error_of(503, body=body), errors.ProviderUnavailable)
        assert isinstance(error_of(400, body=body), errors.ProviderRejectedRequest)

    def test_error_of_a_stream_asked_for_as_an_array_is_understood(self) -> None:
        body = orjson.dumps([{"error": {"code": 400, "details": details(ErrorInfo={"reason": "API_KEY_INVALID"})}}])
        assert isinstance(error_of(400, body=body), errors.ProviderKeyRejected)


class TestKey:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, {"details": details(ErrorInfo={"reason": "API_KEY_INVALID"})}),
            (400, {"message": "API key not valid. Please pass a valid API key."}),
            (400, {"message": "API key expired. Please renew the API key."}),
            (403, {"message": "Your API key was reported as leaked. Please use another API key."}),
        ],
    )
    def test_that_is_wrong_expired_or_leaked_is_rejected(self, status: int, error: dict[str, Any]) -> None:
        assert isinstance(error_of(status, error), errors.ProviderKeyRejected)

    @pytest.mark.parametrize("reason", ["API_KEY_SERVICE_BLOCKED", "SERVICE_DISABLED", "CONSUMER_SUSPENDED"])
    def test_that_may_not_is_denied(self, reason: str) -> None:
        error = {"status": "PERMISSION_DENIED", "details": details(ErrorInfo={"reason": reason})}
        assert isinstance(error_of(403, error), errors.ProviderPermissionDenied)


class TestPrecondition:
    def test_place_that_google_does_not_serve_is_denied(self) -> None:
        error = {"status": "FAILED_PRECONDITION", "message": "User location is not supported for the API use."}
        assert isinstance(error_of(400, error), errors.ProviderPermissionDenied)

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (
                400,
                {
                    "status": "FAILED_PRECONDITION",
                    "message": "Gemini API free tier is not available in your country. Please enable billing on your "
                    "project in Google AI Studio.",
                },
            ),
            (403, {"details": details(ErrorInfo={"reason": "BILLING_DISABLED"})}),
        ],
    )
    def test_account_without_billing_has_no_quota(self, status: int, error: dict[str, Any]) -> None:
        assert isinstance(error_of(status, error), errors.ProviderQuotaExhausted)


class TestTooMuch:
    @pytest.mark.parametrize(
        ("delay", "seconds"), [("34s", 34), ("3.5s", 3.5), ("34.074824224s", 34.074824224), ("0s", 0), ("soon", None)]
    )
    def test_delay_stands_in_the_details(self, delay: str, seconds: float | None) -> None:
        found = error_of(429, {"details": details(RetryInfo={"retryDelay": delay})})
        assert isinstance(found, errors.ProviderRateLimited)
        assert found.retry_after == seconds

    def test_delay_in_a_header_comes_first(self) -> None:
        error = {"details": details(RetryInfo={"retryDelay": "34s"})}
        assert error_of(429, error, {"retry-after": "7"}).retry_after == 7
        assert error_of(503, error).retry_after == 34

    def test_quota_of_a_minute_is_waited_for(self) -> None:
        per_minute = quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", quotaValue="10")
        error = {
            "message": "You exceeded your current quota, please check your plan and billing details. * Quota exceeded "
            "for metric: x, limit: 10, model: gemini-3.8-flash",
            "details": details(QuotaFailure=per_minute, RetryInfo={"retryDelay": "12s"}),
        }
        found = error_of(429, error)
        assert isinstance(found, errors.ProviderRateLimited)
        assert (found.retryable, found.retry_after) == (True, 12)

    @pytest.mark.parametrize(
        "error",
        [
            {"details": details(QuotaFailure=quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"))},
            {"details": details(QuotaFailure=quota("GenerateRequestsPerMinutePerProjectPerModel", quotaValue="0"))},
            {"message": "Quota exceeded for metric: x, limit: 0, model: gemini-3.1-pro"},
            {"message": "Your prepayment credits are depleted. Please go to AI Studio to manage your project."},
            {"message": "Your project has exceeded its monthly spending cap."},
            {
                "details": [
                    *details(RetryInfo={"retryDelay": "12s"}),
                    *details(
                        QuotaFailure={
                            "violations": [
                                {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"},
                                {"quotaId": "GenerateContentInputTokensPerModelPerDay-FreeTier"},
                            ]
                        }
                    ),
                ]
            },
        ],
    )
    def test_quota_of_a_day_or_of_nothing_is_not(self, error: dict[str, Any]) -> None:
        found = error_of(429, error)
        assert isinstance(found, errors.ProviderQuotaExhausted)
        assert not found.retryable

    def test_conversation_that_is_too_long(self) -> None:
        for message in (
            "The input token count (1300000) exceeds the maximum number of tokens allowed (1048576).",
            "The input token count exceeds the maximum number of tokens allowed 1048576.",
        ):
            found = error_of(400, {"status": "INVALID_ARGUMENT", "message": message})
            assert isinstance(found, errors.ContextLengthExceeded)


class TestPlace:
    @pytest.mark.parametrize(
        ("error", "place"),
        [
            (
                {"details": details(BadRequest={"fieldViolations": [{"field": "generation_config.seed"}]})},
                "`generation_config.seed`",
            ),
            (
                {"message": f"* GenerateContentRequest.generation_config.top_p: {SECRET}\n"},
                "`generation_config.top_p`",
            ),
            ({"message": f"* GenerateContentRequest.contents[0].parts: {SECRET}"}, "`contents[0].parts`"),
        ],
    )
    def test_of_what_google_refused_is_told(self, error: dict[str, Any], place: str) -> None:
        found = error_of(400, error)
        assert place in found.message
        assert "quoting" not in found.message

    @pytest.mark.parametrize(
        "error",
        [
            {"details": details(BadRequest={"fieldViolations": [{"field": SECRET}]})},
            {"details": details(BadRequest={"fieldViolations": [{"description": SECRET}]})},
            {"details": details(BadRequest={"fieldViolations": []})},
            {"details": details(BadRequest={"fieldViolations": "x"})},
            {"details": "x"},
            {"details": [1, {"@type": 5}]},
            {"message": SECRET},
            {"message": {"x": 1}},
        ],
    )
    def test_is_told_only_where_it_is_a_name(self, error: dict[str, Any]) -> None:
        found = error_of(400, error)
        assert isinstance(found, errors.ProviderRejectedRequest)
        assert "`" not in found.message
