"""The pages of lists: `page_size` rows from behind the row that `page_token` names."""

from __future__ import annotations

from collections.abc import Container

from libs.errors import Violation, refuse_any

_DEFAULT_PAGE = 50
_LARGEST_PAGE = 500


def rows_per_page(page_size: int, page_token: str, *, tokens: Container[str]) -> int:
    """Returns how many rows a page has: 50 by default, 500 at most.

    Raises InvalidRequest when the size is negative, or the token none of those that an answer could have given.
    """
    violations = []
    if page_size < 0:
        violations.append(Violation("pageSize", "must be from 0; 0 means 50."))
    if page_token and page_token not in tokens:
        violations.append(Violation("pageToken", "must be the nextPageToken of an earlier answer, unchanged."))
    refuse_any(violations)
    return min(page_size or _DEFAULT_PAGE, _LARGEST_PAGE)
