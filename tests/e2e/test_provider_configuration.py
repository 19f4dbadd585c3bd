"""What people configure for themselves and administrators for everybody, through the front door.

The platform is shared: `configure` takes back what a test has configured for everybody. That a change is everywhere
within a second is for tests/reliability/test_key_changes.py to show; here it is awaited.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.topology import SANDBOX_ROLES
from libs.provider_catalog import load_catalog
from tests.e2e.conftest import Person, Platform, error_of, events
from tests.e2e.people import administrator
from tests.support.waiting import eventually

OWN = "/api/provider-config/openai"
EVERYBODY = "/api/admin/providers/config"
CLEAR = ["endpoint", "defaultModel", "allowedModels", "requestTimeoutMs", "apiKey"]

Configure = Callable[..., Awaitable[dict]]


def new_key(provider: str = "openai") -> str:
    """Makes a good key that nobody has stored."""
    return f"{SANDBOX_ROLES[provider].key_prefix}-{uuid.uuid4().hex}"


@asynccontextmanager
async def listened_to(http: httpx.AsyncClient) -> AsyncIterator[list[str]]:
    """Collects all that a client is answered."""
    heard: list[str] = []

    async def listen(response: httpx.Response) -> None:
        heard.append(f"{response.headers} {(await response.aread()).decode()}")

    http.event_hooks["response"].append(listen)
    try:
        yield heard
    finally:
        http.event_hooks["response"].remove(listen)


async def last_request(platform: Platform, key: str) -> Any:
    """Returns the last request that the provider received with a key."""
    return (await platform.sandbox.requests(key=key))[-1]


async def answered(person: Person, status: int = 200, provider: str = "openai", **body: Any) -> httpx.Response:
    """Chats until the answer has this status, as it has once the worker has heard of a change."""
    return await eventually(lambda: person.chat(provider, **body), lambda answer: answer.status_code == status)


async def chat_used(platform: Platform, person: Person, key: str) -> None:
    """Waits until a chat of a person uses a key."""

    async def last_path() -> str:
        after = max(request.id for request in await platform.sandbox.requests())
        assert (await person.chat()).status_code == 200
        received = await platform.sandbox.requests(key=key, after=after)
        return received[-1].path if received else ""

    await eventually(last_path, lambda path: path.endswith("/chat/completions"))


@pytest.fixture(scope="module")
async def admin(platform: Platform) -> AsyncIterator[Person]:
    async with administrator(platform) as person:
        yield person


@pytest.fixture
async def configure(admin: Person) -> AsyncIterator[Configure]:
    """Configures a provider for everybody, for the time of the test."""
    touched: set[str] = set()

    async def change(provider: str, **fields: Any) -> dict:
        touched.add(provider)
        answer = await admin.http.post(EVERYBODY, json={"provider": provider, **fields})
        assert answer.status_code == 200, answer.text
        changed: dict = answer.json()
        return changed

    yield change
    for provider in tuple(touched):
        await change(provider, enabled=True, clear=CLEAR)


async def everybodys(admin: Person, provider: str) -> dict:
    """Returns how a provider is configured for everybody."""
    found = (await admin.http.get(EVERYBODY)).json()["configs"]
    (config,) = (each for each in found if each["provider"] == provider)
    return dict(config)


async def own(person: Person) -> dict:
    """Returns what a person has configured, but for when."""
    found: dict = (await person.http.get(OWN)).json()
    return {name: value for name, value in found.items() if name not in ("updateTime", "lastTest")}


class TestOwnChanges:
    async def test_leave_what_is_not_given(self, platform: Platform, person: Person):
        first = {"apiKey": person.key, "model": "gpt-4o-mini", "temperature": 0.5, "maxTokens": 77}
        await person.http.post(OWN, json=first)
        before = await own(person)

        async with listened_to(person.http) as heard:
            answer = await person.http.put(OWN, json={"model": "gpt-4o"})
            assert answer.status_code == 200, answer.text
            assert answer.json() == {"success": True, "provider": "openai", "configured": True}
            assert await own(person) == {**before, "model": "gpt-4o"}

            await person.http.put(OWN, json={"temperature": 0, "clear": ["maxTokens"]})
            changed = await own(person)
            assert (changed["model"], changed["temperature"], "maxTokens" in changed) == ("gpt-4o", 0, False)

            await person.http.put(OWN, json={"clear": ["model", "temperature"]})
            cleared = await own(person)
            assert (cleared["model"], "temperature" in cleared, cleared["keyHint"]) == ("", False, person.key[-4:])
        assert person.key not in str(heard)
        assert len(await platform.sandbox.requests(key=person.key)) == 2, "keys alone are tried"

    async def test_reach_the_next_chat(self, platform: Platform, person: Person):
        assert (await person.chat()).status_code == 200
        await person.http.put(OWN, json={"model": "gpt-4o", "maxTokens": 55})

        async def asked_for() -> tuple[Any, ...]:
            assert (await person.chat()).status_code == 200
            received = await last_request(platform, person.key)
            return received.model, received.body.get("max_completion_tokens")

        await eventually(asked_for, lambda asked: asked == ("gpt-4o", 55))

    async def test_replace_the_key(self, platform: Platform, person: Person):
        assert (await person.chat()).status_code == 200
        key = new_key()
        answer = (await person.http.put(OWN, json={"apiKey": key})).json()
        assert (answer["success"], answer["testResult"]["success"]) == (True, True)
        await chat_used(platform, person, key)
        after = (await last_request(platform, person.key)).id
        assert (await person.chat()).status_code == 200
        assert await platform.sandbox.requests(key=person.key, after=after) == []

    async def test_by_a_refused_key_change_nothing(self, person: Person):
        before = await own(person)
        answer = (await person.http.put(OWN, json={"apiKey": "sk-wrong-key-0123456789", "model": "gpt-4o"})).json()
        assert (answer["success"], answer["configured"]) == (False, True)
        assert answer["testResult"]["error"] == "INVALID_API_KEY"
        assert await own(person) == before
        assert (await person.chat()).status_code == 200

    async def test_without_anything_stored_need_a_key(self, platform: Platform):
        async with platform.person(with_key=False) as person:
            assert error_of(await person.http.put(OWN, json={"model": "gpt-4o"})) == (404, "NOT_FOUND")
            answer = (await person.http.put(OWN, json={"apiKey": person.key, "model": "gpt-4o"})).json()
            assert (answer["success"], answer["configured"]) == (True, True)
            assert (await person.chat()).status_code == 200

    @pytest.mark.parametrize(
        "body",
        [
            {"temperature": 2.1},
            {"temperature": "NaN"},
            {"temperature": "warm"},
            {"temperature": [1]},
            {"maxTokens": 0},
            {"maxTokens": 1.5},
            {"maxTokens": 3_000_000_000},
            {"model": "m" * 201},
            {"model": 7},
            {"model": {"name": "gpt-4o"}},
            {"apiKey": "short"},
            {"apiKey": "sk-with spaces in it"},
            {"apiKey": ["sk-sandbox-0123456789"]},
            {"clear": ["colour"]},
            {"clear": ["apiKey"]},
            {"clear": ["model"], "model": "gpt-4o"},
            {"clear": ["colour"] * 100_000},
        ],
        ids=lambda body: str(body)[:40],
    )
    async def test_that_are_wrong_are_refused(self, person: Person, body: dict):
        before = await own(person)
        answer = await person.http.put(OWN, json=body)
        assert error_of(answer) == (400, "INVALID_ARGUMENT")
        assert len(answer.content) < 20_000
        assert await own(person) == before

    async def test_of_no_provider_are_not_found(self, person: Person):
        answer = await person.http.put("/api/provider-config/nobody", json={"model": "m"})
        assert error_of(answer) == (404, "PROVIDER_NOT_FOUND")


class TestSwitchedOff:
    async def test_nobody_chats_and_other_providers_go_on(
        self, platform: Platform, person: Person, configure: Configure
    ):
        async with AsyncExitStack() as stack:
            other = await stack.enter_async_context(platform.person(with_key=False))
            await other.http.post("/api/provider-config/grok", json={"apiKey": new_key("grok")})
            assert (await person.chat()).status_code == 200
            assert (await configure("openai", enabled=False))["config"]["enabled"] is False

            refused = await answered(person, 403)
            asked = len(await platform.sandbox.requests(key=person.key))
            assert error_of(refused) == (403, "PROVIDER_DISABLED")
            assert "choose another provider" in refused.json()["message"]
            async with person.stream() as streamed:
                await streamed.aread()
                assert error_of(streamed) == (403, "PROVIDER_DISABLED")
            assert error_of(await person.http.get("/api/models/openai")) == (403, "PROVIDER_DISABLED")
            assert len(await platform.sandbox.requests(key=person.key)) == asked
            listed = {row["id"]: row for row in (await person.http.get("/api/providers")).json()["providers"]}
            assert [provider for provider, row in listed.items() if not row["enabled"]] == ["openai"]
            assert listed["openai"]["configured"]
            assert (await other.chat("grok")).status_code == 200

            await configure("openai", enabled=True)
            await answered(person)


class TestModels:
    async def test_the_default_is_used_where_nobody_chose(
        self, platform: Platform, person: Person, configure: Configure
    ):
        await configure("openai", defaultModel="gpt-4.1-mini")

        async def asked_for(**body: str) -> str:
            assert (await person.chat(**body)).status_code == 200
            return str((await last_request(platform, person.key)).model)

        assert await asked_for() == "gpt-4.1-mini"
        assert await asked_for(model="gpt-4o") == "gpt-4o"
        await person.http.put(OWN, json={"model": "gpt-4.1"})
        await eventually(asked_for, lambda model: model == "gpt-4.1")

    async def test_that_are_not_allowed_are_refused_and_not_listed(
        self, platform: Platform, person: Person, configure: Configure
    ):
        allowed = ["gpt-4o", "gpt-4o-mini"]
        await configure("openai", allowedModels=allowed, defaultModel="gpt-4o")

        asked = len(await platform.sandbox.requests(key=person.key))
        for body in ({"model": "gpt-4.1"}, {"model": "gpt-4o "}, {"model": "GPT-4O"}):
            refused = await person.chat(**body)
            assert error_of(refused) == (403, "MODEL_NOT_ALLOWED")
            assert "gpt-4o" in refused.json()["message"]
        async with person.stream(model="gpt-4.1") as streamed:
            await streamed.aread()
            assert error_of(streamed) == (403, "MODEL_NOT_ALLOWED")
        assert len(await platform.sandbox.requests(key=person.key)) == asked
        assert (await person.chat()).status_code == 200
        assert (await person.chat(model="gpt-4o-mini")).status_code == 200

        live = (await person.http.get("/api/models/openai")).json()
        assert (live["source"], sorted(model["id"] for model in live["models"])) == ("live", allowed)
        async with platform.person(with_key=False) as stranger:
            catalogue = (await stranger.http.get("/api/models/openai")).json()
            listed = (await stranger.http.get("/api/providers")).json()["providers"]
        assert (catalogue["source"], [model["id"] for model in catalogue["models"]]) == ("catalogue", allowed)
        assert next(row["models"] for row in listed if row["id"] == "openai") == allowed

    async def test_that_a_person_configured_earlier_are_not_exempt(
        self, platform: Platform, person: Person, configure: Configure
    ):
        """A default that is not allowed any more is passed over; chats that name no model go on."""

        async def asked_for(**body: str) -> str:
            assert (await person.chat(**body)).status_code == 200
            return str((await last_request(platform, person.key)).model)

        await person.http.put(OWN, json={"model": "gpt-4.1"})
        await eventually(asked_for, lambda model: model == "gpt-4.1")
        await configure("openai", allowedModels=["gpt-4o", "gpt-4.1-mini"])
        await eventually(asked_for, lambda model: model == "gpt-4o")
        assert error_of(await person.chat(model="gpt-4.1")) == (403, "MODEL_NOT_ALLOWED")
        await configure("openai", defaultModel="gpt-4.1-mini")
        await eventually(asked_for, lambda model: model == "gpt-4.1-mini")
        assert await asked_for(model="gpt-4o") == "gpt-4o"


class TestTimeout:
    async def test_ends_what_the_worker_would_wait_for(self, platform: Platform, configure: Configure):
        """The worker itself would wait longer than the client of this test."""
        await configure("grok", requestTimeoutMs=1000)
        async with platform.person(with_key=False) as person:
            key = new_key("grok")
            await person.http.post("/api/provider-config/grok", json={"apiKey": key})
            await platform.sandbox.behave(
                Behaviour(match=Match(key=key, path="/grok/v1/chat/completions"), silent=True)
            )
            assert error_of(await person.chat("grok")) == (504, "CONNECTION_TIMEOUT")
            async with person.stream("grok") as streamed:
                await streamed.aread()
                assert error_of(streamed) == (504, "CONNECTION_TIMEOUT")
            waiting = await last_request(platform, key)
            closed = await platform.sandbox.wait_closed(key=key, request_id=waiting.id)
            assert closed.ended == "client_closed"


class TestPlatformKey:
    async def test_serves_whoever_has_none_of_their_own(
        self, platform: Platform, admin: Person, person: Person, configure: Configure
    ):
        key = new_key()
        async with listened_to(admin.http) as heard, platform.person(with_key=False) as stranger:
            changed = await configure("openai", apiKey=key)
            assert changed["testResult"]["success"]
            assert (changed["config"]["configured"], changed["config"]["keyHint"]) == (True, key[-4:])

            assert (await stranger.chat()).status_code == 200
            assert (await last_request(platform, key)).path.endswith("/chat/completions")
            async with stranger.stream() as response:
                found = events([line async for line in response.aiter_lines()])
            assert found[-1]["finish_reason"] == "stop"
            listed = (await stranger.http.get("/api/providers")).json()["providers"]
            assert [row["id"] for row in listed if row["configured"]] == ["openai"]
            assert error_of(await stranger.http.get(OWN)) == (404, "NOT_FOUND")
            assert (await stranger.http.get("/api/models/openai")).json()["source"] == "live"
            tested = await stranger.http.post("/api/provider-config/test", json={"provider": "openai"})
            assert tested.json()["success"], tested.text

            # Who has one uses it, whatever the platform has.
            after = (await last_request(platform, key)).id
            assert (await person.chat()).status_code == 200
            assert await platform.sandbox.requests(key=key, after=after) == []
            await stranger.http.post(OWN, json={"apiKey": stranger.key})
            await chat_used(platform, stranger, stranger.key)

            # Without it again.
            await stranger.http.delete(OWN)
            await chat_used(platform, stranger, key)

            await configure("openai", clear=["apiKey"])
            assert error_of(await answered(stranger, 400)) == (400, "PROVIDER_NOT_CONFIGURED")
            assert (await everybodys(admin, "openai"))["configured"] is False
        assert key not in str(heard)

    async def test_that_is_refused_leaves_the_one_before(self, platform: Platform, admin: Person, configure: Configure):
        key, wrong = new_key(), "sk-wrong-key-0123456789"
        await configure("openai", apiKey=key)
        before = await everybodys(admin, "openai")
        changed = await configure("openai", apiKey=wrong, defaultModel="gpt-4o")
        assert (changed["success"], changed["testResult"]["error"]) == (False, "INVALID_API_KEY")
        assert wrong not in str(changed)
        assert await everybodys(admin, "openai") == before
        async with platform.person(with_key=False) as stranger:
            assert (await stranger.chat()).status_code == 200


class TestEndpoint:
    async def test_of_administrators_is_where_keys_go(
        self, platform: Platform, admin: Person, person: Person, configure: Configure
    ):
        elsewhere = f"{platform.stack.sandbox_url}/openrouter/v1"
        await configure("openai", endpoint=elsewhere)
        key = new_key("openrouter")
        stored = await person.http.put(OWN, json={"apiKey": key})
        assert stored.json()["testResult"]["success"], stored.text
        assert (await person.chat(model="deepseek/deepseek-v4.1-flash")).status_code == 200
        paths = {request.path.split("/")[1] for request in await platform.sandbox.requests(key=key)}
        assert paths == {"openrouter"}
        assert (await everybodys(admin, "openai"))["endpoint"] == elsewhere
        # It may be nobody else's business where it leads.
        listed = (await person.http.get("/api/providers")).json()["providers"]
        assert next(row["endpoint"] for row in listed if row["id"] == "openai") == load_catalog()["openai"].endpoint

        await configure("openai", clear=["endpoint"])
        await person.http.put(OWN, json={"apiKey": person.key})
        await chat_used(platform, person, person.key)

    @pytest.mark.parametrize(
        "endpoint",
        [
            "http://169.254.169.254",
            "https://169.254.169.254/latest/meta-data",
            "http://api.openai.com/v1",
            "https://localhost/v1",
            "https://localhost.",
            "https://10.0.0.1",
            "https://192.168.1.1:8443/v1",
            "https://172.16.0.1",
            "https://100.64.0.1",
            "https://0.0.0.0",
            "https://2130706433",
            "https://167772161/v1",
            "https://0x0a000001",
            "https://0177.0.0.1",
            "https://10.1",
            "https://[::1]",
            "https://[fe80::1]",
            "https://[fd00::1]/v1",
            "https://[::ffff:10.0.0.1]",
            "https://[64:ff9b::a00:1]",
            "https://user:password@api.openai.com/v1",
            "https://api.openai.com@10.0.0.1/v1",
            "https://api.openai.com/v1/",
            "https://api.openai.com/v1?to=10.0.0.1",
            "https://api.openai.com/v1#x",
            "https://api.openai.com\\@10.0.0.1",
            "https://api.openai.com:0/v1",
            "https://api.openai.com:99999/v1",
            "https://metadata.google.internal",
            "https://no-such-host.invalid/v1",
            "https://ａpi.openai.com/v1",
            "https://10。0。0。1",
            "https://api.openai.com/v1\r\nx: y",
            " https://api.openai.com/v1",
            "ftp://api.openai.com",
            "file:///etc/passwd",
            "unix:///tmp/socket",
            "//api.openai.com",
            "api.openai.com",
            "https://",
            "https://" + "a" * 600 + ".com",
        ],
    )
    async def test_that_breaks_a_rule_is_refused(self, admin: Person, configure: Configure, endpoint: str):
        before = await everybodys(admin, "openai")
        answer = await admin.http.post(EVERYBODY, json={"provider": "openai", "endpoint": endpoint})
        assert answer.status_code == 400, answer.text
        assert error_of(answer)[1] in ("INVALID_ARGUMENT", "ENDPOINT_NOT_ALLOWED")
        assert "endpoint: " in answer.json()["message"]
        assert await everybodys(admin, "openai") == before


class TestEverybodysConfiguration:
    async def test_is_listed_for_all_providers(self, admin: Person):
        answer = (await admin.http.get(EVERYBODY)).json()
        assert [config["provider"] for config in answer["configs"]] == sorted(load_catalog())
        assert all(config["enabled"] for config in answer["configs"])
        pages = [(await admin.http.get(EVERYBODY, params={"pageSize": 2})).json()]
        while token := pages[-1]["nextPageToken"]:
            pages.append((await admin.http.get(EVERYBODY, params={"pageSize": 2, "pageToken": token})).json())
        assert [config for page in pages for config in page["configs"]] == answer["configs"]

    async def test_keeps_what_is_not_given(self, admin: Person, configure: Configure):
        await configure("openrouter", defaultModel="m/1", allowedModels=["m/1", "m/2"], requestTimeoutMs=5000)
        await configure("openrouter", enabled=False)
        found = await everybodys(admin, "openrouter")
        assert (found["enabled"], found["defaultModel"], found["allowedModels"], found["requestTimeoutMs"]) == (
            False,
            "m/1",
            ["m/1", "m/2"],
            5000,
        )
        await configure("openrouter", allowedModels=["m/1"])
        assert (await everybodys(admin, "openrouter"))["allowedModels"] == ["m/1"]
        await configure("openrouter", clear=["allowedModels", "defaultModel"])
        found = await everybodys(admin, "openrouter")
        assert (found["enabled"], found["defaultModel"], found["allowedModels"]) == (False, "", [])

    @pytest.mark.parametrize(
        "fields",
        [
            {"enabled": "perhaps"},
            {"enabled": 2},
            {"defaultModel": "m" * 201},
            {"defaultModel": "a", "allowedModels": ["b"]},
            {"allowedModels": ["m" * 201]},
            {"allowedModels": [""]},
            {"allowedModels": [f"model-{number}" for number in range(201)]},
            {"allowedModels": [f"model-{number}" for number in range(100_000)]},
            {"allowedModels": [{"id": "gpt-4o"}]},
            {"requestTimeoutMs": 999},
            {"requestTimeoutMs": 600_001},
            {"requestTimeoutMs": -1},
            {"requestTimeoutMs": "soon"},
            {"apiKey": "short"},
            {"apiKey": 12345678},
            {"clear": ["enabled"]},
            {"clear": ["provider"]},
            {"clear": ["api_key", "colour"]},
            {"clear": ["endpoint"] * 100_000, "endpoint": "https://api.openai.com/v1"},
            {"clear": ["defaultModel"], "defaultModel": "gpt-4o"},
        ],
        ids=lambda fields: str(fields)[:40],
    )
    async def test_that_is_wrong_is_refused(self, admin: Person, fields: dict):
        before = await everybodys(admin, "openai")
        answer = await admin.http.post(EVERYBODY, json={"provider": "openai", **fields})
        assert error_of(answer) == (400, "INVALID_ARGUMENT")
        assert len(answer.content) < 20_000
        assert await everybodys(admin, "openai") == before

    @pytest.mark.parametrize("provider", ["", "nobody", "auto", "OpenAI", "x" * 10_000])
    async def test_of_no_provider_is_not_found(self, admin: Person, provider: str):
        answer = await admin.http.post(EVERYBODY, json={"provider": provider, "enabled": False})
        assert error_of(answer) == (404, "PROVIDER_NOT_FOUND")

    async def test_is_for_administrators(self, platform: Platform, person: Person):
        body = {"provider": "openai", "enabled": False}
        assert error_of(await person.http.get(EVERYBODY)) == (403, "PERMISSION_DENIED")
        assert error_of(await person.http.post(EVERYBODY, json=body)) == (403, "PERMISSION_DENIED")
        async with platform.client() as http:
            assert error_of(await http.get(EVERYBODY)) == (401, "UNAUTHENTICATED")
            assert error_of(await http.post(EVERYBODY, json=body)) == (401, "UNAUTHENTICATED")
        assert (await person.chat()).status_code == 200

    async def test_is_audited_without_the_key(self, admin: Person, configure: Configure):
        key = new_key()
        await configure("openai", apiKey=key, requestTimeoutMs=9000)

        async def entries() -> list[dict]:
            query = {"userId": admin.user_id, "action": "platform_config.set"}
            found: list[dict] = (await admin.http.get("/api/admin/audit-logs", params=query)).json()["logs"]
            return [entry for entry in found if entry["resource"] == "provider/openai"]

        (entry, *_) = await eventually(entries, lambda found: "apiKey" in str(found[:1]))
        assert "requestTimeoutMs" in str(entry["details"])
        assert key not in str(entry)


class TestRotation:
    KEYS = "/api/admin/encryption-keys"

    async def stands(self, admin: Person, purpose: str = "provider-keys") -> dict:
        found = (await admin.http.get(self.KEYS)).json()["keys"]
        (key,) = (each for each in found if each["purpose"] == purpose)
        return dict(key)

    async def test_goes_on_beside_everything_else(self, platform: Platform, admin: Person, person: Person):
        statuses: list[int] = []
        over = asyncio.Event()

        async def chatting() -> None:
            while not over.is_set():
                statuses.append((await person.chat()).status_code)
                # Whose key is in nobody's memory.
                async with platform.person() as newcomer:
                    statuses.append((await newcomer.chat()).status_code)
                    statuses.append((await newcomer.http.put(OWN, json={"apiKey": newcomer.key})).status_code)

        before = await self.stands(admin)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(chatting())
            begun = await admin.http.post(f"{self.KEYS}/provider-keys/rotate", json={})
            assert begun.status_code == 200, begun.text
            assert begun.json()["rotation"]["targetVersion"] == before["latestVersion"] + 1
            again = await admin.http.post(f"{self.KEYS}/provider-keys/rotate", json={})
            try:
                assert error_of(again) == (400, "ROTATION_UNDER_WAY")
                after = await eventually(lambda: self.stands(admin), lambda key: key["rotation"]["state"] != "RUNNING")
            finally:
                over.set()
        assert after["rotation"]["state"] == "COMPLETED"
        assert after["latestVersion"] == after["minDecryptionVersion"] == before["latestVersion"] + 1
        assert after["outdatedCount"] == 0 < after["sealedCount"]
        assert set(statuses) == {200}
        await person.http.put(OWN, json={"model": "gpt-4o"})

        async def model() -> str:
            assert (await person.chat()).status_code == 200
            return str((await last_request(platform, person.key)).model)

        # So the key was opened once more, and by the new version.
        await eventually(model, lambda used: used == "gpt-4o")

        async def actions() -> set[str]:
            logs = (await admin.http.get("/api/admin/audit-logs", params={"pageSize": 500})).json()["logs"]
            return {log["action"] for log in logs if log["resource"] == "encryption-key/provider-keys"}

        told = {"encryption_key.rotation_started", "encryption_key.rotation_ended"}
        assert await eventually(actions, told.__le__) == told

    async def test_of_the_history_key(self, admin: Person):
        begun = await admin.http.post(f"{self.KEYS}/chat-history/rotate", json={})
        assert begun.status_code == 200, begun.text
        after = await eventually(
            lambda: self.stands(admin, "chat-history"), lambda key: key["rotation"]["state"] != "RUNNING"
        )
        assert after["rotation"]["state"] == "COMPLETED"
        assert after["latestVersion"] == begun.json()["rotation"]["targetVersion"]

    async def test_again_makes_no_new_version_where_told(self, admin: Person):
        before = await self.stands(admin)
        begun = await admin.http.post(f"{self.KEYS}/provider-keys/rotate", json={"rewrapOnly": True})
        assert begun.status_code == 200, begun.text
        assert begun.json()["rotation"]["targetVersion"] == before["latestVersion"]
        assert (await self.stands(admin))["latestVersion"] == before["latestVersion"]

    @pytest.mark.parametrize(
        ("purpose", "body"),
        [
            ("nothing", {}),
            ("provider-keys%20", {}),
            ("PROVIDER-KEYS", {}),
            ("x" * 2_000, {}),
            ("provider-keys", {"rewrapOnly": "perhaps"}),
            ("provider-keys", []),
        ],
        ids=lambda part: str(part)[:20],
    )
    async def test_that_is_wrong_is_refused(self, admin: Person, purpose: str, body: Any):
        before = await self.stands(admin)
        answer = await admin.http.post(f"{self.KEYS}/{purpose}/rotate", json=body)
        assert answer.status_code in (400, 404), answer.text
        assert error_of(answer)
        assert (await self.stands(admin))["latestVersion"] == before["latestVersion"]

    async def test_is_for_administrators(self, platform: Platform, person: Person):
        path = f"{self.KEYS}/provider-keys/rotate"
        assert error_of(await person.http.get(self.KEYS)) == (403, "PERMISSION_DENIED")
        assert error_of(await person.http.post(path, json={})) == (403, "PERMISSION_DENIED")
        async with platform.client() as http:
            assert error_of(await http.post(path, json={})) == (401, "UNAUTHENTICATED")
