"""No secret is found anywhere a run has written to: logs, databases, outbox, Vault's storage, configuration."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from libs.database import libpq_url
from libs.redaction import Secret
from tests.e2e.conftest import HELLO, PASSWORD, Person, Platform, error_of

_PROMPT = "canary-prompt-7f3a91"


def findings(root: Path, needles: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """Yields (file, what was found in it) for everything below a folder."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            for name, needle in needles.items():
                if needle in content:
                    yield str(path.relative_to(root)), name


def forms(name: str, secret: str) -> dict[str, bytes]:
    """Returns the forms a secret could lie in: as it is, in base64 at any offset, in hexadecimal, in UTF-16."""
    raw = secret.encode()
    found = {name: raw, f"{name} in hex": raw.hex().encode(), f"{name} in UTF-16": secret.encode("utf-16-le")}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        # Without the ends, which depend on what stands beside the secret.
        found[f"{name} in base64, offset {offset}"] = encoded[4:-4]
    return found


class TestCanaries:
    async def test_are_found_nowhere(self, platform: Platform, person: Person):
        wrong_password = "canary-wrong-password-55"
        refused_key = "sk-canary-refused-key-1234567890"
        malformed = b'{"apiKey": "sk-sandbox-canary-malformed-0123", '
        for _ in range(2):
            assert (await person.chat(messages=[{"role": "user", "content": _PROMPT}])).status_code == 200
            async with person.stream() as response:
                await response.aread()
        # What goes wrong must not tell either.
        await platform.bad_day(person, status=401, body={"error": {"message": f"bad key {person.key}"}}, times=1)
        assert person.key not in (await person.chat()).text
        await platform.bad_day(person, cut_before_headers=True, times=3)
        assert person.key not in (await person.chat()).text
        await person.http.post("/api/provider-config/openai", json={"apiKey": refused_key})
        broken = await person.http.post(
            "/api/provider-config/openai", content=malformed, headers={"content-type": "application/json"}
        )
        assert b"canary" not in broken.content
        # Keys that are tried and not stored, a good one and a refused one, and the stored one.
        tried_key, refused_in_a_trial = "sk-sandbox-canary-tried-key-0123456789", "sk-canary-refused-trial-0123456789"
        for api_key in (tried_key, refused_in_a_trial, ""):
            tried = await person.http.post("/api/provider-config/test", json={"provider": "openai", "apiKey": api_key})
            assert (tried.status_code, tried.json()["success"]) == (200, api_key != refused_in_a_trial)
        broken = await person.http.post(
            "/api/provider-config/test", content=malformed, headers={"content-type": "application/json"}
        )
        assert b"canary" not in broken.content
        await person.http.get("/api/models/openai")
        await person.http.get(f"/api/models/openai?pageToken={person.key}")
        body = {"email": person.email, "password": wrong_password}
        assert error_of(await person.http.post("/api/auth/signin", json=body))[0] == 401
        await person.http.get(f"/api/providers?key={person.key}")
        await person.http.get(f"/api/providers?access_token={person.token}")
        async with platform.client(person.token[:-1] + "x") as http:
            await http.post("/api/chat/openai", json={"messages": HELLO})
        await person.usage_when(lambda totals: totals["requests"] >= 4)
        for name in ("worker-openai", "key-vault", "auth", "analytics", "vault", "postgres"):
            await platform.stack.restart(name)  # what was in memory is on disk now

        needles: dict[str, bytes] = {"prompt": _PROMPT.encode(), "malformed": b"canary-malformed"}
        for name, secret in {
            "provider key": person.key,
            "refused key": refused_key,
            "tried key": tried_key,
            "key refused in a trial": refused_in_a_trial,
            "session token": person.token,
            "password": PASSWORD,
            "wrong password": wrong_password,
        }.items():
            needles |= forms(name, secret)
        assert list(findings(platform.stack.layout.state, needles)) == []

    async def test_would_be_found(self, tmp_path: Path):
        """The search itself can fail: it finds each form where it does lie."""
        for name, needle in forms("secret", "sk-sandbox-0123456789abcdef").items():
            (tmp_path / "file").write_bytes(b"before " + needle + b" after")
            assert list(findings(tmp_path, {name: needle})) == [("file", name)]


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
        for name in ("auth", "key-vault", "analytics", "provider-router", "worker-openai"):
            environment = Path(f"/proc/{await platform.stack.pid(name)}/environ").read_bytes().decode()
            variables = dict(item.split("=", 1) for item in environment.split("\0") if "=" in item)
            prefix = "WORKER" if name.startswith("worker") else name.upper().replace("-", "_")
            own = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "TETHERED_TO"}
            foreign = {key for key in variables if not key.startswith(f"{prefix}_")} - own
            assert not {key for key in foreign if not key.startswith(("SUPERVISOR", "PYTHON"))}, name
            readable = "".join(Path(v).read_text() for k, v in variables.items() if k.endswith("_FILE"))
            assert not any(secret in environment + readable for secret in above), name


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
