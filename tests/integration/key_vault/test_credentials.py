"""Workers read credentials and hear of changes, each of its own provider."""

from __future__ import annotations

import asyncio

import grpc
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from libs.database import libpq_url
from libs.provider_keys import ProviderKey
from libs.redaction import Secret
from services.key_vault import credential_servicer
from services.key_vault.transit import Transit
from tests.integration.key_vault.deployment import REFUSED_KEY, Replica, WorkerClient, key_vault, next_news
from tests.support.rpc import Identities, error_info, violations
from tests.support.vault import VaultServer
from tests.support.waiting import eventually

KEY = "sk-sandbox-credential-key-1234"
PLATFORM_KEY = "sk-sandbox-platform-key-5678"
PROVIDERS = ("openai", "grok")


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


class TestPlatformKey:
    async def test_who_has_no_key_uses_it_and_who_has_one_does_not(self, replica: Replica) -> None:
        admin, worker = await replica.admin(), await replica.worker()
        await admin.set(
            api_key=PLATFORM_KEY,
            default_model="gpt-4o",
            allowed_models=["gpt-4o", "gpt-5"],
            endpoint="https://127.0.0.1:1/v1",
            request_timeout_ms=5000,
        )
        await (await replica.person("usr_alice")).store(KEY, model="gpt-5", temperature=0.0, max_tokens=7)

        own, platform = await worker.credential("usr_alice"), await worker.credential("usr_bob")

        assert (own.api_key, own.platform_key, own.model, own.max_tokens) == (KEY, False, "gpt-5", 7)
        assert own.HasField("temperature")
        assert (platform.api_key, platform.platform_key, platform.model) == (PLATFORM_KEY, True, "gpt-4o")
        assert not platform.HasField("temperature")
        for credential in (own, platform):
            assert credential.platform_model == "gpt-4o"
            assert (credential.endpoint, credential.request_timeout_ms) == ("https://127.0.0.1:1/v1", 5000)
            assert list(credential.allowed_models) == ["gpt-4o", "gpt-5"]
        await (await replica.person("usr_alice")).update(clear=["model"])
        assert (await worker.credential("usr_alice")).model == "gpt-4o", "the platform's choice stands in for one's own"

    async def test_nobody_uses_a_provider_that_is_switched_off_and_no_key_is_opened(
        self, replica: Replica, vault: VaultServer
    ) -> None:
        await (await replica.admin()).set(enabled=False, api_key=PLATFORM_KEY)
        await (await replica.person("usr_alice")).store(KEY)
        await asyncio.to_thread(vault.seal)
        try:
            for user_id in ("usr_alice", "usr_bob"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await (await replica.worker()).credential(user_id)
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
                assert error_info(caught.value).reason == "PROVIDER_DISABLED"
                assert "switched openai off; choose another provider" in caught.value.details()
        finally:
            await asyncio.to_thread(vault.unseal)
        await (await replica.admin()).set(enabled=True)
        assert (await (await replica.worker()).credential("usr_alice")).api_key == KEY


class TestBinding:
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=strategies.data())
    async def test_a_ciphertext_opens_in_its_own_place_alone(
        self, replica: Replica, database_url: Secret, data: strategies.DataObject
    ) -> None:
        # People's rows and the platform's, which has no person; wherever a ciphertext is moved, also between the two.
        place = strategies.tuples(strategies.sampled_from([None, "usr_a", "usr_b"]), strategies.sampled_from(PROVIDERS))
        origin, target = data.draw(strategies.lists(place, min_size=2, max_size=2, unique=True))
        async with await _superuser_like(database_url) as connection:
            for table in ("provider_configs", "platform_configs"):
                await connection.execute(f"DELETE FROM {table}")
            for user_id, provider in (origin, target):
                if user_id is None:
                    await (await replica.admin()).set(provider, api_key=PLATFORM_KEY)
                else:
                    await (await replica.person(user_id)).store(KEY, provider)
            query, values = _of(origin)
            found = await (await connection.execute(f"SELECT ciphertext FROM {query}", values)).fetchall()
            query, values = _of(target)
            await connection.execute(
                f"UPDATE {query.replace(' WHERE', ' SET ciphertext = %s WHERE')}", [*found[0], *values]
            )

        user_id, provider = target
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.worker(provider)).credential(user_id or "usr_c", provider)

        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert error_info(caught.value).reason == "PROVIDER_NOT_CONFIGURED"

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


class TestRotation:
    async def test_who_was_overtaken_by_one_reads_once_more(
        self, replica: Replica, vault: VaultServer, database_url: Secret, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice, admin = await replica.person("usr_alice"), await replica.key_admin()
        await alice.store(KEY)
        worker, really_open = await replica.worker(), Transit.open
        held, goes_on = asyncio.Event(), asyncio.Event()

        async def open_late(self: Transit, ciphertext: str, *, user_id: str | None, provider: str) -> ProviderKey:
            if not held.is_set():
                held.set()
                await goes_on.wait()
            return await really_open(self, ciphertext, user_id=user_id, provider=provider)

        monkeypatch.setattr(Transit, "open", open_late)
        reading = asyncio.create_task(worker.credential("usr_alice"))
        await held.wait()
        await admin.rotate()
        await eventually(admin.key, lambda key: key.min_decryption_version == key.latest_version)
        goes_on.set()
        assert (await reading).api_key == KEY


class TestChanges:
    async def test_changes_of_the_own_provider_arrive_and_no_others(self, replica: Replica) -> None:
        alice, bob = await replica.person("usr_alice"), await replica.person("usr_bob")
        stream = (await replica.worker()).watch()
        assert (await next_news(stream)).synchronized

        await alice.store(KEY, "grok")
        await alice.store(KEY)
        assert (await next_news(stream)).user_id == "usr_alice"
        await bob.store(KEY)
        assert (await next_news(stream)).user_id == "usr_bob"
        await alice.delete()
        assert (await next_news(stream)).user_id == "usr_alice"
        stream.cancel()

    async def test_no_worker_opens_streams_without_end(self, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(credential_servicer, "_MOST_WATCHERS", 2)
        worker = await replica.worker()
        streams = [worker.watch() for _ in range(2)]
        for stream in streams:
            assert (await next_news(stream)).synchronized
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.watch().read()
        assert error_info(caught.value).reason == "SERVICE_OVERLOADED"
        other = (await replica.worker("grok")).watch("grok")
        assert (await next_news(other)).synchronized
        streams.pop().cancel()
        await eventually(lambda: _opens(worker), bool)
        for stream in (*streams, other):
            stream.cancel()

    async def test_whatever_changes_is_heard_and_what_does_not_is_not(self, replica: Replica) -> None:
        alice, admin = await replica.person("usr_alice"), await replica.admin()
        stream = (await replica.worker()).watch()
        assert (await next_news(stream)).synchronized
        await alice.store(KEY)
        assert (await next_news(stream)).user_id == "usr_alice"

        await alice.update(model="gpt-5")
        assert (await next_news(stream)).user_id == "usr_alice"
        await alice.update(api_key="sk-sandbox-replacement")
        assert (await next_news(stream)).user_id == "usr_alice"
        await admin.set("grok", enabled=False)
        await admin.set(enabled=False)
        assert (await next_news(stream)).everyone
        await admin.set(enabled=True, api_key=PLATFORM_KEY)
        assert (await next_news(stream)).everyone
        await alice.update(api_key=REFUSED_KEY, model="gpt-6")
        await admin.set(api_key=REFUSED_KEY)
        await alice.update()
        await admin.set()
        await alice.delete()
        assert (await next_news(stream)).user_id == "usr_alice"
        stream.cancel()

    async def test_a_watcher_hears_that_nothing_happens_whatever_happens_elsewhere(self, replica: Replica) -> None:
        bob = await replica.person("usr_bob")
        stream = (await replica.worker()).watch()
        assert (await stream.read()).synchronized
        await bob.store(KEY, "grok")

        async def bustle() -> None:
            while True:
                await bob.update("grok", model="grok-4")

        bustling = asyncio.create_task(bustle())
        for _ in range(3):
            async with asyncio.timeout(1):
                assert (await stream.read()).alive
        bustling.cancel()
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
            assert (await next_news(stream)).synchronized

            await (await replica.person("usr_alice")).store(KEY)

            assert (await next_news(stream)).user_id == "usr_alice"
            assert (await (await other.worker()).credential("usr_alice")).api_key == KEY
            stream.cancel()

    async def test_a_lost_listener_makes_watchers_start_afresh(self, replica: Replica, database_url: Secret) -> None:
        stream = (await replica.worker()).watch()
        assert (await next_news(stream)).synchronized

        async with await _superuser_like(database_url) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
                "AND datname = current_database()"
            )

        async with asyncio.timeout(10):
            while (last := await stream.read()) is not grpc.aio.EOF:
                assert last.alive
        stream = (await replica.worker()).watch()
        assert (await next_news(stream)).synchronized
        await (await replica.person("usr_alice")).store(KEY)
        assert (await next_news(stream)).user_id == "usr_alice"
        stream.cancel()


class TestProviderStates:
    async def test_the_router_is_told_what_somebody_may_use_and_no_more(self, replica: Replica) -> None:
        alice, admin = await replica.person("usr_alice"), await replica.admin()
        await alice.store(KEY, "openrouter", priority=7)
        await alice.store(KEY, "grok")
        await (await replica.person("usr_bob")).store(KEY, "google-ai")
        await admin.set("grok", enabled=False)
        await admin.set("openai", api_key=PLATFORM_KEY, allowed_models=["gpt-5"])
        await admin.set("anthropic", allowed_models=["claude-opus-4"])
        router, token = await replica.service("provider-router"), replica.token("usr_alice", scopes={"models:read"})

        first = await router.states(token, page_size=3)
        second = await router.states(token, page_size=3, page_token=first.next_page_token)

        told = [(s.provider, s.configured, s.enabled, list(s.allowed_models)) for s in (*first.states, *second.states)]
        assert told == [
            ("anthropic", False, True, ["claude-opus-4"]),
            ("grok", True, False, []),
            ("openai", True, True, ["gpt-5"]),
            ("openrouter", True, True, []),
        ]
        assert [s.priority for s in second.states] == [7]
        assert not any(s.HasField("priority") for s in first.states)
        assert len(first.states) == 3
        assert not second.next_page_token
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await router.states(token, page_size=-1, page_token="usr_bob")
        assert violations(caught.value) == ["pageSize", "pageToken"]

    @pytest.mark.parametrize("peer", ["envoy", "worker-openai"])
    async def test_nobody_else_is(self, replica: Replica, peer: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.service(peer)).states(replica.token("usr_alice", scopes={"models:read"}))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def _of(place: tuple[str | None, str]) -> tuple[str, list[str]]:
    """Returns which row a ciphertext has its place in, and the values for it."""
    user_id, provider = place
    if user_id is None:
        return "platform_configs WHERE provider = %s", [provider]
    return "provider_configs WHERE user_id = %s AND provider = %s", [user_id, provider]


async def _superuser_like(database_url: Secret) -> psycopg.AsyncConnection:
    """Connects as the service's own role: what somebody with its password could do."""
    return await psycopg.AsyncConnection.connect(libpq_url(database_url), autocommit=True)


async def _opens(worker: WorkerClient) -> bool:
    """Tells whether a worker may follow the changes once more."""
    stream = worker.watch()
    try:
        return bool((await next_news(stream)).synchronized)
    except grpc.aio.AioRpcError:
        return False
    finally:
        stream.cancel()
