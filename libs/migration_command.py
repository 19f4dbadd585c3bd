"""The command that brings a service's schema up to date: `python -m services.<service>.migrate`.

The URL it is given is that of the role that owns the tables, `<role>_owner`; the service itself gets that of `<role>`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from sqlalchemy.exc import OperationalError

from libs.database import upgrade
from libs.migration_environment import MigrationBlocked
from libs.redaction import Secret
from libs.settings import SettingsError, from_env, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where a service keeps its tables; the part of its settings that its commands need."""

    database_url: Secret = setting("Database of the service, postgresql+psycopg://role:password@host:port/database.")


def read_database_url(prefix: str, settings: type) -> Secret:
    """Reads the database's address alone; the rest of the service's `settings` may be set or not.

    Raises SettingsError.
    """
    return from_env(DatabaseSettings, prefix, part_of=settings).database_url


def migrate(package: str, prefix: str, settings: type) -> None:
    """Runs the pending migrations of a service.

    Unusable settings end the process with status 78 (EX_CONFIG), a database that cannot be reached, or does not let the
    owner in, with 69 (EX_UNAVAILABLE), a table that somebody holds with 75 (EX_TEMPFAIL).
    """
    try:
        upgrade(read_database_url(prefix, settings), package)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_CONFIG)
    except MigrationBlocked as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    except OperationalError as error:
        print(f"The database of {prefix}_DATABASE_URL cannot be used: {error.orig}", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
