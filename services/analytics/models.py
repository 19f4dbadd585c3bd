"""The tables of analytics. Rows are only ever written and summed in bulk, so no classes are mapped to them.

Every key begins with the tenant or holds it, so that tenants can be spread over servers, and what is there for each
chat is partitioned by the UTC day of its start: see docs/analytics.md. Partitions are no part of the models.
"""

from __future__ import annotations

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Date,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
)

metadata = MetaData()

# Tables with a partition for each day.
PARTITIONED_TABLES = ("usage_records", "chat_contents")

# How many chats ended in each way; the columns of rollups are named like the end states of facts.
END_STATES = (
    "completed",
    "provider_error_before_output",
    "provider_error_after_output",
    "cancelled_before_output",
    "cancelled_after_output",
    "timeout",
)
COUNT_MEASURES = ("requests", "embeddings", "estimated", "unpriced", *END_STATES)
TOKEN_MEASURES = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "cache_write_tokens")
COST_MEASURES = ("cost_picos", "reported_picos", "estimated_picos")
HISTOGRAM_MEASURES = ("latency", "first_output", "speed")
# What the rollups of hours add up. Two of their rows merge by adding each of these.
MEASURES = (*COUNT_MEASURES, *TOKEN_MEASURES, *COST_MEASURES, *HISTOGRAM_MEASURES)

# The facts: a row for each chat and each call for embeddings. A record keeps its start time however often it is sent,
# so the key tells duplicates as well as `id` alone would; Postgres wants the column a table is partitioned by in every
# unique key.
usage_records = Table(
    "usage_records",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("start_time", TIMESTAMP(timezone=True), primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("model_requested", Text, nullable=False),
    Column("model_served", Text, nullable=False),
    Column("end_state", Text, nullable=False),
    Column("error_reason", Text, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("latency_ms", Integer, nullable=False),
    Column("time_to_first_token_ms", Integer),
    Column("attempts", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("cache_write_tokens", Integer, nullable=False),
    Column("cache_write_1h_tokens", Integer, nullable=False),
    Column("tool_use_tokens", Integer, nullable=False),
    # What the provider itself says the chat cost, in trillionths of a US dollar; null where it does not say.
    Column("reported_cost_picos", BigInteger),
    Column("service_tier", Text, nullable=False),
    # `chat` or `embeddings`.
    Column("kind", Text, nullable=False),
    # What the chat cost, in trillionths of a US dollar; null where nobody knows and where nothing was used.
    Column("cost_picos", BigInteger),
    # `reported`, `priced`, `unpriced`, or `none` where nothing was used.
    Column("cost_source", Text, nullable=False),
    # The price used, as `UsageRecord.price` of the protos; empty unless priced.
    Column("price", Text, nullable=False),
    # For the chats of all people at the edges of a span. They come about in the order of time, more or less.
    Index("usage_records_by_time", "start_time", postgresql_using="brin"),
    postgresql_partition_by="RANGE (start_time)",
)


def _measures() -> list[Column[object]]:
    """Makes the columns that both rollups of hours have."""
    columns: list[Column[object]] = []
    columns += [Column(name, Integer, nullable=False) for name in COUNT_MEASURES]
    columns += [Column(name, BigInteger, nullable=False) for name in TOKEN_MEASURES]
    # Unbounded: what chats cost together may be more than 64 bits of trillionths.
    columns += [Column(name, Numeric, nullable=False) for name in COST_MEASURES]
    # See histograms.py.
    columns += [Column(name, Numeric, nullable=False) for name in HISTOGRAM_MEASURES]
    return columns


# What the facts of an hour of UTC, begun at `hour`, add up to for a person, a provider and a model as it was asked
# for. Exactly the facts: both are written in one transaction. A row without a chat does not exist.
usage_hourly = Table(
    "usage_hourly",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("hour", TIMESTAMP(timezone=True), primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    *_measures(),
    # For retention, which asks for times alone. Rows come about in their order, so it stays tiny.
    Index("usage_hourly_by_hour", "hour", postgresql_using="brin"),
)

# The same over all people.
platform_hourly = Table(
    "platform_hourly",
    metadata,
    Column("hour", TIMESTAMP(timezone=True), primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    *_measures(),
)

# Both once more for quarters of hours: in time zones such as +05:30 days and hours begin within those of UTC, in those
# of today always at a quarter.
usage_quarter_hourly = Table(
    "usage_quarter_hourly",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("quarter_hour", TIMESTAMP(timezone=True), primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    *_measures(),
    Index("usage_quarter_hourly_by_time", "quarter_hour", postgresql_using="brin"),
)
platform_quarter_hourly = Table(
    "platform_quarter_hourly",
    metadata,
    Column("quarter_hour", TIMESTAMP(timezone=True), primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    *_measures(),
)

# What a day of UTC adds up to for a person: for the lists of those who cost most.
user_daily = Table(
    "user_daily",
    metadata,
    Column("day", Date, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("requests", Integer, nullable=False),
    Column("total_tokens", BigInteger, nullable=False),
    Column("cost_picos", Numeric, nullable=False),
)

# What was said, sealed, with what a page of history shows of the fact; a chat whose content is not kept has no row.
chat_contents = Table(
    "chat_contents",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("start_time", TIMESTAMP(timezone=True), primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("model_requested", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("end_state", Text, nullable=False),
    Column("error_reason", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("cache_write_tokens", Integer, nullable=False),
    Column("cache_write_1h_tokens", Integer, nullable=False),
    Column("tool_use_tokens", Integer, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("cost_picos", BigInteger),
    # Out of line and as it is: ciphertext does not compress, and lists of what was not opened need not read it.
    Column("sealed", LargeBinary, nullable=False),
    Column("wrapped_key", Text, nullable=False),
    Index("chat_contents_by_conversation", "user_id", "conversation_id", "start_time"),
    Index("chat_contents_by_id", "user_id", "id"),
    postgresql_partition_by="RANGE (start_time)",
)

# Who has erased all of their history, and up to when: contents of chats that started before `before` are not stored
# when they arrive. Ingest holds this table in ROW SHARE mode from before it reads it until its contents are committed.
# So whoever erases takes EXCLUSIVE mode to write the time, commits, and then deletes what is there: nothing of before
# can come after that.
history_erasures = Table(
    "history_erasures",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("before", TIMESTAMP(timezone=True), nullable=False),
)
