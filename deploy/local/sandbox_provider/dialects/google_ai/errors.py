"""Google's error bodies, in Google's words.

Source: google.rpc.Status with its standard details, the API's troubleshooting page, and bodies quoted by users in
public issue threads.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from deploy.local.sandbox_provider.dialects.dialect import Refusal, Reply

_DETAIL = "type.googleapis.com/google.rpc."
_SERVICE = "generativelanguage.googleapis.com"
_RATE_LIMITS_PAGE = "https://ai.google.dev/gemini-api/docs/rate-limits"

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_INTERNAL = (
    "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting"
)
_MESSAGES = {
    400: "Request contains an invalid argument.",
    401: (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    ),
    403: "Your project has been denied access. Please contact support.",
    404: (
        "models/gemini-1.0-pro is not found for API version v1beta, or is not supported for generateContent. Call "
        "ListModels to see the list of available models and their supported methods."
    ),
    429: (
        f"You exceeded your current quota, please check your plan and billing details. For more information on this "
        f"error, head to: {_RATE_LIMITS_PAGE}. \n* Quota exceeded for metric: {_SERVICE}/"
        "generate_content_free_tier_requests, limit: 10, model: gemini-3.8-flash\nPlease retry in 34.074824224s."
    ),
    503: (
        "This model is currently experiencing high demand. Spikes in demand are usually temporary. Please try again "
        "later."
    ),
    504: "Deadline expired before operation could complete.",
}


def error_body(status: int, message: str, details: Iterable[Mapping[str, Any]] = (), code: str = "") -> dict[str, Any]:
    """Makes the one shape all errors have."""
    name = code or _STATUSES.get(status, "UNKNOWN" if status >= 500 else "INVALID_ARGUMENT")
    error: dict[str, Any] = {"code": status, "message": message, "status": name}
    if listed := list(details):
        error["details"] = listed
    return {"error": error}


def error_reply(status: int, body: Any) -> Reply:
    """Answers with an error, indented as Google does."""
    encoded = orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return Reply(status, encoded, {"content-type": "application/json; charset=UTF-8"})


def refusal(status: int, message: str, details: Iterable[Mapping[str, Any]] = (), code: str = "") -> Refusal:
    """Refuses a request."""
    return Refusal(error_reply(status, error_body(status, message, details, code)))


def invalid(message: str = _MESSAGES[400]) -> Refusal:
    """Refuses a request whose values are wrong."""
    return refusal(400, message)


def invalid_field(field: str, message: str) -> Refusal:
    """Refuses a value, named from the request down: `generation_config.top_p`."""
    return invalid(f"* GenerateContentRequest.{field}: {message}\n")


def unparsable(violations: Iterable[tuple[str, str]]) -> Refusal:
    """Refuses a body that does not fit the schema: (field, what is wrong with it), the field empty at the top."""
    found = [
        {"field": field, "description": description} if field else {"description": description}
        for field, description in violations
    ]
    message = "\n".join(violation["description"] for violation in found)
    return refusal(400, message, [{"@type": f"{_DETAIL}BadRequest", "fieldViolations": found}])


def refuse_missing_key() -> Refusal:
    """Refuses a request that has no key at all."""
    return refusal(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
        "form of API consumer identity to call this API.",
    )


def refuse_key() -> Refusal:
    """Refuses a wrong key; Google does so with 400, not 401."""
    message = "API key not valid. Please pass a valid API key."
    return refusal(
        400,
        message,
        [
            {
                "@type": f"{_DETAIL}ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": _SERVICE},
            },
            {"@type": f"{_DETAIL}LocalizedMessage", "locale": "en-US", "message": message},
        ],
    )


def refuse_key_in_url() -> Refusal:
    """Refuses a key in the URL. Google would take it; here it is a leak to be found out."""
    return refusal(403, "The sandbox takes the key in x-goog-api-key only: what is in a URL ends up in logs.")


def refuse_other_credentials() -> Refusal:
    """Refuses an Authorization header that came with the key: Google prefers it to the key, and it is not valid."""
    return refusal(
        401,
        _MESSAGES[401],
        [
            {
                "@type": f"{_DETAIL}ErrorInfo",
                "reason": "ACCESS_TOKEN_TYPE_UNSUPPORTED",
                "domain": "googleapis.com",
                "metadata": {"service": _SERVICE},
            }
        ],
    )


def unknown_model(name: str, method: str) -> Refusal:
    """Refuses a model that does not exist, or not for this method."""
    return refusal(
        404,
        f"{name} is not found for API version v1beta, or is not supported for {method}. Call ListModels to see the "
        "list of available models and their supported methods.",
    )


def bad_day(status: int) -> dict[str, Any]:
    """Says what usually comes with a status."""
    details: list[dict[str, Any]] = []
    if status == 429:
        details = [
            {
                "@type": f"{_DETAIL}QuotaFailure",
                "violations": [
                    {
                        "quotaMetric": f"{_SERVICE}/generate_content_free_tier_requests",
                        "quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
                        "quotaDimensions": {"location": "global", "model": "gemini-3.8-flash"},
                        "quotaValue": "10",
                    }
                ],
            },
            {
                "@type": f"{_DETAIL}Help",
                "links": [{"description": "Learn more about Gemini API quotas", "url": _RATE_LIMITS_PAGE}],
            },
            {"@type": f"{_DETAIL}RetryInfo", "retryDelay": "34s"},
        ]
    message = _MESSAGES.get(status, _INTERNAL if status >= 500 else _MESSAGES[400])
    return error_body(status, message, details)
