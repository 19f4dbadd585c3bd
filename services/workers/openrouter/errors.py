"""What OpenRouter's errors mean. https://openrouter.ai/docs/api_reference/errors-and-debugging

`metadata.error_type` names the kind, whichever provider failed and however its error came; `availability` tells
whether and when to try again. The text is read for what has no kind of its own, and stays here.
"""

from __future__ import annotations

import re
from typing import Any

from libs.errors import ProviderError
from libs.worker.failures import Failures
from libs.worker.json_facts import text, words
from libs.worker.retry_after import retry_after

_TOO_LONG = frozenset({"context_length_exceeded", "string_too_long"})
_BLOCKED = frozenset({"content_policy_violation", "refusal"})
_WRONG = frozenset(
    {
        "max_tokens_exceeded",
        "token_limit_exceeded",
        "invalid_request",
        "invalid_prompt",
        "precondition_failed",
        "payload_too_large",
        "unprocessable",
        "invalid_image",
        "image_too_large",
        "image_too_small",
        "unsupported_image_format",
        "image_not_found",
        "image_download_failed",
    }
)
_UNAVAILABLE = frozenset({"provider_overloaded", "provider_unavailable", "server", "timeout", "unmapped"})
# The model exists, but not for all that the request holds.
_UNFIT_MODEL = re.compile(r"No endpoints found that (can handle|support)")
_UNKNOWN_MODEL = re.compile(r"is not a valid model ID|No endpoints found")
# Of free models there are so many requests a day; the next minute brings none.
_DAILY = re.compile(r"per-day")


def read_own_error(failures: Failures, status: int, error: dict[str, Any], wait: float | None) -> ProviderError | None:
    """Reads an error by what only OpenRouter says; None where the dialect's reading holds."""
    metadata, availability = _object(error, "metadata"), _object(error, "availability")
    kind, message = text(metadata.get("error_type")), words(error.get("message"))
    if kind == "payment_required" or status == 402:
        return failures.quota_exhausted()
    # What was flagged tells the reasons, what a guardrail stopped the patterns it found.
    if kind in _BLOCKED or metadata.get("reasons") or metadata.get("patterns"):
        return failures.blocked()
    if kind == "authentication":
        return failures.key_rejected()
    if kind == "permission_denied":
        return failures.permission_denied()
    if status == 404 and _UNFIT_MODEL.search(message):
        return failures.rejected_request()
    if kind == "not_found" or (status in (400, 404) and _UNKNOWN_MODEL.search(message)):
        return failures.model_not_found()
    if kind in _TOO_LONG:
        return failures.context_length()
    if kind in _WRONG:
        return failures.rejected_request()
    for seconds in (availability.get("retry_after"), metadata.get("retry_after_seconds")):
        if wait is None and isinstance(seconds, str | int | float):
            wait = retry_after({"retry-after": words(str(seconds))}.get)
    again = availability.get("retryable")
    retryable = again if isinstance(again, bool) else None
    if kind == "rate_limit_exceeded" or status == 429:
        if _DAILY.search(message):
            return failures.quota_exhausted()
        return failures.rate_limited(wait, retryable=retryable)
    if kind in _UNAVAILABLE or status >= 500 or status == 408:
        return failures.unavailable(wait, retryable=retryable)
    return None


def _object(error: dict[str, Any], name: str) -> dict[str, Any]:
    value = error.get(name)
    return value if isinstance(value, dict) else {}
