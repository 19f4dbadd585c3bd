"""The one register of providers: a reviewed file with a row for each, which every service that knows providers reads.

docs/add-a-provider.md tells what a row may say.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.provider_endpoints import is_endpoint
from libs.providers import LONGEST_ID, RESERVED_IDS, is_provider_id
from libs.settings import SettingsError

_PACKAGED = Path(__file__).with_name("provider_catalog.toml")

# Package below services/workers that serves any provider with the API of OpenAI, from its row alone.
GENERIC_WORKER = "openai_compatible"

_PACKAGE = re.compile(r"[a-z][a-z0-9_]*")
_MODEL = re.compile(r"[!-~]{1,200}")
_JSON_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_HEADER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,510}[!-~])?")
# What the key, the body and the connection are described by is not for a row to say.
_OWN_HEADERS = ("authorization", "connection", "content-length", "content-type", "host", "transfer-encoding", "upgrade")
_LARGEST_COUNT = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider of models. `max_tokens` and `max_context_length` are the largest of its models, in tokens.

    `worker` is the package below services/workers that talks to it. The fields after it are for the generic worker:
    the model of a chat that names none, what the provider calls the limit on the answer, and headers that go with
    every request.
    """

    id: str
    name: str
    endpoint: str
    models: tuple[str, ...]
    max_tokens: int
    max_context_length: int
    supports_streaming: bool = True
    supports_system_prompt: bool = True
    worker: str
    default_model: str = ""
    answer_limit_field: str = "max_tokens"
    extra_headers: Mapping[str, str] = field(default_factory=dict)


# By id, in the order of ids.
Catalog = Mapping[str, Provider]


def load_catalog(path: Path | None = None) -> Catalog:
    """Reads the catalogue at a path, or the one that comes with the platform. Blocking.

    Raises SettingsError, which names every row and field that is wrong.
    """
    file = _PACKAGED if path is None else path
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The provider catalogue {file} cannot be read: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise SettingsError(f"The provider catalogue {file} is not a TOML file: {error}") from None
    if problems := list(_problems(content)):
        raise SettingsError(f"The provider catalogue {file} is not usable:\n  " + "\n  ".join(problems))
    providers = sorted((_provider(row) for row in content["providers"]), key=lambda provider: provider.id)
    return {provider.id: provider for provider in providers}


def check_workers(variable: str, workers: Mapping[str, str], catalog: Catalog) -> None:
    """Raises SettingsError when a setting gives the address of a worker whose provider is not in the catalogue."""
    if unknown := ", ".join(sorted(workers.keys() - catalog.keys())):
        raise SettingsError(f"{variable} names unknown providers: {unknown}. Known are: {', '.join(catalog)}.")


def _provider(row: dict[str, Any]) -> Provider:
    own_package = row["id"].replace("-", "_")
    return Provider(**{"worker": own_package, **row, "models": tuple(row["models"])})


def _problems(content: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with a file; nothing when its rows make providers."""
    rows = content.get("providers")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        yield "it must have rows, each under [[providers]]"
        return
    for name in sorted(content.keys() - {"providers"}):
        yield f"{name} is not known beside [[providers]]"
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        provider = row.get("id")
        label = f"row {number} ({provider})" if isinstance(provider, str) and provider else f"row {number}"
        yield from (f"{label}: {problem}" for problem in _problems_of_row(row))
        if isinstance(provider, str):
            if provider in seen:
                yield f"{label}: id stands in a row before; each may have one"
            seen.add(provider)


def _problems_of_row(row: dict[str, Any]) -> Iterator[str]:
    for name in sorted(row.keys() - _RULES.keys()):
        yield f"{name} is not a field; there are {', '.join(_RULES)}"
    for name, (keeps, rule) in _RULES.items():
        if name not in row:
            if name in _REQUIRED:
                yield f"{name} is missing; it {rule}"
        elif not keeps(row[name]):
            yield f"{name} {rule}"
    generic = row.get("worker") == GENERIC_WORKER
    if generic and "default_model" not in row:
        yield f"default_model is missing; the worker {GENERIC_WORKER} knows no model of itself"
    if not generic:
        yield from (f'{name} is for rows with worker = "{GENERIC_WORKER}" only' for name in _GENERIC if name in row)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and is_provider_id(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable() and value == value.strip()


def _is_endpoint(value: Any) -> bool:
    return isinstance(value, str) and is_endpoint(value)


def _are_models(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_model, value)) and len(set(value)) == len(value)


def _is_model(value: Any) -> bool:
    return isinstance(value, str) and _MODEL.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST_COUNT


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_package(value: Any) -> bool:
    return isinstance(value, str) and _PACKAGE.fullmatch(value) is not None


def _is_json_field(value: Any) -> bool:
    return isinstance(value, str) and _JSON_FIELD.fullmatch(value) is not None


def _are_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _HEADER_NAME.fullmatch(name)
        and name not in _OWN_HEADERS
        and isinstance(text, str)
        and _HEADER_VALUE.fullmatch(text)
        for name, text in value.items()
    )


# The fields of a row: whether a value keeps the rule, and the rule, as it follows the name of the field.
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "id": (
        _is_id,
        f"must be lower-case letters, digits and single -, at most {LONGEST_ID}, and none of {', '.join(RESERVED_IDS)}",
    ),
    "name": (_is_name, "must be a text of 1 to 64 characters in one line"),
    "endpoint": (_is_endpoint, "must be a URL like https://host/v1, without user, query or slash at the end"),
    "models": (_are_models, "must be a list of one model id or more, each once"),
    "max_tokens": (_is_count, "must be a whole number from 1"),
    "max_context_length": (_is_count, "must be a whole number from 1"),
    "supports_streaming": (_is_boolean, "must be true or false"),
    "supports_system_prompt": (_is_boolean, "must be true or false"),
    "worker": (_is_package, "must be the name of a package below services/workers"),
    "default_model": (_is_model, "must be a model id"),
    "answer_limit_field": (_is_json_field, "must be the name of a field of a chat request, such as max_tokens"),
    "extra_headers": (
        _are_headers,
        f"must be a table of texts by the lower-case names of headers, none of {', '.join(_OWN_HEADERS)}",
    ),
}
_REQUIRED = ("id", "name", "endpoint", "models", "max_tokens", "max_context_length")
_GENERIC = ("default_model", "answer_limit_field", "extra_headers")
