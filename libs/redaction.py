"""Keeps secrets out of what people read: by the name they are filed under, and by what they look like.

The last line of defence, not the first: code does not log secrets. It is applied to the finished log line, so
that the text of a foreign exception or a nested value cannot slip past it.
"""

from __future__ import annotations

import re

REDACTED = "[redacted]"

# Names under which a value is a secret whatever it looks like, in JSON, headers, query strings and reprs.
_NAMES = (
    r"(?:authorization|proxy-authorization|cookie|set-cookie|x-api-key|x-goog-api-key|x-vault-token"
    r"|api[_-]?key|secret[_-]?id|client[_-]?secret|current[_-]?password|new[_-]?password|password|passwd|secret"
    r"|(?:access|refresh|session|client|root)?[_-]?token|unseal[_-]?key|private[_-]?key)"
)

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # "name": "value", name='value', \"name\": \"value\" (JSON within JSON). The value ends at its own quote.
    (
        re.compile(rf"(?i)(\b{_NAMES}(\\*[\"'])?\s*[:=]\s*b?(\\*[\"']))(?:\\.|(?!\3).)*?(?=\3|$)"),
        rf"\1{REDACTED}",
    ),
    # name=value and name: value without quotes, as in query strings, headers and key-value logs.
    (
        re.compile(rf"(?i)(\b{_NAMES}\s*[:=]\s*)(?!b?\\*[\"'])(?:(?:bearer|basic)\s+)?[^\s,;&\"'}}\])]+"),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)([?&]key=)[^&\s\"']+"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), rf"\1 {REDACTED}"),
    # scheme://user:password@host
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s:/@]+:)[^\s@/]+(?=@)"), rf"\1{REDACTED}"),
    # What the keys of the providers, of Vault and of this platform look like.
    (re.compile(r"\b(?:sk|xai|rmls|rmlk|gsk|pplx)[-_][A-Za-z0-9_-]{8,}"), REDACTED),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{20,}"), REDACTED),
    (re.compile(r"\b(?:hv[sbr]|[sbr])\.[A-Za-z0-9_-]{20,}"), REDACTED),
    (re.compile(r"\bvault:v\d+:[A-Za-z0-9+/=]+"), REDACTED),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), REDACTED),
)


def redact(text: str) -> str:
    """Returns the text with everything that is or looks like a secret replaced."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


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
