"""The oldest version of an encryption key that may still be stored: what precedes a rotation is not stored after it.

A secret is sealed first and stored a little later. If a rotation began in between, the old ciphertext would come to
lie behind the back of whoever seals everything anew, and would never open again once Vault refuses that version. So
a rotation raises the floor of its key before it looks for old ciphertexts, and who stores one asks for the floor in
the same transaction. The two wait for each other: from the moment the floor is raised, ciphertexts below it only
become fewer.
"""

from __future__ import annotations

import re

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.key_vault.models import EncryptionKeyRow
from services.key_vault.transit import Purpose

_VERSION = re.compile(r"vault:v([0-9]{1,9}):")


async def check_floor(session: AsyncSession, purpose: Purpose, ciphertext: str) -> bool:
    """Tells whether a ciphertext may be stored in this transaction; if not, seal the secret anew and try again.

    Until the transaction ends no rotation begins; it is to be short.
    """
    floor = await session.scalar(
        select(EncryptionKeyRow.floor).where(EncryptionKeyRow.purpose == purpose).with_for_update(read=True)
    )
    return floor is not None and version_of(ciphertext) >= floor


async def raise_floor(session: AsyncSession, purpose: Purpose, version: int) -> None:
    """Has nothing stored any more that an earlier version sealed. Waits for transactions that have asked before.

    A floor is never lowered: who was overtaken by another rotation knows an earlier version.
    """
    floor = await session.scalar(
        select(EncryptionKeyRow.floor).where(EncryptionKeyRow.purpose == purpose).with_for_update()
    )
    if floor is None or floor < version:
        await session.execute(update(EncryptionKeyRow).where(EncryptionKeyRow.purpose == purpose).values(floor=version))


def version_of(ciphertext: str) -> int:
    """Returns the version of the key that sealed a ciphertext, 0 when it does not say."""
    match = _VERSION.match(ciphertext)
    return int(match[1]) if match else 0
