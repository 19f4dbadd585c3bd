"""What administrators configure for everybody, and which version of the encryption key sealed each stored key."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

# Told by the ciphertext itself, so that the two cannot differ. Nothing that Vault writes is without it.
_KEY_VERSION = r"(substring(ciphertext from '^vault:v(\d{1,9}):'))::integer"


def upgrade() -> None:
    op.add_column("provider_configs", sa.Column("key_version", sa.Integer, sa.Computed(_KEY_VERSION, persisted=True)))
    op.create_table(
        "platform_configs",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("endpoint", sa.Text, nullable=False, server_default=""),
        sa.Column("default_model", sa.Text, nullable=False, server_default=""),
        sa.Column("allowed_models", postgresql.ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column("request_timeout_ms", sa.Integer, nullable=False, server_default="0"),
        sa.Column("ciphertext", sa.Text),
        sa.Column("key_hint", sa.Text, nullable=False, server_default=""),
        sa.Column("last_test_success", sa.Boolean),
        sa.Column("last_test_latency", sa.Integer),
        sa.Column("last_test_message", sa.Text),
        sa.Column("last_test_reason", sa.Text),
        sa.Column("last_test_time", sa.DateTime(timezone=True)),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("key_version", sa.Integer, sa.Computed(_KEY_VERSION, persisted=True)),
    )


def downgrade() -> None:
    op.drop_table("platform_configs")
    op.drop_column("provider_configs", "key_version")
