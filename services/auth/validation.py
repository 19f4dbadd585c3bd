"""What a request must look like, judged before anything is asked of the database. Finds every violation at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from libs.errors import InvalidRequest, Violation, refuse_any
from libs.rpc.access_policy import SCOPES
from services.auth import emails, passwords

_MAX_NAME_LENGTH = 200
_MAX_TOKEN_NAME_LENGTH = 100
_MAX_TOKEN_LIFETIME = timedelta(days=3653)
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


def check_password_change(email: str, current: str, new: str) -> None:
    """Raises InvalidRequest unless `new` can become the password of the account of an email, in place of `current`."""
    if passwords.normal_form(new) == passwords.normal_form(current):
        broken: str | None = "must be another one than the current password."
    else:
        broken = passwords.broken_rule(new, email)
    _refuse_broken(currentPassword=_broken_entry_rule(current), newPassword=broken)


def check_new_api_token(name: str, scopes: Collection[str], expire_time: datetime | None) -> None:
    """Raises InvalidRequest unless an API token can be made of this. `name` is in normal form."""
    _refuse_broken(
        name="must be given, to know the token by." if not name else _broken_name_rule(name, _MAX_TOKEN_NAME_LENGTH),
        expireTime=_broken_end_rule(expire_time) if expire_time is not None else None,
        scopes=None if set(scopes) <= set(SCOPES) else f"must be among {', '.join(SCOPES)}.",
    )


def check_digest(token_sha256: bytes) -> None:
    """Raises InvalidRequest unless this can be the digest of a token."""
    if len(token_sha256) != _DIGEST_BYTES:
        raise InvalidRequest([Violation("tokenSha256", f"must be the {_DIGEST_BYTES} bytes of a SHA-256.")])


def normal_name(name: str) -> str:
    """Returns the form a name is judged and stored in. One that is far too long stays as it is."""
    if len(name) > 4 * _MAX_NAME_LENGTH:
        return name
    return unicodedata.normalize("NFC", name).strip()


def _broken_name_rule(name: str, max_length: int = _MAX_NAME_LENGTH) -> str | None:
    if len(name) > max_length:
        return f"must be at most {max_length} characters long."
    if any(unicodedata.category(character) in _NOT_IN_NAMES for character in name):
        return "must be one line without control characters."
    return None


def _broken_end_rule(expire_time: datetime) -> str | None:
    now = datetime.now(UTC)
    if expire_time <= now:
        return "must be in the future."
    return "must be within ten years." if expire_time > now + _MAX_TOKEN_LIFETIME else None


def _broken_entry_rule(password: str) -> str | None:
    if not password:
        return "must be given."
    return f"must be at most {passwords.MAX_BYTES:,} bytes long." if passwords.is_too_long(password) else None


def _refuse_broken(**rules: str | None) -> None:
    """Raises InvalidRequest when a field breaks a rule; None is a field that breaks none."""
    refuse_any(Violation(field, rule) for field, rule in rules.items() if rule)
