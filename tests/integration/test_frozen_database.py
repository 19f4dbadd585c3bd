"""A Postgres that is frozen keeps nobody longer than their deadline, and is as good as ever when it is back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from libs import database_connection
from libs.database import Transactions, connect
from libs.errors import Unavailable
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually, within_bound

PID = text("SELECT pg_backend_pid()")


@pytest.fixture
async def transactions(postgres: PostgresServer) -> AsyncIterator[Transactions]:
    async with connect(postgres.fresh_database("analytics"), pool_size=1) as transactions:
        yield transactions


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_connection, "_PING_SECONDS", 0.2)


async def backend(transactions: Transactions) -> int:
    """Returns the process of the one connection of the pool."""
    async with transactions() as session:
        pid: int = (await session.execute(PID)).scalar_one()
    return pid


def parent(pid: int) -> int:
    """Returns the process that started another."""
    _, _, after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    return int(after_name.split()[1])


async def test_who_is_cancelled_leaves_while_it_is_still_frozen(transactions: Transactions) -> None:
    pid = await backend(transactions)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await transactions.ping()
        # The connection was given up; another one does.
        await within_bound(transactions.ping())
        assert await backend(transactions) != pid
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("prompt")
async def test_who_comes_while_it_is_frozen_gets_another_connection(transactions: Transactions) -> None:
    pid = await backend(transactions)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert await within_bound(backend(transactions)) != pid
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("prompt")
async def test_who_comes_while_the_whole_server_is_frozen_is_told(transactions: Transactions) -> None:
    pid = await backend(transactions)
    server = parent(pid)
    os.kill(pid, signal.SIGSTOP)
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            await within_bound(transactions.ping())
    finally:
        os.kill(server, signal.SIGCONT)
        os.kill(pid, signal.SIGCONT)
    await within_bound(transactions.ping())


async def test_a_statement_that_nobody_waits_for_is_ended(transactions: Transactions) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), transactions() as session:
            await session.execute(text("SELECT pg_sleep(600)"))

    async def running() -> int:
        async with transactions() as session:
            asked = text(
                "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'"
            )
            count: int = (await session.execute(asked)).scalar_one()
        return count

    await eventually(running, lambda count: count == 0)
