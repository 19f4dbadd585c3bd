"""Begins rotations of the encryption keys in Vault, and tells how they stand. `rewrapping` carries them out.

A rotation first has Vault make a new version of the key, and then, in one transaction, raises the floor of what may be
stored and notes what is to be done. Vault is not asked within the transaction: an unanswered question would hold up
everybody who stores a key. If the process dies in between, Vault has a version more than the floor says. That does no
harm: the version seals, what it seals is above the floor, and the next rotation, or one that only rewraps, goes to it
or beyond. The same comes of a second rotation that is begun while the first has not noted itself yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from libs.audit import AuditEvent, AuditTrail, observed
from libs.database import Transactions
from libs.errors import FailedPrecondition, Unavailable
from services.key_vault import rotation_repository as repository
from services.key_vault.key_floor import raise_floor
from services.key_vault.models import KeyRotationRow, RotationState
from services.key_vault.transit import KeyVersions, Purpose, Transit


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """An encryption key in Vault, what is stored that it has sealed, and its rotation under way, else the last.

    The versions are 0 while Vault is away; what is outdated is then told by the rotation's target.
    """

    purpose: Purpose
    versions: KeyVersions
    sealed: int
    outdated: int
    rotation: KeyRotationRow | None


class Rotations:
    """The encryption keys and their rotations. `begun` is told of each that begins."""

    def __init__(
        self, transactions: Transactions, transit: Transit, audit: AuditTrail, begun: Callable[[], None]
    ) -> None:
        self._transactions = transactions
        self._transit = transit
        self._audit = audit
        self._begun = begun

    async def look_at(self, purpose: Purpose) -> EncryptionKey:
        """Returns how a key stands. Raises Unavailable when the database is away."""
        # First: once it has ended, Vault refuses earlier versions, and what is told is not to contradict that.
        rotation = await self.last(purpose)
        try:
            versions = await self._transit.versions(purpose)
        except Unavailable:  # what holds a rotation up is to be seen above all now
            versions = KeyVersions(0, 0)
        sealed = outdated = 0
        if purpose is Purpose.PROVIDER_KEYS:
            newest = versions.latest or (rotation.target_version if rotation is not None else 0)
            async with self._transactions() as session:
                sealed, outdated = await repository.count_sealed(session, newest)
        return EncryptionKey(purpose, versions, sealed, outdated, rotation)

    async def last(self, purpose: Purpose) -> KeyRotationRow | None:
        """Returns the latest rotation of a key, or None when there was none."""
        async with self._transactions() as session:
            return await repository.find_last(session, purpose)

    async def get(self, rotation_id: UUID) -> KeyRotationRow:
        """Returns a rotation that was begun."""
        async with self._transactions() as session:
            return await repository.get(session, rotation_id)

    async def begin(
        self,
        purpose: Purpose,
        *,
        rewrap_only: bool,
        started_by: str,
        describe: Callable[..., AuditEvent] = observed,
    ) -> KeyRotationRow:
        """Begins a rotation, or with `rewrap_only` one to the latest version there is, and returns it.

        `describe` makes the entry of the audit log, of an action, a resource and details. Raises FailedPrecondition
        ROTATION_UNDER_WAY while one of the key has not ended, and Unavailable.
        """
        self._audit.check_writable()
        last = await self.last(purpose)
        if last is not None and last.state == RotationState.RUNNING:
            raise _under_way(purpose)
        before = await self._transit.versions(purpose)
        after = before if rewrap_only else await self._transit.rotate(purpose)
        async with self._transactions() as session:
            await raise_floor(session, purpose, after.latest)
            # Nothing is counted here: everybody who stores a key waits for this transaction.
            rotation = await repository.begin(session, purpose, target_version=after.latest, started_by=started_by)
            if rotation is None:
                raise _under_way(purpose)
            self._audit.record(
                describe(
                    "encryption_key.rotation_started",
                    resource=f"encryption-key/{purpose}",
                    fromVersion=str(before.latest),
                    toVersion=str(after.latest),
                )
            )
        self._begun()
        return rotation


def _under_way(purpose: Purpose) -> FailedPrecondition:
    return FailedPrecondition(
        f"A rotation of {purpose} is under way; see GET /api/admin/encryption-keys, and wait until it has ended.",
        reason="ROTATION_UNDER_WAY",
        purpose=purpose,
    )
