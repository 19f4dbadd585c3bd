"""Tries a provider key with the cheapest authenticated call the provider has."""

from __future__ import annotations

import time
from dataclasses import dataclass

from libs.errors import ProviderError
from libs.redaction import Secret
from libs.worker.adapter import Adapter
from libs.worker.upstream import Upstream

_TEST_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class KeyTest:
    """How a trial went. `reason` is empty when the key was accepted."""

    latency_ms: int
    message: str
    reason: str = ""


async def try_key(adapter: Adapter, upstream: Upstream, api_key: Secret) -> KeyTest:
    """Makes one call with the key. A refusal is a result, not an error."""
    started = time.perf_counter()
    message, reason = f"{adapter.display_name} accepted the key.", ""
    try:
        await upstream.fetch(adapter.key_test_request(api_key), _TEST_SECONDS)
    except ProviderError as error:
        message, reason = error.message, error.reason
    return KeyTest(round((time.perf_counter() - started) * 1000), message, reason)
