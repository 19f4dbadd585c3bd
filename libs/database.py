"""Postgres for the services that own tables: a pool, transactions, migrations. One schema and two roles each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import alembic.command
import alembic.config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from libs.errors import Unavailable
from libs.redaction import Secret

ROOT = Path(__file__).resolve().parent.parent

# How long a statement may run and a call may wait for a connection, in seconds. Both lie below the default
# deadline of a method, so that the caller hears UNAVAILABLE from us rather than nothing.
_STATEMENT_SECONDS = 10
_POOL_WAIT_SECONDS = 5
_CONNECT_SECONDS = 3


class Transactions:
    """Hands out database transactions; call it for one: `async with transactions() as session`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[AsyncSession]:
        """Opens a transaction that commits at the end of the block and rolls back when the block raises.

        Raises Unavailable when the database cannot be reached or does not answer in time.
        """
        try:
            async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise _unavailable() from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _unavailable() from error
            raise

    async def ping(self) -> None:
        """Asks the database for a sign of life. Raises Unavailable."""
        async with self() as session:
            await session.execute(text("SELECT 1"))


def libpq_url(url: Secret) -> str:
    """Returns the URL as psycopg itself takes it: without the name of the driver, which is SQLAlchemy's."""
    return url.reveal().replace("postgresql+psycopg://", "postgresql://", 1)


def _unavailable() -> Unavailable:
    return Unavailable("The database is not available; try again in a moment.", retry_after=2)


@asynccontextmanager
async def connect(url: Secret, *, pool_size: int = 10) -> AsyncIterator[Transactions]:
    """Opens a pool of connections. Connects when first used, so that a service can start before its database."""
    engine = create_async_engine(
        url.reveal(),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_SECONDS,
        pool_pre_ping=True,
        pool_recycle=1800,
        # Bound values may be secrets; SQLAlchemy would print them in its exceptions.
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_SECONDS,
            "options": f"-c statement_timeout={_STATEMENT_SECONDS}s -c timezone=UTC",
        },
    )
    try:
        yield Transactions(engine)
    finally:
        await engine.dispose()


def upgrade(url: Secret, package: str) -> None:
    """Brings a service's schema up to date with the Alembic migrations in `<package>/migrations`.

    Blocking. Several may run at once: the migrations of one service take an advisory lock.
    """
    config = alembic.config.Config()
    config.set_main_option("script_location", str(ROOT.joinpath(*package.split("."), "migrations")).replace("%", "%%"))
    config.attributes |= {"url": url, "package": package}
    alembic.command.upgrade(config, "head")
