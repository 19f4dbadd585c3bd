"""Guessing passwords: whoever fails has to wait, and nobody else."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import grpc
import psycopg
from google.rpc import error_details_pb2

from libs.audit import AuditEvent
from tests.integration.auth.replica import ADDRESS, PASSWORD, WRONG, Auth
from tests.support.rpc import details, error_info
from tests.support.waiting import eventually


class TestGuessing:
    FREE = 5
    FREE_AT_ADDRESS = 50

    async def let_time_pass(self, database: psycopg.AsyncConnection) -> None:
        await database.execute("UPDATE failure_counts SET blocked_until = now()")

    async def test_has_to_wait_longer_and_longer(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        for _ in range(self.FREE + 1):
            assert error_info(await auth.fail_to_sign_in(email)).reason == "INVALID_CREDENTIALS"
        for seconds in (2, 4, 8):
            before = auth.pool.jobs
            error = await auth.fail_to_sign_in(email, PASSWORD)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error_info(error).reason == "TOO_MANY_ATTEMPTS"
            (retry,) = details(error, error_details_pb2.RetryInfo)
            assert seconds / 2 <= retry.retry_delay.seconds <= seconds
            assert dict(error.trailing_metadata())["retry-after"] == str(retry.retry_delay.seconds)
            assert auth.pool.jobs == before, "a refused attempt must cost nothing"
            await self.let_time_pass(database)
            assert error_info(await auth.fail_to_sign_in(email)).reason == "INVALID_CREDENTIALS"

    async def test_refused_try_is_noted_without_the_email(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        for tried in (email, f"not.{email}"):
            for _ in range(self.FREE + 2):
                await auth.fail_to_sign_in(tried, address="198.51.100.200")

        async def noted() -> list[AuditEvent]:
            return [event for event in auth.noted if event.address == "198.51.100.200"]

        events = await eventually(noted, lambda events: len(events) == 2)
        assert [event.action for event in events] == ["auth.sign_in_delayed"] * 2
        assert [event.resource for event in events] == [f"user/{opened.user.id}", ""]
        assert email not in str(events)

    async def test_success_after_the_wait_clears_the_account(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        for _ in range(self.FREE + 3):
            await auth.fail_to_sign_in(email)
            await self.let_time_pass(database)
        await auth.sign_in(email)
        for _ in range(self.FREE):
            assert error_info(await auth.fail_to_sign_in(email)).reason == "INVALID_CREDENTIALS"
        await auth.sign_in(email)

    async def test_an_account_that_does_not_exist_waits_alike(self, auth: Auth, email: str) -> None:
        for _ in range(self.FREE + 1):
            assert error_info(await auth.fail_to_sign_in(email)).reason == "INVALID_CREDENTIALS"
        assert error_info(await auth.fail_to_sign_in(email)).reason == "TOO_MANY_ATTEMPTS"

    async def test_after_a_wait_only_one_of_many_at_once_is_let_through(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        for _ in range(self.FREE + 1):
            await auth.fail_to_sign_in(email)
        await self.let_time_pass(database)
        errors = await asyncio.gather(*(auth.fail_to_sign_in(email) for _ in range(8)))
        reasons = [error_info(error).reason for error in errors]
        assert sorted(reasons) == ["INVALID_CREDENTIALS"] + ["TOO_MANY_ATTEMPTS"] * 7

    async def test_owner_at_home_is_not_kept_out_by_an_attack_from_elsewhere(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email, address=ADDRESS)
        for number in range(self.FREE + 1):
            await auth.fail_to_sign_in(email, address=f"198.51.100.{number}")
        refused = await auth.fail_to_sign_in(email, PASSWORD, address="198.51.100.99")
        assert error_info(refused).reason == "TOO_MANY_ATTEMPTS"
        await auth.sign_in(email, address=ADDRESS)

    async def test_an_address_that_tries_many_accounts_has_to_wait(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email, address="203.0.113.7")
        for number in range(self.FREE_AT_ADDRESS + 1):
            error = await auth.fail_to_sign_in(f"{number}.{email}", address="203.0.113.7")
            assert error_info(error).reason == "INVALID_CREDENTIALS"
        stranger = await auth.fail_to_sign_in(f"one.more.{email}", address="203.0.113.7")
        assert error_info(stranger).reason == "TOO_MANY_ATTEMPTS"
        await auth.sign_in(email, address="203.0.113.7")
        await auth.fail_to_sign_in(f"one.more.{email}", address="203.0.113.8")

    async def test_ordinary_sign_ins_of_one_account_run_side_by_side(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email, address=ADDRESS)
        opened = await asyncio.gather(*(auth.sign_in(email, address=ADDRESS) for _ in range(20)))
        assert len({session.token for session in opened}) == 20

    async def test_contending_successes_and_failures_do_not_lock_each_other(self, auth: Auth) -> None:
        names = [f"{uuid4().hex}@example.com" for _ in range(4)]
        for name in names:
            await auth.sign_up(name)
        outcomes = await asyncio.gather(
            *(
                auth.sign_in(name, password, address="203.0.113.20")
                for name in names
                for password in (PASSWORD, WRONG, PASSWORD)
            ),
            return_exceptions=True,
        )
        failures = [error_info(error).reason for error in outcomes if isinstance(error, grpc.aio.AioRpcError)]
        assert failures == ["INVALID_CREDENTIALS"] * 4
