"""Signing in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import argon2
import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2
from realmultillm.auth.v1.auth_service_pb2 import ChangePasswordRequest, ListSessionsRequest
from sqlalchemy import Engine, event

from libs.redaction import Secret
from libs.rpc.identity import current_call
from tests.integration.auth.replica import PASSWORD, WRONG, Audited, Auth, reason, replica
from tests.support.rpc import Identities, details, error_info, violations

# The details as bytes, and how many calls are left of the limit.
_OTHERWISE_TOLD = {"grpc-status-details-bin", "ratelimit-remaining", "ratelimit-reset"}


@contextmanager
def statements_of(method: str) -> Iterator[list[str]]:
    """Collects what calls of a method, served in this process, ask of the database."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        try:
            call = current_call()
        except LookupError:
            return
        if call.method.endswith(f"/{method}"):
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


class TestSignIn:
    async def test_opens_another_session_each_time(self, auth: Auth, email: str) -> None:
        first = await auth.sign_up(email)
        second = await auth.sign_in(f" {email.title()}")
        assert second.user == first.user
        assert second.token != first.token
        await auth.session(first.token)
        await auth.session(second.token)

    async def test_unknown_email_and_wrong_password_are_one(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email)
        answers, work = [], []
        for tried in (email, f"not.{email}"):
            before = auth.pool.jobs
            error = await auth.fail_to_sign_in(tried)
            work.append(auth.pool.jobs - before)
            status = details(error, error_details_pb2.ErrorInfo)
            trailing = {key: value for key, value in error.trailing_metadata() if key not in _OTHERWISE_TOLD}
            answers.append((error.code(), error.details(), status, trailing))
        assert answers[0] == answers[1]
        assert answers[0][0] is grpc.StatusCode.UNAUTHENTICATED
        assert answers[0][2][0].reason == "INVALID_CREDENTIALS"
        assert work == [1, 1]

    @pytest.mark.parametrize("addresses", [("", ""), ("192.0.2.200", "192.0.2.201")], ids=["unknown", "known"])
    async def test_unknown_email_and_wrong_password_ask_the_same_of_the_database(
        self, auth: Auth, email: str, addresses: tuple[str, str]
    ) -> None:
        await auth.sign_up(email)
        asked = []
        for tried, address in zip((email, f"not.{email}"), addresses, strict=True):
            with statements_of("SignIn") as statements:
                for _ in range(2):  # the first failure makes the counters
                    await auth.fail_to_sign_in(tried, address=address)
            asked.append(statements)
        assert asked[0] == asked[1]
        assert any("failure_counts" in statement for statement in asked[0])

    async def test_says_everything_that_is_wrong_at_once(self, auth: Auth) -> None:
        before = auth.pool.jobs
        assert violations(await auth.fail_to_sign_in("", "")) == ["email", "password"]
        assert violations(await auth.fail_to_sign_in("a\0@b", "x" * 1025)) == ["email", "password"]
        assert auth.pool.jobs == before

    async def test_is_audited_and_so_is_a_failure(self, auth: Auth, email: str, audited: Audited) -> None:
        user_id = (await auth.sign_up(email)).user.id
        await auth.fail_to_sign_in(email)
        await auth.sign_in(email)
        assert (await audited(f"user/{user_id}"))[1:] == [
            ("", "auth.sign_in_failed", {"reason": "INVALID_CREDENTIALS"}),
            (user_id, "auth.sign_in", {}),
        ]

    async def test_what_was_typed_for_no_account_is_written_nowhere(
        self, auth: Auth, database: psycopg.AsyncConnection
    ) -> None:
        typed = f"{uuid4().hex}@mistyped.example.com"
        await auth.fail_to_sign_in(typed)
        cursor = await database.execute("SELECT audit_logs::text FROM audit_logs WHERE action = 'auth.sign_in_failed'")
        entries = [entry for (entry,) in await cursor.fetchall()]
        assert entries
        assert not [entry for entry in entries if typed in entry]

    async def test_opens_nothing_when_another_password_was_set_meanwhile(
        self, auth: Auth, url: Secret, identity: Identities, email: str
    ) -> None:
        opened = await auth.sign_up(email)
        async with replica(url, identity) as second:
            async with auth.overtaken(auth.sign_in(email)) as signing_in:
                await second.ask(
                    ChangePasswordRequest(current_password=PASSWORD, new_password="another good password"),
                    opened.token,
                )
            assert await reason(signing_in) == "INVALID_CREDENTIALS"
            sessions = await second.ask(ListSessionsRequest(), opened.token)
        assert [session.current for session in sessions.sessions] == [True]

    async def test_opens_nothing_when_the_account_was_disabled_meanwhile(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        async with auth.overtaken(auth.sign_in(email)) as signing_in:
            await database.execute("UPDATE users SET disabled_at = now() WHERE email = %s", [email])
        assert await reason(signing_in) == "ACCOUNT_DISABLED"

    async def test_disabled_account_is_refused_only_with_its_password(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, audited: Audited
    ) -> None:
        opened = await auth.sign_up(email)
        await database.execute("UPDATE users SET disabled_at = now() WHERE email = %s", [email])
        assert error_info(await auth.fail_to_sign_in(email, WRONG)).reason == "INVALID_CREDENTIALS"
        refused = await auth.fail_to_sign_in(email, PASSWORD)
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert error_info(refused).reason == "ACCOUNT_DISABLED"
        assert (await audited(f"user/{opened.user.id}"))[-1] == (
            "",
            "auth.sign_in_failed",
            {"reason": "ACCOUNT_DISABLED"},
        )
        with pytest.raises(grpc.aio.AioRpcError) as unverified:
            await auth.verify(opened.token)
        assert unverified.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_hash_with_older_parameters_is_renewed(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        older = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
        await database.execute("UPDATE users SET password_hash = %s WHERE email = %s", [older, email])
        await auth.fail_to_sign_in(email)
        assert await _password_hash(database, email) == older
        await auth.sign_in(email)
        renewed = await _password_hash(database, email)
        assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        await auth.sign_in(email)
        assert await _password_hash(database, email) == renewed

    async def test_many_at_once_may_renew_the_hash(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        older = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
        await database.execute("UPDATE users SET password_hash = %s WHERE email = %s", [older, email])
        opened = await asyncio.gather(*(auth.sign_in(email) for _ in range(6)))
        assert len({session.token for session in opened}) == 6


async def _password_hash(database: psycopg.AsyncConnection, email: str) -> str:
    cursor = await database.execute("SELECT password_hash FROM users WHERE email = %s", [email])
    (found,) = await cursor.fetchone() or ("",)
    return str(found)
