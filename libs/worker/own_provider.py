"""A worker answers for one provider."""

from __future__ import annotations

from libs.errors import NotFound


def check_provider(asked: str, own: str) -> None:
    """Raises NotFound unless a worker is asked for its own provider."""
    if asked != own:
        raise NotFound(
            f"This worker chats with {own} only; ask the router for other providers.",
            reason="PROVIDER_NOT_FOUND",
            provider=own,
        )
