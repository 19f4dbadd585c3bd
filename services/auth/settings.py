"""Settings of the auth service, variables `AUTH_…`."""

from __future__ import annotations

import os
from dataclasses import dataclass

from libs.redaction import Secret
from libs.rpc.settings import RpcSettings
from libs.settings import SettingsError, from_env, setting

PREFIX = "AUTH"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the accounts are stored."""

    database_url: Secret = setting("Database of the service, postgresql+psycopg://role:password@host:port/database.")


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


def database_url() -> Secret:
    """Reads the database's address for the service's commands, which need no other setting."""
    names = (f"{PREFIX}_DATABASE_URL", f"{PREFIX}_DATABASE_URL_FILE")
    return from_env(
        DatabaseSettings, PREFIX, {name: os.environ[name] for name in names if name in os.environ}
    ).database_url
