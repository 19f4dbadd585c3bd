"""Values that others have sent: what they are, and how they fit into a table."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Protocol
from uuid import UUID

TIME_RULE = "must be a time from year 1 to 9999."


class Timestamp(Protocol):
    """What protobuf's messages of this name can do."""

    def ToDatetime(self, tzinfo: tzinfo | None = ..., /) -> datetime:  # noqa: N802 - protobuf names it
        """Raises ValueError or OverflowError for a time that Python does not know."""


def is_uuid(text: str) -> bool:
    """Tells whether a text is a UUID in any of its spellings."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def is_time(time: Timestamp) -> bool:
    """Tells whether Python knows the time; see TIME_RULE."""
    try:
        time.ToDatetime(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def fitting(text: str, longest: int) -> str:
    """Makes a text fit for a table, which cannot hold U+0000: in so many characters at most.

    For texts that somebody else has chosen, and that must not be a reason to lose the rest.
    """
    return text[:longest].replace("\0", "\ufffd")
