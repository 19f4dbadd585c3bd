"""Workers read credentials and hear of changes, each of its own provider."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import psycopg
import pytest

from libs.database import libpq_url
from libs.redaction import Secret
from tests.integration.key_vault.deployment import Replica, key_vault
from tests.support.rpc import Identities, error_info, violations
from tests.support.vault import VaultServer

KEY = "sk-sandbox-credential-key-1234"


async def next_event(stream: Any) -> Any:
    """Reads one event, which must come within the second that the API promises."""
    async with asyncio.timeout(1):
        return await stream.read()


class TestAccess:
    async def test_a_worker_cannot_read_another_providers_keys(self, replica: Replica) -> None:
        await (await replica.person("usr_alice")).store(KEY)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.worker("anthropic")).credential("usr_alice", "openai")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    async def test_a_worker_cannot_watch_another_provider(self, replica: Replica) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.worker("anthropic")).watch("openai").read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    async def test_a_worker_of_whatever_provider_is_bound_to_its_own(self, replica: Replica) -> None:
        await (await replica.person("usr_alice")).store(KEY)
        worker = await replica.worker("our-vllm")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.credential("usr_alice", "openai")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.credential("usr_alice", "our-vllm")
        assert error_info(caught.value).reason == "PROVIDER_NOT_CONFIGURED"

    @pytest.mark.parametrize("service", ["envoy", "provider-router", "operator", "worker-auto"])
    async def test_only_workers_read_keys(self, replica: Replica, service: str) -> None:
        await (await replica.person("usr_alice")).store(KEY)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.service(service)).credential("usr_alice")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    @pytest.mark.parametrize("user_id", ["", "usr_\x00", "u" * 65])
    async def test_an_impossible_user_id_is_refused(self, replica: Replica, user_id: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.worker()).credential(user_id)
        assert violations(caught.value) == ["userId"]


class TestBinding:
    async def test_a_ciphertext_does_not_open_in_another_row(
        self, replica: Replica, database_url: Secret, capfd: pytest.CaptureFixture[str]
    ) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY, "openai")
        await alice.store(KEY, "grok")
        await (await replica.person("usr_mallory")).store("sk-sandbox-mallory-key")
        async with await _superuser_like(database_url) as connection:
            await connection.execute(
                "UPDATE provider_configs SET ciphertext = "
                "(SELECT ciphertext FROM provider_configs WHERE user_id = 'usr_alice' AND provider = 'openai') "
                "WHERE NOT (user_id = 'usr_alice' AND provider = 'openai')"
            )

        for user_id, provider in (("usr_mallory", "openai"), ("usr_alice", "grok")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (await replica.worker(provider)).credential(user_id, provider)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert error_info(caught.value).reason == "PROVIDER_NOT_CONFIGURED"
            assert "store it again" in caught.value.details()
        assert (await (await replica.worker()).credential("usr_alice")).api_key == KEY
        assert "stored key cannot be opened" in "".join(capfd.readouterr())


class TestChanges:
    async def test_changes_of_the_own_provider_arrive_and_no_others(self, replica: Replica) -> None:
        alice, bob = await replica.person("usr_alice"), await replica.person("usr_bob")
        stream = (await replica.worker()).watch()
        assert (await next_event(stream)).synchronized

        await alice.store(KEY, "grok")
        await alice.store(KEY)
        assert (await next_event(stream)).user_id == "usr_alice"
        await bob.store(KEY)
        assert (await next_event(stream)).user_id == "usr_bob"
        await alice.delete()
        assert (await next_event(stream)).user_id == "usr_alice"
        stream.cancel()

    async def test_a_replica_hears_of_what_another_changed(
        self,
        replica: Replica,
        database_url: Secret,
        vault: VaultServer,
        identity: Identities,
        workers: dict[str, str],
    ) -> None:
        async with key_vault(database_url, vault, identity, workers) as other:
            stream = (await other.worker()).watch()
            assert (await next_event(stream)).synchronized

            await (await replica.person("usr_alice")).store(KEY)

            assert (await next_event(stream)).user_id == "usr_alice"
            assert (await (await other.worker()).credential("usr_alice")).api_key == KEY
            stream.cancel()

    async def test_a_lost_listener_makes_watchers_start_afresh(self, replica: Replica, database_url: Secret) -> None:
        stream = (await replica.worker()).watch()
        assert (await next_event(stream)).synchronized

        async with await _superuser_like(database_url) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
                "AND datname = current_database()"
            )

        async with asyncio.timeout(10):
            assert await stream.read() is grpc.aio.EOF
        stream = (await replica.worker()).watch()
        assert (await next_event(stream)).synchronized
        await (await replica.person("usr_alice")).store(KEY)
        assert (await next_event(stream)).user_id == "usr_alice"
        stream.cancel()


async def _superuser_like(database_url: Secret) -> psycopg.AsyncConnection:
    """Connects as the service's own role: what somebody with its password could do."""
    return await psycopg.AsyncConnection.connect(libpq_url(database_url), autocommit=True)
