"""Settings of the auth service, variables `AUTH_…`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.migration_command import DatabaseSettings
from libs.redaction import Secret
from libs.rpc.settings import RpcSettings
from libs.settings import setting

PREFIX = "AUTH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the service can be told."""

    rpc: RpcSettings
    database: DatabaseSettings
    data_dir: Path = setting("Folder of this process alone, for events on their way to the audit log.")
    session_hours: int = setting(
        "How long a session opened from now on lasts after sign-in, used or not, in hours.", at_least=1, default=720
    )
    session_idle_hours: int = setting(
        "How long a session lasts after its last use, in hours; each use puts the end off.", at_least=1, default=168
    )
    hashing_threads: int = setting(
        "How many passwords are hashed at once; each takes one core and 19 MiB for the time.", at_least=1, default=2
    )
    admin_email: str | None = setting(
        "Account to make an administrator's at start, while there is no enabled administrator.", default=None
    )
    admin_password: Secret | None = setting(
        "Password of that account, when it has to be created; one that exists keeps its own.", default=None
    )
