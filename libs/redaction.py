"""Keeps secrets out of what people read: by the name they are filed under, and by what they look like.

The last line of defence, not the first: code does not log secrets. It is applied to every value of a log line, so
that the text of a foreign exception or a nested value cannot slip past it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"

# How the names end under which a value is a secret whatever it looks like, in JSON, headers, query strings,
# environment variables and reprs.
_NAME = (
    r"(?:authorization|cookie|(?:api|access|private|unseal)[_-]?key|secret(?:[_-]?(?:id|key|access[_-]?key))?"
    r"|password|passwd|passphrase|token)"
)
_SECRET_NAME = re.compile(rf"(?i){_NAME}\Z")

# The patterns for names need one of these; most log values hold none and are spared the search.
_ASSIGNMENT = re.compile(r"[=:,]")
_NAMED: tuple[tuple[re.Pattern[str], str], ...] = (
    # "name": "value", name='value', \"name\": \"value\" (JSON within JSON), [("name", b"value")]. A value ends at a
    # quote like the one it began with: as many backslashes before it, and those not part of an escape.
    (
        re.compile(
            rf"(?is)({_NAME}(?:\s*(?:=>|[:=])|\\*[\"']\s*(?:=>|[:=]|,\s*(?:value\s*=)?))\s*(?:[\[(]\s*)?[bru]{{0,2}})"
            r"((\\*)([\"']))(?:\3\\(?:\3\\|\3\4|[^\\])|(?!\4).)*?(?=\3\4|\4|\Z)"
        ),
        rf"\1\2{REDACTED}",
    ),
    (re.compile(r"(?i)(cookie\s*[:=]\s*)(?![\s\\]*[\"'])[^\s;,]+(?:;\s*[^\s;,]+)*"), rf"\1{REDACTED}"),
    # name=value and name: value without quotes, as in query strings, headers and key-value logs.
    (
        re.compile(
            rf"(?i)({_NAME}(?:\\*[\"'])?\s*[:=]\s*)(?!(?:[\[(]\s*)?[bru]{{0,2}}\\*[\"'])"
            r"(?:(?:bearer|basic|digest|token)\s+)?[^\s,;&\"'}\])]+"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)((?:[?&;]|\\u0026)key=)[^&\s\"'\\]+"), rf"\1{REDACTED}"),
    # scheme://user:password@host
    (re.compile(r"(://[^\s:/@]*:)[^\s/\"']+(?=@)"), rf"\1{REDACTED}"),
)

# What has none of the above and is shorter than this holds no secret; so it is with most names and values.
_SHORTEST_SHAPE = 11
# Where a key may begin: after anything but a letter or digit, and after an escape such as \n or %3D.
_BEGIN = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"
_SHAPED: tuple[tuple[re.Pattern[str], str], ...] = (
    # Anything after the scheme but a plain word: "Basic authentication is off" is no secret.
    (
        re.compile(r"((?i:bearer|basic)\s+)(?![A-Z]?[a-z]+[.,;:]?(?:[\s\"')]|$))[A-Za-z0-9._~+/=-]{8,}"),
        rf"\1{REDACTED}",
    ),
    # What the keys of the providers, of Vault and of this platform look like.
    (re.compile(rf"{_BEGIN}(?:sk|xai|gsk|pplx)[-_][A-Za-z0-9_-]{{8,}}"), REDACTED),
    # No word holds this: a token is one whatever it is glued to.
    (re.compile(r"rml[sk][-_][A-Za-z0-9_-]{8,}"), REDACTED),
    (re.compile(rf"{_BEGIN}(?:AIza|AQ\.)[A-Za-z0-9_-]{{20,}}"), REDACTED),
    (re.compile(rf"{_BEGIN}(?:hv[sbr]\.[A-Za-z0-9_-]{{20,}}|[sbr]\.[A-Za-z0-9]{{24,}})"), REDACTED),
    (re.compile(r"vault:v\d+:[A-Za-z0-9+/=]+"), REDACTED),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), REDACTED),
)

# One search that finds a piece of every shape above: the ids and names most lines are made of hold none.
_SHAPE_HINT = re.compile(
    r"(?i:bearer|basic)\s|(?:sk|xai|rmls|rmlk|gsk|pplx)[-_]|AIza|AQ\.|[sbr]\.[A-Za-z0-9_-]{20}|vault:v|-----BEGIN"
)


def redact(text: str) -> str:
    """Returns the text with everything that is or looks like a secret replaced."""
    if _ASSIGNMENT.search(text):
        for pattern, replacement in _NAMED:
            text = pattern.sub(replacement, text)
    elif len(text) < _SHORTEST_SHAPE:
        return text
    if _SHAPE_HINT.search(text):
        for pattern, replacement in _SHAPED:
            text = pattern.sub(replacement, text)
    return text


def redact_value(value: Any) -> Any:
    """Returns plain data (text, numbers, lists and mappings with text as keys) without its secrets.

    Anything else becomes its redacted `repr`, so that nothing is printed that hides itself there.
    """
    if isinstance(value, Secret):
        return REDACTED
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {redact(str(name)): _redact_named(name, member) for name, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        if isinstance(value, tuple) and len(value) == 2:  # a header, as HTTP and gRPC libraries keep them
            return [redact_value(value[0]), _redact_named(value[0], value[1])]
        return [redact_value(member) for member in value]
    return redact(repr(value))


def _redact_named(name: Any, value: Any) -> Any:
    text = name.decode("latin-1") if isinstance(name, bytes) else str(name)
    return REDACTED if _SECRET_NAME.search(text) else redact_value(value)


class Secret(str):
    """Text that does not show itself when printed, logged or formatted by accident.

    It is a `str` so that libraries take it; `repr` and `format` are closed. Only `reveal` gives the plain text,
    which makes every use findable.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secret({REDACTED!r})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def reveal(self) -> str:
        """Returns the plain text."""
        return str.__str__(self)
