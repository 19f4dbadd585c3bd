"""Adds the kinds of tokens that have prices of their own, and what providers say a chat cost."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_COUNTS = ("cache_write_tokens", "cache_write_1h_tokens", "tool_use_tokens")


def upgrade() -> None:
    # With defaults, so that services of the version before can go on writing.
    for name in _COUNTS:
        op.add_column("usage_records", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.add_column("usage_records", sa.Column("reported_cost_picos", sa.BigInteger))
    op.add_column("usage_records", sa.Column("service_tier", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    for name in (*_COUNTS, "reported_cost_picos", "service_tier"):
        op.drop_column("usage_records", name)
