"""Anthropic's error bodies, in Anthropic's words.

Source: the error page of its API reference, the error types of its SDK, and bodies quoted in public issue threads.
"""

from typing import Any

import orjson

from deploy.local.sandbox_provider.dialects.dialect import Refusal, Reply

_REQUEST_ID = "req_011CSandboxSandboxSandb"
ORGANIZATION = "00000000-0000-4000-8000-000000000000"
_RESET = "2026-01-01T00:01:00Z"

LIMITS = {
    f"anthropic-ratelimit-{kind}-{name}": value
    for kind, limit, remaining in (
        ("requests", "4000", "3999"),
        ("tokens", "480000", "480000"),
        ("input-tokens", "400000", "400000"),
        ("output-tokens", "80000", "80000"),
    )
    for name, value in (("limit", limit), ("remaining", remaining), ("reset", _RESET))
}
"""What every answer says about the limits: times in RFC 3339, remaining tokens rounded to thousands."""

_BAD_DAYS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "messages.0.content: Input should be a valid list"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "There is an issue with your billing or payment information."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "model: claude-2.0"),
    408: ("timeout_error", "Request timed out"),
    409: ("conflict_error", "The request conflicts with the current state of the resource."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: (
        "rate_limit_error",
        (
            "This request would exceed your organization's rate limit of 400,000 input tokens per minute. For "
            "details, refer to: https://platform.claude.com/docs/en/api/rate-limits."
        ),
    ),
    503: ("api_error", "Service temporarily unavailable"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
_SERVER_ERROR = ("api_error", "Internal server error")
_PASSING = {408, 409, 429}


def error_body(kind: str, message: str, error_code: str | None = None) -> dict[str, Any]:
    """Makes the one shape all errors have; `error_code` names the cause of some."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if error_code is not None:
        error["details"] = {"error_code": error_code}
    return {"type": "error", "error": error, "request_id": _REQUEST_ID}


SPEND_LIMIT = error_body(
    "rate_limit_error",
    "Your organization has crossed the monthly API usage threshold of its tier. Access returns on 2026-02-01.",
    "enforced_spend_limit_reached",
)
"""Comes with 429 and without `retry-after`: it does not pass before the month does."""

LOW_CREDIT = error_body(
    "invalid_request_error",
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase "
    "credits.",
)
"""Comes with 400."""

OWN_SPEND_LIMIT = error_body(
    "invalid_request_error",
    "You have reached your specified API usage limits. You will regain access on 2026-02-01 at 00:00 UTC.",
)
"""Comes with 400, when a limit the organization set itself is reached."""


def error_reply(status: int, body: dict[str, Any]) -> Reply:
    """Answers with an error, and with what its headers say about trying again."""
    headers = {
        "content-type": "application/json",
        "request-id": _REQUEST_ID,
        "anthropic-organization-id": ORGANIZATION,
        "x-should-retry": "true" if status in _PASSING or status >= 500 else "false",
    }
    if status == 429:
        headers |= LIMITS | {"retry-after": "12", "anthropic-ratelimit-input-tokens-remaining": "0"}
    return Reply(status, orjson.dumps(body), headers)


def refusal(status: int, kind: str, message: str) -> Refusal:
    """Refuses a request."""
    return Refusal(error_reply(status, error_body(kind, message)))


def invalid(message: str) -> Refusal:
    """Refuses an invalid request."""
    return refusal(400, "invalid_request_error", message)


def expect(valid: bool, message: str) -> None:
    """Refuses an invalid request unless it is valid after all."""
    if not valid:
        raise invalid(message)


def is_integer(value: Any) -> bool:
    """Tells whether a value of JSON is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def unknown_model(model: str) -> Refusal:
    """Refuses a model that is not in the catalogue."""
    return refusal(404, "not_found_error", f"model: {model}")


def bad_day(status: int) -> Reply:
    """Says what usually comes with a status."""
    return error_reply(status, error_body(*_BAD_DAYS.get(status, _SERVER_ERROR)))


def bad_day_in_stream() -> bytes:
    """Makes the event that is to a stream what 529 is to a whole answer."""
    kind, message = _BAD_DAYS[529]
    return b"event: error\ndata: " + orjson.dumps(error_body(kind, message)) + b"\n\n"
