"""The providers the platform knows, and their well-known models, from the reviewed file beside this module."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.pagination import rows_per_page
from libs.providers import PROVIDERS

_FILE = Path(__file__).with_name("catalog.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider of models. `max_tokens` and `max_context_length` are the largest of its models, in tokens."""

    id: str
    name: str
    endpoint: str
    models: tuple[str, ...]
    max_tokens: int
    max_context_length: int
    supports_streaming: bool
    supports_system_prompt: bool


def load_catalog() -> tuple[Provider, ...]:
    """Reads the providers, ordered by id. Blocking."""
    rows = tomllib.loads(_FILE.read_text())["providers"]
    providers = [Provider(**{**row, "models": tuple(row["models"])}) for row in rows]
    return tuple(sorted(providers, key=lambda provider: provider.id))


def page_of(providers: Sequence[Provider], *, page_size: int, page_token: str) -> tuple[Sequence[Provider], str]:
    """Cuts one page out of the providers, and returns it with the token of the next; the token is empty at the end.

    A token is the id of the last provider of the page before. Raises InvalidRequest.
    """
    size = rows_per_page(page_size, page_token, tokens=PROVIDERS)
    left = [provider for provider in providers if provider.id > page_token]
    return left[:size], left[size - 1].id if len(left) > size else ""
