"""Settings of the provider router; variables start with PROVIDER_ROUTER_."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.rpc.settings import RpcSettings
from libs.settings import setting

PREFIX = "PROVIDER_ROUTER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the service needs to run."""

    rpc: RpcSettings
    auth_address: str = setting("Address of the auth service, host:port.")
    data_dir: Path = setting("Folder of this process alone, for events on their way to the audit log.")
    key_vault_address: str = setting("Address of the key vault, host:port.")
    analytics_address: str = setting("Address of the analytics service, host:port.")
    workers: dict[str, str] = setting("Addresses of the workers by provider id, provider=host:port,…")
    catalog: Path | None = setting("TOML file with the providers; the one of the platform by default.", default=None)
    models: Path | None = setting(
        "TOML file with facts about models that go before those of the platform; read again when it changes.",
        default=None,
    )
