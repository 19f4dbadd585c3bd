"""The form of the platform's own tokens: a prefix people and scanners know, 256 random bits, and a checksum.

The checksum lets every service refuse a mistyped or invented token without asking anyone, and lets a secret
scanner tell a real token from a look-alike. Only the SHA-256 of a token is ever stored or sent between services.

Scanners find API tokens by `rmlk_[0-9A-Za-z]{49}` and session tokens by `rmls_[0-9A-Za-z]{49}`. The last six characters
are the CRC-32 of all before them in base 62, with the digits 0-9, A-Z, a-z, the highest first.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib

from libs.redaction import Secret

SESSION_PREFIX = "rmls_"
API_TOKEN_PREFIX = "rmlk_"  # noqa: S105 - the prefix is public

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_LENGTH = 43  # 62^43 > 2^256
_CHECKSUM_LENGTH = 6  # 62^6 > 2^32
_LENGTH = len(SESSION_PREFIX) + _BODY_LENGTH + _CHECKSUM_LENGTH


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_LENGTH)


def mint(prefix: str) -> Secret:
    """Makes a new token with 256 bits from the operating system's generator."""
    body = prefix + _base62(secrets.randbits(256), _BODY_LENGTH)
    return Secret(body + _checksum(body))


def well_formed(token: str) -> bool:
    """Tells whether the text has the form and checksum of a token; says nothing about validity."""
    return (
        len(token) == _LENGTH
        and token.isascii()
        and token.startswith((SESSION_PREFIX, API_TOKEN_PREFIX))
        and token[-_CHECKSUM_LENGTH:] == _checksum(token[:-_CHECKSUM_LENGTH])
    )


def digest(token: str) -> bytes:
    """Returns the SHA-256 of the whole token: what is stored, cached and sent in its place."""
    return hashlib.sha256(token.encode()).digest()
