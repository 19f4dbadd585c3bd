"""What errors of the dialect mean, whether they come as a status, in a body or in a stream."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from libs.errors import ProviderError
from libs.worker.failures import Failures
from libs.worker.json_facts import text, words

# Codes of errors that waiting does not mend: the account has no money or no allowance left.
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted"})
_CONTEXT_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
# Servers that speak the dialect have no code for it, but words.
_CONTEXT_WORDS = re.compile(
    r"(maximum|max) (context|prompt|model) len|context (length|window)|prompt is too long", re.IGNORECASE
)

# What stands for a status where there is none: inside an answer that began with 200.
_STATUS_OF_WORDS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "slow_down": 429,
}

# A provider's own reading of an error, before the dialect's: (failures, status, error, seconds to wait) to an error,
# or None where the dialect's holds.
ReadOwnError = Callable[[Failures, int, dict[str, Any], float | None], ProviderError | None]


def nothing_of_its_own(
    failures: Failures,  # noqa: ARG001 - the signature of ReadOwnError
    status: int,  # noqa: ARG001
    error: dict[str, Any],  # noqa: ARG001
    wait: float | None,  # noqa: ARG001
) -> ProviderError | None:
    """Of a provider whose errors are the dialect's."""
    return None


def error_object(body: Any) -> dict[str, Any]:
    """Finds the error object in a body; some servers send the bare object, or a text for it."""
    if not isinstance(body, dict):
        return {}
    error = body.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {"message": error, "code": body.get("code")}
    return body if body.get("object") == "error" else {}


def in_band_status(error: dict[str, Any]) -> int:
    """Returns the status an error inside a 200 stands for; 502 when it does not say."""
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    for word in (code, error.get("type")):
        if isinstance(word, str) and word in _STATUS_OF_WORDS:
            return _STATUS_OF_WORDS[word]
    return 502


def read_error(failures: Failures, status: int, error: dict[str, Any], wait: float | None) -> ProviderError:
    """Maps a status and an error object; the provider's own text stays here, it may quote the key or the prompt.

    `wait` is how long the provider says to wait, in seconds.
    """
    code = text(error.get("code"))
    if code in _QUOTA_CODES or error.get("type") == "insufficient_quota" or status == 402:
        return failures.quota_exhausted()
    if status == 401 or code == "invalid_api_key":
        return failures.key_rejected()
    if status == 403:
        return failures.permission_denied()
    if status == 404 or code == "model_not_found":
        return failures.model_not_found()
    if code in _CONTEXT_CODES or (status in (400, 413, 422) and _CONTEXT_WORDS.search(words(error.get("message")))):
        return failures.context_length()
    if status == 413:
        return failures.too_large()
    if status == 429:
        return failures.rate_limited(wait)
    if status < 400 or status in (408, 409) or status >= 500:
        return failures.unavailable(wait)
    return failures.rejected_request(error.get("param"))
