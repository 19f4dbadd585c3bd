"""Puts a chat to one target after the other, until one begins to answer. After that there is no turning back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import structlog

from libs import errors
from libs.rpc.identity import current_call
from services.provider_router.model_names import Target

log = structlog.get_logger()

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# What an attempt gets at least, in seconds, where so much is left: many good answers take longer than a short share.
_SHORTEST_SHARE = 30.0
# Below this no further attempt is worth its cost.
_TOO_LATE = 0.5

# What another target may do better. What is wrong with the request itself, or with the person, is so for all.
_OF_THE_TARGET = (
    errors.ProviderUnavailable,
    errors.ProviderRateLimited,
    errors.ProviderQuotaExhausted,
    errors.ProviderTimeout,
    errors.ProviderKeyRejected,
    errors.ProviderPermissionDenied,
    errors.ModelNotFound,
    errors.IncompleteResponse,
    errors.ContextLengthExceeded,
    errors.Unavailable,
    errors.DeadlineExceeded,
)
_OF_THE_CONFIGURATION = frozenset(
    {"PROVIDER_NOT_CONFIGURED", "PROVIDER_DISABLED", "MODEL_NOT_ALLOWED", "ENDPOINT_NOT_ALLOWED"}
)


class Trials(Protocol):
    """Is told which providers are being tried."""

    def attempt(self, provider: str) -> AbstractContextManager[None]:
        """Notes that a chat tries a provider for the time of the block."""
        ...


@dataclass(frozen=True, slots=True)
class Failed:
    """A target that did not answer, why, and how long it took, in milliseconds."""

    target: Target
    error: errors.PlatformError
    latency_ms: int


@dataclass(frozen=True, slots=True)
class Begun(Generic[T_co]):
    """An answer that has begun: what it began with, whose it is, and who failed before."""

    answer: T_co
    target: Target
    failed: Sequence[Failed] = field(default=())


async def first_to_begin(
    targets: Sequence[Target],
    begin: Callable[[Target, float], Awaitable[T]],
    trials: Trials,
) -> Begun[T]:
    """Returns what the first target answered that has begun to.

    `begin` puts the chat to a target, who has so many seconds to begin, and raises PlatformError when it does not.
    Raises that error when there is one target; of several the first one's, or the one that no other target can
    mend, and `attempts` in its metadata tells of all.
    """
    failed: list[Failed] = []
    for place, target in enumerate(targets):
        left = current_call().deadline - asyncio.get_running_loop().time()
        if failed and left < _TOO_LATE:
            break
        share = min(left, max(_SHORTEST_SHARE, left / (len(targets) - place)))
        started = time.perf_counter()
        try:
            with trials.attempt(target.provider):
                return Begun(await begin(target, share), target, failed)
        except errors.PlatformError as error:
            if len(targets) == 1:
                raise
            failed.append(Failed(target, error, round((time.perf_counter() - started) * 1000)))
            log.info("attempt failed", provider=target.provider, reason=error.reason)
            if not _another_may_help(error):
                raise _all(failed, error) from None
    raise _all(failed, failed[0].error) from None


def summary(failed: Sequence[Failed]) -> str:
    """Tells who failed and why, for a header: `openai=PROVIDER_UNAVAILABLE, grok=CONNECTION_TIMEOUT`."""
    return ", ".join(f"{each.target.provider}={each.error.reason}" for each in failed)


def _another_may_help(error: errors.PlatformError) -> bool:
    return isinstance(error, _OF_THE_TARGET) or error.reason in _OF_THE_CONFIGURATION


def _all(failed: Sequence[Failed], error: errors.PlatformError) -> errors.PlatformError:
    error.metadata["attempts"] = summary(failed)
    return error
