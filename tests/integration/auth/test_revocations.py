"""The stream by which other services hear what has ended."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from libs.errors import Unauthenticated
from tests.integration.auth.replica import HANGING, Auth, following


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
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
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
