"""When a provider says to come back, in the notations providers use for it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime

_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_GO_DURATION = re.compile(rf"(?:{_GO_PART.pattern})+")
_GO_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

# No provider means more than a day, and more than this would not even fit into a status.
_LONGEST = 86_400.0

Headers = Callable[[str], str | None]

_SHOULD_RETRY = {"true": True, "false": False}


def go_duration(text: str) -> float | None:
    """Parses a Go duration such as `6m0s` or `120ms` into seconds, a day at most; None when it is not one."""
    if not _GO_DURATION.fullmatch(text):
        return None
    return min(_LONGEST, sum(float(number) * _GO_UNITS[unit] for number, unit in _GO_PART.findall(text)))


def rfc3339(text: str) -> float | None:
    """Parses a time such as `2026-10-21T07:28:00Z` into the seconds until then, a day at most; None when it is not one.

    A time that has passed means now.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return min(_LONGEST, max(0.0, moment.timestamp() - time.time()))


def used_up(header: Headers, limits: Iterable[str], read: Callable[[str], float | None]) -> float | None:
    """Returns the seconds until every limit that is used up is renewed; None when none is, or none says when.

    `limits` are the names of headers with `{}` in place of `remaining` and `reset`; `read` parses a reset. Limits that
    leave something do not count: when they are renewed says nothing about the one that refused.
    """
    resets = (read(header(limit.format("reset")) or "") for limit in limits if header(limit.format("remaining")) == "0")
    return max((reset for reset in resets if reset is not None), default=None)


def should_retry(header: Headers) -> bool | None:
    """Returns whether the provider says by `x-should-retry` to try the same again; None when unsaid."""
    return _SHOULD_RETRY.get(header("x-should-retry") or "")


def retry_after(header: Headers) -> float | None:
    """Returns the seconds to wait by `retry-after-ms` or `retry-after` (seconds or a date); None when unsaid.

    A day at most.
    """
    milliseconds = _number(header("retry-after-ms"))
    if milliseconds is not None:
        return min(_LONGEST, milliseconds / 1000)
    text = header("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return min(_LONGEST, seconds)
    try:
        return min(_LONGEST, max(0.0, parsedate_to_datetime(text or "").timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if number >= 0 and math.isfinite(number) else None
