"""The administrator that the settings name: made at start, or as soon as the database is there; never by signing up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import psycopg
import pytest

from libs.change_feed import ChangeFeed
from libs.database import Transactions, connect
from libs.redaction import Secret
from libs.settings import SettingsError
from services.auth.administrators import Administrators
from services.auth.audit_log import AuditLog
from services.auth.first_administrator import FirstAdministrator, making_first
from services.auth.password_hashing import hashing_in
from services.auth.revocations import CHANNEL, Revocations
from tests.integration.auth.replica import HANGING, PASSWORD, WRONG, reason, refusal, replica
from tests.support.gate import OpenGate, gate
from tests.support.postgres import PostgresServer
from tests.support.rpc import Identities

EMAIL = "root@example.com"


@pytest.fixture
def url(postgres: PostgresServer) -> Secret:
    """A database for each test, without anybody in it."""
    return postgres.fresh_database("auth")


@asynccontextmanager
async def named(url: Secret, email: str | None, password: str | None) -> AsyncIterator[FirstAdministrator]:
    """The administrator that settings name, over a database."""
    async with connect(url) as transactions, hashing_in(1) as hashing:
        yield _named(transactions, hashing, email, password)


def _named(transactions: Transactions, hashing: Any, email: str | None, password: str | None) -> FirstAdministrator:
    administrators = Administrators(transactions, hashing, Revocations(ChangeFeed(CHANNEL)), AuditLog(transactions))
    return FirstAdministrator(administrators, email, None if password is None else Secret(password))


async def administrators_in(database: psycopg.AsyncConnection) -> list[str]:
    cursor = await database.execute("SELECT email FROM users WHERE role = 'admin' AND disabled_at IS NULL")
    return [email for (email,) in await cursor.fetchall()]


class TestAtStart:
    async def test_is_made_before_anybody_is_served(
        self, url: Secret, identity: Identities, database: psycopg.AsyncConnection
    ) -> None:
        async with replica(url, identity, admin_email=f" {EMAIL.title()}", admin_password=PASSWORD) as auth:
            assert (await auth.sign_in(EMAIL)).user.role == "admin"
            assert await reason(auth.sign_up(EMAIL, WRONG)) == "EMAIL_ALREADY_EXISTS"
        assert await administrators_in(database) == [EMAIL]

    async def test_the_first_to_sign_up_is_a_user(
        self, url: Secret, identity: Identities, database: psycopg.AsyncConnection
    ) -> None:
        async with replica(url, identity) as auth:
            assert (await auth.sign_up(EMAIL)).user.role == "user"
        assert await administrators_in(database) == []

    @pytest.mark.parametrize("password", [PASSWORD, None])
    async def test_an_account_that_exists_keeps_its_password(
        self, url: Secret, identity: Identities, password: str | None
    ) -> None:
        async with replica(url, identity) as auth:
            opened = await auth.sign_up(EMAIL)
        async with replica(url, identity, admin_email=EMAIL, admin_password=password) as auth:
            assert await reason(auth.session(opened.token)) == "UNAUTHENTICATED"
            assert (await auth.sign_in(EMAIL)).user.role == "admin"

    async def test_an_account_of_somebody_who_has_another_password_is_left_alone(
        self, url: Secret, identity: Identities, database: psycopg.AsyncConnection
    ) -> None:
        async with replica(url, identity) as auth:
            opened = await auth.sign_up(EMAIL, WRONG)
        async with named(url, EMAIL, PASSWORD) as administrator:
            with pytest.raises(SettingsError, match="leave the password out") as refused:
                async with making_first(administrator):
                    pytest.fail("nobody may be served")
        assert EMAIL not in str(refused.value)
        assert await administrators_in(database) == []
        async with replica(url, identity) as auth:
            assert (await auth.session(opened.token)).user.role == "user"

    async def test_nobody_is_made_while_there_is_an_administrator(
        self, url: Secret, identity: Identities, database: psycopg.AsyncConnection
    ) -> None:
        async with replica(url, identity, admin_email="first@example.com", admin_password=PASSWORD) as auth:
            await auth.sign_up("somebody@example.com")
        for email in (EMAIL, "somebody@example.com"):
            async with replica(url, identity, admin_email=email, admin_password=PASSWORD) as auth:
                # Nobody's account is kept for it either.
                if email == EMAIL:
                    assert (await auth.sign_up(email)).user.role == "user"
        assert await administrators_in(database) == ["first@example.com"]
        await database.execute("UPDATE users SET disabled_at = now() WHERE role = 'admin'")
        async with replica(url, identity, admin_email=EMAIL):
            assert await administrators_in(database) == [EMAIL]

    async def test_replicas_that_start_at_once_make_one(self, url: Secret, database: psycopg.AsyncConnection) -> None:
        async def start() -> None:
            async with named(url, EMAIL, PASSWORD) as administrator, making_first(administrator):
                assert await administrators_in(database) == [EMAIL]

        await asyncio.gather(*(start() for _ in range(4)))
        cursor = await database.execute("SELECT count(*) FROM audit_logs WHERE action = 'user.made_admin'")
        assert await cursor.fetchone() == (1,)

    async def test_needs_a_password_for_an_account_that_does_not_exist(
        self, url: Secret, database: psycopg.AsyncConnection
    ) -> None:
        async with named(url, EMAIL, None) as administrator:
            with pytest.raises(SettingsError, match="AUTH_ADMIN_PASSWORD_FILE is required") as refused:
                async with making_first(administrator):
                    pytest.fail("nobody may be served")
        assert EMAIL not in str(refused.value)
        cursor = await database.execute("SELECT count(*) FROM users")
        assert await cursor.fetchone() == (0,)


class TestBeforeTheDatabase:
    async def test_is_made_as_soon_as_the_database_is_there(
        self, url: Secret, identity: Identities, database: psycopg.AsyncConnection
    ) -> None:
        async with (
            gate(url) as (gate_url, open_gate),
            replica(gate_url, identity, admin_email=EMAIL, admin_password=PASSWORD) as auth,
        ):
            refused = await refusal(auth.sign_up(EMAIL, WRONG))
            assert refused.code() is grpc.StatusCode.UNAVAILABLE
            assert dict(refused.trailing_metadata())["retry-after"]
            await open_gate()
            # Whoever is fast enough finds the account taken, or about to be.
            async with asyncio.timeout(HANGING):
                while (await reason(auth.sign_up(EMAIL, WRONG))) != "EMAIL_ALREADY_EXISTS":
                    await asyncio.sleep(0.01)
            assert (await auth.sign_in(EMAIL)).user.role == "admin"
            assert (await auth.sign_up("somebody@example.com")).user.role == "user"

    async def test_nobody_else_waits_for_it(self, url: Secret, identity: Identities) -> None:
        async with gate(url) as (gate_url, open_gate), named(gate_url, EMAIL, PASSWORD) as administrator:
            assert not await administrator.try_to_make()
            administrator.check_sign_up("somebody@example.com")
            await open_gate()
            assert await administrator.try_to_make()
            administrator.check_sign_up(EMAIL)

    async def test_ends_the_service_that_lacks_a_password(self, url: Secret, database: psycopg.AsyncConnection) -> None:
        ended = asyncio.Event()

        async def serve(administrator: FirstAdministrator, open_gate: OpenGate) -> None:
            async with making_first(administrator):
                await open_gate()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()

        async with gate(url) as (gate_url, open_gate), named(gate_url, EMAIL, None) as administrator:
            with pytest.raises(SettingsError, match="AUTH_ADMIN_PASSWORD_FILE is required"):
                async with asyncio.timeout(HANGING):
                    await serve(administrator, open_gate)
        assert ended.is_set()
        assert await administrators_in(database) == []

    async def test_waits_for_the_tables_too(
        self, url: Secret, database: psycopg.AsyncConnection, postgres: PostgresServer
    ) -> None:
        async with await psycopg.AsyncConnection.connect(postgres.superuser_url(url), autocommit=True) as operator:
            await operator.execute("ALTER TABLE auth.users RENAME TO users_to_be")
            async with named(url, EMAIL, PASSWORD) as administrator, making_first(administrator):
                await operator.execute("ALTER TABLE auth.users_to_be RENAME TO users")
                async with asyncio.timeout(HANGING):
                    while await administrators_in(database) != [EMAIL]:
                        await asyncio.sleep(0.01)

    async def test_leaves_a_service_that_stops_in_peace(self, url: Secret) -> None:
        async with gate(url) as (gate_url, _), named(gate_url, EMAIL, PASSWORD) as administrator:
            async with making_first(administrator):
                pass
            with pytest.raises(ZeroDivisionError):
                async with making_first(administrator):
                    _ = 1 / 0
