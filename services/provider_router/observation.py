"""Watches the health of every service behind the router, so that whoever asks is answered without asking around."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from libs.background import beside

log = structlog.get_logger()

_RECONNECT_SECONDS = 0.2
_RECONNECT_LIMIT = 2.0


@dataclass(frozen=True, slots=True)
class Subject:
    """Something whose health is watched: a service, or one of its dependencies as it sees it."""

    service: str
    dependency: str = ""


class Observation:
    """The latest known health of each subject. What was never heard of is not healthy."""

    def __init__(self) -> None:
        self._healthy: set[Subject] = set()

    def is_healthy(self, service: str, dependency: str = "") -> bool:
        """Tells how a service stands, or one of its dependencies. Does no I/O."""
        return Subject(service, dependency) in self._healthy

    async def watch(self, subject: Subject, channel: grpc.aio.Channel) -> None:
        """Follows one subject until cancelled, reconnecting after every loss."""
        request = HealthCheckRequest(service=subject.dependency)
        delay = _RECONNECT_SECONDS
        while True:
            try:
                async for response in HealthStub(channel).Watch(request):
                    self._note(subject, response.status == HealthCheckResponse.SERVING)
                    delay = _RECONNECT_SECONDS
            except grpc.aio.AioRpcError as error:
                log.debug("health watch lost", service=subject.service, code=error.code().name)
            self._note(subject, healthy=False)
            # Spread, so that the routers of a deployment do not all come back at one moment.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(delay * 2, _RECONNECT_LIMIT)

    def _note(self, subject: Subject, healthy: bool) -> None:
        if (subject in self._healthy) is healthy:
            return
        log.info("health changed", service=subject.service, dependency=subject.dependency, healthy=healthy)
        if healthy:
            self._healthy.add(subject)
        else:
            self._healthy.discard(subject)


@asynccontextmanager
async def observing(
    channels: Mapping[str, grpc.aio.Channel], dependencies: Mapping[str, Sequence[str]]
) -> AsyncIterator[Observation]:
    """Watches the services on these channels, and the dependencies some of them report, for the time of the block."""
    observation = Observation()
    subjects = [
        Subject(service, dependency) for service in channels for dependency in ("", *dependencies.get(service, ()))
    ]
    watches = {f"watch {subject}": observation.watch(subject, channels[subject.service]) for subject in subjects}
    async with beside(watches):
        yield observation
