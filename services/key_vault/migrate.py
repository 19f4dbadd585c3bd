"""Brings the schema of the key vault up to date: `python -m services.key_vault.migrate` (KEY_VAULT_DATABASE_URL)."""

from __future__ import annotations

import os
import sys

from libs.database import upgrade
from libs.settings import SettingsError
from services.key_vault.settings import database_url


def main() -> None:
    """Runs the pending migrations."""
    try:
        url = database_url()
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_CONFIG)
    upgrade(url, "services.key_vault")


if __name__ == "__main__":
    main()
