"""Administrators configure providers for everybody, over mTLS, with a real database and a real Vault behind."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import psycopg
import pytest

from libs.database import libpq_url
from libs.redaction import Secret
from tests.integration.key_vault.deployment import (
    BREAKING_KEY,
    REFUSED_KEY,
    UNREACHABLE_KEY,
    Admin,
    Replica,
    Worker,
)
from tests.support.rpc import error_info, violations
from tests.support.waiting import within_bound

KEY = "sk-sandbox-platform-key-1234"
OTHER_KEY = "sk-sandbox-platform-key-9876"
EVERYTHING: dict[str, Any] = {
    "enabled": False,
    "endpoint": "https://our-llm.internal/v1",
    "default_model": "gpt-5",
    "allowed_models": ["gpt-4o", "gpt-5"],
    "request_timeout_ms": 600_000,
}


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


class TestListing:
    async def test_every_provider_is_listed_configured_or_not(self, replica: Replica) -> None:
        admin = await replica.admin()
        await admin.set("grok", **EVERYTHING)

        first = await admin.list(page_size=3)
        second = await admin.list(page_size=3, page_token=first.next_page_token)

        configs = {config.provider: config for config in (*first.configs, *second.configs)}
        assert list(configs) == ["anthropic", "google-ai", "grok", "openai", "openrouter"]
        assert (len(first.configs), second.next_page_token) == (3, "")
        untouched = configs["openai"]
        assert (untouched.enabled, untouched.configured, untouched.endpoint, untouched.key_hint) == (
            True,
            False,
            "",
            "",
        )
        assert (untouched.default_model, list(untouched.allowed_models), untouched.request_timeout_ms) == ("", [], 0)
        for field in ("last_test", "create_time", "update_time"):
            assert not untouched.HasField(field)
        assert {name: getattr(configs["grok"], name) for name in EVERYTHING} == EVERYTHING
        assert violations(await refused(admin.list(page_size=-1, page_token="x"))) == ["pageSize", "pageToken"]


class TestChanging:
    async def test_what_is_given_changes_and_nothing_else(self, replica: Replica, worker: Worker) -> None:
        admin = await replica.admin()
        first = (await admin.set(**EVERYTHING, api_key=KEY)).config
        worker.forget()

        second = (await admin.set(request_timeout_ms=1_000)).config
        unchanged = (await admin.set()).config
        reset = (await admin.set(clear=["endpoint", "defaultModel", "allowedModels", "requestTimeoutMs"])).config
        keyless = (await admin.set(enabled=True, clear=["apiKey"])).config

        assert second.request_timeout_ms == 1_000
        assert second.update_time.ToNanoseconds() > first.update_time.ToNanoseconds()
        for field in ("provider", "enabled", "endpoint", "default_model", "allowed_models", "key_hint", "last_test"):
            assert getattr(second, field) == getattr(first, field)
        assert second.create_time == first.create_time
        assert unchanged == second
        assert (reset.endpoint, reset.default_model, list(reset.allowed_models)) == ("", "", [])
        assert (reset.request_timeout_ms, reset.enabled, reset.configured, reset.key_hint) == (0, False, True, "1234")
        assert (keyless.enabled, keyless.configured, keyless.key_hint) == (True, False, "")
        assert not keyless.HasField("last_test")
        assert await admin.get() == keyless
        assert worker.tried == []
        assert error_info(await refused((await replica.worker()).credential("usr_bob"))).reason == (
            "PROVIDER_NOT_CONFIGURED"
        )

    async def test_administrators_at_once_lose_nothing_of_each_other(self, replica: Replica, worker: Worker) -> None:
        admin = await replica.admin()
        worker.held_key = KEY
        slow = asyncio.create_task(admin.set(api_key=KEY))
        await within_bound(worker.held.wait())

        await asyncio.gather(
            admin.set(endpoint="https://our-llm.internal/v1"),
            admin.set(request_timeout_ms=2_000),
            admin.set(allowed_models=["gpt-5"]),
            admin.set(enabled=False),
        )
        worker.goes_on.set()
        await within_bound(slow)

        config = await admin.get()
        assert (config.endpoint, config.request_timeout_ms, list(config.allowed_models), config.enabled) == (
            "https://our-llm.internal/v1",
            2_000,
            ["gpt-5"],
            False,
        )
        assert config.key_hint == "1234"

    async def test_a_default_that_is_not_allowed_any_more_is_not_stored(self, replica: Replica, worker: Worker) -> None:
        admin = await replica.admin()
        await admin.set(allowed_models=["gpt-4o", "gpt-5"])
        worker.held_key = KEY
        slow = asyncio.create_task(admin.set(default_model="gpt-5", api_key=KEY))
        await within_bound(worker.held.wait())
        await admin.set(allowed_models=["gpt-4o"])
        before = await admin.get()
        worker.goes_on.set()

        error = await refused(within_bound(slow))

        assert violations(error) == ["defaultModel"]
        assert await admin.get() == before
        events = await replica.log.holding(2)
        assert [event.details["changed"] for event in events] == ["allowedModels"] * 2


class TestKey:
    async def test_it_is_tried_where_it_will_be_used(self, replica: Replica, worker: Worker) -> None:
        admin, alice = await replica.admin(), await replica.person("usr_alice")
        here, there = "http://127.0.0.1:1/v1", "https://our-llm.internal/v1"
        answer = await admin.set(endpoint=here, api_key=KEY)
        await admin.set(api_key=OTHER_KEY)
        await admin.set(endpoint=there)
        await alice.store(KEY)
        await alice.test(api_key=KEY)
        await alice.test()
        await admin.set(api_key=KEY, clear=["endpoint"])

        assert worker.tried == [KEY, OTHER_KEY, KEY, KEY, KEY, KEY]
        assert worker.endpoints == [here, here, there, there, there, ""]
        assert (answer.success, answer.config.configured, answer.config.key_hint) == (True, True, "1234")
        assert answer.config.last_test == answer.test_result
        assert KEY not in str(answer)

    async def test_a_refused_one_leaves_everything(self, replica: Replica) -> None:
        admin = await replica.admin()
        await admin.set(**EVERYTHING | {"enabled": True}, api_key=KEY)
        before = await admin.get()

        answer = await admin.set(api_key=REFUSED_KEY, request_timeout_ms=1_000, clear=["endpoint"])

        assert (answer.success, answer.test_result.error) == (False, "INVALID_API_KEY")
        assert answer.test_result.message == "The provider refused the key. Nothing was changed."
        assert answer.config == before
        assert await admin.get() == before
        assert (await (await replica.worker()).credential("usr_bob")).api_key == KEY

    @pytest.mark.parametrize(
        ("provider", "key", "reason"),
        [
            pytest.param("openai", UNREACHABLE_KEY, "PROVIDER_UNAVAILABLE", id="the provider is down"),
            pytest.param("openai", BREAKING_KEY, "SERVICE_UNAVAILABLE", id="the worker fails"),
            pytest.param("anthropic", KEY, "PROVIDER_UNAVAILABLE", id="there is no worker"),
        ],
    )
    async def test_one_that_cannot_be_tried_is_stored(
        self, replica: Replica, provider: str, key: str, reason: str
    ) -> None:
        answer = await (await replica.admin()).set(provider, api_key=key)
        assert (answer.success, answer.test_result.success, answer.test_result.error) == (True, False, reason)
        assert answer.test_result.message.endswith("The key is stored.")
        assert (await (await replica.worker(provider)).credential("usr_bob", provider)).api_key == key

    async def test_one_that_a_rotation_has_overtaken_is_sealed_anew(
        self, replica: Replica, worker: Worker, database_url: Secret
    ) -> None:
        admin = await replica.admin()
        worker.held_key = KEY
        setting = asyncio.create_task(admin.set(api_key=KEY, request_timeout_ms=5_000))
        await within_bound(worker.held.wait())
        async with await psycopg.AsyncConnection.connect(libpq_url(database_url), autocommit=True) as rotation:
            await rotation.execute("UPDATE encryption_keys SET floor = 1000000 WHERE purpose = 'provider-keys'")
        worker.goes_on.set()

        error = await refused(within_bound(setting))

        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert not (await admin.get()).HasField("create_time")


class TestValidation:
    @pytest.fixture
    async def admin(self, replica: Replica) -> Admin:
        """An administrator who has allowed two models, and chosen one of them."""
        admin = await replica.admin()
        await admin.set(default_model="gpt-5", allowed_models=["gpt-4o", "gpt-5"])
        return admin

    async def test_every_violation_is_told(self, admin: Admin, worker: Worker) -> None:
        error = await refused(
            admin.set(
                endpoint="ftp://example.com",
                default_model="m" * 201,
                allowed_models=["gpt-5", "gpt-5", "", "\x00"],
                request_timeout_ms=999,
                api_key="key with spaces",
                clear=["endpoint", "enabled"],
            )
        )
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(error) == [
            "endpoint",
            "defaultModel",
            "allowedModels",
            "allowedModels[2]",
            "allowedModels[3]",
            "requestTimeoutMs",
            "apiKey",
            "clear",
            "clear",
        ]
        assert "key with spaces" not in error.debug_error_string()
        assert worker.tried == []

    @pytest.mark.parametrize(
        ("fields", "violated"),
        [
            pytest.param({"endpoint": "http://api.example.com/v1"}, "endpoint", id="no https"),
            pytest.param({"endpoint": "https://10.0.0.1/v1"}, "endpoint", id="a private address"),
            pytest.param({"endpoint": "https://169.254.169.254"}, "endpoint", id="where clouds keep secrets"),
            pytest.param({"endpoint": "https://localhost/v1"}, "endpoint", id="a name of this machine"),
            pytest.param({"endpoint": "https://no-such-host.invalid/v1"}, "endpoint", id="leads nowhere"),
            pytest.param({"endpoint": f"https://127.0.0.1/{KEY}"}, "endpoint", id="with a key in it"),
            pytest.param({"request_timeout_ms": 0}, "requestTimeoutMs", id="no time"),
            pytest.param({"request_timeout_ms": 600_001}, "requestTimeoutMs", id="too much time"),
            pytest.param({"default_model": "gpt-3"}, "defaultModel", id="a default that is not allowed"),
            pytest.param({"allowed_models": ["gpt-4o"]}, "defaultModel", id="the default is not allowed any more"),
            pytest.param({"allowed_models": [f"m{n}" for n in range(201)]}, "allowedModels", id="too many models"),
            pytest.param({"default_model": KEY}, "defaultModel", id="a key as default model"),
            pytest.param({"allowed_models": ["gpt-5", KEY]}, "allowedModels[1]", id="a key as a model"),
            pytest.param({"clear": ["default_model"]}, "clear", id="a name that is not known"),
            pytest.param({"api_key": KEY, "clear": ["apiKey"]}, "clear", id="given and cleared"),
        ],
    )
    async def test_a_broken_rule_is_refused(
        self, admin: Admin, worker: Worker, fields: dict[str, Any], violated: str
    ) -> None:
        before = await admin.get()
        error = await refused(admin.set(**fields))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(error) == [violated]
        assert KEY not in error.debug_error_string()
        assert await admin.get() == before
        assert worker.tried == []

    async def test_the_default_may_change_with_what_is_allowed(self, admin: Admin) -> None:
        assert (await admin.set(default_model="o3", allowed_models=["o3"])).success
        assert (await admin.set(default_model="gpt-3", clear=["allowedModels"])).success
        assert (await admin.set(allowed_models=["o3"], clear=["defaultModel"])).success

    async def test_what_the_models_come_to_is_told_with_the_rest(self, admin: Admin) -> None:
        error = await refused(admin.set(endpoint="https://10.0.0.1", default_model="gpt-3", request_timeout_ms=1))
        assert violations(error) == ["endpoint", "requestTimeoutMs", "defaultModel"]

    async def test_an_empty_endpoint_is_the_usual_one(self, admin: Admin) -> None:
        await admin.set(endpoint="https://our-llm.internal/v1")
        assert (await admin.set(endpoint="", default_model="")).config.endpoint == ""

    async def test_an_unknown_provider_is_not_found(self, admin: Admin) -> None:
        error = await refused(admin.set("openia", enabled=False))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert error_info(error).reason == "PROVIDER_NOT_FOUND"


class TestAccess:
    @pytest.mark.parametrize("role", ["user", "auditor"])
    async def test_administrators_alone_configure_for_everybody(self, replica: Replica, role: str) -> None:
        other = await replica.admin("usr_alice", role=role)
        for call in (other.set(enabled=False), other.list()):
            assert (await refused(call)).code() is grpc.StatusCode.PERMISSION_DENIED


class TestKeyTestOfAModel:
    async def test_one_that_is_not_allowed_is_told_and_not_tried(self, replica: Replica, worker: Worker) -> None:
        admin, alice = await replica.admin(), await replica.person("usr_alice")
        await alice.store(KEY)
        await admin.set(allowed_models=["gpt-4o-mini"])
        worker.tried.clear()

        for given in ({}, {"api_key": KEY}):
            answer = await alice.test(model="gpt-4o", **given)
            assert (answer.success, answer.error) == (False, "MODEL_NOT_ALLOWED")
        assert worker.tried == []
        assert (await alice.test(model="gpt-4o-mini")).success
