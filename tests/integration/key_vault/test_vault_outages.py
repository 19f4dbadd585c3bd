"""Vault is sealed, stopped or restarted: the service says so, and recovers by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.rpc.channel import open_channel
from tests.integration.key_vault.deployment import Replica, Worker
from tests.support.rpc import Identities, error_info
from tests.support.vault import VaultServer

KEY = "sk-sandbox-outage-key-1234"


class TestOutage:
    async def test_a_sealed_vault_stops_keys_until_it_is_unsealed(
        self, replica: Replica, vault: VaultServer, worker: Worker
    ) -> None:
        await _check_outage(replica, worker, vault.seal, vault.unseal, "Vault is sealed")

    async def test_a_stopped_vault_stops_keys_until_it_is_back(
        self, replica: Replica, vault: VaultServer, worker: Worker
    ) -> None:
        await _check_outage(replica, worker, vault.stop, vault.start, "Vault cannot be reached")

    async def test_a_restart_between_two_calls_goes_unnoticed(self, replica: Replica, vault: VaultServer) -> None:
        await (await replica.person("usr_alice")).store(KEY)
        await asyncio.to_thread(vault.stop)
        await asyncio.to_thread(vault.start)
        assert (await (await replica.worker()).credential("usr_alice")).api_key == KEY

    async def test_health_tells_vault_from_the_database(
        self, replica: Replica, vault: VaultServer, identity: Identities
    ) -> None:
        async with open_channel(replica.address, "key-vault", identity("operator")) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(service="vault"), timeout=30)
            await _until(watch, health_pb2.HealthCheckResponse.SERVING)
            async with _away(vault.seal, vault.unseal):
                await _until(watch, health_pb2.HealthCheckResponse.NOT_SERVING)
                database = await health.Check(health_pb2.HealthCheckRequest(service="database"), timeout=5)
                assert database.status == health_pb2.HealthCheckResponse.SERVING
            await _until(watch, health_pb2.HealthCheckResponse.SERVING)
            watch.cancel()


@asynccontextmanager
async def _away(leave: Callable[[], None], come_back: Callable[[], None]) -> AsyncIterator[None]:
    await asyncio.to_thread(leave)
    try:
        yield
    finally:
        await asyncio.to_thread(come_back)


async def _check_outage(
    replica: Replica, worker: Worker, leave: Callable[[], None], come_back: Callable[[], None], cause: str
) -> None:
    alice, reader = await replica.person("usr_alice"), await replica.worker()
    await alice.store(KEY)
    worker.tried.clear()
    async with _away(leave, come_back):
        for call in (alice.store("sk-sandbox-during-outage"), alice.test(), reader.credential("usr_alice")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert error_info(caught.value).reason == "SERVICE_UNAVAILABLE"
            assert cause in caught.value.details()
        assert not worker.tried, "a key that cannot be stored is not shown to the provider"
        assert (await alice.test(api_key="sk-sandbox-just-tried")).success, "a key that is not stored needs no Vault"
        assert (await alice.get()).configured
        assert (await alice.delete()).success

    await alice.store(KEY)
    assert (await reader.credential("usr_alice")).api_key == KEY


async def _until(watch: Any, status: int) -> None:
    async for answer in watch:
        if answer.status == status:
            return
