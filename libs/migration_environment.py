"""What every service's Alembic `env.py` calls: migrations run in one transaction, one process at a time."""

from __future__ import annotations

import zlib

from alembic import context
from sqlalchemy import MetaData, create_engine, pool, text


def run_migrations(metadata: MetaData) -> None:
    """Runs the pending migrations. Expects the database URL, a Secret, in `config.attributes["url"]`."""
    engine = create_engine(context.config.attributes["url"].reveal(), poolclass=pool.NullPool, hide_parameters=True)
    lock = zlib.crc32((context.script.dir).encode())
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            context.run_migrations()
    engine.dispose()
