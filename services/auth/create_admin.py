"""Makes an administrator: `python -m services.auth.create_admin --email E [--password-file F]` (AUTH_DATABASE_URL).

Safe to repeat. The password is that of a new account, by default one made up and printed, this once; an existing
account becomes an administrator's, keeps its own, and loses its sessions and API tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from pathlib import Path

from libs.change_feed import ChangeFeed
from libs.database import connect
from libs.errors import PlatformError
from libs.migration_command import read_database_url
from libs.redaction import Secret
from libs.settings import SettingsError
from services.auth import emails
from services.auth.administrators import Administrators, Promotion
from services.auth.audit_log import AuditLog
from services.auth.password_hashing import hashing_in
from services.auth.revocations import CHANNEL, Revocations
from services.auth.settings import PREFIX, Settings
from services.auth.validation import check_new_account

# 144 bits, in 24 characters.
_PASSWORD_BYTES = 18


async def create_admin(email: str, password: Secret | None) -> str:
    """Makes the account of an email an administrator's, and says what that took and how to sign in.

    Raises PlatformError, and SettingsError.
    """
    email = emails.normal_form(email)
    chosen = Secret(secrets.token_urlsafe(_PASSWORD_BYTES)) if password is None else password
    check_new_account(email, chosen.reveal(), name="")
    async with connect(read_database_url(PREFIX, Settings), pool_size=1) as transactions, hashing_in(1) as hashing:
        administrators = Administrators(transactions, hashing, Revocations(ChangeFeed(CHANNEL)), AuditLog(transactions))
        promotion = await administrators.make(email, chosen)
    said = promotion.value.format(email=email)
    if promotion is Promotion.CREATED and password is None:
        said += f"\nIts password, which is shown this once: {chosen.reveal()}"
    return said


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Create an administrator, or make an existing account one.")
    parser.add_argument("--email", required=True)
    parser.add_argument("--password-file", type=Path, help="file with the password of a new account")
    arguments = parser.parse_args()
    try:
        print(asyncio.run(create_admin(arguments.email, _password(arguments.password_file))))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_CONFIG)
    except (OSError, UnicodeDecodeError, PlatformError) as error:
        sys.exit(f"No administrator was made: {error}")


def _password(path: Path | None) -> Secret | None:
    return None if path is None else Secret(path.read_text("utf-8").rstrip("\r\n"))


if __name__ == "__main__":
    main()
