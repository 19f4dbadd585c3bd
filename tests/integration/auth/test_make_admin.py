"""Making administrators as the operator does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from realmultillm.auth.v1.api_token_service_pb2 import CreateApiTokenRequest

from libs.change_feed import ChangeFeed
from libs.database import Transactions
from libs.errors import Unauthenticated
from libs.redaction import Secret
from services.auth.administrators import Administrators, NoAccount, Promotion
from services.auth.audit_log import AuditLog
from services.auth.password_hashing import hashing_in
from services.auth.revocations import CHANNEL, Revocations
from tests.integration.auth.replica import HANGING, PASSWORD, WRONG, Audited, Auth, following, reason

BY_OPERATOR = {"by": "operator"}


@pytest.fixture
async def administrators(transactions: Transactions) -> AsyncIterator[Administrators]:
    revocations = Revocations(ChangeFeed(CHANNEL))
    async with hashing_in(2) as hashing:
        yield Administrators(transactions, hashing, revocations, AuditLog(transactions))


@pytest.fixture
async def nobody_rules(database: psycopg.AsyncConnection) -> None:
    await database.execute("UPDATE users SET role = 'user'")


async def made_admin(audited: Audited, user_id: str) -> list[dict[str, str]]:
    """Returns the details of each time an account was made an administrator's, by nobody who is signed in."""
    entries = [entry for entry in await audited(f"user/{user_id}") if entry[1] == "user.made_admin"]
    assert {by for by, *_ in entries} == {""}
    return [details for *_, details in entries]


class TestAdministrators:
    async def test_new_account_is_made_an_administrators(
        self, auth: Auth, email: str, administrators: Administrators, audited: Audited
    ) -> None:
        assert await administrators.make(email, Secret(PASSWORD)) is Promotion.CREATED
        opened = await auth.sign_in(email)
        assert opened.user.role == "admin"
        assert opened.user.name == email.partition("@")[0]
        assert await administrators.make(email, Secret(WRONG)) is Promotion.NONE_NEEDED
        await auth.sign_in(email)
        assert await made_admin(audited, opened.user.id) == [BY_OPERATOR]

    async def test_existing_account_keeps_its_password_and_nothing_it_had_open(
        self, auth: Auth, email: str, administrators: Administrators, audited: Audited
    ) -> None:
        opened = await auth.sign_up(email)
        token = await auth.ask(CreateApiTokenRequest(name="nightly"), opened.token)
        async with auth.another_service() as verifier, auth.revocations() as events:
            assert (await following(events)).synchronized
            assert (await verifier.verify(opened.token)).role == "user"
            assert await administrators.make(email, Secret(WRONG)) is Promotion.PROMOTED
            assert {(await following(events)).WhichOneof("event") for _ in range(3)} == {"user_id", "token_id"}
            async with asyncio.timeout(HANGING):
                await verifier.heard.wait()
            for ended in (opened.token, token.token):
                with pytest.raises(Unauthenticated):
                    await verifier.verify(ended)
        assert (await auth.sign_in(email)).user.role == "admin"
        assert await made_admin(audited, opened.user.id) == [{**BY_OPERATOR, "was": "user", "enabled": "false"}]
        assert (await audited(f"user/{opened.user.id}"))[-2] == (
            "",
            "user.sessions_ended",
            {**BY_OPERATOR, "count": "1", "apiTokens": "1"},
        )

    @pytest.mark.parametrize("role", ["user", "admin"])
    async def test_disabled_account_is_enabled_again_without_what_it_had_open(
        self,
        auth: Auth,
        email: str,
        administrators: Administrators,
        database: psycopg.AsyncConnection,
        audited: Audited,
        role: str,
    ) -> None:
        opened = await auth.sign_up(email)
        await database.execute("UPDATE users SET disabled_at = now(), role = %s WHERE email = %s", [role, email])
        assert await administrators.make(email, None) is Promotion.ENABLED
        assert await reason(auth.session(opened.token)) == "UNAUTHENTICATED"
        assert (await auth.sign_in(email)).user.role == "admin"
        assert await made_admin(audited, opened.user.id) == [{**BY_OPERATOR, "was": role, "enabled": "true"}]

    async def test_no_account_without_a_password_is_said(self, email: str, administrators: Administrators) -> None:
        with pytest.raises(NoAccount):
            await administrators.make(email, None)

    async def test_of_many_at_once_one_creates_it(
        self, auth: Auth, email: str, administrators: Administrators, audited: Audited
    ) -> None:
        outcomes = await asyncio.gather(*(administrators.make(email, Secret(PASSWORD)) for _ in range(4)))
        assert outcomes.count(Promotion.CREATED) == 1
        assert outcomes.count(Promotion.NONE_NEEDED) == 3
        assert await made_admin(audited, (await auth.sign_in(email)).user.id) == [BY_OPERATOR]

    @pytest.mark.usefixtures("nobody_rules")
    async def test_of_many_first_ones_at_once_one_is_made(
        self, email: str, administrators: Administrators, database: psycopg.AsyncConnection
    ) -> None:
        outcomes = await asyncio.gather(
            *(administrators.make(f"{n}.{email}", Secret(PASSWORD), only_first=True) for n in range(4))
        )
        assert outcomes.count(Promotion.CREATED) == 1
        assert outcomes.count(Promotion.OTHERS_EXIST) == 3
        cursor = await database.execute("SELECT count(*) FROM users WHERE role = 'admin'")
        assert await cursor.fetchone() == (1,)
