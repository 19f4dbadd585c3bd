"""Serves what a process counts of itself to Prometheus, on a port of its own.

There are no tokens and no TLS on that port: it is for a network of operators, and nothing that is counted names a
person, a key, or anything that was sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from libs.settings import SettingsError

log = structlog.get_logger()

_STOP_SECONDS = 1.0


def process_metrics() -> CollectorRegistry:
    """Makes a registry with what is told of every process: memory, time, files, garbage."""
    # When each series began says the time that the process began; without, there are half as many.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


@asynccontextmanager
async def serving_metrics(listen: str, registry: CollectorRegistry) -> AsyncIterator[int]:
    """Serves `GET /metrics` at host:port for the time of the block. Yields the port, which may be chosen by port 0.

    In the loop of the service: what is counted there is read there, and needs no locks. Raises SettingsError when the
    address is none, or is taken.
    """
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdecimal():
        raise SettingsError(f"The address to serve metrics on must be host:port, not {listen}.")

    async def answer(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(registry), headers={"content-type": content_type})

    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host.strip("[]"), int(port))
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(f"Metrics cannot be served on {listen}: {error.strerror}.") from None
        bound: int = runner.addresses[0][1]
        log.info("serving metrics", address=listen, port=bound)
        yield bound
    finally:
        await runner.cleanup()
