"""Notes in the service's own log how far the audit log reaches.

Logs are kept elsewhere. Whoever could cut off the newest entries of the audit log, or make its whole chain anew, could
not change what was noted there: `python -m services.auth.verify_audit_log --expect ID:HASH` compares.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain, cycle

import structlog

from libs.background import beside, repeat
from services.auth.audit_chain import BEGINNING, Head
from services.auth.audit_log import AuditLog

log = structlog.get_logger()

_INTERVAL_SECONDS = 600
_NOTE_SECONDS = 20

_WORK = "noting of the audit log's head"


async def note_head(audit: AuditLog, noted: Head) -> Head:
    """Logs the head of the audit log if it is another than the one noted before, and returns it."""
    head = await audit.head()
    if head != noted:
        log.info("head of the audit log", head=str(head))
    return head


@asynccontextmanager
async def noting_head(audit: AuditLog) -> AsyncIterator[AuditLog]:
    """Notes the head of an audit log now and every ten minutes, for the time of the block. Yields the audit log."""
    noted = BEGINNING

    async def note() -> None:
        nonlocal noted
        noted = await note_head(audit, noted)

    pauses = chain([0.0], cycle([_INTERVAL_SECONDS]))
    async with beside({_WORK: repeat(_WORK, note, pause=lambda: next(pauses), seconds=_NOTE_SECONDS)}):
        yield audit
