"""Tries a provider key with the cheapest authenticated call the provider has."""

from __future__ import annotations

import time
from dataclasses import dataclass

from libs.errors import ProviderError
from libs.redaction import Secret
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter
from libs.worker.failures import Failures
from libs.worker.upstream import Upstream

_TEST_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class KeyTest:
    """How a trial went. `reason` is empty when the key was accepted."""

    latency_ms: int
    message: str
    reason: str = ""


async def try_key(adapter: Adapter, upstream: Upstream, api_key: Secret, model: str) -> KeyTest:
    """Makes one call with the key, about a model if one is named. A refusal is a result, not an error."""
    started = time.perf_counter()
    try:
        body = await upstream.fetch(adapter.key_test_request(api_key, model), _TEST_SECONDS)
    except ProviderError as error:
        return KeyTest(_milliseconds_since(started), error.message, error.reason)
    latency_ms = _milliseconds_since(started)
    try:
        adapter.read_key_test(body)
    except ProviderError as error:
        return KeyTest(latency_ms, error.message, error.reason)
    except NOT_UNDERSTOOD:
        failure = Failures(adapter.provider, adapter.display_name).not_understood()
        return KeyTest(latency_ms, failure.message, failure.reason)
    return KeyTest(latency_ms, f"{adapter.display_name} accepted the key.")


def _milliseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
