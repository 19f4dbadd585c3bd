"""Failures a caller can act on. Anything else is a bug and reaches the caller as INTERNAL.

PlatformError
├─ InvalidRequest             the request is wrong whatever the state      INVALID_ARGUMENT
├─ Unauthenticated            we do not know who is calling                UNAUTHENTICATED
├─ PermissionDenied           we know, and the answer is no                PERMISSION_DENIED
├─ NotFound                   nothing of that name is the caller's         NOT_FOUND
├─ AlreadyExists              the name is taken                            ALREADY_EXISTS
├─ FailedPrecondition         something must be done first                 FAILED_PRECONDITION
├─ LimitExceeded              our limit; retry_after set                   RESOURCE_EXHAUSTED
├─ Unavailable                a dependency is down or we are full          UNAVAILABLE
├─ DeadlineExceeded           the call ran out of time                     DEADLINE_EXCEEDED
└─ ProviderError              a provider failed; metadata["provider"] set
   ├─ ProviderKeyRejected         the key is wrong                         FAILED_PRECONDITION
   ├─ ProviderPermissionDenied    the key may not do this                  FAILED_PRECONDITION
   ├─ ProviderRateLimited         may pass later                           RESOURCE_EXHAUSTED
   ├─ ProviderQuotaExhausted      will not pass by waiting                 RESOURCE_EXHAUSTED
   ├─ ModelNotFound               no such model for this key               NOT_FOUND
   ├─ ProviderRejectedRequest     the provider calls the request invalid   INVALID_ARGUMENT
   ├─ ContextLengthExceeded       the conversation is too long             INVALID_ARGUMENT
   ├─ ProviderTimeout             no answer in time                        DEADLINE_EXCEEDED
   ├─ ProviderUnavailable         cannot be reached, or failed             UNAVAILABLE
   └─ IncompleteResponse          the answer broke off                     UNAVAILABLE

The status codes are given by `libs.rpc.status`; this module knows nothing of gRPC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar


class PlatformError(Exception):
    """A failure with a reason and a message that says what to do next.

    `reason` is the name of an `ErrorReason` value. `metadata` holds every dynamic word of the message, by
    lowerCamel name. `retry_after` is in seconds. The message reaches the caller: it never holds a secret, a
    provider's raw body or the text of a foreign exception.
    """

    default_reason: ClassVar[str]

    def __init__(self, message: str, *, reason: str = "", retry_after: float | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.retry_after = retry_after
        self.metadata = metadata


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: the path of the field, as in the JSON request, and what it must be instead."""

    field: str
    description: str


class InvalidRequest(PlatformError):
    """The request is wrong whatever the state. Lists every violation, not the first alone."""

    default_reason = "INVALID_ARGUMENT"

    def __init__(self, violations: Sequence[Violation], *, reason: str = "") -> None:
        super().__init__(" ".join(f"{v.field}: {v.description}" for v in violations), reason=reason)
        self.violations = tuple(violations)


def refuse_any(violations: Iterable[Violation]) -> None:
    """Raises InvalidRequest with all the violations, if there are any."""
    if found := tuple(violations):
        raise InvalidRequest(found)


class Unauthenticated(PlatformError):
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(PlatformError):
    default_reason = "PERMISSION_DENIED"


class NotFound(PlatformError):
    default_reason = "NOT_FOUND"


class AlreadyExists(PlatformError):
    """The name is taken. Each use names its own reason."""

    default_reason = "INVALID_ARGUMENT"


class FailedPrecondition(PlatformError):
    """Something must be done first. Each use names its own reason."""

    default_reason = "INVALID_ARGUMENT"


class LimitExceeded(PlatformError):
    default_reason = "RATE_LIMIT_EXCEEDED"


class Unavailable(PlatformError):
    default_reason = "SERVICE_UNAVAILABLE"


class DeadlineExceeded(PlatformError):
    default_reason = "DEADLINE_EXCEEDED"


class ProviderError(PlatformError):
    """A provider failed. `retryable` tells whether the same call may pass when made again."""

    default_reason = "PROVIDER_UNAVAILABLE"
    retryable: bool = False

    def __init__(
        self, message: str, *, provider: str, retry_after: float | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after, provider=provider)
        if retryable is not None:
            self.retryable = retryable


class ProviderKeyRejected(ProviderError):
    default_reason = "INVALID_API_KEY"


class ProviderPermissionDenied(ProviderError):
    default_reason = "PROVIDER_PERMISSION_DENIED"


class ProviderRateLimited(ProviderError):
    default_reason = "PROVIDER_RATE_LIMITED"
    retryable = True


class ProviderQuotaExhausted(ProviderError):
    default_reason = "PROVIDER_QUOTA_EXHAUSTED"


class ModelNotFound(ProviderError):
    default_reason = "MODEL_NOT_FOUND"


class ProviderRejectedRequest(ProviderError):
    default_reason = "PROVIDER_REJECTED_REQUEST"


class ContextLengthExceeded(ProviderError):
    default_reason = "CONTEXT_LENGTH_EXCEEDED"


class ProviderTimeout(ProviderError):
    default_reason = "CONNECTION_TIMEOUT"


class ProviderUnavailable(ProviderError):
    retryable = True


class IncompleteResponse(ProviderError):
    default_reason = "INCOMPLETE_RESPONSE"
