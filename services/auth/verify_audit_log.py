"""Verifies the audit log: `python -m services.auth.verify_audit_log [--expect ID:HASH]` (AUTH_DATABASE_URL).

Reads all of it, and says how far it is as it was written. Ends with status 0 when that is to its end, 1 when it is not.
`--expect` is a head that was noted earlier, from an answer of this command, of the API or from the log of the service:
only that shows whether entries have been cut off at the end, or the whole chain made anew. It may be given repeatedly.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from libs.database import connect
from libs.errors import Unavailable
from libs.migration_command import read_database_url
from libs.settings import SettingsError
from services.auth.audit_chain import BEGINNING, Findings, Head
from services.auth.audit_log import AuditLog
from services.auth.settings import PREFIX, Settings


async def verify(audit: AuditLog, expected: Sequence[Head]) -> tuple[bool, str]:
    """Tells whether the whole log is as it was written and holds the expected heads, and says so in words."""
    found = Findings(BEGINNING, 0, more=True)
    while found.more:
        found = await audit.verify(found.head)
    if found.first_invalid is not None:
        return False, (
            f"The audit log is broken: entry {found.first_invalid} is missing or not as it was written. "
            f"The {found.head.seq:,} before it hold together."
        )
    for head in expected:
        if not await audit.holds(head):
            return False, (
                f"The audit log holds together, but entry {head.seq} is missing or another than the one noted: entries "
                f"have been cut off at the end, or all made anew. It has {found.head.seq:,} now."
            )
    if found.head == BEGINNING:
        return True, "The audit log is empty."
    return True, (
        f"The audit log is as it was written, {found.head.seq:,} entries. "
        f"To find out later whether any of them has been cut off, note its head: {found.head}"
    )


async def verify_database(expected: Sequence[Head]) -> tuple[bool, str]:
    """Verifies the log in the database of the settings. Raises SettingsError, and Unavailable."""
    async with connect(read_database_url(PREFIX, Settings), pool_size=1) as transactions:
        return await verify(AuditLog(transactions), expected)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Verify the audit log.")
    parser.add_argument(
        "--expect", action="append", default=[], type=_head, metavar="ID:HASH", help="a head that was noted earlier"
    )
    arguments = parser.parse_args()
    try:
        intact, said = asyncio.run(verify_database(arguments.expect))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_CONFIG)
    except Unavailable as error:
        print(f"The audit log was not verified: {error}", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
    print(said)
    sys.exit(0 if intact else 1)


def _head(text: str) -> Head:
    head = Head.parse(text)
    if head is None:
        raise argparse.ArgumentTypeError("must be ID:HASH, as it was noted")
    return head


if __name__ == "__main__":
    main()
