"""What a report is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from libs.errors import InvalidRequest, Violation
from services.analytics.usage import Span, resolve_span

Grouping = Literal["", "hour", "day", "provider", "model"]
GROUPINGS = ("hour", "day", "provider", "model")

# More hours than that nobody reads, and each is a part of the answer.
_LONGEST_IN_HOURS = timedelta(days=32)
_LONGEST_NAME = 256
# What the files of zones hold besides: seconds counted otherwise, and what the machine itself has chosen.
_NO_ZONES = ("right/", "posix/", "posixrules", "localtime", "Factory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whose chats, of which time and provider and model, and how they are to be grouped.

    `user_id` None means everybody's. `provider` and `model` empty mean all of them.
    """

    user_id: str | None
    span: Span
    group_by: Grouping = ""
    zone: tzinfo = UTC
    provider: str = ""
    model: str = ""


def resolve_question(
    *,
    user_id: str | None,
    start: datetime | None,
    end: datetime | None,
    group_by: str,
    time_zone: str,
    provider: str,
    model: str,
    now: datetime,
    beside: Iterable[Violation] = (),
) -> Question:
    """Fills in what the caller left open. Raises InvalidRequest for all that is wrong, and for what is `beside`."""
    violations = [*beside]
    span = Span(now, now)
    try:
        span = resolve_span(start, end, now=now)
    except InvalidRequest as error:
        violations += error.violations
    zone = _zone(time_zone)
    if zone is None:
        violations.append(Violation("timeZone", "must be the name of an IANA time zone, such as Europe/Berlin or UTC."))
    if group_by not in ("", *GROUPINGS):
        violations.append(Violation("groupBy", f"must be one of {', '.join(GROUPINGS)}, or be left out."))
    if group_by == "hour" and span.end - span.start > _LONGEST_IN_HOURS:
        violations.append(
            Violation("groupBy", f"may be hour for at most {_LONGEST_IN_HOURS.days} days; ask for less, or for days.")
        )
    violations += [
        Violation(name, f"must have at most {_LONGEST_NAME} characters, U+0000 not among them.")
        for name, text in (("provider", provider), ("model", model), ("userId", user_id or ""))
        if len(text) > _LONGEST_NAME or "\0" in text
    ]
    if violations or zone is None:
        raise InvalidRequest(violations)
    return Question(
        user_id=user_id,
        span=span,
        group_by=cast(Grouping, group_by),
        zone=zone,
        provider=provider,
        model=model,
    )


def _zone(name: str) -> tzinfo | None:
    if not name:
        return UTC
    if name.startswith(_NO_ZONES):
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # not known, a path, or a folder of zones
        return None
