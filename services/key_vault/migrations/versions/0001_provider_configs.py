"""Creates the table of provider configurations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "provider_configs",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("ciphertext", sa.Text, nullable=False),
        sa.Column("key_hint", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("temperature", sa.Double),
        sa.Column("max_tokens", sa.Integer),
        sa.Column("last_test_success", sa.Boolean, nullable=False),
        sa.Column("last_test_latency", sa.Integer, nullable=False),
        sa.Column("last_test_message", sa.Text, nullable=False),
        sa.Column("last_test_reason", sa.Text, nullable=False),
        sa.Column("last_test_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )


def downgrade() -> None:
    op.drop_table("provider_configs")
