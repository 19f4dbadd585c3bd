"""Thought signatures: opaque to callers, and known again by the provider that gave them."""

import base64
import binascii
from hashlib import blake2b

_SECRET = b"sandbox"
_SEAL_BYTES = 16

# Documented for calls that no Gemini model made, e.g. in a conversation that another model began.
_BYPASSES = frozenset({b"skip_thought_signature_validator", b"context_engineering_is_the_way_to_go"})


def sign(thought: str) -> str:
    """Makes the signature of a thought, as it stands in JSON."""
    digest = blake2b(thought.encode(), digest_size=_SEAL_BYTES).digest()
    return base64.b64encode(digest + _seal(digest)).decode()


def was_given(signature: str) -> bool:
    """Tells whether a signature is one of ours, or of the two that Google accepts for calls it never saw."""
    plain = signature.replace("-", "+").replace("_", "/")
    if any(signature.encode() == bypass for bypass in _BYPASSES):
        return True
    try:
        content = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return False
    return content in _BYPASSES or content[_SEAL_BYTES:] == _seal(content[:_SEAL_BYTES])


def _seal(digest: bytes) -> bytes:
    return blake2b(digest, digest_size=_SEAL_BYTES, key=_SECRET).digest()
