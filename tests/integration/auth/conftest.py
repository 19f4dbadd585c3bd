"""What the tests of the auth service share: a database for each file, a replica on it, and a look behind both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest

from libs.database import Transactions, connect
from libs.redaction import Secret
from tests.integration.auth.replica import Audited, Auth, replica
from tests.support.postgres import PostgresServer
from tests.support.rpc import Identities


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> Secret:
    return postgres.fresh_database("auth")


@pytest.fixture(scope="module")
async def auth(url: Secret, identity: Identities) -> AsyncIterator[Auth]:
    async with replica(url, identity) as auth:
        yield auth


@pytest.fixture
async def transactions(url: Secret) -> AsyncIterator[Transactions]:
    async with connect(url) as transactions:
        yield transactions


@pytest.fixture
async def database(url: Secret) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection to look behind the service, and to let time pass."""
    plain = url.reveal().replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as connection:
        yield connection


@pytest.fixture
def audited(database: psycopg.AsyncConnection) -> Audited:
    """Looks up what the audit log holds of a resource: who did what, and its details, in order."""

    async def look_up(resource: str) -> list[tuple[str, str, dict[str, str]]]:
        cursor = await database.execute(
            "SELECT user_id, action, details FROM audit_logs WHERE resource = %s ORDER BY seq", [resource]
        )
        return [(user_id, action, json.loads(details)) for user_id, action, details in await cursor.fetchall()]

    return look_up


@pytest.fixture
def email() -> str:
    return f"ada.{uuid4().hex}@example.com"
