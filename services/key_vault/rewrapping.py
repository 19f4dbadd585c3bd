"""Carries out rotations: seals anew what earlier versions have sealed, beside everything else a replica does.

Every replica looks for rotations that nobody carries on and takes one by a lease. Each batch is one call of Vault, and
one transaction that extends the lease before it replaces anything. A process that is killed or frozen loses its lease
after a while, another goes on where it stood, and the one that wakes up again finds that it may change nothing any
more. Whatever has been replaced or deleted since it was read is left as it is. What opens a key meanwhile sees the old
ciphertext or the new one, and both open to the same until the very end, when no old one is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar
from uuid import uuid4

import structlog

from libs.audit import AuditEvent, AuditTrail
from libs.background import beside
from libs.database import Transactions
from libs.errors import PlatformError, Unavailable
from services.key_vault import rotation_repository as repository
from services.key_vault.models import KeyRotationRow, RotationState
from services.key_vault.rotation_repository import Lease, Sealed, SealedRow
from services.key_vault.transit import MOST_AT_ONCE, Purpose, Transit
from services.key_vault.vault_session import CALL_SECONDS

log = structlog.get_logger()

T = TypeVar("T")

# How long a lease lasts; longer than the longest call of Vault, and than any pause.
_LEASE_SECONDS = 20.0
# How often a replica looks for what another one began, or left behind.
_LOOK_SECONDS = 5.0
# How long after the last replacement Vault goes on opening earlier versions: who read an old ciphertext just before it
# was replaced has opened it by then: a little longer than a call of Vault lasts at most.
_SETTLE_SECONDS = CALL_SECONDS + 2.0
# How long it may take to count; within the time of a lease.
_COUNT_SECONDS = 15
# Between two questions to a Vault that is away, growing.
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 5.0

_NEW_DATA_KEYS_ONLY = (
    "New data keys are wrapped by the new version from now on. Those of the history are kept with its records and stay "
    "wrapped by earlier versions, which still open them; the minimum version is unchanged."
)


class Rewrapping:
    """Carries out the rotations that are under way, at most so many rows a second; 0 is as fast as it goes."""

    def __init__(
        self,
        transactions: Transactions,
        transit: Transit,
        audit: AuditTrail,
        *,
        rows_per_second: int,
        settle_seconds: float = _SETTLE_SECONDS,
    ) -> None:
        self._transactions = transactions
        self._transit = transit
        self._audit = audit
        self._holder = uuid4()
        self._rows_per_second = rows_per_second
        self._settle_seconds = settle_seconds
        # So small that the pause behind a batch is no longer than a second.
        self._batch = min(rows_per_second or MOST_AT_ONCE, MOST_AT_ONCE)
        self._news = asyncio.Event()
        self._news.set()

    def wake(self) -> None:
        """Has it look for rotations now."""
        self._news.set()

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Carries out rotations for the time of the block. What has not ended by then is left for others to take."""
        try:
            async with beside({"key rotation": self._carry_out()}):
                yield
        finally:
            with suppress(PlatformError, TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS), self._transactions() as session:
                    await repository.release(session, self._holder)

    async def _carry_out(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            try:
                while await self._carry_out_one():
                    pass
            except _LeaseLost:
                log.warning("key rotation is carried on by another process")
            except PlatformError as error:
                log.warning("key rotation waits; trying again", problem=error.message)
            except Exception:  # a bug; the rotation must not end with it, unseen
                log.exception("key rotation failed; trying again")

    async def _carry_out_one(self) -> bool:
        """Carries out a rotation that nobody does. False when there is none."""
        async with self._transactions() as session:
            rotation = await repository.claim(session, self._holder, seconds=_LEASE_SECONDS)
        if rotation is None:
            return False
        lease = Lease(rotation.id, self._holder, _LEASE_SECONDS)
        log.info("key rotation goes on", purpose=rotation.purpose, target=rotation.target_version)
        if rotation.purpose == Purpose.CHAT_HISTORY:
            await self._end(lease, rotation, RotationState.COMPLETED, failed=0, message=_NEW_DATA_KEYS_ONLY)
            return True
        await self._count(lease, rotation)
        rewrapped = rotation.rewrapped
        for table in repository.SEALED:
            rewrapped += await self._rewrap(lease, table, rotation.target_version)
        left = await self._count_left(rotation)
        if left:
            await self._end(lease, rotation, RotationState.INCOMPLETE, failed=left, message=_unreadable(left))
            return True
        if rewrapped:
            await self._settle(lease)
        await self._refuse_older(lease, Purpose(rotation.purpose), rotation.target_version)
        await self._end(lease, rotation, RotationState.COMPLETED, failed=0, message="")
        return True

    async def _count(self, lease: Lease, rotation: KeyRotationRow) -> None:
        """Notes how many there are in all to seal anew; nobody waits for that."""
        total = rotation.rewrapped + await self._count_left(rotation)
        async with self._transactions() as session:
            if not await repository.note_total(session, lease, total):
                raise _LeaseLost

    async def _count_left(self, rotation: KeyRotationRow) -> int:
        async with self._transactions(statement_seconds=_COUNT_SECONDS) as session:
            _, left = await repository.count_sealed(session, rotation.target_version)
        return left

    async def _rewrap(self, lease: Lease, table: Sealed, target: int) -> int:
        """Seals anew what earlier versions have sealed in a table, and returns how many that were."""
        place: tuple[str, ...] | None = None
        rewrapped = 0
        while True:
            begun = time.monotonic()
            async with self._transactions() as session:
                keys = await repository.find_outdated(session, table, target, after=place, size=self._batch)
            if not keys:
                return rewrapped
            place = keys[-1].place
            asked = [(key.ciphertext, key.user_id, key.provider) for key in keys]
            answers = await self._when_vault_answers(lease, partial(self._transit.rewrap_keys, asked))
            rewrapped += await self._replace(lease, table, list(zip(keys, answers, strict=True)))
            if self._rows_per_second:
                await asyncio.sleep(begun + len(keys) / self._rows_per_second - time.monotonic())

    async def _replace(self, lease: Lease, table: Sealed, answers: list[tuple[SealedRow, str | None]]) -> int:
        """Stores a batch, and returns how many ciphertexts it has replaced."""
        fresh = [(key, ciphertext) for key, ciphertext in answers if ciphertext is not None]
        unreadable = [key for key, ciphertext in answers if ciphertext is None]
        async with self._transactions() as session:
            # First, so that nobody else can take the lease before the rest is done.
            if not await repository.proceed(session, lease, failed=len(unreadable)):
                raise _LeaseLost
            replaced = await repository.replace_ciphertexts(session, table, fresh)
            await repository.count_rewrapped(session, lease, replaced)
        for key in unreadable:
            log.error("stored key cannot be sealed anew: it does not open", user=key.user_id, provider=key.provider)
        return replaced

    async def _settle(self, lease: Lease) -> None:
        async with self._transactions() as session:
            if not await repository.proceed(session, lease, message="Earlier versions are refused in a moment."):
                raise _LeaseLost
        await asyncio.sleep(self._settle_seconds)

    async def _refuse_older(self, lease: Lease, purpose: Purpose, target: int) -> None:
        """Has Vault refuse versions before the target. Harmless whenever it is done: nothing of theirs is left."""
        versions = await self._when_vault_answers(lease, partial(self._transit.versions, purpose))
        # An operator may have gone further, and is not to be set back.
        if versions.oldest < target:
            await self._when_vault_answers(lease, partial(self._transit.refuse_older, purpose, target))

    async def _end(
        self, lease: Lease, rotation: KeyRotationRow, state: RotationState, *, failed: int, message: str
    ) -> None:
        async with self._transactions() as session:
            if not await repository.end(session, lease, state, failed=failed, message=message):
                raise _LeaseLost
            rewrapped = (await repository.get(session, rotation.id)).rewrapped
            self._audit.record(
                AuditEvent(
                    "encryption_key.rotation_ended",
                    resource=f"encryption-key/{rotation.purpose}",
                    details={
                        "toVersion": str(rotation.target_version),
                        "state": state,
                        "rewrapped": str(rewrapped),
                        "failed": str(failed),
                    },
                )
            )
        log.info("key rotation ended", purpose=rotation.purpose, state=state, rewrapped=rewrapped, failed=failed)

    async def _when_vault_answers(self, lease: Lease, ask: Callable[[], Awaitable[T]]) -> T:
        """Asks Vault again and again until it answers, keeping the lease and saying what is waited for."""
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                return await ask()
            except Unavailable as error:
                log.warning("key rotation waits for vault", problem=error.message)
                async with self._transactions() as session:
                    if not await repository.proceed(session, lease, message=f"Waiting: {error.message}"):
                        raise _LeaseLost from None
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)


class _LeaseLost(Exception):
    """Another process carries the rotation on."""


def _unreadable(count: int) -> str:
    rows = "1 stored key does" if count == 1 else f"{count} stored keys do"
    return (
        f"{rows} not open and could not be sealed anew; earlier versions still open. The log of key-vault names them: "
        "have them deleted or stored again, then rotate with rewrapOnly."
    )
