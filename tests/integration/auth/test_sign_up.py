"""Signing up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from realmultillm.auth.v1.auth_service_pb2 import (
    SignInResponse,
)

from libs import tokens
from libs.rpc.access_policy import SESSION_SCOPES
from services.auth import emails
from tests.integration.auth.replica import PASSWORD, Audited, Auth, refusal
from tests.support.rpc import error_info, violations


class TestSignUp:
    async def test_opens_a_session_for_the_new_account(self, auth: Auth, email: str) -> None:
        before = datetime.now(UTC) - timedelta(seconds=5)
        opened = await auth.sign_up(f"  {email.upper()} ", name=" Ada Lovelace ")
        assert opened.user.email == email
        assert opened.user.name == "Ada Lovelace"
        assert opened.user.role == "user"
        assert opened.user.id.startswith("usr_")
        assert before < opened.user.create_time.ToDatetime(UTC) < datetime.now(UTC) + timedelta(seconds=5)
        assert tokens.well_formed(opened.token)
        session = await auth.session(opened.token)
        assert session.user == opened.user
        # The session was used again.
        assert opened.expire_time.ToDatetime() < session.expire_time.ToDatetime()
        assert set(session.scopes) == SESSION_SCOPES - {"admin"}
        assert timedelta(minutes=59) < opened.expire_time.ToDatetime(UTC) - before < timedelta(minutes=61)

    async def test_names_people_after_their_email_by_default(self, auth: Auth, email: str) -> None:
        assert (await auth.sign_up(email)).user.name == emails.local_part(email)

    async def test_taken_email_is_refused_after_the_same_work(self, auth: Auth, email: str) -> None:
        before = auth.pool.jobs
        await auth.sign_up(email)
        work = auth.pool.jobs - before
        refused = await refusal(auth.sign_up(email.upper(), "another good password"))
        assert refused.code() is grpc.StatusCode.ALREADY_EXISTS
        assert error_info(refused).reason == "EMAIL_ALREADY_EXISTS"
        assert auth.pool.jobs - before == 2 * work == 2
        await auth.sign_in(email)

    async def test_is_audited_once_it_has_succeeded(self, auth: Auth, email: str, audited: Audited) -> None:
        opened = await auth.sign_up(email)
        await refusal(auth.sign_up(email))
        assert await audited(f"user/{opened.user.id}") == [(opened.user.id, "auth.sign_up", {})]

    async def test_of_many_at_once_exactly_one_wins(self, auth: Auth, email: str) -> None:
        passwords = [f"{PASSWORD} {number}" for number in range(8)]
        outcomes = await asyncio.gather(
            *(auth.sign_up(email, password) for password in passwords), return_exceptions=True
        )
        winners = [password for password, outcome in zip(passwords, outcomes, strict=True) if _opened(outcome)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
        assert len(winners) == 1
        assert {error_info(loser).reason for loser in losers} == {"EMAIL_ALREADY_EXISTS"}
        assert len(losers) == 7
        await auth.sign_in(email, winners[0])

    async def test_says_everything_that_is_wrong_at_once(self, auth: Auth) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await auth.sign_up("nobody", "short", "n" * 201)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(refused.value) == ["email", "password", "name"]
        assert "short" not in str(refused.value.details())

    @pytest.mark.parametrize("name", ["a\0b", "two\nlines", "\x1b[31mred"])
    async def test_names_that_would_break_a_line_are_refused(self, auth: Auth, email: str, name: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await auth.sign_up(email, name=name)
        assert violations(refused.value) == ["name"]


def _opened(outcome: object) -> bool:
    return isinstance(outcome, SignInResponse)
