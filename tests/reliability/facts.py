"""What was written down of chats: still on its way in a worker, or stored for good."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing

import psycopg

from deploy.local.stack import LocalStack
from libs.database import libpq_url
from libs.redaction import Secret


def database_url(stack: LocalStack) -> str:
    """Returns where facts are stored, as analytics connects to it."""
    return libpq_url(Secret(stack.layout.database_url("analytics").read_text()))


async def undelivered(stack: LocalStack, worker: str) -> int:
    """Counts the facts that a process of a worker has still to deliver, whether it runs or not."""
    outbox = stack.layout.data(worker) / "outbox.sqlite3"
    with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM outbox").fetchone()[0])


async def stored(stack: LocalStack, user_id: str) -> Counter[str]:
    """Counts the facts of a person's chats by their request ids."""
    async with await psycopg.AsyncConnection.connect(database_url(stack)) as database:
        rows = await database.execute("SELECT request_id FROM usage_records WHERE user_id = %s", [user_id])
        return Counter(request_id for (request_id,) in await rows.fetchall())
