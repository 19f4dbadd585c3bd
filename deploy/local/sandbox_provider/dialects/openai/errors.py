"""OpenAI's error bodies, in OpenAI's words.

Source: bodies quoted by users in public issue threads, and the reference of error codes.
"""

from typing import Any

import orjson

from deploy.local.sandbox_provider.dialects.dialect import Refusal, Reply

_KEYS_PAGE = "https://platform.openai.com/account/api-keys"

_BAD_DAYS: dict[int, tuple[str, str, str | None]] = {
    400: ("We could not parse the JSON body of your request.", "invalid_request_error", None),
    401: (
        f"Incorrect API key provided: sk-sandb****. You can find your API key at {_KEYS_PAGE}.",
        "invalid_request_error",
        "invalid_api_key",
    ),
    403: (
        "You are not allowed to sample from this model",
        "invalid_request_error",
        None,
    ),
    404: (
        "The model `gpt-4` does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    ),
    408: ("Request timed out.", "timeout", None),
    409: ("The resource was updated by another process.", "invalid_request_error", None),
    413: ("Request body is too large.", "invalid_request_error", None),
    429: (
        (
            "Rate limit reached for gpt-4o in organization org-sandbox on tokens per min (TPM): Limit 30000, "
            "Used 29900, Requested 500. Please try again in 800ms. Visit "
            "https://platform.openai.com/account/rate-limits to learn more."
        ),
        "tokens",
        "rate_limit_exceeded",
    ),
    503: ("The engine is currently overloaded, please try again later", "server_error", None),
}
_SERVER_ERROR = (
    "The server had an error while processing your request. Sorry about that!",
    "server_error",
    None,
)


def error_body(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Makes the one shape all errors have."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_reply(status: int, body: dict[str, Any]) -> Reply:
    """Answers with an error, indented as OpenAI does."""
    encoded = orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return Reply(status, encoded, {"content-type": "application/json"})


def invalid(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Refusal:
    """Refuses an invalid request."""
    return Refusal(error_reply(status, error_body(message, param=param, code=code)))


def refuse_key(key: str | None) -> Refusal:
    """Refuses a missing or wrong key; a wrong one is quoted with its middle masked."""
    if key is None:
        return invalid(
            "You didn't provide an API key. You need to provide your API key in an "
            "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or "
            "as the password field (with blank username) if you're accessing the API from your "
            "browser and are prompted for a username and password. You can obtain an API key "
            f"from {_KEYS_PAGE}.",
            status=401,
        )
    masked = key if len(key) <= 12 else f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}"
    return invalid(
        f"Incorrect API key provided: {masked}. You can find your API key at {_KEYS_PAGE}.",
        code="invalid_api_key",
        status=401,
    )


def unknown_model(model: str) -> Refusal:
    """Refuses a model that is not in the catalogue."""
    return invalid(
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
        status=404,
    )


def bad_day(status: int) -> dict[str, Any]:
    """Says what usually comes with a status."""
    message, kind, code = _BAD_DAYS.get(status, _SERVER_ERROR)
    return error_body(message, kind, code=code)
