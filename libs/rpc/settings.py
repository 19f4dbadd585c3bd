"""Settings every service has, whatever it does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from libs.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """How a service listens, shows itself and logs."""

    listen: str = setting("Address to serve gRPC on, host:port.")
    tls_dir: Path = setting("Folder with the service's tls.crt, tls.key and ca.crt.")
    log_level: Literal["debug", "info", "warning", "error"] = setting("Least level to log.", default="info")
    log_format: Literal["json", "console"] = setting("Form of the log; console is for people.", default="json")
    reflection: bool = setting("Whether to offer gRPC reflection; for local runs.", default=False)
    drain_seconds: float = setting(
        "How long calls in flight may go on after SIGTERM, in seconds.", at_least=0, default=30.0
    )
