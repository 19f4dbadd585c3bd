"""Brings the schema of the key vault up to date: `python -m services.key_vault.migrate` (KEY_VAULT_DATABASE_URL)."""

from __future__ import annotations

from libs.migration_command import migrate
from services.key_vault.settings import PREFIX, Settings

if __name__ == "__main__":
    migrate("services.key_vault", PREFIX, Settings)
