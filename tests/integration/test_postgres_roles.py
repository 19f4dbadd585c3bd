"""The two roles of each service: one owns the tables, the other uses them, as far as it is let."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from deploy.postgres.bootstrap import LOGINS, ROLES
from libs.database import ROOT, libpq_url, upgrade
from libs.database_roles import owner_of, role_of
from libs.redaction import Secret
from libs.settings import SettingsError
from tests.support.postgres import PostgresServer, database_of

ENTRY = (
    "INSERT INTO audit_logs (seq, event_id, time, service, user_id, action, resource, ip_address, user_agent, "
    "request_id, details, previous_hash, hash) "
    "VALUES (%s, %s, now(), '', '', '', '', '', '', '', '{}', sha256(''), sha256(''))"
)


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> Secret:
    """The database of auth, as the service connects to it, with two entries in its audit log."""
    url = postgres.fresh_database("auth")
    with psycopg.connect(libpq_url(url)) as connection:
        for seq in (1, 2):
            connection.execute(ENTRY, [seq, uuid.uuid4()])
    return url


@pytest.fixture
def service(url: Secret) -> Iterator[psycopg.Connection]:
    """A connection as the service."""
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        yield connection


@pytest.fixture
def owner(postgres: PostgresServer, url: Secret) -> Iterator[psycopg.Connection]:
    """A connection as the owner of the tables."""
    with psycopg.connect(libpq_url(postgres.url("auth_owner", database_of(url))), autocommit=True) as connection:
        yield connection


class TestBootstrapCommand:
    """`python -m deploy.postgres.bootstrap` says what keeps it from its work."""

    def test_a_missing_password(self, tmp_path: Path) -> None:
        ended = bootstrapped(tmp_path)

        assert (ended.returncode, ended.stderr) == (
            os.EX_NOINPUT,
            f"{tmp_path / 'auth'} cannot be read: No such file or directory.\n",
        )

    def test_a_server_that_does_not_answer(self, tmp_path: Path) -> None:
        (tmp_path / "url").write_text("postgresql://postgres:of-the-administrator@127.0.0.1:1/postgres")
        for login in LOGINS:
            (tmp_path / login).write_text("secret")

        ended = bootstrapped(tmp_path)

        assert ended.returncode == os.EX_UNAVAILABLE
        assert ended.stderr.startswith(f"The server of {tmp_path / 'url'} cannot be used: ")
        assert "of-the-administrator" not in ended.stderr
        assert "Traceback" not in ended.stderr


def bootstrapped(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.postgres.bootstrap", f"--url-file={folder / 'url'}", f"--passwords={folder}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


CHANGES_OF_THE_LOG = (
    "UPDATE audit_logs SET action = 'nothing'",
    "UPDATE audit_logs SET seq = seq + 1 WHERE seq = 2",
    "DELETE FROM audit_logs",
    "DELETE FROM audit_logs WHERE seq = 2",
    "TRUNCATE audit_logs",
    "INSERT INTO audit_logs SELECT * FROM audit_logs ON CONFLICT (seq) DO UPDATE SET action = 'nothing'",
    "MERGE INTO audit_logs USING (SELECT 1) AS source ON seq = 1 WHEN MATCHED THEN DELETE",
)
CHANGES_OF_THE_SCHEMA = (
    "DROP TABLE audit_logs",
    "DROP TABLE users CASCADE",
    "ALTER TABLE audit_logs DISABLE TRIGGER only_grows",
    "ALTER TABLE audit_logs DISABLE TRIGGER ALL",
    "ALTER TABLE audit_logs RENAME TO old_audit_logs",
    "ALTER TABLE audit_logs ALTER COLUMN action DROP NOT NULL",
    "ALTER TABLE audit_logs OWNER TO auth",
    "DROP TRIGGER only_grows ON audit_logs",
    "DROP FUNCTION refuse_change_of_audit_logs CASCADE",
    "CREATE OR REPLACE FUNCTION refuse_change_of_audit_logs() RETURNS trigger LANGUAGE plpgsql AS ''",
    "CREATE RULE nothing AS ON INSERT TO audit_logs DO INSTEAD NOTHING",
    "CREATE TRIGGER swallow BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION refuse_change_of_audit_logs()",
    "CREATE TABLE anything (id int)",
    "CREATE SCHEMA anything",
    "DROP SCHEMA auth CASCADE",
    "ALTER SCHEMA auth RENAME TO elsewhere",
    "SET session_replication_role = 'replica'",
    "SET ROLE auth_owner",
    "UPDATE alembic_version SET version_num = '0002'",
    "DELETE FROM alembic_version",
)


class TestService:
    @pytest.mark.parametrize("statement", [*CHANGES_OF_THE_LOG, *CHANGES_OF_THE_SCHEMA])
    def test_may_change_neither_the_log_nor_the_schema(self, service: psycopg.Connection, statement: str) -> None:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"permission denied|must be"):
            service.execute(statement)

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("seq", "0"),
            ("seq", "-1"),
            ("time", "'infinity'"),
            ("time", "'-infinity'"),
            ("time", "'10000-01-01 00:00:00+00'"),
            ("time", "'0001-12-31 BC'"),
            ("details", "'not json'"),
            ("details", "'[]'"),
            ("details", "''"),
            ("previous_hash", "''"),
            ("hash", "sha512('')"),
        ],
    )
    def test_may_add_nothing_that_cannot_be_read(self, service: psycopg.Connection, column: str, value: str) -> None:
        columns = {
            "seq": "3",
            "event_id": "gen_random_uuid()",
            "time": "now()",
            "details": "'{}'",
            **dict.fromkeys(("service", "user_id", "action", "resource"), "''"),
            **dict.fromkeys(("ip_address", "user_agent", "request_id"), "''"),
            **dict.fromkeys(("previous_hash", "hash"), "sha256('')"),
            column: value,
        }
        with pytest.raises(psycopg.errors.CheckViolation, match=f"audit_logs_{column}"):
            service.execute(f"INSERT INTO audit_logs ({', '.join(columns)}) VALUES ({', '.join(columns.values())})")

    def test_may_give_itself_nothing(self, postgres: PostgresServer, url: Secret, service: psycopg.Connection) -> None:
        before = rights(postgres, url)
        service.execute("GRANT ALL ON audit_logs TO auth")  # which Postgres answers with a warning
        assert rights(postgres, url) == before

    def test_may_do_its_work(self, service: psycopg.Connection) -> None:
        user_id = f"usr_{uuid.uuid4().hex}"
        columns = {"id": user_id, "email": user_id, "name": "", "role": "user", "password_hash": ""}
        service.execute(
            "INSERT INTO users (id, email, name, role, password_hash) "
            "VALUES (%(id)s, %(email)s, %(name)s, %(role)s, %(password_hash)s)",
            columns,
        )
        service.execute("UPDATE users SET name = 'Ada' WHERE id = %s", [user_id])
        service.execute("SELECT * FROM users WHERE id = %s FOR UPDATE", [user_id])
        service.execute("DELETE FROM users WHERE id = %s", [user_id])
        service.execute("LISTEN anything")
        service.execute("NOTIFY anything, 'heard'")
        assert [notice.payload for notice in service.notifies(timeout=20, stop_after=1)] == ["heard"]
        with service.transaction():
            service.execute("SELECT pg_advisory_xact_lock(1)")

    @pytest.mark.parametrize("role", ROLES)
    def test_reads_no_other_schema(self, postgres: PostgresServer, url: Secret, role: str) -> None:
        for login in (role, owner_of(role)):
            with psycopg.connect(libpq_url(postgres.url(login, database_of(url))), autocommit=True) as connection:
                for other in set(ROLES) - {role}:
                    assert connection.execute("SELECT has_schema_privilege(%s, 'USAGE')", [other]).fetchone() == (
                        False,
                    )


class TestOwner:
    @pytest.mark.parametrize("statement", CHANGES_OF_THE_LOG)
    def test_is_stopped_by_the_trigger(self, owner: psycopg.Connection, statement: str) -> None:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="the audit log only grows"):
            owner.execute(statement)

    @pytest.mark.parametrize("statement", CHANGES_OF_THE_LOG)
    def test_so_is_the_superuser_even_one_who_replicates(
        self, postgres: PostgresServer, url: Secret, statement: str
    ) -> None:
        with psycopg.connect(postgres.superuser_url(url), autocommit=True) as superuser:
            superuser.execute("SET search_path = auth; SET session_replication_role = 'replica'")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="the audit log only grows"):
                superuser.execute(statement)

    def test_is_known_by_its_name(self) -> None:
        assert [role_of(owner_of(role)) for role in ROLES] == list(ROLES)
        assert [role_of(role) for role in ROLES] == [None, None, None]


class TestMigrations:
    def test_are_refused_to_the_service(self, url: Secret) -> None:
        with pytest.raises(SettingsError, match="auth_owner"):
            upgrade(url, "services.auth")


class TestBootstrap:
    def test_repeated_gives_back_nothing_that_was_taken(self, postgres: PostgresServer, url: Secret) -> None:
        before = rights(postgres, url)
        for _ in range(2):
            postgres.bootstrap(database_of(url))
        assert rights(postgres, url) == before
        assert before["audit_logs"] == {"SELECT", "INSERT"}
        assert before["users"] == {"SELECT", "INSERT", "UPDATE", "DELETE"}
        assert before["alembic_version"] == set()

    def test_tables_of_before_change_hands_and_stay_usable(self, postgres: PostgresServer) -> None:
        name = postgres.empty_database()
        for role in ROLES:
            make_as_before(postgres, name, role)
        for _ in range(2):
            postgres.bootstrap(name)
        for role in ROLES:
            with psycopg.connect(libpq_url(postgres.url(role, name)), autocommit=True) as service:
                service.execute("INSERT INTO things VALUES (2)")
                service.execute("UPDATE things SET id = 3 WHERE id = 2")
                service.execute("DELETE FROM things WHERE id = 3")
                assert service.execute("SELECT id FROM things").fetchall() == [(1,)]
                for statement in (
                    "DROP TABLE things",
                    "ALTER TABLE things ADD extra int",
                    "CREATE TABLE more (id int)",
                ):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        service.execute(statement)
            upgrade(postgres.url(owner_of(role), name), f"services.{role}")
        assert rights(postgres, postgres.url("auth", name))["audit_logs"] == {"SELECT", "INSERT"}

    def test_needs_no_superuser(self, postgres: PostgresServer) -> None:
        name = postgres.empty_database()
        for role in ROLES:
            make_as_before(postgres, name, role)
        superuser_url = postgres.superuser_url(postgres.url("auth", name))
        with psycopg.connect(superuser_url, autocommit=True) as superuser:
            # Who has created the database and the roles, as far as Postgres knows.
            superuser.execute("CREATE ROLE administrator LOGIN CREATEROLE CREATEDB PASSWORD 'of-the-administrator'")
            superuser.execute(sql.SQL("ALTER DATABASE {} OWNER TO administrator").format(sql.Identifier(name)))
            for login in LOGINS:
                superuser.execute(
                    sql.SQL("GRANT {} TO administrator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE").format(
                        sql.Identifier(login)
                    )
                )
        server = superuser_url.rpartition("@")[2]
        for _ in range(2):
            postgres.bootstrap(name, admin_url=f"postgresql://administrator:of-the-administrator@{server}")
        for role in ROLES:
            upgrade(postgres.url(owner_of(role), name), f"services.{role}")
        assert rights(postgres, postgres.url("auth", name))["users"] == {"SELECT", "INSERT", "UPDATE", "DELETE"}


def rights(postgres: PostgresServer, url: Secret) -> dict[str, set[str]]:
    """Returns what the service may do with each table of auth."""
    with psycopg.connect(postgres.superuser_url(url)) as superuser:
        rows = superuser.execute(
            "SELECT tablename, right_ FROM pg_tables, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', "
            "'REFERENCES', 'TRIGGER']) AS right_ WHERE schemaname = 'auth' "
            "AND has_table_privilege('auth', 'auth.' || tablename, right_)"
        ).fetchall()
        tables = superuser.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'auth'").fetchall()
    return {table: {right for other, right in rows if other == table} for (table,) in tables}


def make_as_before(postgres: PostgresServer, database: str, role: str) -> None:
    """Makes the schema of a service, and a table in it, as they were when the service owned both."""
    with psycopg.connect(postgres.superuser_url(postgres.url(role, database))) as superuser:
        superuser.execute(sql.SQL("CREATE SCHEMA {0} AUTHORIZATION {0}").format(sql.Identifier(role)))
    with psycopg.connect(libpq_url(postgres.url(role, database))) as service:
        service.execute("CREATE TABLE things AS SELECT 1 AS id")
