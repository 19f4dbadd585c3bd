"""Vault is sealed, stopped, silent or slow, or denies a right: the service says so, and recovers by itself."""

from __future__ import annotations

import asyncio
import base64
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.pki import issue
from libs.errors import PlatformError, Unavailable
from libs.provider_keys import ProviderKey
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from services.key_vault.transit import Transit
from services.key_vault.vault_login import AppRole
from tests.integration.key_vault.deployment import Replica, Worker, connected_transit, key_vault
from tests.support.line import Line
from tests.support.rpc import Identities, error_info
from tests.support.vault import OwnVaultServer, VaultServer
from tests.support.waiting import eventually, within_bound

KEY = "sk-sandbox-outage-key-1234"
OWNER = {"user_id": "usr_alice", "provider": "openai"}
NO_RIGHTS = 'path "auth/token/*" { capabilities = ["read", "update"] }'


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


class TestSilence:
    """Vault takes connections and does not answer, as when it is frozen or packets are lost."""

    async def test_all_callers_are_told_though_few_have_asked(self, line: Line, far_transit: Transit) -> None:
        sealed = await far_transit.seal(ProviderKey(KEY), **OWNER)
        with line.dead():
            for most_connections in (10, 3):  # nobody knows yet; then one at a time finds out
                line.begun = 0
                calls = (far_transit.open(sealed, **OWNER) for _ in range(100))
                outcomes = await within_bound(asyncio.gather(*calls, return_exceptions=True))
                assert {type(outcome) for outcome in outcomes} == {Unavailable}
                assert {str(outcome) for outcome in outcomes} <= {
                    "Keys cannot be stored or opened now: Vault cannot be reached; an operator checks that it runs."
                }
                assert line.begun <= most_connections
        assert len([thread for thread in threading.enumerate() if thread.name.startswith("vault")]) <= 16
        await _opens_again(far_transit, sealed)

    async def test_a_frozen_server_is_noticed_and_noticed_again_when_it_goes_on(
        self, transit: Transit, vault: VaultServer
    ) -> None:
        sealed = await transit.seal(ProviderKey(KEY), **OWNER)
        with vault.frozen(), pytest.raises(Unavailable, match="Vault cannot be reached"):
            await within_bound(transit.open(sealed, **OWNER))
        await _opens_again(transit, sealed)

    async def test_a_slow_one_is_waited_for(self, line: Line, far_transit: Transit) -> None:
        line.delay_seconds = 0.2
        calls = [within_bound(far_transit.seal(ProviderKey(KEY), **OWNER)) for _ in range(3)]
        for sealed in await asyncio.gather(*calls):
            assert (await within_bound(far_transit.open(sealed, **OWNER))).reveal() == KEY


class TestFailedStore:
    """The earlier key stays, and works as soon as Vault does."""

    async def test_while_vault_is_silent(
        self,
        database_url: Secret,
        vault: VaultServer,
        identity: Identities,
        workers: dict[str, str],
        line: Line,
        far_address: str,
    ) -> None:
        async with key_vault(database_url, vault, identity, workers, address=far_address) as replica:
            await _check_failed_store(replica, line.dead, "Vault cannot be reached")

    async def test_while_a_right_is_missing(self, replica: Replica, vault: VaultServer) -> None:
        await _check_failed_store(replica, lambda: vault.changed_policy(NO_RIGHTS), "Vault denies key-vault a right")

    async def test_after_the_token_was_revoked_nothing_fails(self, replica: Replica, vault: VaultServer) -> None:
        alice = await replica.person("usr_alice")
        for key in (KEY, "sk-sandbox-after-it-was-revoked"):
            await alice.store(key)
            await asyncio.to_thread(vault.revoke_service_tokens)
            assert (await (await replica.worker()).credential("usr_alice")).api_key == key


class TestSecrecy:
    """No error holds a key: neither its text, nor what it was caused by, nor what was being handled."""

    @pytest.mark.parametrize("cause", ["silent", "denied", "no engine", "login refused", "unknown authority"])
    async def test_of_errors(
        self, vault: VaultServer, line: Line, far_address: str, tmp_path: Path, cause: str
    ) -> None:
        issue(tmp_path, ["vault"])
        connections: dict[str, dict[str, Any]] = {
            "silent": {"address": far_address},
            "no engine": {"mount": f"{vault.place.transit}/nowhere"},
            "login refused": {"login": AppRole("wrong", Secret("wrong"), mount=vault.place.approle)},
            "unknown authority": {"authority": tmp_path / "vault" / "ca.crt"},
        }
        during: AbstractContextManager[None] = {
            "silent": line.dead,
            "denied": lambda: vault.changed_policy(NO_RIGHTS),
            "no engine": lambda: vault.changed_policy(
                f'path "{vault.place.transit}/*" {{ capabilities = ["update"] }}'
            ),
        }.get(cause, _nothing)()
        async with connected_transit(vault, **connections.get(cause, {})) as transit:
            if cause == "silent":
                await transit.ping()  # else the renewal of the token would find out
            with during, pytest.raises(Unavailable) as caught:
                await within_bound(transit.seal(ProviderKey(KEY), **OWNER))
        _check_secrecy(caught.value, KEY.encode())

    async def test_of_a_batch_of_which_a_part_or_all_is_refused(self, transit: Transit) -> None:
        key, wrapped = await transit.data_key("usr_alice")
        assert await transit.unwrap_data_keys([wrapped, "vault:v1:AAAA"], user_id="usr_alice") == [key, None]
        assert await transit.unwrap_data_keys(["vault:v1:AAAA"], user_id="usr_alice") == [None]

    async def test_of_a_key_that_does_not_open(self, transit: Transit) -> None:
        sealed = await transit.seal(ProviderKey(KEY), **OWNER)
        with pytest.raises(PlatformError) as caught:
            await transit.open(sealed, user_id=None, provider="openai")
        _check_secrecy(caught.value, KEY.encode())


@pytest.fixture
def line(vault: VaultServer) -> Line:
    """A line to the server."""
    if not isinstance(vault, OwnVaultServer):
        pytest.skip("leads to the server by another address, for which its certificate may not be")
    port = urlsplit(vault.address).port
    assert port is not None
    return Line(port)


@pytest.fixture
async def far_address(line: Line) -> AsyncIterator[str]:
    """The address of the server at this end of the line."""
    async with line.open() as port:
        yield f"https://127.0.0.1:{port}"


@pytest.fixture
async def far_transit(vault: VaultServer, far_address: str) -> AsyncIterator[Transit]:
    """Transit at the other end of the line."""
    async with connected_transit(vault, address=far_address) as transit:
        yield transit


@contextmanager
def _nothing() -> Iterator[None]:
    yield


async def _opens_again(transit: Transit, sealed: str) -> None:
    async def opened() -> str:
        try:
            return (await transit.open(sealed, **OWNER)).reveal()
        except Unavailable as error:
            return str(error)

    await eventually(opened, lambda answer: answer == KEY)


async def _check_failed_store(replica: Replica, trouble: Callable[[], AbstractContextManager[None]], told: str) -> None:
    alice, reader = await replica.person("usr_alice"), await replica.worker()
    await alice.store(KEY)
    before = await alice.get()
    with trouble():
        for call in (alice.store("sk-sandbox-never-stored"), alice.update(api_key="sk-sandbox-never-stored")):
            with pytest.raises(grpc.aio.AioRpcError, match=told) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await alice.get() == before

    async def is_up() -> bool:
        try:
            await replica.transit.ping()
        except Unavailable:
            return False
        return True

    await eventually(is_up, bool)
    assert (await reader.credential("usr_alice")).api_key == KEY
    await alice.store("sk-sandbox-stored-afterwards")
    assert (await reader.credential("usr_alice")).api_key == "sk-sandbox-stored-afterwards"


def _check_secrecy(error: BaseException, secret: bytes) -> None:
    told, seen, pending = "".join(traceback.format_exception(error)), set[int](), [error]
    while pending:
        one = pending.pop()
        if id(one) not in seen:
            seen.add(id(one))
            told += f"{one!r} {vars(one)!r}"
            pending += [other for other in (one.__cause__, one.__context__) if other is not None]
    for form in (secret, base64.b64encode(secret)):
        assert form.decode() not in told
    # Neither hvac's nor requests' errors, which hold the request itself in one of their attributes.
    assert not [name for name in ("hvac.exceptions", "requests.", "urllib3.") if name in told]


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
