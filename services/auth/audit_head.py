"""Notes in the service's own log how far the audit log reaches.

Logs are kept elsewhere. Whoever could cut off the newest entries of the audit log, or make its whole chain anew, could
not change what was noted there: `python -m services.auth.verify_audit_log --expect ID:HASH` compares.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from libs.background import beside
from libs.errors import PlatformError
from services.auth.audit_chain import BEGINNING, Head
from services.auth.audit_log import AuditLog

log = structlog.get_logger()

_INTERVAL_SECONDS = 600


async def note_head(audit: AuditLog, noted: Head) -> Head:
    """Logs the head of the audit log if it is another than the one noted before, and returns it."""
    head = await audit.head()
    if head != noted:
        log.info("head of the audit log", head=str(head))
    return head


async def _note_again_and_again(audit: AuditLog) -> None:
    noted = BEGINNING
    while True:
        try:
            noted = await note_head(audit, noted)
        except PlatformError as error:
            log.warning("could not note the head of the audit log; trying again later", error=error.message)
        except Exception:  # a bug, or tables that are not there yet; noting must not end with it, unseen
            log.exception("head of the audit log not noted; trying again later")
        await asyncio.sleep(_INTERVAL_SECONDS)


@asynccontextmanager
async def noting_head(audit: AuditLog) -> AsyncIterator[AuditLog]:
    """Notes the head of an audit log now and every ten minutes, for the time of the block. Yields the audit log."""
    async with beside({"noting of the audit log's head": _note_again_and_again(audit)}):
        yield audit
