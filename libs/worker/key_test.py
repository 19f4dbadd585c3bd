"""Tries a provider key with the cheapest authenticated call the provider has."""

from __future__ import annotations

import time
from dataclasses import dataclass

from libs import errors
from libs.provider_keys import ProviderKey
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter
from libs.worker.failures import Failures
from libs.worker.model_listing import MAX_LISTING_BYTES
from libs.worker.upstream import Upstream

_TEST_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class KeyTest:
    """How a trial went. `reason` is empty when the key was accepted."""

    latency_ms: int
    message: str
    reason: str = ""


async def try_key(
    adapter: Adapter, upstream: Upstream, api_key: ProviderKey, model: str, *, endpoint: str = ""
) -> KeyTest:
    """Makes one call with the key, about a model if one is named, at the provider's usual place if no other is.

    A refusal is a result, not an error, and so is an endpoint that the key may not be sent to.
    """
    failures = Failures(adapter.provider, adapter.display_name)
    if not {".", ".."}.isdisjoint(model.split("/")):
        # No model is called so, and as a part of a path it would lead elsewhere, quoted or not.
        return _failed(0, failures.model_not_found(), failures, model)
    started = time.perf_counter()
    try:
        body = await upstream.fetch(
            adapter.key_test_request(api_key, model).at(endpoint), _TEST_SECONDS, max_bytes=MAX_LISTING_BYTES
        )
    except errors.FailedPrecondition as error:
        return KeyTest(_milliseconds_since(started), error.message, error.reason)
    except errors.ProviderError as error:
        return _failed(_milliseconds_since(started), error, failures, model)
    latency_ms = _milliseconds_since(started)
    try:
        adapter.read_key_test(body, model)
    except errors.ProviderError as error:
        return _failed(latency_ms, error, failures, model)
    except NOT_UNDERSTOOD:
        return _failed(latency_ms, failures.not_understood(), failures, model)
    return KeyTest(latency_ms, f"{adapter.display_name} accepted the key.")


def _milliseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)


def _failed(latency_ms: int, error: errors.ProviderError, failures: Failures, model: str) -> KeyTest:
    failure = failures.beside_chats(error, model=model)
    message = failure.message
    if isinstance(failure, errors.ProviderKeyRejected):
        # A chat's words are about the stored key; whether this one is, only who sent it knows.
        message = f"{failures.display_name} refused the key; check that it is whole and still valid, or use another."
    return KeyTest(latency_ms, message, failure.reason)
