"""People configure their providers, over mTLS, with a real database and a real Vault behind."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc
import psycopg
import pytest

from libs.database import libpq_url
from libs.redaction import Secret
from tests.integration.key_vault.deployment import (
    BREAKING_KEY,
    MISSING_MODEL,
    REFUSED_KEY,
    UNREACHABLE_KEY,
    Replica,
    Worker,
    next_news,
)
from tests.support.rpc import error_info, violations
from tests.support.vault import VaultServer
from tests.support.waiting import eventually, within_bound

KEY = "sk-sandbox-first-key-1234"
OTHER_KEY = "sk-sandbox-other-key-9876"


class TestStoring:
    async def test_a_key_is_tried_and_described_but_not_shown(self, replica: Replica, worker: Worker) -> None:
        alice = await replica.person("usr_alice")

        stored = await alice.store(KEY, model="gpt-4o", temperature=0.0, max_tokens=100, priority=1)

        assert (stored.success, stored.provider, stored.configured) == (True, "openai", True)
        assert (stored.test_result.success, stored.test_result.latency) == (True, 12)
        assert worker.tried == [KEY]
        config = await alice.get()
        assert (config.provider, config.configured, config.model) == ("openai", True, "gpt-4o")
        assert config.key_hint == "1234"
        assert config.HasField("temperature")
        assert (config.temperature, config.max_tokens, config.priority) == (0.0, 100, 1)
        assert config.last_test == stored.test_result
        assert config.create_time == config.update_time
        assert KEY not in str(config) + str(stored)

    async def test_the_worker_gets_the_key_and_the_defaults(self, replica: Replica) -> None:
        await (await replica.person("usr_alice")).store(KEY, model="gpt-4o", max_tokens=100)

        credential = await (await replica.worker()).credential("usr_alice")

        assert (credential.api_key, credential.model, credential.max_tokens) == (KEY, "gpt-4o", 100)
        assert not credential.HasField("temperature")

    async def test_the_second_key_replaces_the_first_and_all_defaults(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY, model="gpt-4o", temperature=1.5)
        before = await alice.get()

        await alice.store(OTHER_KEY)

        config = await alice.get()
        assert (config.key_hint, config.model, config.HasField("temperature")) == ("9876", "", False)
        assert config.create_time == before.create_time
        assert config.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
        assert (await (await replica.worker()).credential("usr_alice")).api_key == OTHER_KEY

    async def test_a_short_key_gives_no_hint(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        await alice.store("12345678")
        assert (await alice.get()).key_hint == ""

    async def test_a_person_sees_their_own_only(self, replica: Replica) -> None:
        await (await replica.person("usr_alice")).store(KEY)
        bob = await replica.person("usr_bob")

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bob.get()

        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert error_info(caught.value).reason == "NOT_FOUND"
        assert "POST /api/provider-config/openai" in caught.value.details()
        assert not (await bob.list()).provider_configs

    async def test_stores_at_once_leave_one_whole_row(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")

        await asyncio.gather(*(alice.store(f"sk-sandbox-key-{n:04}", model=f"model-{n:04}") for n in range(12)))

        config, worker = await alice.get(), await replica.worker()
        credential = await worker.credential("usr_alice")
        number = config.model[-4:]
        assert (credential.api_key, credential.model) == (f"sk-sandbox-key-{number}", f"model-{number}")
        assert config.key_hint == number


class TestUpdating:
    async def test_what_is_given_changes_and_nothing_else(self, replica: Replica, worker: Worker) -> None:
        alice, bob = await replica.person("usr_alice"), await replica.person("usr_bob")
        for person in (alice, bob):
            await person.store(KEY, model="gpt-4o", temperature=0.5, max_tokens=100)
        first, theirs = await alice.get(), await bob.get()
        worker.forget()

        answer = await alice.update(temperature=0.0, priority=100)
        second = await alice.get()
        await alice.update(model="gpt-5", clear=["temperature", "maxTokens", "priority"])
        third = await alice.get()
        await alice.update(model="")

        assert (answer.success, answer.provider, answer.configured) == (True, "openai", True)
        assert not answer.HasField("test_result")
        assert (second.model, second.temperature, second.max_tokens, second.priority) == ("gpt-4o", 0.0, 100, 100)
        assert second.update_time.ToNanoseconds() > first.update_time.ToNanoseconds()
        assert (second.create_time, second.last_test, second.key_hint) == (first.create_time, first.last_test, "1234")
        assert (third.model, third.HasField("temperature"), third.HasField("max_tokens")) == ("gpt-5", False, False)
        assert not third.HasField("priority")
        assert (await alice.get()).model == ""
        assert worker.tried == [], "a key that stays is not tried"
        assert (await (await replica.worker()).credential("usr_alice")).api_key == KEY
        assert await bob.get() == theirs

    async def test_a_new_key_is_tried_and_takes_the_place_of_the_earlier_one(
        self, replica: Replica, worker: Worker
    ) -> None:
        alice = await replica.person("usr_alice")
        created = await alice.update(api_key=KEY, max_tokens=5)
        await alice.update(model="gpt-4o")

        replaced = await alice.update(api_key=OTHER_KEY, temperature=1.0)

        assert worker.tried == [KEY, OTHER_KEY]
        for answer in (created, replaced):
            assert (answer.success, answer.configured, answer.test_result.success) == (True, True, True)
            assert KEY not in str(answer)
        config = await alice.get()
        assert (config.key_hint, config.model, config.temperature, config.max_tokens) == ("9876", "gpt-4o", 1.0, 5)
        assert config.last_test == replaced.test_result
        assert (await (await replica.worker()).credential("usr_alice")).api_key == OTHER_KEY

    async def test_a_refused_key_leaves_everything(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        assert not (await alice.update(api_key=REFUSED_KEY, model="gpt-5")).configured
        await alice.store(KEY, model="gpt-4o")
        before = await alice.get()

        answer = await alice.update(api_key=REFUSED_KEY, model="gpt-5", clear=["maxTokens"])

        assert (answer.success, answer.configured) == (False, True)
        assert (answer.test_result.error, await alice.get()) == ("INVALID_API_KEY", before)

    async def test_without_a_key_there_must_be_one(self, replica: Replica) -> None:
        await (await replica.person("usr_alice")).store(KEY)
        bob = await replica.person("usr_bob")
        for fields in ({}, {"model": "gpt-5"}, {"clear": ["model"]}):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await bob.update(**fields)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert error_info(caught.value).reason == "NOT_FOUND"

    @pytest.mark.parametrize(
        ("fields", "violated"),
        [
            (
                {"api_key": "1", "model": "\n", "temperature": math.nan, "max_tokens": 0, "clear": ["apiKey", "model"]},
                ["apiKey", "model", "temperature", "maxTokens", "clear", "clear"],
            ),
            ({"priority": 0, "clear": ["priority"]}, ["priority", "clear"]),
            ({"clear": ["max_tokens"]}, ["clear"]),
            ({"model": KEY}, ["model"]),
        ],
    )
    async def test_everything_wrong_is_told_and_nothing_changed(
        self, replica: Replica, worker: Worker, fields: dict[str, Any], violated: list[str]
    ) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY, model="gpt-4o")
        before = await alice.get()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await alice.update(**fields)
        assert violations(caught.value) == violated
        assert KEY not in caught.value.debug_error_string()
        assert await alice.get() == before
        assert worker.tried == [KEY]

    async def test_changes_at_once_all_hold(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY)

        await asyncio.gather(
            alice.update(model="gpt-5"),
            alice.update(temperature=0.25),
            alice.update(max_tokens=9),
            alice.update(api_key=OTHER_KEY),
        )

        config = await alice.get()
        assert (config.model, config.temperature, config.max_tokens) == ("gpt-5", 0.25, 9)
        assert (await (await replica.worker()).credential("usr_alice")).api_key == OTHER_KEY

    async def test_a_change_neither_brings_back_what_was_deleted_nor_an_earlier_key(
        self, replica: Replica, database_url: Secret
    ) -> None:
        alice, worker = await replica.person("usr_alice"), await replica.worker()
        await alice.store(KEY)
        async with await psycopg.AsyncConnection.connect(libpq_url(database_url)) as other:
            # The row is held by somebody who replaces its key; the change waits, and finds the new one.
            await other.execute("UPDATE provider_configs SET key_hint = 'held', max_tokens = 77")
            updating = asyncio.create_task(alice.update(model="gpt-5"))
            await _until_somebody_waits(other)
            await other.commit()
            await within_bound(updating)
            config = await alice.get()
            assert (config.key_hint, config.max_tokens, config.model) == ("held", 77, "gpt-5")

            await other.execute("DELETE FROM provider_configs")
            updating = asyncio.create_task(alice.update(model="gpt-6"))
            await _until_somebody_waits(other)
            await other.commit()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await within_bound(updating)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.credential("usr_alice")
        assert error_info(caught.value).reason == "PROVIDER_NOT_CONFIGURED"

    async def test_a_key_that_a_rotation_has_overtaken_is_sealed_anew(
        self, replica: Replica, worker: Worker, database_url: Secret, vault: VaultServer
    ) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY)
        worker.held_key = OTHER_KEY
        updating = asyncio.create_task(alice.update(api_key=OTHER_KEY))
        await within_bound(worker.held.wait())
        floor = "UPDATE encryption_keys SET floor = %s WHERE purpose = 'provider-keys'"
        version = "SELECT key_version FROM provider_configs"
        async with await psycopg.AsyncConnection.connect(libpq_url(database_url), autocommit=True) as rotation:
            (before,) = await _one(rotation, version)
            await asyncio.to_thread(vault.rotate, "provider-keys")
            await rotation.execute(floor, [before + 1])
            worker.goes_on.set()
            assert (await within_bound(updating)).success
            assert await _one(rotation, version) == (before + 1,)
            assert (await (await replica.worker()).credential("usr_alice")).api_key == OTHER_KEY
            stored = await alice.get()

            # No key of Vault is as new: whatever it is sealed by is too old.
            await rotation.execute(floor, [1_000_000])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await alice.update(api_key=KEY)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "Vault is older than the database" in caught.value.details()
        assert await alice.get() == stored


class TestTrial:
    async def test_a_refused_key_is_not_stored(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")

        answer = await alice.store(REFUSED_KEY)

        assert (answer.success, answer.configured) == (False, False)
        assert (answer.test_result.success, answer.test_result.error) == (False, "INVALID_API_KEY")
        assert "not stored" in answer.test_result.message
        with pytest.raises(grpc.aio.AioRpcError):
            await alice.get()

    async def test_a_refused_key_leaves_the_earlier_one(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY, model="gpt-4o")
        before = await alice.get()

        answer = await alice.store(REFUSED_KEY, model="gpt-5")

        assert (answer.success, answer.configured) == (False, True)
        assert "earlier key stays" in answer.test_result.message
        assert await alice.get() == before
        assert (await (await replica.worker()).credential("usr_alice")).api_key == KEY

    @pytest.mark.parametrize(
        ("provider", "key", "reason"),
        [
            pytest.param("openai", UNREACHABLE_KEY, "PROVIDER_UNAVAILABLE", id="the provider is down"),
            pytest.param("openai", BREAKING_KEY, "SERVICE_UNAVAILABLE", id="the worker fails"),
            pytest.param("anthropic", KEY, "PROVIDER_UNAVAILABLE", id="there is no worker"),
        ],
    )
    async def test_a_key_that_cannot_be_tried_is_stored(
        self, replica: Replica, provider: str, key: str, reason: str
    ) -> None:
        alice = await replica.person("usr_alice")

        answer = await alice.store(key, provider)

        assert (answer.success, answer.configured) == (True, True)
        assert (answer.test_result.success, answer.test_result.error) == (False, reason)
        assert answer.test_result.message.endswith("The key is stored.")
        assert (await alice.get(provider)).last_test == answer.test_result
        assert (await (await replica.worker(provider)).credential("usr_alice", provider)).api_key == key


class TestTryingTheStoredKey:
    async def test_it_is_told_and_becomes_the_last_test(self, replica: Replica, worker: Worker) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY, model="gpt-4o", temperature=0.5)
        before = await alice.get()

        answer = await alice.test()

        assert (answer.success, answer.latency, answer.message, answer.error) == (True, 12, "The key works.", "")
        assert worker.tried == [KEY, KEY]
        after = await alice.get()
        assert after.last_test.test_time.ToNanoseconds() > before.last_test.test_time.ToNanoseconds()
        after.last_test.test_time.CopyFrom(before.last_test.test_time)
        assert after == before, "nothing else has changed, the time of the last change included"

    async def test_a_key_that_has_become_bad_is_an_answer_and_stays_stored(
        self, replica: Replica, worker: Worker
    ) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY)
        worker.refuses_all = True

        answer = await alice.test()

        assert (answer.success, answer.latency, answer.error) == (False, 7, "INVALID_API_KEY")
        assert answer.message.endswith("Store a valid one with POST /api/provider-config/openai.")
        last_test = (await alice.get()).last_test
        assert (last_test.success, last_test.latency, last_test.message, last_test.error) == (
            answer.success,
            answer.latency,
            answer.message,
            answer.error,
        )
        assert (await (await replica.worker()).credential("usr_alice")).api_key == KEY

    @pytest.mark.parametrize(
        ("provider", "key", "reason"),
        [
            pytest.param("openai", UNREACHABLE_KEY, "PROVIDER_UNAVAILABLE", id="the provider is down"),
            pytest.param("openai", BREAKING_KEY, "SERVICE_UNAVAILABLE", id="the worker fails"),
            pytest.param("anthropic", KEY, "PROVIDER_UNAVAILABLE", id="there is no worker"),
        ],
    )
    async def test_that_it_cannot_be_tried_is_an_answer_too(
        self, replica: Replica, provider: str, key: str, reason: str
    ) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(key, provider)

        answer = await alice.test(provider)

        assert (answer.success, answer.error) == (False, reason)
        assert "The key is stored." not in answer.message
        assert (await alice.get(provider)).last_test.message == answer.message

    async def test_a_model_can_be_named(self, replica: Replica, worker: Worker) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY)

        answer = await alice.test(model=MISSING_MODEL)

        assert (answer.success, answer.error) == (False, "MODEL_NOT_FOUND")
        assert worker.models == ["", MISSING_MODEL]
        assert (await alice.get()).last_test.success, "another model says nothing of the configuration"

    async def test_the_configured_model_belongs_to_the_configuration(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY, model=MISSING_MODEL)

        await alice.test(model=MISSING_MODEL)

        assert (await alice.get()).last_test.error == "MODEL_NOT_FOUND"

    async def test_no_worker_is_told_of_a_change(self, replica: Replica) -> None:
        alice, worker = await replica.person("usr_alice"), await replica.worker()
        watch = worker.watch()
        assert (await next_news(watch)).synchronized
        await alice.store(KEY)
        assert (await next_news(watch)).user_id == "usr_alice"

        await alice.test()

        await (await replica.person("usr_bob")).store(KEY)
        assert (await next_news(watch)).user_id == "usr_bob"
        watch.cancel()

    async def test_it_is_not_noted_of_a_key_that_was_replaced_meanwhile(self, replica: Replica, worker: Worker) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY)
        worker.held_key = KEY
        testing = asyncio.create_task(alice.test())
        await within_bound(worker.held.wait())
        await alice.store(OTHER_KEY)

        worker.refuses_all = True
        worker.goes_on.set()

        assert (await testing).error == "INVALID_API_KEY"
        assert (await alice.get()).last_test.success

    async def test_another_persons_is_not_tried(self, replica: Replica, worker: Worker) -> None:
        await (await replica.person("usr_alice")).store(KEY)
        worker.forget()

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.person("usr_bob")).test()

        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert error_info(caught.value).reason == "PROVIDER_NOT_CONFIGURED"
        assert "POST /api/provider-config/openai" in caught.value.details()
        assert worker.tried == []


class TestTryingThePlatformsKey:
    async def test_who_has_none_tries_it_and_it_is_noted_there(self, replica: Replica, worker: Worker) -> None:
        admin, bob = await replica.admin(), await replica.person("usr_bob")
        await admin.set(api_key=KEY, default_model="gpt-4o", endpoint="http://127.0.0.1:1/v1")
        await (await replica.person("usr_alice")).store(OTHER_KEY)
        worker.forget()
        before = await admin.get()
        assert (await bob.test(model="gpt-4o")).success
        after = await admin.get()
        worker.refuses_all = True

        answer = await bob.test()

        assert worker.tried == [KEY, KEY]
        assert worker.endpoints == ["http://127.0.0.1:1/v1"] * 2
        assert after.last_test.test_time.ToNanoseconds() > before.last_test.test_time.ToNanoseconds()
        assert after.update_time == before.update_time
        assert (answer.success, answer.error) == (False, "INVALID_API_KEY")
        assert "the platform's; store your own with POST /api/provider-config/openai" in answer.message
        noted = (await admin.get()).last_test
        assert (noted.error, noted.message) == ("INVALID_API_KEY", "The provider refused the key.")
        assert (await (await replica.person("usr_alice")).get()).last_test.success


class TestProviderThatIsSwitchedOff:
    async def test_it_is_never_called_but_keys_are_stored(
        self, replica: Replica, worker: Worker, vault: VaultServer
    ) -> None:
        alice, admin = await replica.person("usr_alice"), await replica.admin()
        await admin.set(enabled=False)
        said = "Administrators have switched openai off; choose another provider."

        stored, updated = await alice.store(KEY), await alice.update(api_key=OTHER_KEY)
        by_admin = await admin.set(api_key=OTHER_KEY)
        given = await alice.test(api_key=KEY)
        await asyncio.to_thread(vault.seal)
        try:
            tried = await alice.test()
        finally:
            await asyncio.to_thread(vault.unseal)

        assert stored.success
        assert updated.success
        assert by_admin.success
        for trial in (stored.test_result, updated.test_result, by_admin.test_result):
            assert (trial.success, trial.message) == (False, f"{said} The key is stored.")
        for answer in (given, tried):
            assert (answer.success, answer.error, answer.message) == (False, "PROVIDER_DISABLED", said)
        assert worker.tried == []
        assert (await alice.get()).last_test.error == "PROVIDER_DISABLED"
        assert (await alice.get()).key_hint == "9876"

    async def test_an_administrator_switches_it_on_with_a_key_that_works(
        self, replica: Replica, worker: Worker
    ) -> None:
        admin = await replica.admin()
        await admin.set(enabled=False)
        assert (await admin.set(enabled=True, api_key=KEY)).test_result.success
        assert worker.tried == [KEY]


class TestTryingAGivenKey:
    @pytest.mark.parametrize(
        ("key", "success", "reason"),
        [
            (OTHER_KEY, True, ""),
            (REFUSED_KEY, False, "INVALID_API_KEY"),
            (UNREACHABLE_KEY, False, "PROVIDER_UNAVAILABLE"),
        ],
    )
    async def test_nothing_is_stored(
        self, replica: Replica, worker: Worker, key: str, success: bool, reason: str
    ) -> None:
        alice = await replica.person("usr_alice")

        answer = await alice.test(api_key=key, model="gpt-4o")

        assert (answer.success, answer.error) == (success, reason)
        assert "stored" not in answer.message
        assert (worker.tried, worker.models) == ([key], ["gpt-4o"])
        assert key not in str(answer)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await alice.get()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_the_stored_one_and_its_last_test_stay(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY)
        before = await alice.get()

        assert not (await alice.test(api_key=REFUSED_KEY)).success

        assert await alice.get() == before

    @pytest.mark.parametrize(
        ("fields", "violated"),
        [
            ({"api_key": "1234567"}, ["apiKey"]),
            ({"api_key": "key with spaces"}, ["apiKey"]),
            ({"api_key": KEY, "model": "m" * 201}, ["model"]),
            ({"model": "gpt\x00"}, ["model"]),
            ({"api_key": "1", "model": "\n"}, ["apiKey", "model"]),
            ({"model": OTHER_KEY}, ["model"]),
        ],
    )
    async def test_what_cannot_be_one_is_not_tried(
        self, replica: Replica, worker: Worker, fields: dict[str, str], violated: list[str]
    ) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.person("usr_alice")).test(**fields)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(caught.value) == violated
        assert worker.tried == []


class TestListing:
    async def test_pages_are_ordered_by_provider(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        for provider in ("openrouter", "grok", "anthropic"):
            await alice.store(KEY, provider)

        first = await alice.list(page_size=2)
        second = await alice.list(page_size=2, page_token=first.next_page_token)

        assert [config.provider for config in first.provider_configs] == ["anthropic", "grok"]
        assert [config.provider for config in second.provider_configs] == ["openrouter"]
        assert not second.next_page_token

    async def test_a_full_last_page_ends_the_list(self, replica: Replica) -> None:
        alice = await replica.person("usr_alice")
        await alice.store(KEY)
        assert not (await alice.list(page_size=1)).next_page_token

    async def test_nonsense_is_refused(self, replica: Replica) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.person("usr_alice")).list(page_size=-1, page_token="usr_bob")
        assert violations(caught.value) == ["pageSize", "pageToken"]


class TestDeleting:
    async def test_the_key_is_gone(self, replica: Replica) -> None:
        alice, worker = await replica.person("usr_alice"), await replica.worker()
        await alice.store(KEY)

        assert (await alice.delete()).success

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.credential("usr_alice")
        info = error_info(caught.value)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (info.reason, dict(info.metadata)) == ("PROVIDER_NOT_CONFIGURED", {"provider": "openai"})
        assert "POST /api/provider-config/openai" in caught.value.details()

    async def test_what_is_not_there_is_not_found(self, replica: Replica) -> None:
        await (await replica.person("usr_alice")).store(KEY)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.person("usr_bob")).delete()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert (await (await replica.person("usr_alice")).get()).configured


class TestBadInput:
    async def test_every_violation_is_told_at_once(self, replica: Replica, worker: Worker) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.person("usr_alice")).store(
                "key with spaces", model="m" * 201, temperature=2.1, max_tokens=0
            )
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(caught.value) == ["apiKey", "model", "temperature", "maxTokens"]
        assert "key with spaces" not in caught.value.debug_error_string()
        assert not worker.tried

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"key": ""}, id="no key"),
            pytest.param({"key": "1234567"}, id="short key"),
            pytest.param({"key": "k" * 513}, id="long key"),
            pytest.param({"key": "schlüssel-schlüssel"}, id="key beyond ASCII"),
            pytest.param({"key": "sk-with-newline\n"}, id="key with a newline"),
            pytest.param({"model": "gpt\x00"}, id="NUL, which Postgres cannot store"),
            pytest.param({"model": OTHER_KEY}, id="a key in the wrong field"),
            pytest.param({"temperature": math.nan}, id="temperature is not a number"),
            pytest.param({"temperature": -0.1}, id="negative temperature"),
            pytest.param({"max_tokens": -1}, id="negative limit"),
            pytest.param({"priority": 0}, id="priority below the first"),
            pytest.param({"priority": 101}, id="priority beyond the last"),
        ],
    )
    async def test_a_broken_rule_is_refused(self, replica: Replica, fields: dict[str, Any]) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (await replica.person("usr_alice")).store(**{"key": KEY, **fields})
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(violations(caught.value)) == 1

    @pytest.mark.parametrize("provider", ["", "openia", "OpenAI"])
    async def test_an_unknown_provider_is_not_found(self, replica: Replica, provider: str) -> None:
        alice = await replica.person("usr_alice")
        for call in (
            alice.get(provider),
            alice.store(KEY, provider),
            alice.delete(provider),
            alice.test(provider),
            alice.update(provider),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert error_info(caught.value).reason == "PROVIDER_NOT_FOUND"
            assert "anthropic, google-ai, grok, openai, openrouter" in caught.value.details()


class TestAccess:
    async def test_nobody_configures_without_signing_in(self, replica: Replica) -> None:
        nobody = await replica.person("")
        for call in (nobody.store(KEY), nobody.test(api_key=KEY), nobody.update(api_key=KEY)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_a_worker_cannot_configure(self, replica: Replica) -> None:
        worker = await replica.person("usr_alice", through="worker-openai")
        for call in (worker.store(KEY), worker.test(api_key=KEY), worker.update(api_key=KEY)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def _until_somebody_waits(connection: psycopg.AsyncConnection) -> None:
    """Waits until somebody waits for a lock that a connection has."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    await eventually(lambda: _one(connection, waiting), lambda row: row[0] > 0)


async def _one(connection: psycopg.AsyncConnection, query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row
