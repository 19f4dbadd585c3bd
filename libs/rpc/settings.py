"""Settings every service has, whatever it does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from libs.redaction import Secret
from libs.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """How a service listens, shows itself and logs."""

    listen: str = setting("Address to serve gRPC on, host:port.")
    tls_dir: Path = setting("Folder with the service's tls.crt, tls.key and ca.crt.")
    log_level: Literal["debug", "info", "warning", "error"] = setting("Least level to log.", default="info")
    log_format: Literal["json", "console"] = setting("Form of the log; console is for people.", default="json")
    metrics_listen: str | None = setting(
        "Address to serve metrics for Prometheus on, host:port, in the clear and to everyone; without, none are.",
        default=None,
    )
    otlp_endpoint: str | None = setting(
        "Collector to send traces to by OTLP over gRPC, http://host:port or https://host:port; without, none are.",
        default=None,
    )
    health_listen: str | None = setting(
        "Address to tell health on by gRPC without TLS, to everyone: host:port, for the kubelet; without, it is not.",
        default=None,
    )
    reflection: bool = setting("Whether to offer gRPC reflection; for local runs.", default=False)
    redis_url: Secret | None = setting(
        "Redis whose counters all replicas share, redis[s]://:password@host:port/0; without, each counts alone.",
        default=None,
    )
    rate_limits: dict[str, str] = setting(
        "Limits in place of the usual ones, by method or `default`, like CreateChatCompletion=600/minute,default=….",
        default_factory=dict,
    )
    allowed_origins: tuple[str, ...] = setting(
        "Origins of web pages that may call by the session cookie, besides the platform's own, https://host,…",
        default=(),
    )
    leave_seconds: float = setting(
        "How long new calls are still taken after SIGTERM, until all callers look elsewhere, in seconds; Envoy asks "
        "every 2 whether a service leaves.",
        at_least=0,
        default=3.0,
    )
    drain_seconds: float = setting(
        "How long calls in flight may go on after that, in seconds.", at_least=0, default=30.0
    )
