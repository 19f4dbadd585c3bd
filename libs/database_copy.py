"""Rows on their way into Postgres in bulk: COPY in its binary form, a fraction of the work of INSERT."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


async def copy_rows(session: AsyncSession, table: Table, rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows, whose values are those of all columns in their order, within the transaction of a session.

    Raises the errors that `session.execute` would raise.
    """
    names = ", ".join(_DIALECT.identifier_preparer.format_column(column) for column in table.columns)
    statement = f"COPY {_DIALECT.identifier_preparer.format_table(table)} ({names}) FROM STDIN (FORMAT BINARY)"
    connection = await session.connection()
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    try:
        async with driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            # Binary values say nothing of their types: they must be those of the columns.
            copy.set_types([column.type.compile(_DIALECT).lower() for column in table.columns])
            try:
                for row in rows:
                    await copy.write_row(row)
            except asyncio.CancelledError:
                # To end a COPY in order takes a word of the server's, for which nobody waits any more.
                driver.pgconn.finish()
                raise
    except psycopg.Error as error:
        # As SQLAlchemy does with what passes through its own hands, so that nobody needs to know two kinds of errors.
        raise DBAPIError.instance(statement, None, error, psycopg.Error, hide_parameters=True) from error
    finally:
        if driver.closed:
            # Also as SQLAlchemy does; there is nothing to roll back on it.
            await connection.invalidate()
