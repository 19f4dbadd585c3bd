"""The audit log, which only grows."""

import sqlalchemy as sa
from alembic import op

from libs.migration_environment import service_role

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "audit_logs",
        # Given under the lock of the chain: a sequence would leave gaps, which are what shows that entries are missing.
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.Uuid, nullable=False, unique=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("ip_address", sa.Text, nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        # JSON, to the byte as it was hashed.
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    # One for each filter, in the order of the list.
    op.create_index("audit_logs_by_time", "audit_logs", ["time", "seq"])
    op.create_index("audit_logs_by_user", "audit_logs", ["user_id", "time", "seq"])
    op.create_index("audit_logs_by_action", "audit_logs", ["action", "time", "seq"])
    role = service_role()
    op.execute(f"REVOKE ALL ON audit_logs FROM {role}")
    op.execute(f"GRANT SELECT, INSERT ON audit_logs TO {role}")
    # The owner of the table could do what is revoked; this stops it from doing so by accident.
    op.execute(
        """
        CREATE FUNCTION refuse_change_of_audit_logs() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE insufficient_privilege USING MESSAGE = 'the audit log only grows';
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_logs
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_logs()
        """
    )
    # Also in a session that replicates, in which triggers rest otherwise.
    op.execute("ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER only_grows")


def downgrade() -> None:
    op.drop_table("audit_logs")
    op.execute("DROP FUNCTION refuse_change_of_audit_logs()")
