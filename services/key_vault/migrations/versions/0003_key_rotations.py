"""Creates the tables of encryption keys and their rotations."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    keys = op.create_table(
        "encryption_keys",
        sa.Column("purpose", sa.Text, primary_key=True),
        sa.Column("floor", sa.Integer, nullable=False),
    )
    # Version 1 is the first that Vault makes: nothing is below it.
    op.bulk_insert(keys, [{"purpose": "provider-keys", "floor": 1}, {"purpose": "chat-history", "floor": 1}])
    op.create_table(
        "key_rotations",
        sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.func.gen_random_uuid()),
        sa.Column("purpose", sa.Text, sa.ForeignKey("encryption_keys.purpose"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("target_version", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("rewrapped", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failed", sa.Integer, nullable=False, server_default="0"),
        sa.Column("message", sa.Text, nullable=False, server_default=""),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("lease_holder", sa.Uuid),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("start_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("end_time", sa.DateTime(timezone=True)),
    )
    op.create_index(
        "key_rotations_under_way",
        "key_rotations",
        ["purpose"],
        unique=True,
        postgresql_where=sa.text("state = 'RUNNING'"),
    )
    op.create_index("key_rotations_by_start", "key_rotations", ["purpose", "start_time"])


def downgrade() -> None:
    op.drop_table("key_rotations")
    op.drop_table("encryption_keys")
