"""The pages of lists: `page_size` rows from behind the row that `page_token` names."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from libs.errors import Violation, refuse_any

_DEFAULT_PAGE = 50
_LARGEST_PAGE = 500

_Row = TypeVar("_Row")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Longer than any token that an answer gives.
_ENCODED = re.compile(r"[A-Za-z0-9_-]{1,400}")


def rows_per_page(page_size: int, page_token: str, *, tokens: Container[str]) -> int:
    """Returns how many rows a page has: 50 by default, 500 at most.

    Raises InvalidRequest when the size is negative, or the token none of those that an answer could have given.
    """
    refuse_any(broken_page_rules(page_size, page_token, tokens=tokens))
    return min(page_size or _DEFAULT_PAGE, _LARGEST_PAGE)


def broken_page_rules(page_size: int, page_token: str, *, tokens: Container[str]) -> list[Violation]:
    """Lists what `rows_per_page` would refuse, for a request that is to be refused for everything at once."""
    violations = []
    if page_size < 0:
        violations.append(Violation("pageSize", "must be from 0; 0 means 50."))
    if page_token and page_token not in tokens:
        violations.append(Violation("pageToken", "must be the nextPageToken of an earlier answer, unchanged."))
    return violations


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a list that is ordered by time and then by id."""

    time: datetime
    id: str


def cut_page(rows: Sequence[_Row], size: int, place: Callable[[_Row], Place]) -> tuple[Sequence[_Row], Place | None]:
    """Returns a page of so many rows, and the place of its last one; None at the end of the list.

    `rows` begin with the page and have one more, if there is one.
    """
    page = rows[:size]
    return page, place(page[-1]) if len(rows) > size else None


class PlaceTokens:
    """The tokens of the pages of such a list; each names the last row of the page before.

    `listed` is what else was asked for: a token is good for the list it was given with. It authorises nothing.
    """

    def __init__(self, *listed: object) -> None:
        self._listed = hashlib.sha256(repr(listed).encode()).hexdigest()[:16]

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and self._place(token) is not None

    def place(self, token: str) -> Place | None:
        """Returns the row behind which a page begins; None for the first page, which has an empty token."""
        return self._place(token) if token else None

    def token(self, last: Place) -> str:
        """Returns the token of the page behind a row."""
        text = f"{self._listed}.{(last.time - _EPOCH) // _MICROSECOND}.{last.id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def _place(self, token: str) -> Place | None:
        if not _ENCODED.fullmatch(token):
            return None
        try:
            text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
            _, microseconds, row_id = text.split(".", 2)
            place = Place(_EPOCH + int(microseconds) * _MICROSECOND, row_id)
        except (ValueError, OverflowError):
            return None
        # A control character could not be asked for; everything else is as we write it, or not ours.
        return place if row_id.isprintable() and self.token(place) == token else None
