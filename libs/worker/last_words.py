"""The last chunk of an answer that breaks off: the status alone would not reach an HTTP client any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import PlatformError
from libs.rpc.status import internal_status

# How long the caller may take to take it, in seconds.
_SECONDS = 1.0


async def say_last(
    error: Exception,
    write: Callable[[chat.ChatCompletionChunk], Awaitable[None]],
    *,
    request_id: str,
    usage: chat.Usage | None = None,
) -> None:
    """Writes why an answer ends. Never raises: the status says the same."""
    if isinstance(error, PlatformError):
        told = in_band(error)
    else:  # a bug or a full disk, which is nobody's business but ours
        told = chat.ChatError(reason="INTERNAL", message=internal_status(request_id).message)
    # Behind a write that was cut short, because the caller does not read, gRPC takes none.
    with suppress(Exception):
        async with asyncio.timeout(_SECONDS):
            await write(chat.ChatCompletionChunk(finish_reason="error", usage=usage, error=told))


def in_band(error: PlatformError) -> chat.ChatError:
    """Returns what an answer says of an error, where no status can."""
    told = chat.ChatError(reason=error.reason, message=error.message)
    if error.retry_after is not None:
        told.retry_after_ms = round(error.retry_after * 1000)
    return told
