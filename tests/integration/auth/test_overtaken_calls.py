"""Calls that were let in and had to wait: whoever held the account has meanwhile ended what they came with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import psycopg
import pytest
from google.protobuf.message import Message
from realmultillm.auth.v1.api_token_service_pb2 import CreateApiTokenRequest, DeleteApiTokenRequest
from realmultillm.auth.v1.auth_service_pb2 import (
    ChangePasswordRequest,
    DeleteOtherSessionsRequest,
    DeleteSessionRequest,
)
from realmultillm.auth.v1.user_admin_service_pb2 import UpdateUserRequest

from tests.integration.auth.replica import HANGING, PASSWORD, Auth, reason

ENDED = "DELETE FROM sessions WHERE id = %(session)s"
DISABLED = "UPDATE users SET disabled_at = now() WHERE id = %(user)s"

BLOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"


async def overtaken(
    database: psycopg.AsyncConnection, call: Awaitable[object], change: str, *, user: str, session: str
) -> str:
    """Begins a call, lets it wait for the account while that is changed, and returns the reason it is refused with."""
    async with asyncio.timeout(HANGING):
        async with database.transaction():
            await database.execute("SELECT 1 FROM users WHERE id = %s FOR UPDATE", [user])
            begun = asyncio.ensure_future(call)
            while await (await database.execute(BLOCKED)).fetchone() == (0,):
                assert not begun.done()
                await asyncio.sleep(0.01)
            await database.execute(change, {"user": user, "session": session})
        return await reason(begun)


async def rows(database: psycopg.AsyncConnection, table: str, user_id: str) -> list[str]:
    cursor = await database.execute(f"SELECT id FROM {table} WHERE user_id = %s ORDER BY id", [user_id])
    return [row_id for (row_id,) in await cursor.fetchall()]


class TestPeople:
    @pytest.mark.parametrize("change", [ENDED, DISABLED], ids=["session ended", "account disabled"])
    @pytest.mark.parametrize(
        "method", ["CreateApiToken", "DeleteApiToken", "DeleteSession", "DeleteOtherSessions", "ChangePassword"]
    )
    async def test_nothing_is_done(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, method: str, change: str
    ) -> None:
        opened, other = await auth.sign_up(email), await auth.sign_in(email)
        session, kept = (await auth.verify(opened.token)).token_id, (await auth.verify(other.token)).token_id
        token = await auth.ask(CreateApiTokenRequest(name="kept"), opened.token)
        requests: dict[str, Message] = {
            "CreateApiToken": CreateApiTokenRequest(name="another"),
            "DeleteApiToken": DeleteApiTokenRequest(id=token.id),
            "DeleteSession": DeleteSessionRequest(id=kept),
            "DeleteOtherSessions": DeleteOtherSessionsRequest(),
            "ChangePassword": ChangePasswordRequest(current_password=PASSWORD, new_password="nine green kettles"),
        }

        refused = await overtaken(
            database, auth.ask(requests[method], opened.token), change, user=opened.user.id, session=session
        )

        disabled = change == DISABLED
        assert refused == ("ACCOUNT_DISABLED" if disabled and method == "ChangePassword" else "UNAUTHENTICATED")
        assert await rows(database, "api_tokens", opened.user.id) == [token.id]
        assert kept in await rows(database, "sessions", opened.user.id)
        await database.execute("UPDATE users SET disabled_at = NULL WHERE id = %s", [opened.user.id])
        await auth.sign_in(email)


class TestAdministrators:
    async def test_nothing_is_done_by_an_ended_session(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened, person = await auth.sign_up(email), await auth.sign_up(f"bob.{email}")
        await database.execute("UPDATE users SET role = 'admin' WHERE id = %s", [opened.user.id])
        session = (await auth.verify(opened.token)).token_id
        call = auth.ask(UpdateUserRequest(id=person.user.id, role="admin"), opened.token)

        assert await overtaken(database, call, ENDED, user=opened.user.id, session=session) == "UNAUTHENTICATED"

        assert (await auth.session(person.token)).user.role == "user"
