"""What docs/operations/backup.md says brings everything back, on new servers: by the commands that stand there.

An encryption key is rotated between the two backups, which is the worst that can come between them.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import grpc
import psycopg
import pytest
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.chat.v1.chat_service_pb2 import ChatMessage
from realmultillm.keyvault.v1.encryption_key_service_pb2 import KeyRotation

from deploy.local.binaries import BAO, POSTGRES
from deploy.postgres.bootstrap import DATABASE, LOGINS, ROLES
from libs.database import upgrade
from libs.database_roles import owner_of
from libs.redaction import Secret
from tests.integration.analytics.deployment import NOW
from tests.integration.analytics.past_chats import PastChats, running_history
from tests.integration.auth.replica import Auth, reason, replica
from tests.integration.key_vault.deployment import Replica, key_vault
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.rpc import Identities
from tests.support.vault import OwnVaultServer, own_vault
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations" / "backup.md"

EMAIL = "ada@example.com"
KEY = "sk-sandbox-of-before-the-outage"
QUESTION = "What did we say before the outage?"

# Everything about rights that `pg_dump` and the bootstrap share between them.
RIGHTS = """
    SELECT 'relation', relnamespace::regnamespace || '.' || relname, relowner::regrole || ' ' || (
        SELECT string_agg(acl::text, ' ' ORDER BY acl::text)
        FROM unnest(coalesce(relacl, acldefault('r', relowner))) acl)
    FROM pg_class WHERE relnamespace::regnamespace::text IN ('auth', 'key_vault', 'analytics')
    UNION ALL SELECT 'schema', nspname, nspowner::regrole || ' ' || (
        SELECT string_agg(acl::text, ' ' ORDER BY acl::text)
        FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) acl)
    FROM pg_namespace WHERE nspname IN ('auth', 'key_vault', 'analytics', 'public')
    UNION ALL SELECT 'to come', defaclrole::regrole || ' ' || defaclobjtype::text, defaclacl::text FROM pg_default_acl
    UNION ALL SELECT 'database', '', acl::text FROM pg_database, unnest(datacl) acl WHERE datname = current_database()
    UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, tgenabled::text
    FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'role', rolname, rolcanlogin || ' ' || rolsuper || ' ' || rolconfig::text
    FROM pg_roles WHERE rolname LIKE ANY (ARRAY['auth%', 'key\\_vault%', 'analytics%'])
    ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class Platform:
    """A Postgres and a Vault with everything of the platform, and a folder for what is backed up."""

    postgres: PostgresServer
    vault: OwnVaultServer
    database: str
    identity: Identities
    folder: Path

    def url(self, role: str) -> Secret:
        return self.postgres.url(role, self.database)

    def rights(self) -> list[tuple[str, str, str]]:
        with psycopg.connect(self.postgres.admin_url(self.database)) as connection:
            return connection.execute(RIGHTS).fetchall()

    async def run(self, script: str) -> str:
        """Runs commands as an operator does who has prepared the environment; they must succeed."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-eu", "-c", script),
            cwd=self.folder,
            env={
                "PATH": os.pathsep.join(
                    [*map(str, (Path(sys.executable).parent, POSTGRES.parent, BAO.parent)), os.defpath]
                ),
                "PYTHONPATH": str(ROOT),
                "HOME": str(self.folder),
                **self._of_libpq(),
                "BAO_ADDR": self.vault.address,
                "BAO_CACERT": str(self.vault.authority),
                "BAO_TOKEN": self.vault.operator.token,
                "AUTH_DATABASE_URL": self.url("auth").reveal(),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    def _of_libpq(self) -> dict[str, str]:
        parts = psycopg.conninfo.conninfo_to_dict(self.postgres.admin_url(self.database))
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
        return {variable: str(parts[name]) for name, variable in names.items()}

    @asynccontextmanager
    async def auth(self) -> AsyncIterator[Auth]:
        async with replica(self.url("auth"), self.identity) as auth:
            yield auth

    @asynccontextmanager
    async def key_vault(self) -> AsyncIterator[Replica]:
        async with key_vault(self.url("key_vault"), self.vault, self.identity, {}) as running:
            yield running

    @asynccontextmanager
    async def history(self) -> AsyncIterator[PastChats]:
        (audit := self.folder / "audit").mkdir(exist_ok=True)
        async with running_history(self.url("analytics"), self.vault, self.identity, audit) as past:
            yield past


@dataclass(frozen=True)
class Before:
    """What there was, and what has been noted with the backup."""

    user_id: str
    token: str
    record_id: str
    rights: list[tuple[str, str, str]]
    audit_head: str


def commands(section: str) -> list[str]:
    """Returns the blocks of commands of a section of the page."""
    _, _, text = PAGE.read_text().partition(f"\n## {section}\n")
    return re.findall(r"^ *```sh\n(.*?)^ *```", text.partition("\n## ")[0], re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def original(
    postgres: PostgresServer, identity: Identities, pki_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """The platform of before the outage, without anybody on it."""
    database = postgres.empty_database()
    postgres.bootstrap(database)
    for role in ROLES:
        upgrade(postgres.url(owner_of(role), database), f"services.{role}")
    with own_vault(tmp_path_factory.mktemp("original-vault"), pki_folder / "vault") as vault:
        yield Platform(postgres, vault, database, identity, tmp_path_factory.mktemp("backup"))


@pytest.fixture(scope="module")
async def before(original: Platform) -> Before:
    """Fills the platform, backs it up by the commands of the page, and rotates a key in the middle of that."""
    async with original.auth() as auth:
        account = await auth.sign_up(EMAIL)
        user_id = account.user.id
    printed = await original.run(*commands("Check"))
    async with original.history() as past:
        record = UsageRecord(
            id=str(uuid4()), user_id=user_id, provider="openai", model_requested="gpt-5.5", model_served="gpt-5.5",
            end_state=UsageRecord.COMPLETED, start_time=NOW - timedelta(hours=1), attempts=1, request_id="request-1",
        )  # fmt: skip
        said = ChatContent(messages=[ChatMessage(role="user", content=QUESTION)])
        await past.ingest(await past.seal(record, said))
    async with original.key_vault() as running:
        await (await running.person(user_id)).store(KEY)
        (block,) = commands("Back up")
        dump, snapshot = block.splitlines()
        await original.run(dump)
        await rotated(running)
        await original.run(snapshot)
    return Before(user_id, account.token, record.id, original.rights(), printed.split()[-1])


@pytest.fixture(scope="module")
async def restored(
    original: Platform, before: Before, pki_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """New servers, on which the commands of the page have been run that everybody needs."""
    with (
        running_postgres(tmp_path_factory.mktemp("new-postgres")) as postgres,
        own_vault(tmp_path_factory.mktemp("new-vault"), pki_folder / "vault") as vault,
    ):
        with psycopg.connect(postgres.admin_url(), autocommit=True) as connection:
            # As a server is that has never seen the platform.
            connection.execute(f"DROP DATABASE {DATABASE}")
            connection.execute(f"DROP ROLE {', '.join(LOGINS)}")
        (original.folder / "admin-url").write_text(postgres.admin_url())
        (original.folder / "passwords").mkdir()
        for login, password in postgres.passwords.items():
            (original.folder / "passwords" / login).write_text(password)
        platform = Platform(postgres, vault, DATABASE, original.identity, original.folder)
        restore_postgres, restore_vault, *_ = commands("Restore")
        await platform.run(restore_postgres)
        await platform.run(restore_vault)
        vault.become(original.vault)
        vault.unseal()
        yield platform


async def rotated(running: Replica, *, rewrap_only: bool = False) -> None:
    """Has the keys of providers sealed anew, and waits until all are."""
    admin = await running.key_admin()
    await admin.rotate(rewrap_only=rewrap_only)
    ended = await eventually(admin.key, lambda key: key.rotation.state != KeyRotation.RUNNING)
    assert ended.rotation.state == KeyRotation.COMPLETED


async def test_people_sign_in_and_are_signed_in(restored: Platform, before: Before) -> None:
    async with restored.auth() as auth:
        assert (await auth.session(before.token)).user.id == before.user_id
        assert (await auth.sign_in(EMAIL)).user.id == before.user_id

        await restored.run(commands("Restore")[-1])
    async with restored.auth() as auth:
        assert await reason(auth.session(before.token)) == "UNAUTHENTICATED"
        assert (await auth.sign_in(EMAIL)).user.id == before.user_id


async def test_the_audit_log_holds_together_and_grows(restored: Platform, before: Before) -> None:
    (verify,) = commands("Check")

    assert "as it was written" in await restored.run(f"{verify.strip()} --expect {before.audit_head}")

    async with restored.auth() as auth:
        await auth.fail_to_sign_in(EMAIL)
    assert before.audit_head not in await restored.run(f"{verify.strip()} --expect {before.audit_head}")


async def test_provider_keys_open_once_vault_opens_their_version(restored: Platform, before: Before) -> None:
    async with restored.key_vault() as running:
        worker = await running.worker()
        with pytest.raises(grpc.aio.AioRpcError):
            await worker.credential(before.user_id)

        await restored.run(commands("Restore")[2])

        assert (await worker.credential(before.user_id)).api_key == KEY
        await rotated(running, rewrap_only=True)
        assert (await worker.credential(before.user_id)).api_key == KEY


async def test_the_history_opens_for_its_owner(restored: Platform, before: Before) -> None:
    async with restored.history() as past:
        record = await (await past.person(before.user_id)).get(before.record_id)

    assert [message.content for message in record.messages] == [QUESTION]


async def test_everybody_may_do_what_they_might_and_nothing_else(restored: Platform, before: Before) -> None:
    assert any(kind == "trigger" for kind, *_ in before.rights)
    assert restored.rights() == before.rights
