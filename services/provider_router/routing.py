"""Finds the worker a chat goes to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import StringValue

from libs.errors import InvalidRequest, NotFound, ProviderUnavailable, Violation
from services.provider_router.model_names import AUTOMATIC

_LONGEST_SHOWN = 64

Worker = TypeVar("Worker")


def named_provider(request: bytes) -> str:
    """Reads the provider out of a serialized CreateChatCompletionRequest and leaves the rest as it is.

    Both it and StringValue have one string as field 1, so the parser of the one finds that of the other and skips
    what follows: 0.5 µs for a short chat and 4 µs for 200 KB, a seventh of parsing it all. Raises InvalidRequest
    when the bytes are no message.
    """
    try:
        return StringValue.FromString(request).value
    except DecodeError:
        raise InvalidRequest([Violation("request", "must be a CreateChatCompletionRequest.")]) from None


def no_such_provider(provider: str, known: Collection[str]) -> NotFound:
    """Makes the error for a provider that is none of those there are."""
    # What was sent may be anything, and long; a status has room for a few KB.
    shown = provider[:_LONGEST_SHOWN]
    names = ", ".join(known)
    return NotFound(
        f"There is no provider {shown!r}; choose one of {names}.",
        reason="PROVIDER_NOT_FOUND",
        provider=shown,
        known=names,
    )


class Routes(Generic[Worker]):
    """The workers of this deployment by provider id; `known` are the ids of all providers."""

    def __init__(self, workers: Mapping[str, Worker], *, known: Collection[str]) -> None:
        self._workers = workers
        self.known = known

    def worker_of(self, provider: str) -> Worker:
        """Returns the worker of a provider. Raises InvalidRequest, NotFound, or ProviderUnavailable without one."""
        worker = self._workers.get(provider)
        if worker is not None:
            return worker
        known = ", ".join(self.known)
        if not provider:
            raise InvalidRequest([Violation("provider", f"must name a provider, one of {known}, or {AUTOMATIC}.")])
        if provider not in self.known:
            raise no_such_provider(provider, self.known)
        raise ProviderUnavailable(
            f"No worker for {provider} runs in this deployment; choose another provider.", provider=provider
        )
