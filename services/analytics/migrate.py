"""Brings the schema of analytics up to date: `python -m services.analytics.migrate` (ANALYTICS_DATABASE_URL)."""

from __future__ import annotations

from libs.migration_command import migrate
from services.analytics.settings import PREFIX, Settings

if __name__ == "__main__":
    migrate("services.analytics", PREFIX, Settings)
