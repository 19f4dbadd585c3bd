"""What a key of any provider must look like."""

from __future__ import annotations

import re

# Providers are shown keys in headers, which take no others.
_KEY = re.compile(r"[!-~]{8,512}")


def broken_key_rule(api_key: str) -> str | None:
    """Says what a key must be, or None when it is that."""
    return None if _KEY.fullmatch(api_key) else "must be 8 to 512 printable ASCII characters without spaces."
