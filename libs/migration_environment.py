"""What every service's Alembic `env.py` calls: migrations run in one transaction, one process at a time.

All of them or none. That is worth more than `CREATE INDEX CONCURRENTLY`, which runs in no transaction and leaves an
invalid index behind when it fails; a migration of a table that is large by then must weigh it anew.
"""

from __future__ import annotations

import zlib

from alembic import context, op
from sqlalchemy import Connection, MetaData, create_engine, pool, text
from sqlalchemy.exc import OperationalError

from libs.database_roles import owner_of, role_of
from libs.settings import SettingsError

# How long a migration waits for a lock. Behind one that waits, everybody waits who wants the table.
_LOCK_SECONDS = 5
_LOCK_NOT_AVAILABLE = "55P03"


class MigrationBlocked(Exception):
    """A migration was kept from a table by somebody's transaction. Nothing is changed; the message says what to do."""


def run_migrations(metadata: MetaData) -> None:
    """Runs the pending migrations of the service and the database that `libs.database.upgrade` was told.

    Raises SettingsError when that was told to connect as another role than the owner of the tables, and
    MigrationBlocked when another transaction holds a table too long.
    """
    told = context.config.attributes
    engine = create_engine(told["url"].reveal(), poolclass=pool.NullPool, hide_parameters=True)
    # Of the service, wherever its files lie: replicas need not be installed in the same place.
    lock = zlib.crc32(told["package"].encode())
    try:
        with engine.connect() as connection:
            context.configure(connection=connection, target_metadata=metadata)
            with context.begin_transaction():
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
                # From here on: another process may take as long as its migrations need.
                connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
                service = _service_role(connection)
                context.run_migrations()
                # Whoever could write it could have a migration run twice, or never.
                connection.execute(text(f"REVOKE ALL ON alembic_version FROM {service}"))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise MigrationBlocked(
            f"Nothing was migrated: another transaction has held a table for more than {_LOCK_SECONDS} seconds. Run "
            "this again; if it goes on, see pg_stat_activity for transactions that stay open."
        ) from error
    finally:
        engine.dispose()


def service_role() -> str:
    """Returns, quoted for SQL, the role as which the service runs whose migration this is."""
    return _service_role(op.get_bind())


def _service_role(connection: Connection) -> str:
    owner = connection.execute(text("SELECT current_user")).scalar_one()
    role = role_of(owner)
    if role is None:
        raise SettingsError(f"Migrations run as the owner of the tables: give them the URL of {owner_of(owner)}.")
    return connection.dialect.identifier_preparer.quote(role)
