"""What is done with keys is in the audit log, and what cannot be written down for it is not done."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest

from libs.audit import AuditEvent
from libs.errors import Unavailable
from tests.integration.key_vault.deployment import (
    MISSING_MODEL,
    REFUSED_KEY,
    UNREACHABLE_KEY,
    Replica,
    Worker,
)
from tests.support.rpc import error_info

KEY = "sk-sandbox-audited-key-1234"


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Makes the file of the audit trail in a folder refuse whatever is written into it."""
    with closing(sqlite3.connect(folder / "outbox.sqlite3", isolation_level=None)) as database:
        for table in ("outbox", "trial"):
            database.execute(
                f"CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        yield
        for table in ("outbox", "trial"):
            database.execute(f"DROP TRIGGER refuse_{table}")


def told(event: AuditEvent) -> tuple[str, str, str, dict[str, str]]:
    return event.action, event.resource, event.user_id, event.details


async def refused(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


class TestEvents:
    async def test_every_act_with_a_key_has_one(self, replica: Replica, worker: Worker) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY)
        await alice.store(UNREACHABLE_KEY)
        await alice.store(REFUSED_KEY)
        await alice.test()
        await alice.test(api_key=KEY, model=MISSING_MODEL)
        await (await replica.worker()).credential("usr_alice")
        await alice.delete()

        events = await replica.log.holding(7)

        resource = "provider-config/openai"
        assert [told(event) for event in events] == [
            ("provider_config.set", resource, "usr_alice", {"success": "true"}),
            ("provider_config.set", resource, "usr_alice", {"success": "true", "error": "PROVIDER_UNAVAILABLE"}),
            ("provider_config.set", resource, "usr_alice", {"success": "false", "error": "INVALID_API_KEY"}),
            (
                "provider_config.tested",
                resource,
                "usr_alice",
                {"key": "stored", "success": "false", "error": "PROVIDER_UNAVAILABLE"},
            ),
            (
                "provider_config.tested",
                resource,
                "usr_alice",
                {"key": "given", "success": "false", "error": "MODEL_NOT_FOUND"},
            ),
            ("provider_key.revealed", resource, "usr_alice", {"to": "worker-openai", "key": "own"}),
            ("provider_config.deleted", resource, "usr_alice", {}),
        ]
        assert KEY not in str(events)
        assert all(event.request_id for event in events)

    async def test_every_change_says_what_changed_and_never_a_key(self, replica: Replica) -> None:
        alice, admin, worker = await replica.person("usr_alice"), await replica.admin(), await replica.worker()
        await alice.update(api_key=KEY, max_tokens=5)
        await alice.update(model="gpt-5", priority=2, clear=["temperature"])
        await alice.update()
        await alice.update(api_key=REFUSED_KEY)
        await admin.set(enabled=True, endpoint="http://127.0.0.1:1/v1", api_key=KEY)
        await admin.set()
        await admin.set(api_key=REFUSED_KEY)
        await admin.set(api_key=UNREACHABLE_KEY, clear=["endpoint"])
        await (await replica.person("usr_bob")).test()
        await worker.credential("usr_bob")

        events = await replica.log.holding(8)

        own, platform, endpoint = "provider-config/openai", "provider/openai", "http://127.0.0.1:1/v1"
        assert [told(event) for event in events] == [
            ("provider_config.set", own, "usr_alice", {"success": "true", "changed": "apiKey, maxTokens"}),
            ("provider_config.set", own, "usr_alice", {"success": "true", "changed": "priority, model, temperature"}),
            (
                "provider_config.set",
                own,
                "usr_alice",
                {"success": "false", "error": "INVALID_API_KEY", "changed": "apiKey"},
            ),
            (
                "platform_config.set",
                platform,
                "usr_admin",
                {"success": "true", "changed": "enabled, endpoint, apiKey", "enabled": "true", "endpoint": endpoint},
            ),
            (
                "platform_config.set",
                platform,
                "usr_admin",
                {"success": "false", "error": "INVALID_API_KEY", "changed": "apiKey"},
            ),
            (
                "platform_config.set",
                platform,
                "usr_admin",
                {
                    "success": "true",
                    "error": "PROVIDER_UNAVAILABLE",
                    "changed": "apiKey, endpoint",
                    "endpoint": "the usual one",
                },
            ),
            (
                "provider_config.tested",
                own,
                "usr_bob",
                {"key": "platform", "success": "false", "error": "PROVIDER_UNAVAILABLE"},
            ),
            ("provider_key.revealed", own, "usr_bob", {"to": "worker-openai", "key": "platform"}),
        ]
        for key in (KEY, REFUSED_KEY, UNREACHABLE_KEY):
            assert key not in str(events)

    async def test_each_worker_that_is_given_a_key_is_named(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        for provider in ("openai", "grok"):
            await alice.store(KEY, provider)
            for _ in range(2):
                await (await replica.worker(provider)).credential("usr_alice", provider)

        events = await replica.log.holding(6)

        revealed = [event for event in events if event.action == "provider_key.revealed"]
        assert [(event.resource, event.details["to"]) for event in revealed] == [
            ("provider-config/openai", "worker-openai"),
            ("provider-config/openai", "worker-openai"),
            ("provider-config/grok", "worker-grok"),
            ("provider-config/grok", "worker-grok"),
        ]

    async def test_what_was_not_done_has_none(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        await refused((await replica.worker()).credential("usr_alice"))
        await refused(alice.delete())
        await refused(alice.test())
        await refused(alice.store("short"))
        await alice.store(KEY)

        events = await replica.log.holding(1)

        assert [event.action for event in events] == ["provider_config.set"]


class TestDelivery:
    async def test_what_auth_does_not_take_waits_and_arrives(self, replica: Replica) -> None:
        replica.log.failures = [Unavailable("auth is away"), Unavailable("auth is away")]
        await (await replica.person("usr_alice")).store(KEY)
        assert (await (await replica.worker()).credential("usr_alice")).api_key == KEY

        events = await replica.log.holding(2)

        assert [event.action for event in events] == ["provider_config.set", "provider_key.revealed"]
        assert replica.log.failures == []


class TestDiskThatRefuses:
    async def test_no_key_is_revealed(self, replica: Replica) -> None:
        worker = await replica.worker()
        await (await replica.person("usr_alice")).store(KEY)
        with refusing(replica.disk):
            error = await refused(worker.credential("usr_alice"))
            assert error_info(error).reason == "SERVICE_UNAVAILABLE"
            assert KEY not in str(error)
        assert (await worker.credential("usr_alice")).api_key == KEY

        events = await replica.log.holding(2)

        assert [event.action for event in events] == ["provider_config.set", "provider_key.revealed"]

    async def test_nothing_is_stored_and_nothing_deleted(self, replica: Replica, worker: Worker) -> None:
        alice, reader = await replica.person("usr_alice"), await replica.worker()
        with refusing(replica.disk):
            assert (await refused(alice.store(KEY))).code() is grpc.StatusCode.UNAVAILABLE
            # From now on it is known, and the provider is not bothered.
            tried = len(worker.tried)
            assert (await refused(alice.store(KEY))).code() is grpc.StatusCode.UNAVAILABLE
            assert (await refused(alice.test(api_key=KEY))).code() is grpc.StatusCode.UNAVAILABLE
            assert len(worker.tried) == tried
        assert (await refused(alice.get())).code() is grpc.StatusCode.NOT_FOUND

        await alice.store(KEY)
        before, admin = await alice.get(), await replica.admin()
        with refusing(replica.disk):
            for call in (
                alice.delete(),
                alice.update(model="gpt-5"),
                alice.update(api_key=KEY),
                admin.set(api_key=KEY),
            ):
                assert (await refused(call)).code() is grpc.StatusCode.UNAVAILABLE
            assert (await refused(admin.set(enabled=False))).code() is grpc.StatusCode.UNAVAILABLE
        assert await alice.get() == before
        assert not (await admin.get()).HasField("create_time")
        assert (await reader.credential("usr_alice")).api_key == KEY
        events = await replica.log.holding(2)
        assert [event.action for event in events] == ["provider_config.set", "provider_key.revealed"]


class TestRefusals:
    async def test_what_people_are_denied_is_noted_once_a_minute(self, replica: Replica) -> None:
        # The policy of the key vault lets every signed-in person do everything: only a token's scopes can be short.
        person = await replica.person("usr_alice", scopes={"chat"})
        for _ in range(3):
            assert error_info(await refused(person.get())).reason == "INSUFFICIENT_SCOPE"
        await refused(person.delete())

        events = await replica.log.holding(2)

        method = "/realmultillm.keyvault.v1.ProviderConfigService"
        assert [told(event) for event in events] == [
            ("access.denied", f"{method}/GetProviderConfig", "usr_alice", {"reason": "INSUFFICIENT_SCOPE"}),
            ("access.denied", f"{method}/DeleteProviderConfig", "usr_alice", {"reason": "INSUFFICIENT_SCOPE"}),
        ]
