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
    def test_make_the_tables_of_the_models(self, postgres: PostgresServer, database: str) -> None:
        owner = postgres.url("auth_owner", database)
        upgrade(owner, "services.auth")
        engine = create_engine(owner.reveal())
        with engine.connect() as connection:
            differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        engine.dispose()
        assert [difference for difference in differences if "alembic_version" not in str(difference)] == []

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
