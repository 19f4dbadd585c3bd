"""Hashes passwords with Argon2id, off the event loop and never more at once than the machine can bear."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import argon2
from argon2.exceptions import VerifyMismatchError

from libs.errors import Unavailable
from services.auth import passwords

T = TypeVar("T")

# The minimum of OWASP's Password Storage Cheat Sheet for Argon2id: 19 MiB, 2 passes, 1 lane (memory in KiB).
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=argon2.Type.ID)

# Work waiting for each thread. One hash takes about 20 ms, so that the last in the queue waits half a second.
_QUEUE_PER_THREAD = 25


class PasswordHashing:
    """Makes and checks hashes in the threads of `pool`, which has `threads` of them."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int) -> None:
        self._pool = pool
        self._places = threading.BoundedSemaphore(threads * (1 + _QUEUE_PER_THREAD))
        # Nobody's password. Made with the present parameters, so that checking it costs what checking any other does.
        self._decoy = _HASHER.hash(secrets.token_bytes())

    async def hash(self, password: str) -> str:
        """Returns the hash to store. Raises Unavailable when too much work is waiting."""
        return await self._run(lambda: _HASHER.hash(passwords.normal_form(password)))

    async def matches(self, password_hash: str | None, password: str) -> bool:
        """Tells whether a password is the one of the hash; without a hash it is not, after the same work.

        Raises Unavailable when too much work is waiting.
        """
        return await self._run(lambda: _matches(password_hash or self._decoy, password)) and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Tells whether a hash was made with other parameters than new ones are."""
        return _HASHER.check_needs_rehash(password_hash)

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise Unavailable(
                "Too many people are signing in at this moment; try again in a second.",
                reason="SERVICE_OVERLOADED",
                retry_after=1,
            )
        future = self._pool.submit(work)
        # A caller that leaves does not stop a thread at work: the place is free when the work has ended.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, passwords.normal_form(password))
    except VerifyMismatchError:
        return False


@asynccontextmanager
async def hashing_in(threads: int) -> AsyncIterator[PasswordHashing]:
    """Runs the threads for the time of the block."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="password hashing")
    try:
        yield PasswordHashing(pool, threads)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
