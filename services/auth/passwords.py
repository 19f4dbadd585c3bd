"""What a password must be: long, and not what everybody tries first (NIST SP 800-63B, section 3.1.1.2)."""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path

from services.auth import emails

MIN_LENGTH = 12
MAX_BYTES = 1024
# Shorter names occur in good passwords by chance.
_TELLING_NAME_LENGTH = 4

_RUNS = ("abcdefghijklmnopqrstuvwxyz", "0123456789", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm")


def normal_form(password: str) -> str:
    """Returns the form a password is judged and hashed in, the same on every keyboard and system."""
    return unicodedata.normalize("NFKC", password)


def is_too_long(password: str) -> bool:
    """Tells whether a password is longer than anyone needs, and so perhaps sent to keep us busy."""
    return len(password.encode()) > MAX_BYTES


def broken_rule(password: str, email: str) -> str | None:
    """Says which rule a new password breaks, as the end of the sentence `password: …`.

    `email` is the address of the account, in normal form.
    """
    if is_too_long(password):
        return f"must be at most {MAX_BYTES:,} bytes long."
    password = normal_form(password).casefold()
    if len(password) < MIN_LENGTH:
        return f"must be at least {MIN_LENGTH} characters long; a few unrelated words make a good one."
    name = emails.local_part(email)
    if len(name) >= _TELLING_NAME_LENGTH and name in password:
        return "must not contain your email address's name."
    if _repeats(password) or _runs(password):
        return "must not be a repetition or a row of neighbouring characters; a few unrelated words make a good one."
    if _is_common(password):
        return "must not be one of the common passwords; a few unrelated words make a good one."
    return None


def _repeats(password: str) -> bool:
    """Tells whether a password is one shorter text written several times: then it occurs inside its own double."""
    return password in (password + password)[1:-1]


def _runs(password: str) -> bool:
    """Tells whether a password follows the alphabet, the digits or the keyboard, forwards or backwards."""
    for run in _RUNS:
        rounds = run * (len(password) // len(run) + 2)
        if password in rounds or password[::-1] in rounds:
            return True
    return False


def _is_common(password: str) -> bool:
    """Tells whether a password is common, as it is or dressed up with digits and punctuation around it."""
    bare = password.strip("0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ")
    return password in _common() or bare in _common()


@functools.cache
def _common() -> frozenset[str]:
    lines = Path(__file__).with_name("common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("# "))
