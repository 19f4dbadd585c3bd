"""When a provider says to come back, in the notations providers use for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_GO_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Headers = Callable[[str], str | None]


def go_duration(text: str) -> float | None:
    """Parses a Go duration such as `6m0s` or `120ms` into seconds; None when it is not one."""
    if not text or _GO_DURATION.sub("", text):
        return None
    return sum(float(number) * _GO_UNITS[unit] for number, unit in _GO_DURATION.findall(text))


def retry_after(header: Headers) -> float | None:
    """Returns the seconds to wait by `retry-after-ms` or `retry-after` (seconds or a date); None when unsaid."""
    milliseconds = _number(header("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = header("retry-after")
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
