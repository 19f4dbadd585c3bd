"""What a key of any provider must look like, and how one is held in memory."""

from __future__ import annotations

import re

from libs.wiped_secret import WipedSecret

# Providers are shown keys in headers, which take no others.
_KEY = re.compile(r"[!-~]{8,512}")


def broken_key_rule(api_key: str) -> str | None:
    """Says what a key must be, or None when it is that."""
    return None if _KEY.fullmatch(api_key) else "must be 8 to 512 printable ASCII characters without spaces."


class ProviderKey(WipedSecret):
    """A provider's key in memory. Its bytes are overwritten as soon as nobody holds it any more."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        super().__init__(text.encode())

    def reveal(self) -> str:
        """Returns the plain text, a copy that lives as long as somebody holds it."""
        return self._bytes.decode()
