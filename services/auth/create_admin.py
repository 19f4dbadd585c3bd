"""Makes an administrator: `python -m services.auth.create_admin --email E --password-file F` (AUTH_DATABASE_URL).

Safe to repeat. The password is that of a new account; an existing one becomes an administrator's and keeps its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from libs.change_feed import ChangeFeed
from libs.database import connect
from libs.errors import PlatformError
from libs.migration_command import read_database_url
from libs.settings import SettingsError
from services.auth import emails
from services.auth.accounts import make_admin
from services.auth.password_hashing import hashing_in
from services.auth.revocations import CHANNEL, Revocations
from services.auth.settings import PREFIX, Settings
from services.auth.validation import check_new_account


async def create_admin(email: str, password: str) -> str:
    """Makes the account of an email an administrator's and says what that took. Raises PlatformError."""
    email = emails.normal_form(email)
    check_new_account(email, password, name="")
    async with connect(read_database_url(PREFIX, Settings), pool_size=1) as transactions, hashing_in(1) as hashing:
        promotion = await make_admin(
            transactions, hashing, Revocations(ChangeFeed(CHANNEL)), email=email, password=password
        )
    return promotion.value.format(email=email)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Create an administrator, or make an existing account one.")
    parser.add_argument("--email", required=True)
    parser.add_argument("--password-file", required=True, type=Path, help="file with the password of a new account")
    arguments = parser.parse_args()
    try:
        password = arguments.password_file.read_text("utf-8").rstrip("\r\n")
        print(asyncio.run(create_admin(arguments.email, password)))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_CONFIG)
    except (OSError, UnicodeDecodeError, PlatformError) as error:
        sys.exit(f"No administrator was made: {error}")


if __name__ == "__main__":
    main()
