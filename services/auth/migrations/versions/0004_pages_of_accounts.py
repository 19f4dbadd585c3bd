"""An index for the pages of accounts, in the order in which administrators see them."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("users_by_create_time", "users", ["create_time", "id"])


def downgrade() -> None:
    op.drop_index("users_by_create_time")
