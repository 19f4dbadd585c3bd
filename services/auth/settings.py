"""Settings of the auth service, variables `AUTH_…`."""

from __future__ import annotations

from dataclasses import dataclass

from libs.migration_command import DatabaseSettings
from libs.rpc.settings import RpcSettings
from libs.settings import setting

PREFIX = "AUTH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the service can be told."""

    rpc: RpcSettings
    database: DatabaseSettings
    session_hours: int = setting("How long a session lasts after sign-in, in hours.", at_least=1, default=720)
    hashing_threads: int = setting(
        "How many passwords are hashed at once; each takes one core and 19 MiB for the time.", at_least=1, default=2
    )
