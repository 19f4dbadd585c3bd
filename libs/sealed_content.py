"""Encrypts what chats contain with an account's data key: AES-256-GCM, bound to the record and the account.

Sealed content is a version byte, a nonce of 96 random bits, and the ciphertext with its tag of 128 bits. The record's
id and the account's are authenticated with it, so that what is moved to another record, or to another account, does
not open, nor what has been altered in a single bit. A nonce is made for each record. Of 2**20 made at random for one
key, two are the same with a probability below 2**-56 (NIST SP 800-38D allows 2**-32); `MOST_USES` is that bound.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.wiped_secret import WipedSecret

KEY_BYTES = 32
# How many records one data key may seal.
MOST_USES = 2**20

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
# Of an id in the authenticated data, which thereby reads in one way only.
_LENGTH_BYTES = 4


class ContentDoesNotOpen(Exception):
    """The content was sealed by another key, for another record or account, or has been altered."""


class DataKey(WipedSecret):
    """An account's data key in memory. Its bytes are overwritten as soon as nobody holds it any more.

    Raises ValueError when it has not 32 bytes.
    """

    __slots__ = ()

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"A data key has {KEY_BYTES} bytes.")
        super().__init__(key)

    def cipher(self) -> AESGCM:
        """Returns the cipher of this key, which holds a copy of it: keep it no longer than it is used."""
        return AESGCM(self._bytes)


def seal(key: DataKey, plaintext: bytes, *, record_id: str, user_id: str) -> bytes:
    """Encrypts the content of a record of an account."""
    nonce = os.urandom(_NONCE_BYTES)
    return _FORMAT + nonce + key.cipher().encrypt(nonce, plaintext, _bound_to(record_id, user_id))


def unseal(key: DataKey, sealed: bytes, *, record_id: str, user_id: str) -> bytes:
    """Decrypts what was sealed with this key for the same record and account. Raises ContentDoesNotOpen."""
    nonce_end = len(_FORMAT) + _NONCE_BYTES
    if not sealed.startswith(_FORMAT) or len(sealed) < nonce_end + _TAG_BYTES:
        raise ContentDoesNotOpen
    nonce, ciphertext = sealed[len(_FORMAT) : nonce_end], sealed[nonce_end:]
    try:
        return key.cipher().decrypt(nonce, ciphertext, _bound_to(record_id, user_id))
    except InvalidTag:
        raise ContentDoesNotOpen from None


def _bound_to(record_id: str, user_id: str) -> bytes:
    encoded = [text.encode() for text in (record_id, user_id)]
    return _FORMAT + b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in encoded)
