"""The one bootstrap of every service: mTLS, interceptors, health, reflection, signals and drain."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import grpc
import structlog
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, Gauge

from libs.audit import AuditTrail
from libs.background import beside
from libs.metrics import process_metrics, serving_metrics
from libs.private_memory import keep_memory_private
from libs.ratelimit import INVALID_TOKENS, connect_limiter, limits_of
from libs.rpc.access_policy import BOOTSTRAP_POLICY, AccessPolicy
from libs.rpc.certificate_metrics import CertificateCollector
from libs.rpc.channel import MAX_MESSAGE_BYTES
from libs.rpc.interceptors.access import Access
from libs.rpc.interceptors.authentication import Authentication, TokenVerifier
from libs.rpc.interceptors.call_log import CallLog
from libs.rpc.interceptors.call_metrics import CallMetrics
from libs.rpc.interceptors.call_traces import CallTraces
from libs.rpc.interceptors.deadline import Deadline
from libs.rpc.interceptors.error_boundary import ErrorBoundary
from libs.rpc.interceptors.invalid_tokens import InvalidTokens
from libs.rpc.interceptors.rate_limits import RateLimits
from libs.rpc.limit_metrics import LimitCollector
from libs.rpc.pipeline import Pipeline
from libs.rpc.plain_health import serving_plain_health
from libs.rpc.settings import RpcSettings
from libs.rpc.tls import TlsIdentity
from libs.settings import SettingsError
from libs.tracing import connect_tracing

log = structlog.get_logger()

# Adds one servicer to a server: the generated `add_…_to_server` with the servicer bound.
Registration = Callable[[grpc.aio.Server], None]
# Raises when a dependency does not answer.
Probe = Callable[[], Awaitable[object]]

_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # More than the 32 KiB of headers that Envoy lets through, counted with 32 bytes for each; the first is the limit.
    ("grpc.max_metadata_size", 48 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
    # None: a few KB of compressed zeros would become 40 MiB before anybody knows who sent them.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Permits the pace of our own channels; gRPC's default would answer it with "too many pings".
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_concurrent_streams", 10_000),
    # Whoever calls by a name asks anew for its addresses when a connection ends, and finds replicas that were added.
    # Calls under way end where they are.
    ("grpc.max_connection_age_ms", 300_000),
    # Two processes on one port would split calls at random instead of failing at start.
    ("grpc.so_reuseport", 0),
)

_PROBE_INTERVAL = 2.0
_PROBE_TIMEOUT = 2.0


def run(main: Coroutine[Any, Any, None], *, holds_keys: bool = False) -> None:
    """Runs a service to its end on uvloop. Unusable settings end it with their list and status 78 (EX_CONFIG).

    The memory of one that holds providers' keys is private from before its settings are read.
    """
    if holds_keys:
        keep_memory_private()
    try:
        uvloop.run(main)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_CONFIG)


async def serve(
    settings: RpcSettings,
    *,
    tls: TlsIdentity,
    registrations: Sequence[Registration],
    policy: AccessPolicy,
    tokens: TokenVerifier,
    audit: AuditTrail,
    probes: Mapping[str, Probe] | None = None,
    metrics: CollectorRegistry | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; the arguments are those of `serving`.

    Where the settings want metrics they are those of the process and of its calls, and what else `metrics` holds.
    """
    stopping = _stop_signal()
    metrics = None if settings.metrics_listen is None else metrics or process_metrics()
    async with (
        _told_to_prometheus(settings.metrics_listen, metrics),
        serving(
            settings,
            tls=tls,
            registrations=registrations,
            policy=policy,
            tokens=tokens,
            audit=audit,
            probes=probes,
            metrics=metrics,
        ) as port,
    ):
        log.info("serving", address=settings.listen, port=port)
        await stopping.wait()
        log.info("draining", grace_seconds=settings.drain_seconds)
    log.info("stopped")


@asynccontextmanager
async def serving(
    settings: RpcSettings,
    *,
    tls: TlsIdentity,
    registrations: Sequence[Registration],
    policy: AccessPolicy,
    tokens: TokenVerifier,
    audit: AuditTrail | None = None,
    probes: Mapping[str, Probe] | None = None,
    metrics: CollectorRegistry | None = None,
) -> AsyncIterator[int]:
    """Serves for the time of the block, then drains: NOT_SERVING, no new calls, grace for those in flight.

    `probes` are the dependencies of the service by name; each shows under that name in `grpc.health.v1`, so that
    the router can tell a service that is up from a database that is down. The Redis of the limits shows as `redis`.
    Yields the port, which the system chose when `settings.listen` names port 0. Without `audit`, what people are
    refused is logged only; without `metrics`, nothing is counted.
    """
    policy = {**BOOTSTRAP_POLICY, **policy}
    deadline = Deadline(policy)
    async with (
        connect_limiter(settings.redis_url) as limiter,
        connect_tracing(settings.otlp_endpoint, tls.service) as tracer,
    ):
        limits = limits_of(policy, settings.rate_limits)
        invalid = limits.pop(INVALID_TOKENS, None)
        invalid_tokens = None if invalid is None else InvalidTokens(invalid, limiter, audit)
        rate_limits = RateLimits(limits, limiter, audit)
        counted = () if metrics is None else (CallMetrics(),)
        interceptors = (
            CallLog(),
            *((CallTraces(tracer),) if tracer is not None else ()),
            *counted,
            ErrorBoundary(),
            deadline,
            Authentication(policy, tokens, settings.allowed_origins, invalid_tokens=invalid_tokens, audit=audit),
            Access(policy, audit),
            rate_limits,
        )
        server = grpc.aio.server(options=_OPTIONS, interceptors=(Pipeline(interceptors),))
        for register in registrations:
            register(server)
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        if settings.reflection:
            names = {method.split("/")[1] for method in policy}
            reflection.enable_server_reflection(sorted(names), server)
        port = server.add_secure_port(settings.listen, tls.server_credentials())

        # To its very end: during the drain it tells that the service is leaving.
        async with _told_without_tls(settings.health_listen, health_servicer):
            await server.start()
            probes = {**(probes or {}), **({} if settings.redis_url is None else {"redis": limiter.check})}
            up = None
            if metrics is not None:
                for calls in counted:
                    metrics.register(calls)
                metrics.register(LimitCollector(rate_limits, invalid_tokens, limiter))
                metrics.register(CertificateCollector(tls))
                up = Gauge("realmultillm_dependency_up", "1 while it answers.", ("dependency",), registry=metrics)
            watchers = {f"probe of {name}": _watch(health_servicer, name, probe, up) for name, probe in probes.items()}
            try:
                async with beside(watchers):
                    yield port
            finally:
                await health_servicer.enter_graceful_shutdown()
                # A call that comes while the server stops may be cut off by gRPC, which no caller may repeat.
                await asyncio.sleep(settings.leave_seconds)
                deadline.drain()
                await server.stop(settings.drain_seconds)


def _told_to_prometheus(
    listen: str | None, metrics: CollectorRegistry | None
) -> AbstractAsyncContextManager[int | None]:
    return nullcontext() if listen is None or metrics is None else serving_metrics(listen, metrics)


def _told_without_tls(
    listen: str | None, servicer: health.aio.HealthServicer
) -> AbstractAsyncContextManager[int | None]:
    return nullcontext() if listen is None else serving_plain_health(listen, servicer)


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def _watch(health_servicer: health.aio.HealthServicer, name: str, probe: Probe, up: Gauge | None) -> None:
    """Keeps the health of one dependency up to date, and `up` too; logs when it changes."""
    status = None
    while True:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await probe()
            found = health_pb2.HealthCheckResponse.SERVING
        except Exception as error:
            found = health_pb2.HealthCheckResponse.NOT_SERVING
            if found != status:
                log.warning("dependency down", dependency=name, error=type(error).__name__)
        if found != status:
            if status is not None and found == health_pb2.HealthCheckResponse.SERVING:
                log.info("dependency up again", dependency=name)
            status = found
            await health_servicer.set(name, status)
            if up is not None:
                up.labels(name).set(found == health_pb2.HealthCheckResponse.SERVING)
        await asyncio.sleep(_PROBE_INTERVAL)
