"""The encryption key of ten thousand stored keys is rotated while people chat: none of them notices."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import hvac
import psycopg
import pytest

from deploy.local.topology import address
from libs.database import libpq_url
from libs.redaction import Secret
from tests.e2e.conftest import Person, Platform, running_platform
from tests.e2e.people import administrator
from tests.support.stored_keys import store_sealed
from tests.support.waiting import eventually

KEYS = "/api/admin/encryption-keys"
OWN = "/api/provider-config/openai"
ROWS = 10_000


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """A stack with many keys in it."""
    settings = {"key-vault": {"KEY_VAULT_REWRAP_ROWS_PER_SECOND": "2000"}}
    async with running_platform(tmp_path_factory.mktemp("stack"), settings=settings) as running:
        await asyncio.to_thread(store_many, running)
        yield running


@pytest.fixture(scope="module")
async def admin(platform: Platform) -> AsyncIterator[Person]:
    async with administrator(platform) as person:
        yield person


def database_url(platform: Platform) -> Secret:
    """Where the database of the key vault is, for the key vault itself."""
    return Secret(platform.stack.layout.database_url("key_vault").read_text())


def store_many(platform: Platform) -> None:
    """Stores a key for each of many accounts."""
    layout = platform.stack.layout
    operator = hvac.Client(
        f"https://{address(platform.stack.ports, 'vault')}",
        token=(layout.secrets / "vault-root-token").read_text(),
        verify=str(layout.pki / "vault" / "ca.crt"),
    )
    store_sealed(operator, "transit", database_url(platform), [f"usr_{number:05}" for number in range(ROWS)])


def versions(platform: Platform) -> dict[int, int]:
    """Counts stored keys by the version of the encryption key."""
    with psycopg.connect(libpq_url(database_url(platform))) as connection:
        return dict(connection.execute("SELECT key_version, count(*) FROM provider_configs GROUP BY 1").fetchall())


async def stands(admin: Person) -> dict[str, Any]:
    """Returns how the encryption key of providers' keys stands."""
    (found,) = [key for key in (await admin.http.get(KEYS)).json()["keys"] if key["purpose"] == "provider-keys"]
    return dict(found)


async def begin(admin: Person) -> int:
    """Begins a rotation, and returns the version it goes to."""
    answer = await admin.http.post(f"{KEYS}/provider-keys/rotate", json={})
    assert answer.status_code == 200, answer.text
    version: int = answer.json()["rotation"]["targetVersion"]
    return version


async def chat_until(done: asyncio.Event, person: Person, *, storing: bool) -> list[int]:
    """Chats, whole and streamed, and stores the key again in between if told; returns the statuses of the chats."""
    statuses: list[int] = []
    while not done.is_set():
        if storing:  # what workers remember of the key is forgotten with this, and it is opened anew
            stored = await person.http.post(OWN, json={"apiKey": person.key})
            assert stored.json()["success"], stored.text
        statuses.append((await person.chat()).status_code)
        async with person.stream() as response:
            lines = [line async for line in response.aiter_lines() if line]
        statuses.append(response.status_code if '"finish_reason":"stop"' in lines[-1] else 0)
    return statuses


class TestTenThousandKeys:
    async def test_no_chat_fails_while_they_are_sealed_anew(self, platform: Platform, admin: Person) -> None:
        async with AsyncExitStack() as stack:
            people = [await stack.enter_async_context(platform.person()) for _ in range(6)]
            done = asyncio.Event()
            chats = [
                asyncio.create_task(chat_until(done, person, storing=number % 2 == 0))
                for number, person in enumerate(people)
            ]
            target = await begin(admin)
            ended = await eventually(lambda: stands(admin), lambda key: key["rotation"]["state"] != "RUNNING")
            done.set()
            statuses = [status for found in await asyncio.gather(*chats) for status in found]

        assert ended["rotation"]["state"] == "COMPLETED", ended
        assert ended["rotation"]["rewrappedCount"] >= ROWS
        assert ended["minDecryptionVersion"] == ended["latestVersion"] == target
        assert list(await asyncio.to_thread(versions, platform)) == [target]
        assert len(statuses) > len(people)
        assert set(statuses) == {200}

    async def test_it_ends_although_the_key_vault_is_killed_in_the_middle(
        self, platform: Platform, admin: Person
    ) -> None:
        target = await begin(admin)
        await eventually(lambda: asyncio.to_thread(versions, platform), lambda found: 0 < found.get(target, 0) < ROWS)
        await platform.stack.kill("key-vault", signal.SIGKILL)
        before = await asyncio.to_thread(versions, platform)
        assert len(before) == 2, "it was killed in the middle"
        await platform.stack.wait_ready("key-vault")

        # Its lease has to run out first.
        ended = await eventually(lambda: stands(admin), lambda key: key["rotation"]["state"] != "RUNNING", seconds=60)

        assert ended["rotation"]["state"] == "COMPLETED", ended
        assert ended["minDecryptionVersion"] == target
        assert list(await asyncio.to_thread(versions, platform)) == [target]
