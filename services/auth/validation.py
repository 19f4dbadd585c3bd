"""What a request must look like, judged before anything is asked of the database. Finds every violation at once."""

from __future__ import annotations

import unicodedata

from libs.errors import InvalidRequest, Violation, refuse_any
from services.auth import emails, passwords

_MAX_NAME_LENGTH = 200
# Control characters and line separators; format characters like U+200C belong to the spelling of some names.
_NOT_IN_NAMES = {"Cc", "Zl", "Zp"}
_DIGEST_BYTES = 32


def check_new_account(email: str, password: str, name: str) -> None:
    """Raises InvalidRequest unless an account can be made of this. `email` and `name` are in normal form."""
    _refuse_broken(
        email=emails.broken_rule(email),
        password=passwords.broken_rule(password, email),
        name=_broken_name_rule(name),
    )


def check_credentials(email: str, password: str) -> None:
    """Raises InvalidRequest unless this can be the email, in normal form, and the password of an account."""
    _refuse_broken(email=emails.broken_rule(email), password=_broken_entry_rule(password))


def check_digest(token_sha256: bytes) -> None:
    """Raises InvalidRequest unless this can be the digest of a token."""
    if len(token_sha256) != _DIGEST_BYTES:
        raise InvalidRequest([Violation("tokenSha256", f"Must be the {_DIGEST_BYTES} bytes of a SHA-256.")])


def normal_name(name: str) -> str:
    """Returns the form a name is judged and stored in. One that is far too long stays as it is."""
    if len(name) > 4 * _MAX_NAME_LENGTH:
        return name
    return unicodedata.normalize("NFC", name).strip()


def _broken_name_rule(name: str) -> str | None:
    if len(name) > _MAX_NAME_LENGTH:
        return f"Must be at most {_MAX_NAME_LENGTH} characters long."
    if any(unicodedata.category(character) in _NOT_IN_NAMES for character in name):
        return "Must be one line without control characters."
    return None


def _broken_entry_rule(password: str) -> str | None:
    if not password:
        return "Enter your password."
    return f"Must be at most {passwords.MAX_BYTES:,} bytes long." if passwords.is_too_long(password) else None


def _refuse_broken(**rules: str | None) -> None:
    """Raises InvalidRequest when a field breaks a rule; None is a field that breaks none."""
    refuse_any(Violation(field, rule) for field, rule in rules.items() if rule)
