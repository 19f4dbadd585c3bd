"""The stream by which other services hear what has ended."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from realmultillm.auth.v1.auth_service_pb2 import ChangePasswordRequest, DeleteOtherSessionsRequest

from libs.errors import Unauthenticated
from libs.redaction import Secret
from tests.integration.auth.replica import HANGING, PASSWORD, Auth, following, reason, replica
from tests.support.rpc import Identities


class TestRevocationStream:
    async def test_begins_by_saying_that_it_is_complete(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        principal = await auth.verify(opened.token)
        async with auth.revocations() as events:
            assert (await following(events)).synchronized
            await auth.sign_out(opened.token)
            assert (await following(events)).token_id == principal.token_id

    async def test_ends_when_the_database_connection_is_lost_and_says_so_when_it_is_back(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        async with auth.another_service() as verifier:
            async with auth.revocations() as events:
                assert (await following(events)).synchronized
                await verifier.verify(opened.token)
                await database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() "
                    "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
                with pytest.raises(StopAsyncIteration):
                    await following(events)
            async with auth.revocations() as events:
                assert (await following(events)).synchronized
                await auth.sign_out(opened.token)
                assert (await following(events)).token_id
                async with asyncio.timeout(HANGING):
                    await verifier.heard.wait()
                with pytest.raises(Unauthenticated):
                    await verifier.verify(opened.token)

    async def test_says_that_it_is_alive_while_there_is_nothing_to_tell(self, auth: Auth) -> None:
        async with auth.revocations() as events, asyncio.timeout(HANGING):
            assert (await anext(events)).synchronized
            assert (await anext(events)).alive


class TestOwnCalls:
    async def test_of_what_another_replica_ends_end(
        self, auth: Auth, url: Secret, identity: Identities, email: str
    ) -> None:
        owner = await auth.sign_up(email)
        thief = await auth.sign_in(email)
        change = ChangePasswordRequest(current_password=PASSWORD, new_password="nine green kettles")
        async with replica(url, identity) as second, auth.overtaken(auth.ask(change, thief.token)) as changing:
            await second.ask(DeleteOtherSessionsRequest(), owner.token)
            async with asyncio.timeout(HANGING):
                assert await reason(changing) == "UNAUTHENTICATED"
        assert (await auth.sign_in(email)).token  # by the password of before
