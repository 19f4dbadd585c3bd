"""A connection to Postgres that a caller can leave within a second, also while the server answers nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg import waiting
from psycopg.pq import TransactionStatus

# How long the server may take to end a statement that nobody waits for any more. Then the connection is given up.
_CANCEL_SECONDS = 1.0
# How long it may take to answer whether it is there.
_PING_SECONDS = 1.5


class PromptConnection(psycopg.AsyncConnection[Any]):
    """Ends the running statement when its caller is cancelled, as psycopg does, but waits no ten seconds for that.

    A call whose deadline has passed would otherwise be answered when nobody listens. A connection that does not say in
    time that it lives, as its pool asks before each use, is given up too: a server that is frozen closes none.
    """

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Carries out a step of the protocol. Raises OperationalError when the server does not answer a ping."""
        # Whatever is not a ping is part of a transaction.
        limit = _PING_SECONDS if self.autocommit else None
        try:
            async with asyncio.timeout(limit):
                return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except TimeoutError:
            self.pgconn.finish()
            raise psycopg.OperationalError("The server does not answer.") from None
        except asyncio.CancelledError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._end_statement(gen, interval)
            raise

    async def _end_statement(self, gen: Any, interval: float) -> None:
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self.cancel_safe(timeout=_CANCEL_SECONDS)
                await waiting.wait_async(gen, self.pgconn.socket, interval=interval)
        except psycopg.errors.QueryCanceled:
            pass  # as asked for; the connection is as good as before
        except (psycopg.Error, TimeoutError):
            self.pgconn.finish()
        except BaseException:  # cancelled again
            self.pgconn.finish()
            raise
