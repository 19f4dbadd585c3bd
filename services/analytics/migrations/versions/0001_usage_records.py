"""Creates the table of usage."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "usage_records",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("start_time", sa.TIMESTAMP(timezone=True), primary_key=True),
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
    )


def downgrade() -> None:
    op.drop_table("usage_records")
