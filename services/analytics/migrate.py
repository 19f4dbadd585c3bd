"""Brings the schema of the analytics service up to date; run before a new version starts."""

from __future__ import annotations

from libs.database import upgrade
from libs.settings import from_env
from services.analytics.settings import Settings


def main() -> None:
    upgrade(from_env(Settings, "ANALYTICS").database_url, "services.analytics")


if __name__ == "__main__":
    main()
