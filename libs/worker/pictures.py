"""Pictures that a request brings along, in a `data:` URL instead of at an address. https://www.rfc-editor.org/rfc/rfc2397"""

from __future__ import annotations

from dataclasses import dataclass, field

_SCHEME = "data:"
# Types and their parameters are short.
_LONGEST_HEAD = 200
# What is often written for a registered type.
_REGISTERED = {"image/jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Inline:
    """A picture in base64. `kind` is its media type in lower case, without parameters."""

    kind: str
    data: str = field(repr=False)


def is_linked(url: str) -> bool:
    """Tells whether a URL is the address of a picture, and not the picture itself."""
    return not url.startswith(_SCHEME)


def inline(url: str) -> Inline | None:
    """Reads the picture out of a URL; None where there is none in base64.

    Types and the word base64 may be in any case, and parameters may stand between them.
    """
    head, comma, data = url.partition(",")
    if is_linked(url) or not comma or len(head) > _LONGEST_HEAD:
        return None
    kind, *parameters = head.removeprefix(_SCHEME).lower().split(";")
    if not parameters or parameters[-1] != "base64":
        return None
    return Inline(_REGISTERED.get(kind, kind), data)
