"""Brings the schema of the auth service up to date: `python -m services.auth.migrate` (AUTH_DATABASE_URL)."""

from __future__ import annotations

from libs.migration_command import migrate
from services.auth.settings import PREFIX, Settings

if __name__ == "__main__":
    migrate("services.auth", PREFIX, Settings)
