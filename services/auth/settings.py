"""Settings of the auth service, variables `AUTH_…`."""

from __future__ import annotations

from dataclasses import dataclass

from libs.migration_command import DatabaseSettings
from libs.rpc.settings import RpcSettings
from libs.settings import SettingsError, setting

PREFIX = "AUTH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the service can be told."""

    rpc: RpcSettings
    database: DatabaseSettings
    session_hours: int = setting("How long a session lasts after sign-in, in hours.", default=720)
    hashing_threads: int = setting(
        "How many passwords are hashed at once; each takes one core and 19 MiB for the time.", default=2
    )

    def __post_init__(self) -> None:
        numbers = {"SESSION_HOURS": self.session_hours, "HASHING_THREADS": self.hashing_threads}
        problems = [f"{PREFIX}_{name} must be at least 1" for name, number in numbers.items() if number < 1]
        if problems:
            raise SettingsError("Settings are not usable:\n  " + "\n  ".join(problems))
