"""The pages in which the catalogue of providers is told."""

from __future__ import annotations

from collections.abc import Sequence

from libs.pagination import rows_per_page
from libs.provider_catalog import Catalog, Provider


def page_of(catalog: Catalog, *, page_size: int, page_token: str) -> tuple[Sequence[Provider], str]:
    """Cuts one page out of the catalogue, and returns it with the token of the next; the token is empty at the end.

    A token is the id of the last provider of the page before. Raises InvalidRequest.
    """
    size = rows_per_page(page_size, page_token, tokens=catalog)
    left = [provider for provider in catalog.values() if provider.id > page_token]
    return left[:size], left[size - 1].id if len(left) > size else ""
