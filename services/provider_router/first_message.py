"""The first message of a stream: before it nothing has been said, and another worker may be asked instead."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc

from libs.errors import IncompleteResponse, ProviderTimeout
from libs.rpc.delegation import for_the_caller
from libs.worker.access_policy import CHAT_DEADLINE
from services.provider_router.relaying import understood


@dataclass(frozen=True, slots=True)
class FirstMessage:
    """A call to a worker that has begun to answer, and what it has begun with. Who holds it cancels the call."""

    call: Any
    message: bytes


async def first_message(
    method: grpc.aio.UnaryStreamMultiCallable,
    request: bytes,
    provider: str,
    seconds: float,
    headers: tuple[tuple[str, str], ...] = (),
) -> FirstMessage:
    """Calls a worker and waits so many seconds for its first message.

    `headers` go along. Raises PlatformError when none comes; the call is over then.
    """
    call = method(request, **for_the_caller(CHAT_DEADLINE, headers))
    try:
        async with asyncio.timeout(seconds):
            message = await call.read()
        if message is grpc.aio.EOF:
            raise IncompleteResponse(f"{provider} gave no answer; try again.", provider=provider)
        return FirstMessage(call, message)
    except TimeoutError:
        call.cancel()
        raise ProviderTimeout(
            f"{provider} did not begin to answer within {seconds:.0f} seconds; try again or use another provider.",
            provider=provider,
        ) from None
    except grpc.aio.AioRpcError as error:
        raise understood(error, provider) from None
    except asyncio.CancelledError:
        call.cancel()
        raise
