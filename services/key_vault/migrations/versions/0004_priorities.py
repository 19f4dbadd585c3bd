"""The place of each provider in the order in which a person wants them tried."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("provider_configs", sa.Column("priority", sa.Integer))


def downgrade() -> None:
    op.drop_column("provider_configs", "priority")
