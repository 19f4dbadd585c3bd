"""Facts on their way to another service: written down here first, sent on until they are acknowledged.

A fact is safe when `append` returns: SQLite with a write-ahead log survives the death of the process (with
`synchronous=NORMAL` the last moments before a power cut may be lost, which is the price of tens of microseconds).
Delivery is at least once, in order; the receiver drops what it has seen.

Nothing is ever dropped for want of room. An outbox that is nearly full says so, for those who could write less; at its
limit, or when the disk is nearly full, nothing new is begun, and what is under way is still written down.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from itertools import islice
from pathlib import Path

import structlog

from libs.background import beside
from libs.errors import InvalidRequest, PermissionDenied, PlatformError, Unavailable
from libs.replica_folders import FolderInUse, held, replica_of, same_of_others

log = structlog.get_logger()

Send = Callable[[Sequence[bytes]], Awaitable[None]]

# What `append` raises when the disk refuses a fact.
WriteRefused = sqlite3.Error

# What one delivery has at most; a fact that is larger travels alone.
_BATCH = 500
_BATCH_BYTES = 4 * 1024 * 1024
DEFAULT_LIMIT_BYTES = 1024 * 1024 * 1024
# From which part of its limit on an outbox is nearly full.
_NEARLY = 0.8
# What is left of the disk to whoever else needs it; below that nothing is begun.
_FREE_DISK_BYTES = 64 * 1024 * 1024
# How many facts that are denied one after another mean that it is not for these facts.
_MOST_DENIED = 20
# Facts that arrive close together travel together: a delivery costs the receiver far more than one fact in it.
_LINGER_SECONDS = 0.2
_FIRST_DELAY = 0.2
_MAX_DELAY = 10.0
# How often the size of the log is looked at, in seconds, and from which on it is moved into the database file.
_CHECKPOINT_SECONDS = 2.0
_CHECKPOINT_BYTES = 4 * 1024 * 1024
# How many pages are given back to the disk each time; 2 MiB take a few milliseconds.
_GIVEN_BACK_PAGES = 2048
_FLUSH_SECONDS = 5.0
# How often is looked for what replicas that are gone have left, in seconds.
_LEFT_SECONDS = 30.0
_FILE = "outbox.sqlite3"

_SCHEMA = """
-- An append writes whole pages to the log: small ones make it a quarter as much.
PRAGMA page_size = 1024;
-- What was emptied can be given back to the disk.
PRAGMA auto_vacuum = INCREMENTAL;
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
    """A queue of facts in one file, owned by one process. `limit_bytes` is how large it may become."""

    def __init__(self, path: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._database = _open(path)
        self._arrived = asyncio.Event()
        self._sick = False
        self._disk_full = False
        count, size = self._database.execute("SELECT count(*), total(length(fact)) FROM outbox").fetchone()
        self._count, self._bytes = int(count), int(size)
        self._refused = int(self._database.execute("SELECT count(*) FROM refused").fetchone()[0])
        # (number of a fact, when it was written down), the earliest first; one for a second. Of what an earlier
        # process has left it is only known that it is older than this one.
        self._written: deque[tuple[int, float]] = deque()
        if self._count:
            self._written.append((0, time.monotonic()))
            self._arrived.set()

    def append(self, fact: bytes) -> None:
        """Writes a fact down. Raises WriteRefused when the disk does not take it."""
        try:
            inserted = self._database.execute("INSERT INTO outbox (fact) VALUES (?)", (fact,))
        except sqlite3.Error:
            self._sick = True
            raise
        self._count += 1
        self._bytes += len(fact)
        now = time.monotonic()
        if not self._written or now - self._written[-1][1] >= 1.0:
            self._written.append((inserted.lastrowid or 0, now))
        self._arrived.set()

    def check_writable(self) -> None:
        """Raises Unavailable while facts cannot be written down, so that nothing is begun that could not be recorded.

        Costs nothing until an append has failed; from then on it writes something at every call until that succeeds.
        """
        if self._bytes >= self.limit_bytes or self._disk_full:
            raise Unavailable(
                "What happens cannot be passed on at this moment, and there is no room to keep more of it, so nothing"
                " is begun; try again in a minute.",
                retry_after=60,
            )
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
        return self._count

    @property
    def size_bytes(self) -> int:
        """How large the facts not yet acknowledged are."""
        return self._bytes

    @property
    def refused(self) -> int:
        """How many facts were set aside, because the receiver will never take them."""
        return self._refused

    @property
    def nearly_full(self) -> bool:
        """True when those who could write less should."""
        return self._disk_full or self._bytes >= self.limit_bytes * _NEARLY

    def oldest_seconds(self) -> float:
        """Returns how long ago, to the second, the first fact not yet acknowledged was written down; 0 without any.

        What an earlier process has left is as old as this one.
        """
        return time.monotonic() - self._written[0][1] if self._count and self._written else 0.0

    async def forward(self, send: Send) -> None:
        """Sends facts until cancelled. `send` raises PlatformError when they were not taken; they are sent again.

        A fact the receiver calls invalid would block all that follow: it is set aside and reported.
        """
        delay = _FIRST_DELAY
        while True:
            await self._arrived.wait()
            await asyncio.sleep(_LINGER_SECONDS)
            try:
                while await self._send_batch(send):
                    pass
                delay = _FIRST_DELAY
                continue
            except PermissionDenied as error:
                # Of this process, not of its facts: certificates and access tables can be mended.
                log.error("facts denied; sending again", outbox=str(self._path), reason=error.message)
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

    async def _send_batch(self, send: Send) -> bool:
        """Sends what is there, as much as travels at once; tells whether there was more."""
        rows = self._next_batch()
        more = len(rows) < self._count
        if not more:
            self._arrived.clear()  # whatever comes from here on sets it again
        if not rows:
            return False
        try:
            await send([fact for _, fact in rows])
        except InvalidRequest:
            for row in rows:
                await self._send_one(send, *row)
        except PermissionDenied:
            await self._send_denied(send, rows)
        else:
            self._database.execute("DELETE FROM outbox WHERE seq <= ?", (rows[-1][0],))
            self._gone(rows)
        return more

    def _next_batch(self) -> list[tuple[int, bytes]]:
        rows: list[tuple[int, bytes]] = []
        size = 0
        with closing(self._database.execute("SELECT seq, fact FROM outbox ORDER BY seq")) as found:
            for seq, fact in islice(found, _BATCH):
                size += len(fact)
                if rows and size > _BATCH_BYTES:
                    break
                rows.append((seq, fact))
        return rows

    async def _send_denied(self, send: Send, rows: Sequence[tuple[int, bytes]]) -> None:
        """Finds out which facts of a batch this process may not tell, and sets those aside.

        Raises PermissionDenied when it may tell none of the first: then it is the process that is denied.
        """
        denied: list[tuple[int, bytes]] = []
        reason: PermissionDenied | None = None
        taken = False
        for row in rows:
            try:
                await self._send_one(send, *row)
            except PermissionDenied as error:
                denied.append(row)
                reason = error
                if not taken and len(denied) >= _MOST_DENIED:
                    raise
            else:
                taken = True
        if reason is not None and not taken:
            raise reason
        for row in denied:
            # Once more: what was denied to all of them may have been mended in between.
            try:
                await self._send_one(send, *row)
            except PermissionDenied as error:
                self._set_aside(*row, error)

    async def _send_one(self, send: Send, seq: int, fact: bytes) -> None:
        try:
            await send([fact])
        except InvalidRequest as error:
            self._set_aside(seq, fact, error)
        else:
            self._database.execute("DELETE FROM outbox WHERE seq = ?", (seq,))
            self._gone([(seq, fact)])

    def _set_aside(self, seq: int, fact: bytes, error: PlatformError) -> None:
        log.error("fact refused; set aside", outbox=str(self._path), seq=seq, reason=error.message)
        with self._database:
            self._database.execute("BEGIN")
            self._database.execute("INSERT INTO refused (fact, reason) VALUES (?, ?)", (fact, error.message))
            self._database.execute("DELETE FROM outbox WHERE seq = ?", (seq,))
        self._refused += 1
        self._gone([(seq, fact)])

    def _gone(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Counts facts that are not there any more."""
        self._count -= len(rows)
        self._bytes -= sum(len(fact) for _, fact in rows)
        last = rows[-1][0]
        while len(self._written) > 1 and self._written[1][0] <= last + 1:
            self._written.popleft()
        if not self._count:
            self._written.clear()

    async def keep_short(self) -> None:
        """Moves the log into the database file from time to time, off the event loop, until cancelled.

        Gives back what was emptied, and looks how full the disk is.
        """
        while True:
            await asyncio.sleep(_CHECKPOINT_SECONDS)
            try:
                if self._log.stat().st_size > _CHECKPOINT_BYTES:
                    await asyncio.to_thread(_checkpoint, self._path)
                self.give_back()
                self.look_at_disk()
            except (OSError, sqlite3.Error) as error:  # a sick disk, or a busy database: the next one may do
                log.warning("the outbox's log stays long for now", error=type(error).__name__)

    def give_back(self) -> None:
        """Gives some of the space that was emptied back to the disk."""
        (empty,) = self._database.execute("PRAGMA freelist_count").fetchone()
        # A little is left, for what comes next.
        if empty > _GIVEN_BACK_PAGES:
            # As a script: a statement without columns would be taken one step further only, which is one page.
            self._database.executescript(f"PRAGMA incremental_vacuum({_GIVEN_BACK_PAGES})")

    def look_at_disk(self) -> None:
        """Finds out whether there is room on the disk."""
        disk = os.statvfs(self._path.parent)
        full = disk.f_bavail * disk.f_frsize < _FREE_DISK_BYTES
        if full and not self._disk_full:
            log.error("the disk is nearly full; nothing is begun", outbox=str(self._path))
        self._disk_full = full

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
        _make_shrinkable(database)
        database.execute("SELECT count(*) FROM outbox")  # looks at every page that holds facts
    except sqlite3.Error:
        database.close()
        raise
    return database


def _make_shrinkable(database: sqlite3.Connection) -> None:
    """Rewrites a file of before that could not give space back; while it is empty, which takes no time."""
    (shrinks,) = database.execute("PRAGMA auto_vacuum").fetchone()
    if not shrinks and not database.execute("SELECT count(*) FROM outbox").fetchone()[0]:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("VACUUM")


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


async def _forward_left(folder: Path, send: Send, own: Outbox) -> None:
    """Sends what replicas that are gone have left, from time to time, until cancelled.

    Looks for it only while nothing of its own waits: else the receiver is away, and to open a large file takes long.
    """
    while True:
        for replica, path in same_of_others(folder / _FILE) if not own.backlog() else ():
            try:
                with held(replica), _owned(path.parent), closing(Outbox(path)) as left:
                    if left.backlog():
                        log.info("sending what a replica has left", outbox=str(path), facts=left.backlog())
                        await left.flush(send)
            except (FolderInUse, OutboxInUse):
                continue  # there is somebody who sends it
            except (OSError, sqlite3.Error) as error:
                log.warning("what a replica has left stays for now", outbox=str(path), error=type(error).__name__)
        await asyncio.sleep(_LEFT_SECONDS)


@asynccontextmanager
async def open_outbox(folder: Path, send: Send, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> AsyncIterator[Outbox]:
    """Opens the outbox in a folder of this process alone and forwards it for the time of the block.

    `limit_bytes` is how large it may become. Where replicas share a volume, what those that are gone have left in
    theirs is sent as well. Raises OutboxInUse when another process has it open.
    """
    with _owned(folder), closing(Outbox(folder / _FILE, limit_bytes=limit_bytes)) as outbox:
        tasks = {"outbox forward": outbox.forward(send), "outbox checkpoint": outbox.keep_short()}
        if replica_of(folder) is not None:
            tasks["outbox of others"] = _forward_left(folder, send, outbox)
        try:
            async with beside(tasks):
                yield outbox
        finally:
            await outbox.flush(send)
