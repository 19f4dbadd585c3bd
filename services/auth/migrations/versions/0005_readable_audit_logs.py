"""The audit log refuses what could not be read from it: the role of the service may add rows, whatever they are.

Not checked for the entries that are there, which nobody may change. So it takes no time either.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

_CHECKS = {
    "audit_logs_seq": "seq > 0",
    # What Python knows; neither is infinity among it.
    "audit_logs_time": "time BETWEEN timestamptz '0001-01-01 00:00:00+00' "
    "AND timestamptz '9999-12-31 23:59:59.999999+00'",
    "audit_logs_details": "details IS JSON OBJECT",
    "audit_logs_previous_hash": "octet_length(previous_hash) = 32",
    "audit_logs_hash": "octet_length(hash) = 32",
}


def upgrade() -> None:
    for name, check in _CHECKS.items():
        op.execute(f"ALTER TABLE audit_logs ADD CONSTRAINT {name} CHECK ({check}) NOT VALID")


def downgrade() -> None:
    for name in _CHECKS:
        op.execute(f"ALTER TABLE audit_logs DROP CONSTRAINT {name}")
