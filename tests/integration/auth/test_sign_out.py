"""Signing out, and what it ends everywhere."""

from __future__ import annotations

import asyncio

import grpc
import psycopg
import pytest
from realmultillm.auth.v1.api_token_service_pb2 import CreateApiTokenRequest

from libs.errors import Unauthenticated
from libs.redaction import Secret
from tests.integration.auth.replica import HANGING, Audited, Auth, following, reason, replica
from tests.support.rpc import Identities, error_info


class TestSignOut:
    async def test_ends_this_session_and_no_other(self, auth: Auth, email: str) -> None:
        ended, other = await auth.sign_up(email), await auth.sign_in(email)
        await auth.sign_out(ended.token)
        for ask in (auth.verify, auth.session, auth.sign_out):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(ended.token)
            assert error_info(refused.value).reason == "UNAUTHENTICATED"
        await auth.session(other.token)

    async def test_is_audited(self, auth: Auth, email: str, audited: Audited) -> None:
        opened = await auth.sign_up(email)
        session_id = (await auth.verify(opened.token)).token_id
        await auth.sign_out(opened.token)
        assert await audited(f"session/{session_id}") == [(opened.user.id, "auth.sign_out", {})]

    async def test_revokes_an_api_token(self, auth: Auth, email: str, audited: Audited) -> None:
        opened = await auth.sign_up(email)
        made = await auth.ask(CreateApiTokenRequest(name="found in a log"), opened.token)
        await auth.sign_out(made.token)
        assert await reason(auth.session(made.token)) == "UNAUTHENTICATED"
        assert (await audited(f"api-token/{made.id}"))[1:] == [(opened.user.id, "auth.sign_out", {})]
        await auth.session(opened.token)

    async def test_revokes_an_api_token_without_a_usable_scope(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        await database.execute("UPDATE users SET role = 'admin' WHERE id = %s", [opened.user.id])
        made = await auth.ask(CreateApiTokenRequest(name="administration", scopes=["admin"]), opened.token)
        await database.execute("UPDATE users SET role = 'user' WHERE id = %s", [opened.user.id])
        assert list((await auth.session(made.token)).scopes) == []
        await auth.sign_out(made.token)
        assert await reason(auth.session(made.token)) == "UNAUTHENTICATED"

    async def test_many_at_once_are_all_told_that_it_is_over(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        outcomes = await asyncio.gather(*(auth.sign_out(opened.token) for _ in range(5)), return_exceptions=True)
        assert None in outcomes
        assert {error_info(e).reason for e in outcomes if isinstance(e, grpc.aio.AioRpcError)} <= {"UNAUTHENTICATED"}

    async def test_is_heard_by_every_replica_and_the_services_it_tells(
        self, auth: Auth, url: Secret, identity: Identities, email: str
    ) -> None:
        opened = await auth.sign_up(email)
        async with replica(url, identity) as second, second.another_service() as verifier:
            assert (await verifier.verify(opened.token)).user_id == opened.user.id
            await auth.sign_out(opened.token)
            async with asyncio.timeout(HANGING):
                await verifier.heard.wait()
            with pytest.raises(Unauthenticated):
                await verifier.verify(opened.token)

    async def test_an_answer_overtaken_by_the_sign_out_is_not_believed(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        async with auth.another_service() as verifier, auth.revocations() as events:
            assert (await following(events)).synchronized
            auth.held.answers_waiting.clear()
            auth.held.released.clear()
            overtaken = asyncio.create_task(verifier.verify(opened.token))
            async with asyncio.timeout(HANGING):
                await auth.held.answers_waiting.wait()
                await auth.sign_out(opened.token)
                await verifier.heard.wait()
            auth.held.released.set()
            with pytest.raises(Unauthenticated):
                await overtaken
