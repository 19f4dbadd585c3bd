"""Email addresses: one normal form, so that one person cannot have two accounts by spelling."""

from __future__ import annotations

import re
import unicodedata

# RFC 5321, 4.5.3.1 and its erratum 1690.
_MAX_LENGTH = 254
_MAX_LOCAL_LENGTH = 64
# Composition makes one character of four at most, in any address that people have.
_MAX_SPELLING = 4 * _MAX_LENGTH

# Deliberately simple: only a message that arrives proves an address. Quoted local parts are not supported.
_LOCAL = re.compile(r"[^ @\"(),:;<>\[\\\]]+")
_LABEL = re.compile(r"[^\W_]([\w-]{0,61}[^\W_])?")


def normal_form(text: str) -> str:
    """Returns the form an address is stored and compared in: trimmed, compatibility-composed and case-folded.

    A text that cannot become short enough to be an address stays as it is; folding megabytes would hold up others.
    """
    if len(text) > _MAX_SPELLING:
        return text
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Case folding can undo the composition; see Unicode, section 3.13, toNFKC_Casefold.
    return unicodedata.normalize("NFKC", folded).strip()


def local_part(email: str) -> str:
    """Returns what stands before the `@`."""
    return email.rpartition("@")[0]


def broken_rule(email: str) -> str | None:
    """Says which rule an address in normal form breaks, as the end of the sentence `email: …`."""
    if not email:
        return "must be given."
    if len(email) > _MAX_LENGTH:
        return f"must be at most {_MAX_LENGTH} characters long."
    local, _, domain = email.rpartition("@")
    well_formed = (
        email.isprintable()
        and len(local) <= _MAX_LOCAL_LENGTH
        and _LOCAL.fullmatch(local)
        and all(_LABEL.fullmatch(label) for label in domain.split("."))
    )
    return None if well_formed else "must be an email address, like name@example.com."
