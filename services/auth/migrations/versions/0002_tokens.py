"""Sessions that end when they are not used, and API tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # With defaults, so that replicas of the version before can go on opening sessions meanwhile. The last use has no
    # index: it is written often, and looked for by the removal of what has ended alone.
    op.add_column(
        "sessions",
        sa.Column("last_use_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.add_column("sessions", sa.Column("ip_address", sa.Text, nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("user_agent", sa.Text, nullable=False, server_default=""))
    op.add_column(
        "users",
        sa.Column("password_set_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("token_sha256", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("expire_time", sa.DateTime(timezone=True), index=True),
        sa.Column("last_use_time", sa.DateTime(timezone=True)),
    )


def downgrade() -> None:
    op.drop_table("api_tokens")
    op.drop_column("users", "password_set_time")
    for column in ("user_agent", "ip_address", "last_use_time"):
        op.drop_column("sessions", column)
