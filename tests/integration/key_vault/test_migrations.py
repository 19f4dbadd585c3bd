"""The migrations of the key vault make the tables that its models describe, and keep what is in them."""

from __future__ import annotations

import alembic.command
import alembic.config
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from libs.database import ROOT, libpq_url, upgrade
from libs.redaction import Secret
from services.key_vault.models import Base
from tests.support.postgres import PostgresServer


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The name of a database with the roles and schemas of the platform, and no table."""
    name = postgres.empty_database()
    postgres.bootstrap(name)
    return name


def configuration(owner: Secret) -> alembic.config.Config:
    """Returns what Alembic needs to know of the key vault's migrations."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(ROOT / "services/key_vault/migrations"))
    config.attributes |= {"url": owner, "package": "services.key_vault"}
    return config


class TestMigrations:
    def test_make_the_tables_of_the_models(self, postgres: PostgresServer, database: str) -> None:
        owner = postgres.url("key_vault_owner", database)
        upgrade(owner, "services.key_vault")
        engine = create_engine(owner.reveal())
        with engine.connect() as connection:
            differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        engine.dispose()
        assert [difference for difference in differences if "alembic_version" not in str(difference)] == []

    def test_keep_what_people_have_stored_on_the_way_there_and_back(
        self, postgres: PostgresServer, database: str
    ) -> None:
        owner, service = postgres.url("key_vault_owner", database), postgres.url("key_vault", database)
        alembic.command.upgrade(configuration(owner), "0001")
        stored = [("usr_1", "openai", "vault:v1:AAAA"), ("usr_2", "grok", "vault:v12:BBBB"), ("usr_3", "grok", "junk")]
        with psycopg.connect(libpq_url(service)) as connection:
            connection.cursor().executemany(
                "INSERT INTO provider_configs (user_id, provider, ciphertext, key_hint, model, last_test_success, "
                "last_test_latency, last_test_message, last_test_reason, last_test_time) "
                "VALUES (%s, %s, %s, '', '', true, 1, '', '', now())",
                stored,
            )
            before = connection.execute("SELECT * FROM provider_configs ORDER BY user_id").fetchall()

        upgrade(owner, "services.key_vault")

        with psycopg.connect(libpq_url(service)) as connection:
            versions = connection.execute("SELECT key_version FROM provider_configs ORDER BY user_id").fetchall()
            assert versions == [(1,), (12,), (None,)]
            # As the service's role, which may change rows and no tables.
            connection.execute("INSERT INTO platform_configs (provider, ciphertext) VALUES ('grok', 'vault:v3:CCCC')")
            assert connection.execute("SELECT enabled, key_version FROM platform_configs").fetchall() == [(True, 3)]
            connection.execute("UPDATE platform_configs SET ciphertext = NULL")
            assert connection.execute("SELECT key_version FROM platform_configs").fetchall() == [(None,)]

        alembic.command.downgrade(configuration(owner), "0001")

        with psycopg.connect(libpq_url(service)) as connection:
            assert connection.execute("SELECT * FROM provider_configs ORDER BY user_id").fetchall() == before
        upgrade(owner, "services.key_vault")
