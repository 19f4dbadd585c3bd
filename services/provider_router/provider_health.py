"""How the providers answer, as their workers tell: for the order in which they are tried, and for people who ask.

A worker that has replicas behind one address is heard through one of them, whose own chats are what it tells of.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc
import structlog
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.background import beside
from libs.providers import worker_service
from services.provider_router.observation import Observation

log = structlog.get_logger()

_RECONNECT_SECONDS = 0.2
_RECONNECT_LIMIT = 2.0


class State(StrEnum):
    """How a provider stands."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    RECOVERING = "recovering"


_STATES = {
    provider_pb2.ProviderHealth.HEALTHY: State.HEALTHY,
    provider_pb2.ProviderHealth.UNHEALTHY: State.UNHEALTHY,
    provider_pb2.ProviderHealth.RECOVERING: State.RECOVERING,
}


@dataclass(frozen=True, slots=True)
class Performance:
    """How a provider has answered within a window. Latencies are in milliseconds, 0 when there is none."""

    state: State
    chats: int
    failures: int
    latency_p50_ms: int
    latency_p95_ms: int
    window_seconds: int

    @property
    def error_rate(self) -> float:
        """Share of the chats that failed through the provider, 0 to 1."""
        return self.failures / self.chats if self.chats else 0.0


class ProviderHealth:
    """What is known of each provider now. Nothing here does I/O but `watch`."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self._told: dict[str, Performance] = {}
        # Attempts at providers that were recovering when they began.
        self._trials: Counter[str] = Counter()

    def performance(self, provider: str) -> Performance | None:
        """Returns how a provider has answered; None when no worker tells."""
        return self._told.get(provider)

    def is_healthy(self, provider: str) -> bool:
        """Tells whether a worker is ready and the provider answers; while nothing is known of it, it does."""
        told = self._told.get(provider)
        ready = self._observation.is_healthy(worker_service(provider))
        return ready and (told is None or told.state is State.HEALTHY)

    def rank(self, provider: str) -> int:
        """Returns the place of a provider among those a chat may try, the lowest first: 0 where it may go well.

        One that recovers is among these while no other chat tries it: its place is the one it has by everything else.
        """
        if not self._observation.is_healthy(worker_service(provider)):
            return 2
        told = self._told.get(provider)
        if told is None or told.state is State.HEALTHY:
            return 0
        return 0 if told.state is State.RECOVERING and not self._trials[provider] else 1

    @contextmanager
    def attempt(self, provider: str) -> Iterator[None]:
        """Notes that a chat tries a provider for the time of the block, which ends at the first output or before."""
        told = self._told.get(provider)
        if told is None or told.state is not State.RECOVERING:
            yield
            return
        self._trials[provider] += 1
        try:
            yield
        finally:
            self._trials[provider] -= 1

    async def watch(self, provider: str, stub: Any) -> None:
        """Follows what a worker tells of its provider until cancelled, reconnecting after every loss."""
        delay = _RECONNECT_SECONDS
        while True:
            try:
                async for told in stub.WatchProviderHealth(
                    provider_pb2.WatchProviderHealthRequest(), wait_for_ready=True
                ):
                    self._take(provider, told)
                    delay = _RECONNECT_SECONDS
            except grpc.aio.AioRpcError as error:
                log.debug("provider health lost", provider=provider, code=error.code().name)
            self._told.pop(provider, None)
            # Spread, so that the routers of a deployment do not all come back at one moment.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(delay * 2, _RECONNECT_LIMIT)

    def _take(self, provider: str, told: provider_pb2.ProviderHealth) -> None:
        state = _STATES.get(told.state)
        if state is None:  # what another version of the worker says instead
            self._told.pop(provider, None)
            return
        self._told[provider] = Performance(
            state, told.chats, told.failures, told.latency_p50_ms, told.latency_p95_ms, told.window_seconds
        )


@asynccontextmanager
async def watching_providers(stubs: Mapping[str, Any], observation: Observation) -> AsyncIterator[ProviderHealth]:
    """Follows the workers, by their providers, for the time of the block."""
    health = ProviderHealth(observation)
    async with beside({f"health of {provider}": health.watch(provider, stub) for provider, stub in stubs.items()}):
        yield health
