"""What Google's errors mean, whether they come as a status, in a body or in a stream.

https://ai.google.dev/gemini-api/docs/troubleshooting; their form is `google.rpc.Status` with its standard details.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from libs.errors import ProviderError
from libs.worker.failures import Failures
from libs.worker.json_facts import text, words
from libs.worker.retry_after import go_duration

# Reasons of a refusal (`ErrorInfo`) that another key mends.
_BAD_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED"})
_NO_MONEY_REASONS = frozenset({"BILLING_DISABLED"})

# What has no reason of its own but words. Only looked for, never told.
_BAD_KEY_WORDS = re.compile(r"API key (not valid|expired|was reported as leaked)", re.IGNORECASE)
_TOO_LONG_WORDS = re.compile(r"token count\b.{0,100}\bexceeds the maximum", re.IGNORECASE | re.DOTALL)
_NO_MONEY_WORDS = re.compile(
    r"enable billing|(credits|balance) (are|is) depleted|spend(ing)? (cap|limit)|\blimit: 0\b(?!\.\d)", re.IGNORECASE
)
# A field of the request at the head of a refusal: `* GenerateContentRequest.generation_config.top_p: …`.
_FIELD_WORDS = re.compile(r"\* GenerateContentRequest\.([a-z0-9_.\[\]]+): ")

# Quotas that come back too late to wait for: `GenerateRequestsPerDayPerProjectPerModel-FreeTier`.
_LONG_QUOTA = re.compile(r"Per(Day|Week|Month)")


def error_object(body: Any) -> dict[str, Any]:
    """Finds the error in a body; where a stream was asked for as an array, it is the only member of one."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def read_in_band_error(failures: Failures, error: dict[str, Any]) -> ProviderError:
    """Maps an error that came inside an answer that began with 200."""
    code = error.get("code")
    return read_error(failures, code if isinstance(code, int) and 400 <= code < 600 else 502, error, None)


def read_error(failures: Failures, status: int, error: dict[str, Any], wait: float | None) -> ProviderError:
    """Maps a status and an error object; Google's own text stays here, it may quote the key or the prompt.

    `wait` is what the headers say, in seconds; Google mostly says it in the details instead.
    """
    message = words(error.get("message"))
    reasons = {text(detail.get("reason")) for detail in _details(error, "ErrorInfo")}
    wait = _retry_delay(error) if wait is None else wait
    if reasons & _BAD_KEY_REASONS or status == 401 or (status < 500 and _BAD_KEY_WORDS.search(message)):
        return failures.key_rejected()
    if status == 402 or (status in (400, 403) and (reasons & _NO_MONEY_REASONS or _NO_MONEY_WORDS.search(message))):
        return failures.quota_exhausted()
    if status == 403 or (status == 400 and error.get("status") == "FAILED_PRECONDITION"):
        return failures.permission_denied()  # the latter: not from where this platform runs
    if status == 404:
        return failures.model_not_found()
    if status == 429:
        exhausted = _NO_MONEY_WORDS.search(message) or any(_lasts(quota) for quota in _quotas(error))
        return failures.quota_exhausted() if exhausted else failures.rate_limited(wait)
    # 499 is Google's for a call that was cancelled, which was not us: we would not be reading.
    if status < 400 or status in (408, 409, 499) or status >= 500:
        return failures.unavailable(wait)
    if status in (400, 413) and _TOO_LONG_WORDS.search(message):
        return failures.context_length()
    if status == 413:
        return failures.too_large()
    return failures.rejected_request(_field(error, message))


def _details(error: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and text(detail.get("@type")).endswith(f".{kind}"):
            yield detail


def _retry_delay(error: dict[str, Any]) -> float | None:
    for detail in _details(error, "RetryInfo"):
        delay = go_duration(words(detail.get("retryDelay")))  # "34s" or "3.5s": durations of protobuf look like Go's
        if delay is not None:
            return delay
    return None


def _quotas(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for detail in _details(error, "QuotaFailure"):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict):
                yield violation


def _lasts(quota: dict[str, Any]) -> bool:
    """Tells whether waiting a little does not mend it: the quota is of a day or longer, or nothing at all."""
    return _LONG_QUOTA.search(words(quota.get("quotaId"))) is not None or quota.get("quotaValue") in ("0", 0)


def _field(error: dict[str, Any], message: str) -> Any:
    for detail in _details(error, "BadRequest"):
        violations = detail.get("fieldViolations")
        if isinstance(violations, list) and violations and isinstance(violations[0], dict):
            return violations[0].get("field")
    named = _FIELD_WORDS.match(message)
    return named[1] if named else None
