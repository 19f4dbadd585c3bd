"""Tells health on a port of its own without TLS, to those who have no certificate: the kubelet, and Docker.

Nothing else is served there. `python -m libs.rpc.plain_health host:port` asks, and ends with status 1 unless the
service is well.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from libs.settings import SettingsError

_ASK_SECONDS = 3.0
# Enough for every prober there may be; a probe is a connection of its own.
_OPTIONS = (("grpc.max_concurrent_streams", 20), ("grpc.so_reuseport", 0))


@asynccontextmanager
async def serving_plain_health(listen: str, servicer: health.aio.HealthServicer) -> AsyncIterator[int]:
    """Serves `grpc.health.v1` at host:port for the time of the block. Yields the port, which may be chosen by port 0.

    Raises SettingsError when the address is none, or is taken.
    """
    server = grpc.aio.server(options=_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        raise SettingsError(f"Health cannot be told on {listen}: that is no host:port, or it is taken.") from None
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def ask(address: str) -> str:
    """Asks how the service at an address is; returns the name of a status, or of the error. Blocking."""
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_ASK_SECONDS)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


if __name__ == "__main__":
    status = ask(sys.argv[1])
    if status != "SERVING":
        sys.exit(status)
