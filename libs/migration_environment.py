"""What every service's Alembic `env.py` calls: migrations run in one transaction, one process at a time."""

from __future__ import annotations

import zlib

from alembic import context
from sqlalchemy import MetaData, create_engine, pool, text


def run_migrations(metadata: MetaData) -> None:
    """Runs the pending migrations of the service and the database that `libs.database.upgrade` was told."""
    told = context.config.attributes
    engine = create_engine(told["url"].reveal(), poolclass=pool.NullPool, hide_parameters=True)
    # Of the service, wherever its files lie: replicas need not be installed in the same place.
    lock = zlib.crc32(told["package"].encode())
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            context.run_migrations()
    engine.dispose()
