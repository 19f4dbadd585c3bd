"""No secret is found anywhere a run has written to or can be asked; each place is known to be searchable."""

import base64
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest

from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from libs.database import libpq_url
from libs.redaction import Secret
from tests.e2e.conftest import HELLO, PASSWORD, Person, Platform, error_of
from tests.e2e.people import administrator
from tests.reliability.outages import frozen, halted, sealed
from tests.support.redis import redis_command
from tests.support.waiting import eventually

_PROMPT = "canary-prompt-7f3a91"
_OWN = "/api/provider-config/openai"
_EVERYBODY = "/api/admin/providers/config"


def findings(root: Path, needles: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """Yields (file, what was found in it) for everything below a folder."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            for name, needle in needles.items():
                if needle in content:
                    yield str(path.relative_to(root)), name


def found_in(content: bytes, needles: dict[str, bytes]) -> list[str]:
    """Names what is found in some bytes."""
    return [name for name, needle in needles.items() if needle in content]


def forms(name: str, secret: str) -> dict[str, bytes]:
    """Returns the forms a secret could lie in: as it is, in base64 at any offset, and as texts and URLs quote it."""
    raw = secret.encode()
    found = {
        name: raw,
        f"{name} in hex": raw.hex().encode(),
        f"{name} in UTF-16": secret.encode("utf-16-le"),
        f"{name} in a URL": quote(secret, safe="").encode(),
        f"{name} in JSON": json.dumps(secret)[1:-1].encode(),
    }
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        # Without the ends, which depend on what stands beside the secret.
        found[f"{name} in base64, offset {offset}"] = encoded[4:-4]
        found[f"{name} in base64 for URLs, offset {offset}"] = encoded[4:-4].translate(bytes.maketrans(b"+/", b"-_"))
    return found


def canary(prefix: str = "sk-sandbox") -> str:
    """Makes a key that is written in another way wherever it is quoted."""
    return f'{prefix}-{uuid.uuid4().hex}+/%2F"\\&=?canary'


@dataclass
class Aftermath:
    """What a run in which much went wrong has left: what must not be found, and all that was answered."""

    platform: Platform
    person: Person
    admin: Person
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    answers: list[str] = field(default_factory=list, repr=False)

    @property
    def needles(self) -> dict[str, bytes]:
        """All forms of all secrets."""
        found: dict[str, bytes] = {}
        for name, secret in self.secrets.items():
            found |= forms(name, secret)
        return found

    def new(self, name: str, *, good: bool = True) -> str:
        """Makes a key that is to be found nowhere."""
        self.secrets[name] = canary() if good else canary("sk-canary")
        return self.secrets[name]


@pytest.fixture(scope="module")
async def aftermath(platform: Platform) -> AsyncIterator[Aftermath]:
    """One run through all that is done with keys, on good days and bad ones."""
    async with administrator(platform) as admin, platform.person(with_key=False) as person:
        run = Aftermath(platform, person, admin)
        for http in (admin.http, person.http):
            http.event_hooks["response"].append(_listener(run.answers))
        await _use(run)
        await _make_mistakes(run)
        await _have_bad_days(run)
        await _configure_for_everybody(run)
        await _lose_vault(run)
        await _rotate(run)
        await person.usage_when(lambda totals: totals["requests"] >= 4)
        for name in ("worker-openai", "key-vault", "auth", "analytics", "vault", "postgres"):
            await platform.stack.restart(name)  # what was in memory is on disk now
        yield run


def _listener(answers: list[str]) -> Any:
    async def listen(response: httpx.Response) -> None:
        answers.append(f"{response.headers} {(await response.aread()).decode(errors='replace')}")

    return listen


async def _use(run: Aftermath) -> None:
    person = run.person
    replaced = run.new("replaced key")
    person.key = run.new("provider key")
    for api_key in (replaced, person.key):
        stored = await person.http.post(_OWN, json={"apiKey": api_key})
        assert stored.json()["testResult"]["success"], stored.text
    for _ in range(2):
        answer = await eventually(
            lambda: person.chat(messages=[{"role": "user", "content": _PROMPT}]), lambda got: got.status_code == 200
        )
        assert answer.status_code == 200
        async with person.stream() as response:
            await response.aread()
    await person.http.get("/api/models/openai")
    run.secrets |= {"session token": person.token, "administrator's token": run.admin.token, "password": PASSWORD}


async def _make_mistakes(run: Aftermath) -> None:
    person = run.person
    # Keys that are refused, and keys that are tried and not stored.
    await person.http.post(_OWN, json={"apiKey": run.new("refused key", good=False)})
    await person.http.put(_OWN, json={"apiKey": run.new("refused new key", good=False)})
    for api_key, success in ((run.new("tried key"), True), (run.new("key refused in a trial", good=False), False)):
        tried = await person.http.post("/api/provider-config/test", json={"provider": "openai", "apiKey": api_key})
        assert (tried.status_code, tried.json()["success"]) == (200, success)
    # Where no key belongs.
    malformed = run.new("key in a body that is no JSON").replace('"', "").replace("\\", "")
    run.secrets["key in a body that is no JSON"] = malformed
    for path in (_OWN, "/api/provider-config/test"):
        content = f'{{"provider": "openai", "apiKey": "{malformed}", '.encode()
        answer = await person.http.post(path, content=content, headers={"content-type": "application/json"})
        assert error_of(answer) == (400, "INVALID_ARGUMENT")
    misplaced = run.new("key in other fields")
    await person.http.get("/api/models/openai", params={"pageToken": misplaced})
    await person.http.get("/api/providers", params={"key": misplaced, "access_token": person.token})
    await person.http.put(_OWN, json={"clear": [misplaced]})
    await person.http.post(_OWN, json={"apiKey": [misplaced]})
    await person.http.get(f"/api/models/{quote(misplaced, safe='')}")
    async with run.platform.client(person.token[:-1] + "x") as http:
        run.answers.append((await http.post("/api/chat/openai", json={"messages": HELLO})).text)
    body = {"email": person.email, "password": run.new("wrong password")}
    assert error_of(await person.http.post("/api/auth/signin", json=body))[0] == 401


async def _have_bad_days(run: Aftermath) -> None:
    """The provider repeats the key wherever it can."""
    person, sandbox = run.person, run.platform.sandbox
    echo: dict[str, Any] = {
        "headers": {"x-your-key": person.key, "x-request-id": person.key, "retry-after": "1"},
        "body": {"error": {"message": f"bad key {person.key}", "type": person.key, "code": person.key}},
    }
    for status in (400, 401, 402, 403, 404, 429, 500):
        await sandbox.behave(Behaviour(match=Match(key=person.key), status=status, times=4, **echo))
        await person.chat()
        async with person.stream() as response:
            await response.aread()
        await person.http.post("/api/provider-config/test", json={"provider": "openai"})
        await person.http.get("/api/models/openai")
        await sandbox.reset(key=person.key)
    for day in (
        {"cut_before_headers": True},
        {"status": 200, "body": person.key},
        {"error_in_stream_after_chunks": 1, "extra_fields": {"key": person.key}},
        {"comment": person.key, "headers": {"x-your-key": person.key}},
        {"malformed_after_chunks": 1},
    ):
        await run.platform.bad_day(person, **day)
        await person.chat()
        async with person.stream() as response:
            await response.aread()
        await sandbox.reset(key=person.key)


async def _configure_for_everybody(run: Aftermath) -> None:
    http = run.admin.http
    key = run.new("platform key")
    answer = await http.post(_EVERYBODY, json={"provider": "openai", "apiKey": key})
    assert answer.json()["testResult"]["success"], answer.text
    async with run.platform.person(with_key=False) as stranger:
        stranger.http.event_hooks["response"].append(_listener(run.answers))
        await eventually(stranger.chat, lambda chatted: chatted.status_code == 200)
        match = Match(key=key)
        await run.platform.sandbox.behave(
            Behaviour(match=match, status=401, body={"error": {"message": key}}, headers={"x-key": key})
        )
        assert error_of(await stranger.chat())[0] == 400
        await run.platform.sandbox.reset(key=key)
    refused = run.new("refused platform key", good=False)
    answer = await http.post(_EVERYBODY, json={"provider": "openai", "apiKey": refused})
    assert answer.json()["success"] is False
    password = run.new("password in an endpoint")
    for endpoint in (f"https://user:{password}@api.openai.com/v1", f"https://api.openai.com/v1?key={password}"):
        answer = await http.post(_EVERYBODY, json={"provider": "openai", "endpoint": endpoint})
        assert error_of(answer)[0] == 400
    await http.post(_EVERYBODY, json={"provider": "openai", "clear": [password]})
    await http.post(_EVERYBODY, json={"provider": password, "apiKey": password})


async def _lose_vault(run: Aftermath) -> None:
    stack, person = run.platform.stack, run.person

    async def try_to_store(name: str) -> None:
        for call in (person.http.put, person.http.post):
            assert error_of(await call(_OWN, json={"apiKey": run.new(f"{name} {call.__name__}")}))[0] == 503
        answer = await run.admin.http.post(_EVERYBODY, json={"provider": "openai", "apiKey": run.new(f"{name} admin")})
        assert error_of(answer)[0] == 503

    for away in (sealed, halted, frozen):
        async with away(stack, "vault"):
            await try_to_store(f"key while Vault is {away.__name__}")
    again = {"apiKey": person.key}
    await eventually(lambda: person.http.post(_OWN, json=again), lambda stored: stored.status_code == 200)


async def _rotate(run: Aftermath) -> None:
    http = run.admin.http
    begun = await http.post("/api/admin/encryption-keys/provider-keys/rotate", json={})
    assert begun.status_code == 200, begun.text
    target = begun.json()["rotation"]["targetVersion"]

    async def oldest() -> int:
        keys = (await http.get("/api/admin/encryption-keys")).json()["keys"]
        return int(next(key["minDecryptionVersion"] for key in keys if key["purpose"] == "provider-keys"))

    assert await eventually(oldest, lambda version: version == target)
    await eventually(run.person.chat, lambda answer: answer.status_code == 200)


class TestCanaries:
    """Each test shows something that does lie where it looks, so that a search of the wrong place fails."""

    async def test_are_in_no_file(self, aftermath: Aftermath):
        """Logs, data of Postgres with its write-ahead log, Vault and the outboxes, the runner's own files."""
        state = aftermath.platform.stack.layout.state
        user = {"user": aftermath.person.user_id.encode()}
        places = {
            "log/key-vault.log": user,
            "log/worker-openai.log": user,
            "log/envoy.log": {"path": b"/api/chat/openai"},
            "log/auth.log": {"method": b"SignIn"},
            "log/vault.log": {"word": b"core"},
            "log/postgres.log": {"word": b"database system"},
            "data/postgres/base": user,
            "data/postgres/pg_wal": user,
            "data/vault": {"path": b"core/"},
            "data/worker-openai": user,
            "run": {"program": b"services.key_vault"},
        }
        # Records stay in the outbox of the worker until they are taken.
        async with halted(aftermath.platform.stack, "analytics"):
            await eventually(aftermath.person.chat, lambda answer: answer.status_code == 200)
            for place, control in places.items():
                path = state / place
                found = found_in(path.read_bytes(), control) if path.is_file() else list(findings(path, control))
                assert found, place
            assert list(findings(state, {**aftermath.needles, "prompt": _PROMPT.encode()})) == []

    async def test_are_in_no_answer(self, aftermath: Aftermath):
        everything = "\n".join(aftermath.answers)
        for control in ("INVALID_API_KEY", "SERVICE_UNAVAILABLE", "chat.completion", "keyHint", "targetVersion"):
            assert control in everything
        assert found_in(everything.encode(), aftermath.needles) == []

    async def test_are_not_in_the_audit_log(self, aftermath: Aftermath):
        url = libpq_url(Secret(aftermath.platform.stack.layout.database_url("auth").read_text().strip()))
        async with await psycopg.AsyncConnection.connect(url) as connection:
            stored = str(await (await connection.execute("SELECT * FROM audit_logs")).fetchall())
        listed, token = "", ""
        while True:
            query = f"pageSize=500&pageToken={token}"
            answer = await aftermath.admin.http.get(f"/api/admin/audit-logs?{query}")
            listed += answer.text
            if not (token := answer.json()["nextPageToken"]):
                break
        for told in (stored, listed):
            for control in ("provider_config.set", "platform_config.set", "provider_key.revealed", "INVALID_API_KEY"):
                assert control in told
            assert found_in(told.encode(), aftermath.needles) == []

    async def test_are_not_in_the_tables(self, aftermath: Aftermath):
        url = libpq_url(Secret(aftermath.platform.stack.layout.database_url("key_vault").read_text().strip()))
        async with await psycopg.AsyncConnection.connect(url) as connection:
            for table in ("provider_configs", "platform_configs"):
                stored = str(await (await connection.execute(f"SELECT * FROM {table}")).fetchall())
                assert "vault:v" in stored
                assert found_in(stored.encode(), aftermath.needles) == []

    async def test_are_not_in_redis(self, aftermath: Aftermath):
        stack = aftermath.platform.stack
        url = httpx.URL((stack.layout.secrets / "redis-url").read_text().strip())
        for words in (("CONFIG", "SET", "rdbcompression", "no"), ("SAVE",)):
            redis_command(int(url.port or 0), url.password, *words)
        written = (stack.layout.data("redis") / "dump.rdb").read_bytes()
        assert aftermath.person.user_id.encode() in written
        assert found_in(written, aftermath.needles) == []

    @pytest.mark.parametrize(
        ("path", "control"),
        [
            ("stats", "cluster.worker-openai"),
            ("config_dump", "worker-openai"),
            ("clusters", "key-vault"),
            ("certs", "ca"),
        ],
    )
    async def test_are_not_told_by_envoy(self, aftermath: Aftermath, path: str, control: str):
        async with httpx.AsyncClient() as http:
            told = (await http.get(f"http://{aftermath.platform.stack.address('envoy-admin')}/{path}")).text
        assert control in told
        assert found_in(told.encode(), aftermath.needles) == []

    async def test_are_in_no_process_table(self, aftermath: Aftermath):
        told = b""
        for name, state in (await aftermath.platform.stack.states()).items():
            if not state.pid:
                continue
            told += Path(f"/proc/{state.pid}/cmdline").read_bytes() + shown_environment(state.pid)
            told += "\0".join(environment(aftermath.platform, name).values()).encode()
            assert found_in(told, aftermath.needles) == [], name
        assert b"services.key_vault" in told
        assert str(aftermath.platform.stack.layout.secrets / "key-vault-secret-id").encode() in told

    async def test_would_be_found(self, tmp_path: Path):
        """The search itself can fail: it finds each form where it does lie."""
        for name, needle in forms("secret", canary()).items():
            (tmp_path / "file").write_bytes(b"before " + needle + b" after")
            assert list(findings(tmp_path, {name: needle})) == [("file", name)]
            assert found_in((tmp_path / "file").read_bytes(), {name: needle}) == [name]


def environment(platform: Platform, name: str) -> dict[str, str]:
    """Returns what the specification of a process has it started with; the tether adds `TETHERED_TO`."""
    specification = json.loads((platform.stack.layout.state / "run" / f"{name}.json").read_text())
    return dict(specification["env"])


def shown_environment(pid: int) -> bytes:
    """Returns what a process was started with; nothing of one that shows itself to root alone, and we are not root."""
    with suppress(PermissionError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


class TestMemory:
    async def test_is_never_dumped_and_shown_to_root_alone(self, platform: Platform):
        """Root owns all it starts, shown or not; tests/unit/test_private_memory.py has a worker of another group."""
        holders = [name for name in platform.stack.processes if name == "key-vault" or name.startswith("worker-")]
        assert len(holders) == 1 + len(platform.stack.topology.catalog)
        for name in holders:
            process = Path(f"/proc/{await platform.stack.pid(name)}")
            limits = (process / "limits").read_text()
            (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
            assert core[-3:-1] == ["0", "0"], name
            assert (process / "environ").stat().st_uid == 0, name


class TestPrivateFiles:
    async def test_belong_to_their_owner_alone(self, platform: Platform):
        state = platform.stack.layout.state
        assert state.stat().st_mode & 0o777 == 0o700
        for path in (platform.stack.layout.secrets, platform.stack.layout.pki):
            for file in path.rglob("*"):
                assert file.stat().st_mode & 0o077 == 0, file

    async def test_no_service_is_given_another_services_secrets(self, platform: Platform):
        secrets = platform.stack.layout.secrets
        # Nor what may do more than a service: the root of Vault, the owners of the tables.
        above = [path.read_text().strip() for path in secrets.iterdir() if "root" in path.name or "owner" in path.name]
        assert len(above) > 1
        workers = [name for name in platform.stack.processes if name.startswith("worker-")]
        assert workers
        for name in ("auth", "key-vault", "analytics", "provider-router", *workers):
            variables = environment(platform, name)
            shown = shown_environment(await platform.stack.pid(name)).decode().rstrip("\0")
            if shown:
                started_with = dict(item.split("=", 1) for item in shown.split("\0"))
                assert started_with == variables | {"TETHERED_TO": started_with["TETHERED_TO"]}, name
            prefix = "WORKER" if name.startswith("worker") else name.upper().replace("-", "_")
            own = {"PATH", "HOME", "LANG", "LC_ALL", "TZ"}
            foreign = {key for key in variables if not key.startswith(f"{prefix}_")} - own
            assert not foreign, name
            readable = "".join(Path(v).read_text() for k, v in variables.items() if k.endswith("_FILE"))
            assert not any(secret in f"{variables}{readable}" for secret in above), name


class TestDatabase:
    @pytest.mark.parametrize(("role", "table"), [("auth", "key_vault.provider_configs"), ("analytics", "auth.users")])
    async def test_role_cannot_read_anothers_tables(self, platform: Platform, role: str, table: str):
        url = libpq_url(Secret(platform.stack.layout.database_url(role).read_text().strip()))
        async with await psycopg.AsyncConnection.connect(url) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(f"SELECT * FROM {table}")

    async def test_holds_no_token_but_its_digest(self, platform: Platform, person: Person):
        url = libpq_url(Secret(platform.stack.layout.database_url("auth").read_text().strip()))
        digest = hashlib.sha256(person.token.encode()).digest()
        async with await psycopg.AsyncConnection.connect(url) as connection:
            rows = await (await connection.execute("SELECT * FROM sessions")).fetchall()
        assert any(digest in row for row in rows)
        assert person.token not in str(rows)
