"""What changes in the key vault, in the memory of the workers: two of them, at two replicas, real servers all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from libs.errors import PermissionDenied, PlatformError
from libs.redaction import Secret
from libs.worker.adapter import Credential
from libs.worker.credentials import Credentials, connect_credentials
from tests.integration.key_vault.deployment import Replica, key_vault
from tests.support.rpc import Identities
from tests.support.vault import VaultServer
from tests.support.waiting import within_bound

OWN, OTHER, PLATFORMS = "sk-sandbox-own-key-1234", "sk-sandbox-other-key-5678", "sk-sandbox-platform-key-9"
# What is promised of every change, in seconds.
PROMISED = 1.0


class TwoWorkers:
    """Two workers of OpenAI, each with a memory of its own."""

    def __init__(self, *memories: Credentials) -> None:
        self._memories = memories

    async def all_have(self, user_id: str = "usr_alice") -> list[Credential]:
        """Returns what each of them calls the provider with."""
        return list(await asyncio.gather(*(memory.of(user_id) for memory in self._memories)))

    async def keys(self, user_id: str = "usr_alice") -> list[str]:
        """Returns their keys, or why they have none."""
        try:
            return [credential.api_key.reveal() for credential in await self.all_have(user_id)]
        except PlatformError as error:
            return [error.reason]

    async def views(self, user_id: str = "usr_alice") -> list[memoryview]:
        """Looks at where the keys lie without holding them."""
        return [memoryview(credential.api_key._bytes) for credential in await self.all_have(user_id)]


async def overwritten(views: list[memoryview]) -> None:
    """Waits until no worker has the keys in memory any more, as long as was promised."""
    async with asyncio.timeout(PROMISED):
        while any(map(any, views)):
            await asyncio.sleep(0.01)


@pytest.fixture
async def two_workers(
    replica: Replica, database_url: Secret, vault: VaultServer, identity: Identities, workers: dict[str, str]
) -> AsyncIterator[TwoWorkers]:
    async with key_vault(database_url, vault, identity, workers) as other, AsyncExitStack() as closing:
        memories = [
            await closing.enter_async_context(connect_credentials(each.address, identity("worker-openai"), "openai"))
            for each in (replica, other)
        ]
        for memory in memories:
            await within_bound(_watching(memory))
        yield TwoWorkers(*memories)


async def _watching(memory: Credentials) -> None:
    while not memory._cache._watched:
        await asyncio.sleep(0.01)


class TestEveryWorker:
    async def test_goes_by_what_the_person_changes(self, replica: Replica, two_workers: TwoWorkers) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(OWN)
        assert await two_workers.keys() == [OWN, OWN]

        views = await two_workers.views()
        await alice.store(OTHER)
        await overwritten(views)
        assert await two_workers.keys() == [OTHER, OTHER]

        views = await two_workers.views()
        await alice.update(model="gpt-4o")
        await overwritten(views)
        assert [each.model for each in await two_workers.all_have()] == ["gpt-4o"] * 2

        views = await two_workers.views()
        await alice.delete()
        await overwritten(views)
        assert await two_workers.keys() == ["PROVIDER_NOT_CONFIGURED"]

    async def test_goes_by_what_administrators_change(self, replica: Replica, two_workers: TwoWorkers) -> None:
        admin = await replica.admin()
        await (await replica.person("usr_bob")).store(OWN)
        await admin.set(api_key=PLATFORMS)
        assert [each.platform_key for each in await two_workers.all_have()] == [True, True]

        views = await two_workers.views() + await two_workers.views("usr_bob")
        await admin.set(
            endpoint="https://127.0.0.1:1/v1", request_timeout_ms=1_500, allowed_models=["o3"], default_model="o3"
        )
        await overwritten(views)
        for user_id, key, platforms in (("usr_alice", PLATFORMS, True), ("usr_bob", OWN, False)):
            for held in await two_workers.all_have(user_id):
                assert (held.api_key.reveal(), held.platform_key) == (key, platforms)
                assert (held.endpoint, held.answer_seconds) == ("https://127.0.0.1:1/v1", 1.5)
                assert (held.allowed_models, held.model, held.platform_model) == (("o3",), "o3", "o3")
            del held

        views = await two_workers.views() + await two_workers.views("usr_bob")
        await admin.set(enabled=False)
        await overwritten(views)
        with pytest.raises(PermissionDenied):
            await two_workers.all_have("usr_bob")
        assert await two_workers.keys("usr_bob") == ["PROVIDER_DISABLED"]

    async def test_has_nothing_left_when_it_stops(self, replica: Replica, identity: Identities) -> None:
        await (await replica.person("usr_alice")).store(OWN)
        async with connect_credentials(replica.address, identity("worker-openai"), "openai") as memory:
            view = memoryview((await memory.of("usr_alice")).api_key._bytes)
            assert any(view)
        assert not any(view)
