"""When a token was last used: noted without a write for each call, and never moved back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
from realmultillm.auth.v1.api_token_service_pb2 import CreateApiTokenRequest, ListApiTokensRequest

from libs.database import Transactions
from libs.redaction import Secret
from services.auth.last_uses import LastUses, recording_uses
from tests.integration.auth.replica import Auth, replica
from tests.support.rpc import Identities

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def last_use(database: psycopg.AsyncConnection, session_id: str) -> datetime:
    cursor = await database.execute("SELECT last_use_time FROM sessions WHERE id = %s", [session_id])
    (found,) = await cursor.fetchone() or (None,)
    assert isinstance(found, datetime)
    return found


async def write_version(database: psycopg.AsyncConnection, session_id: str) -> object:
    """Returns what changes with every write of the row."""
    cursor = await database.execute("SELECT xmin FROM sessions WHERE id = %s", [session_id])
    return await cursor.fetchone()


class TestSessions:
    async def test_calls_write_nothing_and_the_next_writing_all(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        session_id = (await auth.verify(opened.token)).token_id
        await auth.last_uses.write()
        before, version = await last_use(database, session_id), await write_version(database, session_id)
        for _ in range(3):
            await auth.session(opened.token)
        assert await write_version(database, session_id) == version
        await auth.last_uses.write()
        assert await last_use(database, session_id) > before
        version = await write_version(database, session_id)
        await auth.last_uses.write()
        assert await write_version(database, session_id) == version

    async def test_end_of_a_replica_writes_what_it_has_seen(
        self, auth: Auth, url: Secret, identity: Identities, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        async with replica(url, identity) as second:
            session_id = (await second.verify(opened.token)).token_id
            before = await last_use(database, session_id)
        assert await last_use(database, session_id) > before


class TestApiTokens:
    async def test_tell_when_they_were_used(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        made = await auth.ask(CreateApiTokenRequest(name="nightly"), opened.token)
        await auth.verify(made.token)
        await auth.last_uses.write()
        (shown,) = (await auth.ask(ListApiTokensRequest(), opened.token)).tokens
        assert shown.last_use_time.ToDatetime() > made.create_time.ToDatetime()


class TestWriting:
    async def test_never_moves_back(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, transactions: Transactions
    ) -> None:
        opened = await auth.sign_up(email)
        session_id = (await auth.verify(opened.token)).token_id
        before = await last_use(database, session_id)
        late = LastUses(transactions)
        late.note(session_id, LONG_AGO)
        await late.write()
        assert await last_use(database, session_id) == before

    async def test_of_two_replicas_at_once_waits_for_nobody(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, transactions: Transactions
    ) -> None:
        opened = [await auth.sign_up(email), *[await auth.sign_in(email) for _ in range(3)]]
        ids = [(await auth.verify(session.token)).token_id for session in opened]
        soon = datetime.now(UTC) + timedelta(minutes=1)
        writers = [LastUses(transactions) for _ in range(4)]
        for number, writer in enumerate(writers):
            for session_id in ids[:: 1 if number % 2 else -1]:
                writer.note(session_id, soon)
        await asyncio.gather(*(writer.write() for writer in writers))
        assert {await last_use(database, session_id) for session_id in ids} == {soon}

    async def test_what_is_being_changed_is_left_alone(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, transactions: Transactions
    ) -> None:
        opened = await auth.sign_up(email)
        session_id = (await auth.verify(opened.token)).token_id
        await auth.last_uses.write()
        late = LastUses(transactions)
        late.note(session_id, datetime.now(UTC) + timedelta(minutes=1))
        async with database.transaction():
            await database.execute("SELECT FROM sessions WHERE id = %s FOR UPDATE", [session_id])
            await late.write()

    async def test_what_exists_no_more_is_forgotten(self, transactions: Transactions) -> None:
        async with recording_uses(transactions) as last_uses:
            last_uses.note("ses_" + 32 * "0", datetime.now(UTC))
            last_uses.note("tok_" + 32 * "0", datetime.now(UTC))
            await last_uses.write()
