"""The migrations of the auth service make the tables that its models describe, and keep what is in them."""

from __future__ import annotations

import alembic.command
import alembic.config
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from libs import tokens
from libs.database import ROOT, libpq_url, upgrade
from libs.migration_environment import MigrationBlocked
from libs.redaction import Secret
from services.auth.models import Base
from tests.integration.auth.replica import replica
from tests.support.postgres import PostgresServer
from tests.support.rpc import Identities


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The name of a database with the roles and schemas of the platform, and no table."""
    name = postgres.empty_database()
    postgres.bootstrap(name)
    return name


def upgrade_to(revision: str, owner: Secret) -> None:
    """Runs the migrations up to one."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(ROOT / "services/auth/migrations"))
    config.attributes |= {"url": owner, "package": "services.auth"}
    alembic.command.upgrade(config, revision)


class TestMigrations:
    # SQLAlchemy trips over the checks that are not valid for what was there before them.
    @pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options':sqlalchemy.exc.SAWarning")
    def test_make_the_tables_of_the_models(self, postgres: PostgresServer, database: str) -> None:
        owner = postgres.url("auth_owner", database)
        upgrade(owner, "services.auth")
        engine = create_engine(owner.reveal())
        with engine.connect() as connection:
            differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        engine.dispose()
        assert [difference for difference in differences if "alembic_version" not in str(difference)] == []

    def test_give_up_behind_a_transaction_that_stays_open_and_change_nothing(
        self, postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("libs.migration_environment._LOCK_SECONDS", 1)
        owner = postgres.url("auth_owner", database)
        upgrade_to("0003", owner)
        with psycopg.connect(libpq_url(owner)) as reader:
            reader.execute("SELECT FROM audit_logs")
            with pytest.raises(MigrationBlocked, match="Run this again"):
                upgrade(owner, "services.auth")
            assert reader.execute("SELECT version_num FROM alembic_version").fetchone() == ("0003",)
        upgrade(owner, "services.auth")

    def test_leave_what_cannot_be_read_in_the_log(self, postgres: PostgresServer, database: str) -> None:
        owner = postgres.url("auth_owner", database)
        upgrade_to("0004", owner)
        with psycopg.connect(libpq_url(owner)) as connection:
            connection.execute(
                "INSERT INTO audit_logs SELECT 0, gen_random_uuid(), 'infinity', '', '', '', '', '', '', '', '', '', ''"
            )
        upgrade(owner, "services.auth")

    async def test_sessions_of_the_version_before_stay_open(
        self, postgres: PostgresServer, database: str, identity: Identities
    ) -> None:
        owner, service = postgres.url("auth_owner", database), postgres.url("auth", database)
        upgrade_to("0001", owner)
        token = tokens.mint(tokens.SESSION_PREFIX)
        with psycopg.connect(libpq_url(owner)) as connection:
            connection.execute(
                "INSERT INTO users (id, email, name, role, password_hash) VALUES ('usr_1', 'a@b', 'Ada', 'user', '')"
            )
            connection.execute(
                "INSERT INTO sessions (id, user_id, token_sha256, expire_time) "
                "VALUES ('ses_1', 'usr_1', %s, now() + interval '1 hour')",
                [tokens.digest(token.reveal())],
            )
        upgrade(owner, "services.auth")
        async with replica(service, identity) as auth:
            assert (await auth.verify(token.reveal())).user_id == "usr_1"
            assert (await auth.session(token.reveal())).user.name == "Ada"
