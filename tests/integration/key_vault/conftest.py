"""A key vault for each test: fresh database, shared Vault, a worker for OpenAI and none for the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from libs.redaction import Secret
from services.key_vault.transit import Transit
from tests.integration.key_vault.deployment import Replica, Worker, connected_transit, key_vault
from tests.support.postgres import PostgresServer
from tests.support.rpc import Identities
from tests.support.vault import VaultServer


@pytest.fixture
def database_url(postgres: PostgresServer) -> Secret:
    """An empty database with the schema of the key vault."""
    return postgres.fresh_database("key_vault")


@pytest.fixture(scope="session")
async def openai_worker(identity: Identities) -> AsyncIterator[tuple[Worker, str]]:
    """The worker that tries OpenAI's keys, and its address."""
    worker = Worker()
    async with worker.serving(identity, "openai") as address:
        yield worker, address


@pytest.fixture
def worker(openai_worker: tuple[Worker, str]) -> Iterator[Worker]:
    """The worker that tries OpenAI's keys, which has not tried any yet."""
    openai_worker[0].forget()
    yield openai_worker[0]
    openai_worker[0].forget()


@pytest.fixture
def workers(openai_worker: tuple[Worker, str]) -> dict[str, str]:
    """Addresses of the workers: one for OpenAI, none for the others."""
    return {"openai": openai_worker[1]}


@pytest.fixture
async def replica(
    database_url: Secret, vault: VaultServer, identity: Identities, workers: dict[str, str]
) -> AsyncIterator[Replica]:
    """A running key vault."""
    async with key_vault(database_url, vault, identity, workers) as replica:
        yield replica


@pytest.fixture
async def transit(vault: VaultServer) -> AsyncIterator[Transit]:
    """Transit alone; no other token of the service is alive."""
    await asyncio.to_thread(vault.revoke_service_tokens)
    async with connected_transit(vault) as transit:
        yield transit
