"""What time has ended is removed, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import psycopg
from realmultillm.auth.v1.api_token_service_pb2 import CreateApiTokenRequest

from libs.database import Transactions
from services.auth.api_tokens import LISTED_AFTER_END
from services.auth.expiry import remove_ended
from tests.integration.auth.replica import LIFETIMES, Auth


async def ids(database: psycopg.AsyncConnection, table: str, user_id: str) -> set[str]:
    cursor = await database.execute(f"SELECT id FROM {table} WHERE user_id = %s", [user_id])
    return {found for (found,) in await cursor.fetchall()}


class TestRemoval:
    async def test_takes_the_sessions_that_have_ended_either_way(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, transactions: Transactions
    ) -> None:
        opened = [await auth.sign_up(email), *[await auth.sign_in(email) for _ in range(3)]]
        old, unused, *kept = [(await auth.verify(session.token)).token_id for session in opened]
        await database.execute("UPDATE sessions SET expire_time = now() WHERE id = %s", [old])
        await database.execute("UPDATE sessions SET last_use_time = now() - %s WHERE id = %s", [LIFETIMES.idle, unused])
        assert await remove_ended(transactions, LIFETIMES.idle) == 2
        assert await ids(database, "sessions", opened[0].user.id) == set(kept)

    async def test_takes_api_tokens_a_month_after_their_end(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, transactions: Transactions
    ) -> None:
        opened = await auth.sign_up(email)
        gone, listed, endless = [
            (await auth.ask(CreateApiTokenRequest(name="nightly"), opened.token)).id for _ in range(3)
        ]
        for token_id, ended in ((gone, LISTED_AFTER_END), (listed, LISTED_AFTER_END - timedelta(minutes=1))):
            await database.execute("UPDATE api_tokens SET expire_time = now() - %s WHERE id = %s", [ended, token_id])
        assert await remove_ended(transactions, LIFETIMES.idle) == 1
        assert await ids(database, "api_tokens", opened.user.id) == {listed, endless}

    async def test_takes_forgotten_failures(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, transactions: Transactions
    ) -> None:
        await auth.fail_to_sign_in(email)
        await database.execute("UPDATE failure_counts SET forget_time = now()")
        assert await remove_ended(transactions, LIFETIMES.idle) >= 1
        cursor = await database.execute("SELECT count(*) FROM failure_counts")
        assert await cursor.fetchone() == (0,)
