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
    key_vault_address: str = setting("Address of key_vault, host:port, which opens the history for its owners.")
    data_dir: Path = setting("Folder of this process alone, for events on their way to the audit log.")
    fact_retention_days: int = setting(
        "How long every single chat is accounted for, in days. Older ones remain in the sums of hours alone.",
        at_least=32,
        default=400,
    )
    rollup_retention_days: int = setting("How long the sums of hours are kept, in days.", at_least=32, default=1100)
    history_retention_days: int = setting("How long what was said is kept, in days.", at_least=1, default=90)
