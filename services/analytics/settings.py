"""Settings of the analytics service; variables start with ANALYTICS_."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.migration_command import DatabaseSettings
from libs.rpc.settings import RpcSettings
from libs.settings import setting

PREFIX = "ANALYTICS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the service needs to run."""

    rpc: RpcSettings
    database: DatabaseSettings
    auth_address: str = setting("Address of the auth service, host:port.")
    data_dir: Path = setting("Folder of this process alone, for events on their way to the audit log.")
