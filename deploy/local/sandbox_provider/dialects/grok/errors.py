"""xAI's error bodies, in xAI's words: `code` is a sentence, `error` a text.

Source: bodies quoted by users in public issue threads, and its table of status codes.
"""

from typing import Any

import orjson

from deploy.local.sandbox_provider.dialects.dialect import Refusal, Reply

_INVALID = "Client specified an invalid argument"
_NOT_FOUND = "Some requested entity was not found"
_FORBIDDEN = "The caller does not have permission to execute the specified operation"
_UNAVAILABLE = "The service is currently unavailable"
_CONSOLE = "You can obtain an API key from https://console.x.ai."

_BAD_DAYS: dict[int, tuple[str, str]] = {
    400: (_INVALID, f"Incorrect API key provided: xa***ox. {_CONSOLE}"),
    401: (
        "The request does not have valid authentication credentials for the operation",
        "No authorization header or an invalid authorization token was provided.",
    ),
    402: ("Some resource has been exhausted", "Your team team-sandbox has used all available credits."),
    403: (
        "permission-denied",
        (
            "Access to the chat endpoint is denied. Please ensure you're using the correct credentials. If you believe "
            "this is a mistake, please log into console.x.ai and update the permissions, or contact support."
        ),
    ),
    404: (_NOT_FOUND, "No handler found on route. Please double check your URL and consult https://api.x.ai/docs."),
    405: ("Operation is not implemented or not supported", "Method not allowed."),
    408: ("Deadline expired before operation could complete", "Request timed out."),
    413: (_INVALID, "Request body is too large."),
    429: (
        "Some resource has been exhausted",
        (
            "Too many requests for team team-sandbox and model grok-4.3. Your team's rate limit is - Requests per "
            "Minute (actual/limit): 61/60."
        ),
    ),
    503: (
        _UNAVAILABLE,
        (
            "Service temporarily unavailable. The model is at capacity and currently cannot serve this request. "
            "Please try again later."
        ),
    ),
}
_SERVER_ERROR = ("Internal error", "Internal server error, please try again later.")


def bad_day(status: int) -> dict[str, Any]:
    """Says what usually comes with a status."""
    code, error = _BAD_DAYS.get(status, _SERVER_ERROR)
    return {"code": code, "error": error}


def error_reply(status: int, body: dict[str, Any]) -> Reply:
    """Answers with an error."""
    return Reply(status, orjson.dumps(body), {"content-type": "application/json"})


def invalid(error: str) -> Refusal:
    """Refuses a request that says something wrong."""
    return Refusal(error_reply(400, {"code": _INVALID, "error": error}))


def refuse(status: int) -> Refusal:
    """Refuses a request with the usual words."""
    return Refusal(error_reply(status, bad_day(status)))


def misshapen(flaw: str) -> Refusal:
    """Refuses a body that cannot be read, in plain text and not in JSON."""
    text = f"Failed to deserialize the JSON body into the target type: {flaw}"
    return Refusal(Reply(422, text.encode(), {"content-type": "text/plain; charset=utf-8"}))


def refuse_key(key: str | None) -> Refusal:
    """Refuses a missing key with 401, a wrong one, quoted masked, with 400."""
    if key is None:
        return refuse(401)
    return invalid(f"Incorrect API key provided: {key[:2]}***{key[-2:]}. {_CONSOLE}")


def unknown_model(model: str) -> Refusal:
    """Refuses a model that there is not."""
    text = (
        f"The model {model} does not exist or your team team-sandbox does not have access to it. Please ensure you're "
        "using the correct API key. If you believe this is a mistake, please contact support and quote your team ID "
        "and the model name."
    )
    return Refusal(error_reply(404, {"code": _NOT_FOUND, "error": text}))
