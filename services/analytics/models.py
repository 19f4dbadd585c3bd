"""The table of usage. Rows are only ever written and summed in bulk, so no class is mapped to them."""

from __future__ import annotations

from sqlalchemy import TIMESTAMP, BigInteger, Boolean, Column, Integer, MetaData, Table, Text, Uuid

metadata = MetaData()

# The key begins with the tenant, so that tenants can be spread over servers, and holds the start time, because
# Postgres wants the column a table is partitioned by in every unique key. It is also the index the sums use. A
# record keeps its start time however often it is sent, so the key tells duplicates as well as `id` alone would.
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
    Column("cache_write_tokens", Integer, nullable=False, server_default="0"),
    Column("cache_write_1h_tokens", Integer, nullable=False, server_default="0"),
    Column("tool_use_tokens", Integer, nullable=False, server_default="0"),
    # What the provider itself says the chat cost, in trillionths of a US dollar; null where it does not say.
    Column("reported_cost_picos", BigInteger),
    Column("service_tier", Text, nullable=False, server_default=""),
)
