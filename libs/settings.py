"""Reads a service's settings from the environment, once, at start, and tells every problem at once.

A service declares a frozen dataclass; each field is one variable, `PREFIX_FIELD`, or `PREFIX_FIELD_FILE` with the
path of a file that holds the value (for secrets). A field without default is required. A variable with the prefix
that no field declares is refused, so that a misspelt one cannot pass unseen. Nothing else reads the environment.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from libs.redaction import Secret

T = TypeVar("T")


class SettingsError(Exception):
    """Settings that cannot be used; the message lists all of them and how to mend each."""


def setting(description: str, *, at_least: float | None = None, **field_arguments: Any) -> Any:
    """Declares a field with the description that the reference and `.env.example` print.

    A number below `at_least` is refused.
    """
    return dataclasses.field(metadata={"description": description, "at_least": at_least}, **field_arguments)


def from_env(
    settings: type[T], prefix: str, environ: Mapping[str, str] | None = None, *, part_of: type | None = None
) -> T:
    """Builds the dataclass from variables that start with `prefix` and an underscore.

    A command that needs a part of a service's settings alone names the whole with `part_of`, so that the rest may
    be set, right or wrong. Raises SettingsError naming every missing, malformed and unknown variable.
    """
    environ = os.environ if environ is None else environ
    reader = _Reader(f"{prefix}_", environ)
    values = reader.read(settings)
    if part_of is not None:
        reader.known |= {f"{name}{suffix}" for name, *_ in variables(part_of, prefix) for suffix in ("", "_FILE")}
    unknown = {name for name in environ if name.startswith(reader.prefix)} - reader.known
    reader.problems += [f"{name} is not a setting; remove or correct it" for name in sorted(unknown)]
    if reader.problems:
        raise SettingsError("Settings are not usable:\n  " + "\n  ".join(reader.problems))
    return values()


def variables(settings: type, prefix: str) -> list[tuple[str, str, str, Any]]:
    """Lists (variable, type, description, default) of a dataclass; the default is MISSING where required."""
    rows = []
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            rows += variables(typing.cast(type, kind), prefix)
        else:
            name = f"{prefix}_{field.name.upper()}"
            rows.append((name, _type_name(kind), field.metadata.get("description", ""), _default(field)))
    return rows


class _Reader:
    def __init__(self, prefix: str, environ: Mapping[str, str]) -> None:
        self.prefix = prefix
        self.environ = environ
        self.known: set[str] = set()
        self.problems: list[str] = []

    def read(self, settings: type[T]) -> Callable[[], T]:
        """Collects values and problems; the returned function builds the dataclass when there are none."""
        values: dict[str, Any] = {}
        nested: dict[str, Callable[[], Any]] = {}
        hints = typing.get_type_hints(settings)
        for field in dataclasses.fields(typing.cast(Any, settings)):
            kind = hints[field.name]
            if dataclasses.is_dataclass(kind):
                nested[field.name] = self.read(typing.cast(type, kind))
                continue
            name = self.prefix + field.name.upper()
            self.known |= {name, f"{name}_FILE"}
            try:
                text = self._text(name)
                if text is not None:
                    values[field.name] = _checked(_parse(kind, text), field.metadata.get("at_least"))
                elif _default(field) is dataclasses.MISSING:
                    self.problems.append(f"{name} is required: {field.metadata.get('description', '')}")
            except ValueError as error:
                self.problems.append(f"{name} {error}")
        return lambda: settings(**values, **{name: build() for name, build in nested.items()})

    def _text(self, name: str) -> str | None:
        value, path = self.environ.get(name), self.environ.get(f"{name}_FILE")
        if value is not None and path is not None:
            raise ValueError(f"is given twice; remove {name} or {name}_FILE")
        if path is None:
            return value
        # The path stays unsaid: by a common mistake it is the secret itself.
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(f"cannot be read from the file that {name}_FILE names: {error.strerror}") from None
        except ValueError:
            raise ValueError(f"cannot be read from the file that {name}_FILE names: it is not UTF-8 text") from None


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _type_name(kind: Any) -> str:
    if kind == dict[str, str]:
        return "name=value,…"
    if kind == tuple[str, ...]:
        return "value,…"
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(typing.get_args(kind))
    if isinstance(kind, types.UnionType):
        return _type_name(_given(kind))
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _given(kind: types.UnionType) -> Any:
    """Returns the type of a value that is given, where the other possibility is None."""
    (member,) = (member for member in typing.get_args(kind) if member is not type(None))
    return member


def _checked(value: Any, at_least: float | None) -> Any:
    """Returns a value that is not too small. Raises ValueError like `_parse`."""
    if at_least is not None and value < at_least:
        raise ValueError(f"must be at least {at_least:g}")
    return value


def _parse(kind: Any, text: str) -> Any:
    """Converts text to a field's type. Raises ValueError with a text that completes `NAME …` and hides the value."""
    if isinstance(kind, types.UnionType):
        kind = _given(kind)
    if kind == dict[str, str]:
        pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
        if not all(name.strip() and separator and value.strip() for name, separator, value in pairs):
            raise ValueError("must be a list like name=value,name=value")
        values = {name.strip(): value.strip() for name, _, value in pairs}
        if len(values) < len(pairs):
            raise ValueError("must not hold a name twice")
        return values
    if kind == tuple[str, ...]:
        return tuple(value.strip() for value in text.split(",") if value.strip())
    if typing.get_origin(kind) is typing.Literal:
        if text.lower() not in typing.get_args(kind):
            raise ValueError(f"must be one of {', '.join(typing.get_args(kind))}")
        return text.lower()
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("must be true or false")
        return text.lower() == "true"
    if kind in (int, float):
        try:
            number = kind(text)
            if kind is float and not math.isfinite(number):
                raise ValueError
        except ValueError:
            raise ValueError(f"must be {'a whole number' if kind is int else 'a number'}") from None
        return number
    if kind in (str, Secret, Path):
        if not text:
            raise ValueError("must not be empty")
        return kind(text)
    raise TypeError(f"settings cannot hold {kind}")
