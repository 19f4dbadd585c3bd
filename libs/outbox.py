"""Facts on their way to another service: written down here first, sent on until they are acknowledged.

A fact is safe when `append` returns: SQLite with a write-ahead log survives the death of the process (with
`synchronous=NORMAL` the last moments before a power cut may be lost, which is the price of tens of microseconds).
Delivery is at least once, in order; the receiver drops what it has seen.
"""

from __future__ import annotations

import asyncio
import fcntl
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import structlog

from libs.background import beside
from libs.errors import InvalidRequest, PlatformError, Unavailable

log = structlog.get_logger()

Send = Callable[[Sequence[bytes]], Awaitable[None]]

# What `append` raises when the disk refuses a fact.
WriteRefused = sqlite3.Error

_BATCH = 500
# Facts that arrive close together travel together: a delivery costs the receiver far more than one fact in it.
_LINGER_SECONDS = 0.2
_FIRST_DELAY = 0.2
_MAX_DELAY = 10.0
# How often the size of the log is looked at, in seconds, and from which on it is moved into the database file.
_CHECKPOINT_SECONDS = 2.0
_CHECKPOINT_BYTES = 4 * 1024 * 1024
_FLUSH_SECONDS = 5.0

_SCHEMA = """
-- An append writes whole pages to the log: small ones make it a quarter as much.
PRAGMA page_size = 1024;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
-- A checkpoint waits for the disk; it is made in a thread, never inside an append.
PRAGMA wal_autocheckpoint = 0;
-- Without AUTOINCREMENT, which writes a second page each time. Numbers begin anew when the table was empty; they only
-- order what is in it.
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY, fact BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS trial (id INTEGER PRIMARY KEY, filling BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS refused (id INTEGER PRIMARY KEY, fact BLOB NOT NULL, reason TEXT NOT NULL);
"""


class OutboxInUse(Exception):
    """Another process has the outbox open."""


class Outbox:
    """A queue of facts in one file, owned by one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._database = _open(path)
        self._arrived = asyncio.Event()
        self._sick = False
        if self.backlog():
            self._arrived.set()

    def append(self, fact: bytes) -> None:
        """Writes a fact down. Raises WriteRefused when the disk does not take it."""
        try:
            self._database.execute("INSERT INTO outbox (fact) VALUES (?)", (fact,))
        except sqlite3.Error:
            self._sick = True
            raise
        self._arrived.set()

    def check_writable(self) -> None:
        """Raises Unavailable while facts cannot be written down, so that nothing is begun that could not be recorded.

        Costs nothing until an append has failed; from then on it writes something at every call until that succeeds.
        """
        if not self._sick:
            return
        try:
            self._database.execute("INSERT OR REPLACE INTO trial VALUES (1, zeroblob(4096))")
        except sqlite3.Error:
            raise Unavailable(
                "What happens cannot be recorded at this moment, so nothing is begun; try again in a moment.",
                retry_after=5,
            ) from None
        self._sick = False

    def backlog(self) -> int:
        """Counts the facts not yet acknowledged."""
        (count,) = self._database.execute("SELECT count(*) FROM outbox").fetchone()
        return int(count)

    async def forward(self, send: Send) -> None:
        """Sends facts until cancelled. `send` raises PlatformError when they were not taken; they are sent again.

        A fact the receiver calls invalid would block all that follow: it is set aside and reported.
        """
        delay = _FIRST_DELAY
        while True:
            await self._arrived.wait()
            await asyncio.sleep(_LINGER_SECONDS)
            try:
                while await self._send_batch(send) == _BATCH:
                    pass
                delay = _FIRST_DELAY
                continue
            except PlatformError as error:
                log.warning("facts not taken; sending again", reason=error.reason, delay_seconds=round(delay, 1))
            except Exception:  # a bug or a sick disk; forwarding must not end with it, unseen
                log.exception("facts not sent; trying again", delay_seconds=round(delay, 1))
            self._arrived.set()  # they are still there
            await asyncio.sleep(random.uniform(delay / 2, delay))  # noqa: S311 - jitter
            delay = min(delay * 2, _MAX_DELAY)

    async def flush(self, send: Send) -> None:
        """Sends what is there, once, for the end of the process; what is not taken stays in the file."""
        with suppress(PlatformError, TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                while await self._send_batch(send):
                    pass

    async def _send_batch(self, send: Send) -> int:
        """Sends what is there, at most _BATCH facts, and returns how many there were."""
        rows = self._database.execute("SELECT seq, fact FROM outbox ORDER BY seq LIMIT ?", (_BATCH,)).fetchall()
        if len(rows) < _BATCH:
            self._arrived.clear()  # whatever comes from here on sets it again
        if not rows:
            return 0
        try:
            await send([fact for _, fact in rows])
        except InvalidRequest:
            for row in rows:
                await self._send_one(send, *row)
        else:
            self._database.execute("DELETE FROM outbox WHERE seq <= ?", (rows[-1][0],))
        return len(rows)

    async def _send_one(self, send: Send, seq: int, fact: bytes) -> None:
        try:
            await send([fact])
        except InvalidRequest as error:
            log.error("fact refused; set aside", outbox=str(self._path), seq=seq, reason=error.message)
            with self._database:
                self._database.execute("BEGIN")
                self._database.execute("INSERT INTO refused (fact, reason) VALUES (?, ?)", (fact, error.message))
                self._database.execute("DELETE FROM outbox WHERE seq = ?", (seq,))
        else:
            self._database.execute("DELETE FROM outbox WHERE seq = ?", (seq,))

    async def keep_short(self) -> None:
        """Moves the log into the database file from time to time, off the event loop, until cancelled."""
        while True:
            await asyncio.sleep(_CHECKPOINT_SECONDS)
            try:
                if self._log.stat().st_size > _CHECKPOINT_BYTES:
                    await asyncio.to_thread(_checkpoint, self._path)
            except (OSError, sqlite3.Error) as error:  # a sick disk, or a busy database: the next one may do
                log.warning("the outbox's log stays long for now", error=type(error).__name__)

    def close(self) -> None:
        """Closes the file; SQLite moves the rest of the log into it."""
        self._database.close()


def _open(path: Path) -> sqlite3.Connection:
    """Opens the file. One that is damaged is set aside, for whoever can read it: chats must not wait for that."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    log.error("outbox damaged; set aside with the facts in it", outbox=str(path), aside=str(aside))
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(f"{path.name}{suffix}").rename(f"{aside}{suffix}")
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.executescript(_SCHEMA)
        database.execute("SELECT count(*) FROM outbox")  # looks at every page that holds facts
    except sqlite3.Error:
        database.close()
        raise
    return database


def _checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=0.5)) as database:
        database.execute("PRAGMA wal_checkpoint(PASSIVE)")


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Holds a folder for this process; the kernel lets go of it however the process ends."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "outbox.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutboxInUse(f"The outbox in {folder} is in use by another process; give each its own.") from None
        yield


@asynccontextmanager
async def open_outbox(folder: Path, send: Send) -> AsyncIterator[Outbox]:
    """Opens the outbox in a folder of this process alone and forwards it for the time of the block.

    Raises OutboxInUse when another process has it open.
    """
    with _owned(folder), closing(Outbox(folder / "outbox.sqlite3")) as outbox:
        try:
            async with beside({"outbox forward": outbox.forward(send), "outbox checkpoint": outbox.keep_short()}):
                yield outbox
        finally:
            await outbox.flush(send)
