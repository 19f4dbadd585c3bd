"""Postgres for the services that own tables: a pool, transactions, migrations. One schema and two roles each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import alembic.command
import alembic.config
from sqlalchemy import ExceptionContext, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from libs.database_connection import PromptConnection
from libs.database_metrics import TransactionMetrics
from libs.errors import DeadlineExceeded, Unavailable
from libs.redaction import Secret
from libs.rpc.identity import current_span
from libs.tracing import part_of

ROOT = Path(__file__).resolve().parent.parent

# How long a statement may run and a call may wait for a connection, in seconds. Both lie below the default
# deadline of a method, so that the caller hears UNAVAILABLE from us rather than nothing.
_STATEMENT_SECONDS = 10
_POOL_WAIT_SECONDS = 5
_CONNECT_SECONDS = 3
# How long a transaction may do nothing. Whoever is frozen or cut off in the middle of one lets go of its locks then,
# sooner than those who wait for them give up.
_IDLE_IN_TRANSACTION_SECONDS = 5
# How soon a connection counts as lost on which nothing comes back, in seconds: while it is silent, and while what was
# sent is not acknowledged. No time limit of the server's reaches through a dead connection.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
_UNACKNOWLEDGED_SECONDS = 10

# Not a bug, though psycopg counts the first three among the internal errors: the server is a standby by now, or has
# ended the session. Another connection may do, so that all of the pool are opened anew.
_TRY_ANOTHER_CONNECTION = {
    "25006",  # read_only_sql_transaction
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
    "57P04",  # database_dropped
    "57P05",  # idle_session_timeout
}
_QUERY_CANCELED = "57014"

_POSTGRES = {"db.system.name": "postgresql"}

_STATEMENT_TIMEOUT = text("SELECT set_config('statement_timeout', :timeout, true)")


class Transactions:
    """Hands out database transactions; call it for one: `async with transactions() as session`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.metrics = TransactionMetrics(engine)

    @asynccontextmanager
    async def __call__(self, *, statement_seconds: int | None = None) -> AsyncIterator[AsyncSession]:
        """Opens a transaction that commits at the end of the block and rolls back when the block raises.

        Raises Unavailable when the database cannot be reached or does not answer in time. With `statement_seconds` a
        statement may run longer than usual, as the caller asked for what may be much; one that runs longer still raises
        DeadlineExceeded.
        """
        try:
            with self.metrics.counting(), part_of(current_span(), "transaction", _POSTGRES):
                async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
                    if statement_seconds is not None:
                        await session.execute(_STATEMENT_TIMEOUT, {"timeout": f"{statement_seconds}s"})
                    yield session
        except (OperationalError, InterfaceError) as error:
            if statement_seconds is not None and _sqlstate(error.orig) == _QUERY_CANCELED:
                raise DeadlineExceeded(
                    f"This was not found within {statement_seconds} seconds; "
                    "ask for less: a shorter span of time, or a narrower query.",
                    seconds=str(statement_seconds),
                ) from error
            raise _unavailable() from error
        except PoolTimeoutError as error:
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


def _sqlstate(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None)


def _give_up_connections(context: ExceptionContext) -> None:
    if _sqlstate(context.original_exception) in _TRY_ANOTHER_CONNECTION:
        context.is_disconnect = True


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
            "async_creator_fn": PromptConnection.connect,
            "connect_timeout": _CONNECT_SECONDS,
            "tcp_user_timeout": _UNACKNOWLEDGED_SECONDS * 1000,
            # To compile a statement takes Postgres longer than to run any of ours.
            "options": f"-c jit=off -c statement_timeout={_STATEMENT_SECONDS}s "
            f"-c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_SECONDS}s -c timezone=UTC",
            **_KEEPALIVES,
        },
    )
    event.listen(engine.sync_engine, "handle_error", _give_up_connections)
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
