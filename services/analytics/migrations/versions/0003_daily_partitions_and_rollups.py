"""Partitions the facts by day, adds costs, rollups and history, and carries over what is there."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from libs.migration_environment import service_role
from libs.settings import SettingsError

revision = "0003"
down_revision = "0002"

_TIME = sa.TIMESTAMP(timezone=True)
_END_STATES = (
    "completed",
    "provider_error_before_output",
    "provider_error_after_output",
    "cancelled_before_output",
    "cancelled_after_output",
    "timeout",
)
_COUNTS = ("requests", "embeddings", "estimated", "unpriced", *_END_STATES)
_TOKENS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "cache_write_tokens")
_COSTS = ("cost_picos", "reported_picos", "estimated_picos")
_HISTOGRAMS = ("latency", "first_output", "speed")
# New pages join the index at once, and not with a vacuum that rows which only come may never cause.
_BRIN: dict[str, Any] = {"postgresql_using": "brin", "postgresql_with": {"autosummarize": "on"}}

# The names by which the functions below know what they may partition.
_PARTITIONED = "'usage_records', 'chat_contents'"


def upgrade() -> None:
    _check_rights()
    op.execute("ALTER TABLE usage_records RENAME TO usage_records_before")
    op.execute("ALTER INDEX usage_records_pkey RENAME TO usage_records_before_pkey")
    _create_facts()
    _create_rollups()
    _create_history()
    _create_functions()
    _carry_over()
    op.drop_table("usage_records_before")


def downgrade() -> None:
    op.execute("ALTER TABLE usage_records RENAME TO usage_records_after")
    op.execute("ALTER INDEX usage_records_pkey RENAME TO usage_records_after_pkey")
    op.execute("CREATE TABLE usage_records (LIKE usage_records_after, PRIMARY KEY (user_id, start_time, id))")
    op.execute("INSERT INTO usage_records SELECT * FROM usage_records_after")
    for name in ("kind", "cost_picos", "cost_source", "price"):
        op.drop_column("usage_records", name)
    for name in ("cache_write_tokens", "cache_write_1h_tokens", "tool_use_tokens"):
        op.alter_column("usage_records", name, server_default="0")
    op.alter_column("usage_records", "service_tier", server_default="")
    for table in (
        "usage_records_after",
        "chat_contents",
        "history_erasures",
        "user_daily",
        "platform_quarter_hourly",
        "platform_hourly",
        "usage_quarter_hourly",
        "usage_hourly",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION make_partitions(text, date[])")
    op.execute("DROP FUNCTION drop_partition(text, date)")


def _check_rights() -> None:
    """Raises SettingsError when the service could not take anything in afterwards."""
    role = service_role()
    granted = sa.text("SELECT has_database_privilege(:role, current_database(), 'TEMPORARY')")
    if not op.get_bind().execute(granted, {"role": role.strip('"')}).scalar_one():
        raise SettingsError(
            f"The role {role} needs the right to make temporary tables: run deploy.postgres.bootstrap again, then this."
        )


def _create_facts() -> None:
    op.create_table(
        "usage_records",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("start_time", _TIME, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model_requested", sa.Text, nullable=False),
        sa.Column("model_served", sa.Text, nullable=False),
        sa.Column("end_state", sa.Text, nullable=False),
        sa.Column("error_reason", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("cached_tokens", sa.Integer, nullable=False),
        sa.Column("reasoning_tokens", sa.Integer, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("streamed", sa.Boolean, nullable=False),
        sa.Column("latency_ms", sa.Integer, nullable=False),
        sa.Column("time_to_first_token_ms", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        # Without defaults from here on: a service of the version before knows nothing of rollups. It shall fail, and
        # its records wait in the outboxes of the workers, rather than write facts that no rollup counts.
        sa.Column("cache_write_tokens", sa.Integer, nullable=False),
        sa.Column("cache_write_1h_tokens", sa.Integer, nullable=False),
        sa.Column("tool_use_tokens", sa.Integer, nullable=False),
        sa.Column("reported_cost_picos", sa.BigInteger),
        sa.Column("service_tier", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("cost_picos", sa.BigInteger),
        sa.Column("cost_source", sa.Text, nullable=False),
        sa.Column("price", sa.Text, nullable=False),
        postgresql_partition_by="RANGE (start_time)",
    )
    op.create_index("usage_records_by_time", "usage_records", ["start_time"], **_BRIN)


def _measures() -> list[sa.Column[Any]]:
    return [
        *(sa.Column(name, sa.Integer, nullable=False) for name in _COUNTS),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _TOKENS),
        *(sa.Column(name, sa.Numeric, nullable=False) for name in (*_COSTS, *_HISTOGRAMS)),
    ]


def _create_rollups() -> None:
    # Rows of the current hour are written again with every batch. With room in their pages these writes need no new
    # entries in the indexes, and the room is found again without a vacuum. Most people's rows are written once.
    roomy, full = {"fillfactor": 70}, {"fillfactor": 90}
    for unit, time in (("hourly", "hour"), ("quarter_hourly", "quarter_hour")):
        op.create_table(
            f"usage_{unit}",
            sa.Column("user_id", sa.Text, primary_key=True),
            sa.Column(time, _TIME, primary_key=True),
            sa.Column("provider", sa.Text, primary_key=True),
            sa.Column("model", sa.Text, primary_key=True),
            *_measures(),
            postgresql_with=full,
        )
        op.create_table(
            f"platform_{unit}",
            sa.Column(time, _TIME, primary_key=True),
            sa.Column("provider", sa.Text, primary_key=True),
            sa.Column("model", sa.Text, primary_key=True),
            *_measures(),
            postgresql_with=roomy,
        )
    op.create_index("usage_hourly_by_hour", "usage_hourly", ["hour"], **_BRIN)
    op.create_index("usage_quarter_hourly_by_time", "usage_quarter_hourly", ["quarter_hour"], **_BRIN)
    op.create_table(
        "user_daily",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("total_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_picos", sa.Numeric, nullable=False),
        postgresql_with=full,
    )


def _create_history() -> None:
    op.create_table(
        "chat_contents",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("start_time", _TIME, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model_requested", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("end_state", sa.Text, nullable=False),
        sa.Column("error_reason", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("cached_tokens", sa.Integer, nullable=False),
        sa.Column("reasoning_tokens", sa.Integer, nullable=False),
        sa.Column("cache_write_tokens", sa.Integer, nullable=False),
        sa.Column("cache_write_1h_tokens", sa.Integer, nullable=False),
        sa.Column("tool_use_tokens", sa.Integer, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("streamed", sa.Boolean, nullable=False),
        sa.Column("cost_picos", sa.BigInteger),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("wrapped_key", sa.Text, nullable=False),
        postgresql_partition_by="RANGE (start_time)",
    )
    op.execute("ALTER TABLE chat_contents ALTER COLUMN sealed SET STORAGE EXTERNAL")
    op.create_index("chat_contents_by_conversation", "chat_contents", ["user_id", "conversation_id", "start_time"])
    op.create_index("chat_contents_by_id", "chat_contents", ["user_id", "id"])
    op.create_table(
        "history_erasures",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("before", _TIME, nullable=False),
    )


def _create_functions() -> None:
    """Lets the service, which may not change tables, make and drop partitions: these two tables', by day."""
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    # Temporary tables last: the caller could have made one with the name of ours. The wait for a lock ends before a
    # statement of the service does, because everybody waits behind it.
    fixed = f"LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '2s'"
    # A table that is made on its own and then attached: that stops nobody who reads or writes the others.
    op.execute(
        f"""
        CREATE FUNCTION make_partitions(parent text, days date[]) RETURNS void {fixed} AS $$
        DECLARE
            day date;
            partition text;
        BEGIN
            IF parent NOT IN ({_PARTITIONED}) THEN
                RAISE insufficient_privilege USING MESSAGE = format('%I has no partitions to make', parent);
            END IF;
            PERFORM pg_advisory_xact_lock(hashtextextended('{schema}.' || parent, 0));
            FOREACH day IN ARRAY days LOOP
                partition := parent || to_char(day, '_YYYYMMDD');
                IF to_regclass(quote_ident(partition)) IS NULL THEN
                    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition, parent);
                    EXECUTE format(
                        'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                        parent, partition, to_char(day, 'YYYY-MM-DD 00:00+00'), to_char(day + 1, 'YYYY-MM-DD 00:00+00')
                    );
                END IF;
            END LOOP;
        END
        $$
        """
    )
    op.execute(
        f"""
        CREATE FUNCTION drop_partition(parent text, day date) RETURNS void {fixed} AS $$
        BEGIN
            IF parent NOT IN ({_PARTITIONED}) THEN
                RAISE insufficient_privilege USING MESSAGE = format('%I has no partitions to drop', parent);
            END IF;
            EXECUTE format('DROP TABLE IF EXISTS %I', parent || to_char(day, '_YYYYMMDD'));
        END
        $$
        """
    )
    role = service_role()
    for function in ("make_partitions(text, date[])", "drop_partition(text, date)"):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {role}")


def _carry_over() -> None:
    op.execute(
        """
        SELECT make_partitions('usage_records', array_agg(DISTINCT (start_time AT TIME ZONE 'UTC')::date))
        FROM usage_records_before HAVING count(*) > 0
        """
    )
    op.execute(
        """
        INSERT INTO usage_records
        SELECT
            user_id, start_time, id, provider, model_requested, model_served, end_state, error_reason, prompt_tokens,
            completion_tokens, cached_tokens, reasoning_tokens, estimated, streamed, latency_ms, time_to_first_token_ms,
            attempts, request_id, conversation_id, cache_write_tokens, cache_write_1h_tokens, tool_use_tokens,
            reported_cost_picos, service_tier, 'chat', reported_cost_picos,
            CASE
                WHEN reported_cost_picos IS NOT NULL THEN 'reported'
                WHEN prompt_tokens > 0 OR completion_tokens > 0 THEN 'unpriced'
                ELSE 'none'
            END,
            ''
        FROM usage_records_before
        """
    )
    # Measures in the order of the columns.
    measures = [
        *("count(*)", "0", _count("estimated"), _count("cost_source = 'unpriced'")),
        *(_count(f"end_state = '{state}'") for state in _END_STATES),
        *(f"sum({name})" for name in _TOKENS),
        *("coalesce(sum(cost_picos), 0)", "coalesce(sum(cost_picos), 0)"),
        "coalesce(sum(cost_picos) FILTER (WHERE estimated), 0)",
        _histogram("latency_ms", "end_state = 'completed'"),
        _histogram("time_to_first_token_ms", "streamed AND time_to_first_token_ms IS NOT NULL"),
        _histogram(
            "10000.0 * completion_tokens / (latency_ms - time_to_first_token_ms)",
            "streamed AND end_state = 'completed' AND completion_tokens > 0 AND latency_ms > time_to_first_token_ms",
        ),
    ]
    times = {
        "hourly": "date_trunc('hour', start_time, 'UTC')",
        "quarter_hourly": "date_bin('15 minutes', start_time, '2000-01-01 00:00+00')",
    }
    for unit, time in times.items():
        for key, table in (("user_id, ", f"usage_{unit}"), ("", f"platform_{unit}")):
            numbers = "1, 2, 3, 4" if key else "1, 2, 3"
            op.execute(
                f"INSERT INTO {table} SELECT {key}{time}, provider, model_requested, {', '.join(measures)} "  # noqa: S608 - of constants
                f"FROM usage_records GROUP BY {numbers}"
            )
    op.execute(
        "INSERT INTO user_daily SELECT (hour AT TIME ZONE 'UTC')::date, user_id, "
        "sum(requests), sum(prompt_tokens + completion_tokens), sum(cost_picos) FROM usage_hourly GROUP BY 1, 2"
    )


def _count(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def _histogram(value: str, condition: str) -> str:
    """As in histograms.py, of the time of this migration."""
    bucket = f"least(round(ln(greatest(({value})::double precision, 1.0)) / ln(1.05::double precision)), 329.0)"
    # In a CASE, as a filter would not keep the division from being worked out.
    one = f"CASE WHEN {condition} THEN ('1e' || ({bucket})::numeric * 12)::numeric END"
    return f"coalesce(sum({one}), 0)"
