"""Indexes for the pages of accounts, in the order in which administrators see them, and for who these are.

Not made concurrently, so that all migrations are one transaction: accounts cannot be written while they are made, which
takes about a second for a million of them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("users_by_create_time", "users", ["create_time", "id"])
    op.create_index(
        "enabled_administrators", "users", ["id"], postgresql_where=sa.text("role = 'admin' AND disabled_at IS NULL")
    )


def downgrade() -> None:
    op.drop_index("enabled_administrators")
    op.drop_index("users_by_create_time")
