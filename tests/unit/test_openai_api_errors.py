"""Errors in the form of OpenAI's API."""

import orjson
import pytest
from google.rpc import status_pb2

from libs import errors
from libs.errors import Violation
from libs.openai_api.errors import error_body, field_name, in_band_error
from libs.rpc.status import internal_status, to_status


def told(error: errors.PlatformError | status_pb2.Status) -> dict[str, str | None]:
    body = error_body(error if isinstance(error, status_pb2.Status) else to_status(error))
    assert body.isascii()
    read: dict[str, dict[str, str | None]] = orjson.loads(body)
    assert read.keys() == {"error"}
    return read["error"]


class TestForm:
    @pytest.mark.parametrize(
        ("error", "kind", "code", "param"),
        [
            (errors.Unauthenticated("Sign in."), "authentication_error", "invalid_api_key", None),
            (errors.PermissionDenied("No."), "permission_error", "permission_denied", None),
            (errors.LimitExceeded("Slow."), "rate_limit_error", "rate_limit_exceeded", None),
            (errors.ProviderRateLimited("Slow.", provider="x"), "rate_limit_error", "rate_limit_exceeded", None),
            (errors.ProviderQuotaExhausted("Pay.", provider="x"), "insufficient_quota", "insufficient_quota", None),
            (errors.ModelNotFound("None.", provider="x"), "invalid_request_error", "model_not_found", "model"),
            (
                errors.ContextLengthExceeded("Long.", provider="x"),
                "invalid_request_error",
                "context_length_exceeded",
                None,
            ),
            (errors.ProviderUnavailable("Down.", provider="x"), "server_error", "provider_unavailable", None),
            (errors.ProviderTimeout("Late.", provider="x"), "server_error", "connection_timeout", None),
            (errors.ProviderKeyRejected("Key.", provider="x"), "invalid_request_error", "invalid_api_key", None),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_has_the_type_and_code_of_openai_where_it_has_one(
        self, error: errors.PlatformError, kind: str, code: str, param: str | None
    ) -> None:
        assert told(error) == {
            "message": error.message,
            "type": kind,
            "param": param,
            "code": code,
            "reason": error.reason,
        }

    def test_a_bug_and_a_bare_status_have_it_too(self) -> None:
        assert told(internal_status("req_1"))["type"] == "server_error"
        bare = told(status_pb2.Status(code=14, message="down"))
        assert (bare["type"], bare["code"], bare["reason"]) == ("server_error", None, "")

    def test_broken_rules_are_told_by_the_names_of_openai(self) -> None:
        rules = [
            Violation("options.maxTokens", "must be at least 1."),
            Violation("options.toolChoice", "needs options.tools."),
        ]
        error = told(errors.InvalidRequest(rules))
        assert error["param"] == "max_completion_tokens"
        assert error["message"] == "max_completion_tokens: must be at least 1. tool_choice: needs tools."
        assert error["type"] == "invalid_request_error"
        assert told(errors.InvalidRequest([Violation("body", "must be a JSON object.")]))["param"] is None

    def test_fits_into_a_header_whatever_it_says(self) -> None:
        for text in ("x" * 10_000, "é" * 10_000, "\U0001f600" * 10_000):
            body = error_body(to_status(errors.NotFound(text)))
            assert body.isascii()
            assert len(body) < 1_200
            message = orjson.loads(body)["error"]["message"]
            assert message.endswith("…")
            assert text.startswith(message[:-1])

    def test_of_a_broken_answer_needs_no_status(self) -> None:
        said = orjson.loads(in_band_error("PROVIDER_RATE_LIMITED", "Slow."))["error"]
        assert (said["type"], said["code"], said["reason"]) == (
            "rate_limit_error",
            "rate_limit_exceeded",
            "PROVIDER_RATE_LIMITED",
        )
        assert orjson.loads(in_band_error("INCOMPLETE_RESPONSE", "Cut."))["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("ours", "openais"),
    [
        ("options.maxTokens", "max_completion_tokens"),
        ("options.topP", "top_p"),
        ("options.reasoningEffort", "reasoning_effort"),
        ("options.parallelToolCalls", "parallel_tool_calls"),
        ("options.tools[3].name", "tools[3].function.name"),
        ("options.tools[3].parameters", "tools[3].function.parameters"),
        ("options.responseFormat.jsonSchema", "response_format.json_schema.schema"),
        ("options.responseFormat.name", "response_format.json_schema.name"),
        ("options.responseFormat.type", "response_format.type"),
        ("messages[1].parts[0].imageUrl.url", "messages[1].content[0].image_url.url"),
        ("messages[1].toolCalls[2].arguments", "messages[1].tool_calls[2].function.arguments"),
        ("messages[1].toolCalls[2].id", "messages[1].tool_calls[2].id"),
        ("messages[1].toolCallId", "messages[1].tool_call_id"),
        ("maxTokens", "max_completion_tokens"),
        *((name, name) for name in ("max_tokens", "model", "messages[0].content[1].type", "tools[0].function.name")),
    ],
)
def test_fields_have_the_names_of_openai(ours: str, openais: str) -> None:
    assert field_name(ours) == openais
