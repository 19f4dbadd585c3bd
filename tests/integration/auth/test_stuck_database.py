"""What is stuck, frozen or too slow, in a replica or in the database, stops nobody else and is told as what it is."""

from __future__ import annotations

import os
import socket
import zlib

import grpc
import psycopg
import pytest
from realmultillm.auth.v1.audit_log_service_pb2 import ListAuditLogsRequest
from realmultillm.auth.v1.user_admin_service_pb2 import ListUsersRequest
from sqlalchemy import text

from libs.audit import AuditEvent
from libs.database import Transactions, connect
from libs.errors import DeadlineExceeded, Unavailable
from libs.redaction import Secret
from services.auth.audit_log import AuditLog
from tests.integration.auth.replica import Auth, refusal
from tests.support.postgres import PostgresServer, database_of

CHAIN = zlib.crc32(b"services.auth.audit_log")


class TestFrozenReplica:
    async def test_lets_go_of_the_chain_before_others_give_up(
        self, auth: Auth, url: Secret, email: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("libs.database._IDLE_IN_TRANSACTION_SECONDS", 1)
        async with connect(url) as frozen:
            audit = AuditLog(frozen)
            with pytest.raises(Unavailable):  # noqa: PT012 - what came before it counts
                async with frozen() as tx:
                    await audit.append(tx, AuditEvent("auth.sign_in", "user/frozen"))
                    # It does nothing more, and everybody who signs up needs the chain.
                    await auth.sign_up(email)
            assert await audit.store_own([AuditEvent("auth.sign_in")]) == 1

    async def test_is_missed_by_a_dead_connection_too(self, transactions: Transactions) -> None:
        async with transactions() as tx:
            connection = await (await tx.connection()).get_raw_connection()
            assert isinstance(connection.driver_connection, psycopg.AsyncConnection)
            with socket.socket(fileno=os.dup(connection.driver_connection.fileno())) as end:
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert 0 < end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 10
                assert 0 < end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 10_000


class TestStandby:
    async def test_what_cannot_write_any_more_is_left_for_one_that_can(
        self, postgres: PostgresServer, url: Secret
    ) -> None:
        with psycopg.connect(postgres.superuser_url(url), autocommit=True) as superuser:
            superuser.execute(f"ALTER ROLE auth IN DATABASE {database_of(url)} SET default_transaction_read_only = on")
            async with connect(url) as transactions:
                audit = AuditLog(transactions)
                with pytest.raises(Unavailable):
                    await audit.store_own([AuditEvent("auth.sign_in")])
                superuser.execute(f"ALTER ROLE auth IN DATABASE {database_of(url)} RESET ALL")
                assert await audit.store_own([AuditEvent("auth.sign_in")]) == 1

    @pytest.mark.parametrize("state", ["25P03", "25P04", "57P01", "57P02", "57P05"])
    async def test_so_is_one_that_has_ended_the_session(self, transactions: Transactions, state: str) -> None:
        with pytest.raises(Unavailable):
            async with transactions() as tx:
                await tx.execute(text(f"DO $$ BEGIN RAISE EXCEPTION SQLSTATE '{state}'; END $$"))
        await transactions.ping()


class TestSlowStatement:
    async def test_may_take_longer_where_the_caller_asks_for_much(
        self, url: Secret, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("libs.database._STATEMENT_SECONDS", 1)
        slow = text("SELECT pg_sleep(1.5)")
        async with connect(url, pool_size=1) as transactions:
            async with transactions(statement_seconds=10) as tx:
                await tx.execute(slow)
            with pytest.raises(Unavailable):
                async with transactions() as tx:
                    await tx.execute(slow)

    async def test_that_is_canceled_then_says_to_ask_for_less(self, transactions: Transactions) -> None:
        with pytest.raises(DeadlineExceeded, match="ask for less"):
            async with transactions(statement_seconds=1) as tx:
                await tx.execute(text("SELECT pg_sleep(20)"))

    async def test_of_a_list_is_told_to_the_administrator(
        self, auth: Auth, email: str, postgres: PostgresServer, url: Secret, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.auth.audit_log._LIST_SECONDS", 1)
        monkeypatch.setattr("services.auth.user_administration._LIST_SECONDS", 1)
        admin = await auth.sign_up(email)
        async with await psycopg.AsyncConnection.connect(postgres.superuser_url(url), autocommit=True) as superuser:
            await superuser.execute("UPDATE auth.users SET role = 'admin' WHERE id = %s", [admin.user.id])
            for request, table in ((ListAuditLogsRequest(), "audit_logs"), (ListUsersRequest(), "api_tokens")):
                # It could as well have many rows: the service waits for the statement.
                async with superuser.transaction():
                    await superuser.execute(f"LOCK auth.{table}")
                    error = await refusal(auth.ask(request, admin.token))
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                assert "ask for less" in str(error.details())


class TestOwnEvents:
    async def test_are_sent_again_when_they_were_not_taken_in_time(
        self, transactions: Transactions, database: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.auth.audit_log._STORE_SECONDS", 0.1)
        async with database.transaction():
            await database.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN])
            with pytest.raises(Unavailable, match="in time"):
                await AuditLog(transactions).store_own([AuditEvent("access.denied")])
