"""OpenRouter's error bodies, in OpenRouter's words.

Source: its documentation of errors and limits, and bodies quoted by users in public issue threads.
"""

from typing import Any

import orjson

from deploy.local.sandbox_provider.dialects.dialect import Refusal, Reply

_BAD_DAYS: dict[int, tuple[str, dict[str, Any]]] = {
    400: ("Provider returned error", {"error_type": "invalid_request", "provider_name": "OpenAI"}),
    401: ("User not found.", {}),
    402: (
        (
            "Insufficient credits. This account never purchased credits. Make sure your key is on the correct account "
            "or org, and if so, purchase more at https://openrouter.ai/settings/credits"
        ),
        {"error_type": "payment_required", "limit_source": "openrouter_credits"},
    ),
    403: ("Forbidden", {"error_type": "permission_denied"}),
    404: ("No endpoints found for openai/gpt-1.", {"error_type": "not_found"}),
    408: ("Request timed out.", {"error_type": "timeout"}),
    413: ("Request body is too large.", {"error_type": "payload_too_large"}),
    429: (
        "Provider returned error",
        {
            "error_type": "rate_limit_exceeded",
            "provider_name": "OpenAI",
            "provider_code": "rate_limited",
            "raw": "openai/gpt-6.1-terra is temporarily rate-limited upstream. Please retry shortly.",
        },
    ),
    502: ("Provider returned error", {"error_type": "provider_unavailable", "provider_name": "OpenAI"}),
    503: ("No instances available", {"error_type": "provider_overloaded", "provider_name": "OpenAI"}),
    504: ("Provider timed out", {"error_type": "timeout", "provider_name": "OpenAI"}),
}
_SERVER_ERROR = ("Internal Server Error", {"error_type": "server"})
_PASSING = (429, 502, 503)


def error_body(code: int, message: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """Makes the one shape all errors have."""
    error: dict[str, Any] = {"message": message, "code": code}
    if metadata:
        error["metadata"] = metadata
    return {"error": error}


def refuse(code: int, message: str, metadata: dict[str, Any] | None = None) -> Refusal:
    """Refuses a request."""
    return Refusal(error_reply(code, error_body(code, message, metadata)))


def refuse_key(key: str | None) -> Refusal:
    """Refuses a missing or wrong key."""
    return refuse(401, "No auth credentials found" if key is None else "User not found.")


def moderated(model: str, provider: str) -> Refusal:
    """Refuses a prompt that was flagged, with the reasons."""
    return refuse(
        403,
        f'{model} requires moderation on {provider}. Your input was flagged for "violence".',
        {"reasons": ["violence"], "flagged_input": "how to ... it", "provider_name": provider, "model_slug": model},
    )


def error_reply(status: int, body: dict[str, Any]) -> Reply:
    """Answers with an error."""
    return Reply(status, orjson.dumps(body), {"content-type": "application/json"})


def bad_day(status: int) -> dict[str, Any]:
    """Says what usually comes with a status; where waiting helps, also that it does."""
    message, metadata = _BAD_DAYS.get(status, _SERVER_ERROR)
    body = error_body(status, message, metadata)
    if status in _PASSING:
        body["error"]["availability"] = {"retryable": True}
    return body | {"user_id": "user_sandbox"}
