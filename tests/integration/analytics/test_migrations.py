"""The migrations of analytics make the tables of the models, and carry over what is there."""

from __future__ import annotations

import random
from typing import Any

import alembic.command
import alembic.config
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg.rows import dict_row
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from sqlalchemy import create_engine

from libs.database import ROOT, libpq_url, upgrade
from libs.redaction import Secret
from libs.settings import SettingsError
from services.analytics.ingest_servicer import to_record
from services.analytics.models import PARTITIONED_TABLES, metadata
from tests.integration.analytics.test_rollups import grouped, random_record
from tests.support.postgres import PostgresServer

NEW = ("kind", "cost_picos", "cost_source", "price")


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The name of a database with the roles and schemas of the platform, and no table."""
    name = postgres.empty_database()
    postgres.bootstrap(name)
    return name


def configuration(owner: Secret) -> alembic.config.Config:
    """Returns what Alembic needs to know of the migrations of analytics."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(ROOT / "services/analytics/migrations"))
    config.attributes |= {"url": owner, "package": "services.analytics"}
    return config


def before(record: UsageRecord) -> dict[str, Any]:
    """Returns the row that the version before made of a record."""
    converted = to_record(record)
    names = [name for name in converted.__dataclass_fields__ if name not in (*NEW, "content")]
    return {name: getattr(converted, name) for name in names}


def rows(url: Secret, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(libpq_url(url), row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()


class TestMigrations:
    def test_make_the_tables_of_the_models(self, postgres: PostgresServer, database: str) -> None:
        owner = postgres.url("analytics_owner", database)
        upgrade(owner, "services.analytics")
        engine = create_engine(owner.reveal())
        with engine.connect() as connection:
            differences = compare_metadata(MigrationContext.configure(connection), metadata)
        engine.dispose()
        assert [difference for difference in differences if "alembic_version" not in str(difference)] == []

    def test_carry_over_what_is_there_and_add_it_up(self, postgres: PostgresServer, database: str) -> None:
        owner, service = postgres.url("analytics_owner", database), postgres.url("analytics", database)
        chance = random.Random(3)
        records = [random_record(chance.choice(["usr_1", "usr_2"]), "openai", chance) for _ in range(400)]
        for record in records:
            # What the version before knew of costs, and of nothing else.
            reported = record.cost_picos if record.cost_source == UsageRecord.REPORTED else None
            for name in ("kind", "cost_picos", "cost_source"):
                record.ClearField(name)
            if reported is not None:
                record.reported_cost_picos = reported
        alembic.command.upgrade(configuration(owner), "0002")
        old = [before(record) for record in records]
        names = ", ".join(old[0])
        with psycopg.connect(libpq_url(service)) as connection:
            values = ", ".join(f"%({name})s" for name in old[0])
            connection.cursor().executemany(f"INSERT INTO usage_records ({names}) VALUES ({values})".encode(), old)

        upgrade(owner, "services.analytics")

        by_id = sorted(old, key=lambda row: row["id"])
        carried = rows(service, "SELECT * FROM usage_records ORDER BY id")
        costs = [{name: getattr(to_record(record), name) for name in NEW} for record in records]
        assert carried == sorted((row | cost for row, cost in zip(old, costs, strict=True)), key=lambda row: row["id"])
        # As the rollups of today's ingest, which has a test of its own.
        for record in records:
            if record.HasField("reported_cost_picos"):
                record.cost_source, record.cost_picos = UsageRecord.REPORTED, record.reported_cost_picos
        for rollup, key in (
            ("usage_hourly", ("user_id", "hour", "provider", "model_requested")),
            ("platform_hourly", ("hour", "provider", "model_requested")),
            ("usage_quarter_hourly", ("user_id", "quarter_hour", "provider", "model_requested")),
            ("platform_quarter_hourly", ("quarter_hour", "provider", "model_requested")),
        ):
            sums = grouped(records, *key)
            found = rows(service, f"SELECT * FROM {rollup}")
            columns = [name.removesuffix("_requested") for name in key]
            assert {tuple(row.pop(name) for name in columns): row for row in found} == sums
        by_day = grouped(records, "day", "user_id")
        daily = rows(service, "SELECT * FROM user_daily")
        assert {(row["day"], row["user_id"]): (row["requests"], row["total_tokens"]) for row in daily} == {
            key: (sums["requests"], sums["prompt_tokens"] + sums["completion_tokens"]) for key, sums in by_day.items()
        }

        alembic.command.downgrade(configuration(owner), "0002")
        assert rows(service, f"SELECT {names} FROM usage_records ORDER BY id") == by_id
        upgrade(owner, "services.analytics")
        assert rows(service, "SELECT * FROM usage_records ORDER BY id") == carried

    def test_a_service_that_could_take_in_nothing_is_not_migrated(
        self, postgres: PostgresServer, database: str
    ) -> None:
        service = postgres.url("analytics", database)
        with psycopg.connect(postgres.superuser_url(service), autocommit=True) as superuser:
            superuser.execute(f"REVOKE TEMPORARY ON DATABASE {database} FROM analytics".encode())

        with pytest.raises(SettingsError, match=r"run deploy\.postgres\.bootstrap again"):
            upgrade(postgres.url("analytics_owner", database), "services.analytics")


class TestRightsOfTheService:
    @pytest.fixture
    def service(self, postgres: PostgresServer) -> str:
        return libpq_url(postgres.fresh_database("analytics"))

    def test_it_makes_and_drops_partitions_of_its_two_tables(self, service: str) -> None:
        with psycopg.connect(service, options="-c timezone=UTC") as connection:
            for table in PARTITIONED_TABLES:
                days = ["2026-02-28", "2026-03-01", "2026-02-28"]
                connection.execute("SELECT make_partitions(%s, %s::date[])", [table, days])
                connection.execute("SELECT make_partitions(%s, %s::date[])", [table, days])
                connection.execute("SELECT drop_partition(%s, '2026-03-01')", [table])
                connection.execute("SELECT drop_partition(%s, '2026-03-02')", [table])
                left = connection.execute(
                    "SELECT inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid) FROM pg_inherits "
                    "JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = %s::regclass AND relkind = 'r'",
                    [table],
                ).fetchall()
                bounds = "FOR VALUES FROM ('2026-02-28 00:00:00+00') TO ('2026-03-01 00:00:00+00')"
                assert left == [(f"{table}_20260228", bounds)]

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT make_partitions('user_daily', '{2026-01-01}')",
            "SELECT drop_partition('usage_hourly; DROP TABLE user_daily', '2026-01-01')",
            "DROP TABLE usage_records",
            "CREATE TABLE mine (id int)",
            "ALTER TABLE usage_records DETACH PARTITION usage_records_20260101",
            "TRUNCATE usage_records",
        ],
    )
    def test_it_changes_no_other_table(self, service: str, statement: str) -> None:
        with psycopg.connect(service) as connection:
            connection.execute("SELECT make_partitions('usage_records', '{2026-01-01}')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())

    def test_a_temporary_table_of_the_same_name_is_not_taken_for_ours(self, service: str) -> None:
        with psycopg.connect(service) as connection:
            connection.execute("CREATE TEMPORARY TABLE usage_records (trap int)")
            connection.execute("SELECT make_partitions('usage_records', '{2026-01-01}')")
            connection.execute("DROP TABLE pg_temp.usage_records")
            assert connection.execute("SELECT count(*) FROM usage_records_20260101 WHERE prompt_tokens > 0").fetchone()
