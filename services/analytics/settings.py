"""Settings of the analytics service; variables start with ANALYTICS_."""

from __future__ import annotations

from dataclasses import dataclass

from libs.redaction import Secret
from libs.rpc.settings import RpcSettings
from libs.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the service needs to run."""

    rpc: RpcSettings
    database_url: Secret = setting("Database to keep usage in: postgresql+psycopg://role:password@host:port/database.")
    auth_address: str = setting("Address of the auth service, host:port.")
