"""Changing the password: who knows the old one may, once, and every other session ends."""

from __future__ import annotations

import asyncio

import grpc
import psycopg
import pytest
from realmultillm.auth.v1.api_token_service_pb2 import CreateApiTokenRequest
from realmultillm.auth.v1.auth_service_pb2 import (
    ChangePasswordRequest,
    ChangePasswordResponse,
    ListSessionsRequest,
    SignInResponse,
)

from libs.errors import Unauthenticated
from tests.integration.auth.replica import (
    ADDRESS,
    HANGING,
    PASSWORD,
    WRONG,
    Audited,
    Auth,
    reason,
    refusal,
)
from tests.support.rpc import error_info, violations

NEW = "nine green kettles"
FREE = 5


def change(current: str = PASSWORD, new: str = NEW) -> ChangePasswordRequest:
    return ChangePasswordRequest(current_password=current, new_password=new)


class TestChange:
    async def test_only_the_new_password_opens_the_account(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        answer: ChangePasswordResponse = await auth.ask(change(), opened.token)
        assert answer.success
        assert answer.ended_sessions == 0
        assert error_info(await auth.fail_to_sign_in(email, PASSWORD)).reason == "INVALID_CREDENTIALS"
        await auth.sign_in(email, NEW)

    async def test_ends_all_other_sessions_everywhere(self, auth: Auth, email: str) -> None:
        opened, other = await auth.sign_up(email), await auth.sign_in(email)
        await auth.sign_in(email)
        async with auth.another_service() as verifier:
            await verifier.verify(other.token)
            assert (await auth.ask(change(), opened.token)).ended_sessions == 2
            async with asyncio.timeout(HANGING):
                await verifier.heard.wait()
            with pytest.raises(Unauthenticated):
                await verifier.verify(other.token)
            await verifier.verify(opened.token)
        sessions = (await auth.ask(ListSessionsRequest(), opened.token)).sessions
        assert [session.current for session in sessions] == [True]

    async def test_leaves_api_tokens(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        made = await auth.ask(CreateApiTokenRequest(name="nightly"), opened.token)
        await auth.ask(change(), opened.token)
        assert (await auth.verify(made.token)).token_id == made.id

    async def test_is_audited_and_so_is_a_failure(self, auth: Auth, email: str, audited: Audited) -> None:
        opened = await auth.sign_up(email)
        await auth.sign_in(email)
        await refusal(auth.ask(change(WRONG), opened.token))
        await auth.ask(change(), opened.token)
        assert (await audited(f"user/{opened.user.id}"))[2:] == [
            (opened.user.id, "auth.password_change_failed", {"reason": "INVALID_CREDENTIALS"}),
            (opened.user.id, "auth.password_changed", {"endedSessions": "1"}),
        ]

    async def test_needs_a_session(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        made = await auth.ask(CreateApiTokenRequest(name="nightly", scopes=["chat", "config"]), opened.token)
        assert await reason(auth.ask(change(), made.token)) == "INSUFFICIENT_SCOPE"
        assert await reason(auth.ask(change())) == "UNAUTHENTICATED"


class TestRefusal:
    async def test_wrong_password_changes_nothing(self, auth: Auth, email: str) -> None:
        opened, other = await auth.sign_up(email), await auth.sign_in(email)
        refused = await refusal(auth.ask(change(WRONG), opened.token))
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
        assert error_info(refused).reason == "INVALID_CREDENTIALS"
        await auth.session(opened.token)
        await auth.session(other.token)
        await auth.sign_in(email)

    @pytest.mark.parametrize("new", ["short", "password12345", "x" * 1025, PASSWORD])
    async def test_new_password_must_keep_the_rules_and_be_another(self, auth: Auth, email: str, new: str) -> None:
        opened = await auth.sign_up(email)
        before = auth.pool.jobs
        assert violations(await refusal(auth.ask(change(new=new), opened.token))) == ["newPassword"]
        assert auth.pool.jobs == before

    async def test_says_everything_that_is_wrong_at_once(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        refused = await refusal(auth.ask(change("", email), opened.token))
        assert violations(refused) == ["currentPassword", "newPassword"]


class TestGuessing:
    """Whoever found a session must not find the password out by it."""

    async def test_has_to_wait_as_at_signing_in(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, audited: Audited
    ) -> None:
        opened = await auth.sign_up(email)
        for _ in range(FREE + 1):
            assert await reason(auth.ask(change(WRONG), opened.token)) == "INVALID_CREDENTIALS"
        before = auth.pool.jobs
        refused = await refusal(auth.ask(change(), opened.token))
        assert error_info(refused).reason == "TOO_MANY_ATTEMPTS"
        assert auth.pool.jobs == before
        # The failures are those of the account, however it is tried.
        assert error_info(await auth.fail_to_sign_in(email, PASSWORD)).reason == "TOO_MANY_ATTEMPTS"
        await database.execute("UPDATE failure_counts SET blocked_until = now()")
        await auth.ask(change(), opened.token)
        await auth.sign_in(email, NEW)

    async def test_counts_for_the_address(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email, address=ADDRESS)
        for _ in range(FREE + 1):
            await refusal(auth.ask(change(WRONG), opened.token, address=ADDRESS))
        assert await reason(auth.ask(change(), opened.token, address=ADDRESS)) == "TOO_MANY_ATTEMPTS"
        # Elsewhere the account has failures of its own.
        await auth.ask(change(), opened.token, address="192.0.2.77")


class TestAtOnce:
    async def test_of_two_changes_one_wins(self, auth: Auth, email: str) -> None:
        opened = [await auth.sign_up(email), await auth.sign_in(email)]
        wanted = ["nine green kettles", "nine blue kettles"]
        outcomes = await asyncio.gather(
            *(auth.ask(change(new=new), session.token) for new, session in zip(wanted, opened, strict=True)),
            return_exceptions=True,
        )
        (winner,) = (number for number, outcome in enumerate(outcomes) if isinstance(outcome, ChangePasswordResponse))
        (lost,) = (outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError))
        assert lost.code() is grpc.StatusCode.UNAUTHENTICATED
        await auth.session(opened[winner].token)
        assert await reason(auth.session(opened[1 - winner].token)) == "UNAUTHENTICATED"
        await auth.sign_in(email, wanted[winner])
        await auth.fail_to_sign_in(email, wanted[1 - winner])

    async def test_change_overtaken_by_another_is_refused(self, auth: Auth, email: str) -> None:
        first, second = await auth.sign_up(email), await auth.sign_in(email)
        async with auth.overtaken(auth.ask(change(new="nine blue kettles"), first.token)) as overtaken:
            # Both have proved the old password before either is stored.
            overtaking: asyncio.Task[SignInResponse] = asyncio.ensure_future(auth.ask(change(), second.token))
        outcomes = await asyncio.gather(overtaken, overtaking, return_exceptions=True)
        assert sum(isinstance(outcome, ChangePasswordResponse) for outcome in outcomes) == 1
