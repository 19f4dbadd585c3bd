"""What Anthropic's errors mean, whether they come as a status, in a body or in a stream.

https://platform.claude.com/docs/en/api/errors; the types and codes are those of the official `anthropic` SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from libs.errors import ProviderError
from libs.worker.failures import Failures
from libs.worker.json_facts import text, words
from libs.worker.retry_after import retry_after, rfc3339, used_up

Headers = Callable[[str], str | None]

# The status that comes with each type, for errors that come inside a 200.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

# `error.details.error_code` of those who spent what they may; waiting mends none of these soon.
_NO_MONEY_CODES = frozenset(
    {
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    }
)
_FORBIDDEN_CODES = frozenset({"organization_on_hold", "sandbox_egress_restricted"})

# What has no code but words. Only looked for, never told.
_NO_MONEY_WORDS = re.compile(r"credit balance is too low|specified (workspace )?API usage limits", re.IGNORECASE)
_TOO_LONG_WORDS = re.compile(r"prompt is too long|exceeds? (the )?context (limit|window)", re.IGNORECASE)
_FORBIDDEN_WORDS = re.compile(r"organization has been disabled", re.IGNORECASE)
_MODEL_WORDS = re.compile(r"model\b")
# A field of the request at the head of a refusal: `messages.3.content.0.text: …`, or named as the one at fault.
_PLACE = re.compile(r"`?([A-Za-z0-9_.]+)[`:]")

_LIMITS = tuple(f"anthropic-ratelimit-{name}-{{}}" for name in ("requests", "tokens", "input-tokens", "output-tokens"))


def error_object(body: Any) -> dict[str, Any]:
    """Finds the error in a body; empty where there is none."""
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def read_in_band_error(failures: Failures, error: dict[str, Any]) -> ProviderError:
    """Maps an error that came inside an answer that began with 200 to what its own status would mean."""
    return read_error(failures, _STATUS.get(text(error.get("type")), 500), error, _silent)


def read_error(failures: Failures, status: int, error: dict[str, Any], header: Headers) -> ProviderError:
    """Maps a status and an error object; Anthropic's own text stays here, it may quote the key or the prompt."""
    kind, message = text(error.get("type")), words(error.get("message"))
    details = error.get("details")
    code = text(details.get("error_code")) if isinstance(details, dict) else ""
    if status == 402 or kind == "billing_error" or code in _NO_MONEY_CODES:
        return failures.quota_exhausted()
    if status == 401 or kind == "authentication_error":
        return failures.key_rejected()
    if status == 403 or kind == "permission_error" or code in _FORBIDDEN_CODES:
        return failures.permission_denied()
    if status == 429:
        # A spend limit of the Claude Code workspace comes with this status and the words of 400.
        return failures.quota_exhausted() if _NO_MONEY_WORDS.search(message) else failures.rate_limited(_wait(header))
    if status < 400 or status in (408, 409, 424) or status >= 500:
        return failures.unavailable(retry_after(header))
    if status == 404 and _MODEL_WORDS.match(message):
        return failures.model_not_found()
    if _TOO_LONG_WORDS.search(message):
        return failures.context_length()
    if status == 413:
        return failures.too_large()
    if _NO_MONEY_WORDS.search(message):
        return failures.quota_exhausted()
    if _FORBIDDEN_WORDS.search(message):
        return failures.permission_denied()
    place = _PLACE.match(message)
    return failures.rejected_request(place[1] if place else None)


def _wait(header: Headers) -> float | None:
    """Returns the seconds until a limit that is used up is renewed; the limits' times are in RFC 3339."""
    wait = retry_after(header)
    return used_up(header, _LIMITS, rfc3339) if wait is None else wait


def _silent(_name: str) -> None:
    """Has no header to tell: the answer's headers were those of a success."""
