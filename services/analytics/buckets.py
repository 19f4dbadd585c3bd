"""How a span of time is divided: into hours or days of a time zone, and into hours of UTC, as sums are stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo

from services.analytics.usage import Span

_HOUR = timedelta(hours=1)


def hours_begun(span: Span, zone: tzinfo) -> list[datetime]:
    """Returns when the hours of a zone begin that the span touches, in UTC; the first begins where the span does."""
    return list(_cut(span, _after_hour(span, zone)))


def days_begun(span: Span, zone: tzinfo) -> list[datetime]:
    """Returns when the days of a zone begin that the span touches, in UTC; the first begins where the span does."""
    return list(_cut(span, _after_day(span, zone)))


def begin_within_hours(beginnings: Sequence[datetime]) -> bool:
    """Tells whether parts of a span, other than the first, begin within hours of UTC."""
    return any(hour_of(beginning) != beginning for beginning in beginnings[1:])


def hour_of(moment: datetime) -> datetime:
    """Returns the beginning of the hour of UTC that a moment in UTC lies in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def stored_part(moment: datetime, length: timedelta) -> datetime:
    """Returns the beginning of what a moment lies in when hours of UTC are divided into parts of a length."""
    return moment - (moment - hour_of(moment)) % length


def split_hours(
    span: Span,
    beginnings: Iterable[datetime],
    *,
    known_since: datetime,
    known_until: datetime,
    length: timedelta = _HOUR,
) -> list[datetime]:
    """Returns the hours of UTC, or the parts of them of a length, that an edge of the span or of a part goes through.

    Their sums are of no use: what belongs to which side only the chats themselves tell. Of hours that began before
    `known_since` there are no chats any more; such an hour counts where it begins. And of an hour that lasts to
    `known_until` or longer, nothing lies behind an edge after that.
    """
    edges = {edge for edge in (*beginnings, span.start, span.end) if edge < known_until}
    return sorted({hour for edge in edges if (hour := stored_part(edge, length)) != edge and hour >= known_since})


def _cut(span: Span, beginnings: Iterable[datetime]) -> Iterator[datetime]:
    yield span.start
    for beginning in beginnings:
        if beginning >= span.end:
            return
        yield beginning


def _after_hour(span: Span, zone: tzinfo) -> Iterator[datetime]:
    moment = span.start
    while True:
        local = moment.astimezone(zone)
        # From one to the next, and not from the first: clocks may change by half an hour in between.
        moment += _HOUR - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        yield moment


def _after_day(span: Span, zone: tzinfo) -> Iterator[datetime]:
    date = span.start.astimezone(zone).date()
    while True:
        date += timedelta(days=1)
        # Where clocks skip midnight, this is when they do.
        beginning = datetime.combine(date, time(), tzinfo=zone).astimezone(UTC)
        if beginning > span.start:
            yield beginning
