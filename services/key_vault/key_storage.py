"""Puts keys into the database, sealed; and sealed anew when a rotation of the encryption key has overtaken them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from libs.database import Transactions
from libs.errors import Unavailable
from libs.provider_keys import ProviderKey
from services.key_vault.key_floor import check_floor, version_of
from services.key_vault.transit import Purpose, Transit

T = TypeVar("T")

# Each needs a rotation of its own to fail, and those come one after the other.
_TRIES = 3

_HINT_LENGTH = 4
# Of a shorter key four characters would give too much away.
_HINTED_KEY_LENGTH = 12


class KeyStorage:
    """Seals keys and has them stored. `user_id` is None for a key of the platform."""

    def __init__(self, transactions: Transactions, transit: Transit) -> None:
        self._transactions = transactions
        self._transit = transit

    async def seal(self, key: ProviderKey, *, user_id: str | None, provider: str) -> str:
        """Returns the ciphertext of a key for its place. Raises Unavailable."""
        return await self._transit.seal(key, user_id=user_id, provider=provider)

    async def store(
        self,
        key: ProviderKey,
        ciphertext: str,
        *,
        user_id: str | None,
        provider: str,
        write: Callable[[AsyncSession, str], Awaitable[T]],
    ) -> T:
        """Has `write` store the ciphertext of a key in a transaction, and returns what it does.

        Raises Unavailable, with nothing stored.
        """
        for tries_left in reversed(range(_TRIES)):
            async with self._transactions() as session:
                if await check_floor(session, Purpose.PROVIDER_KEYS, ciphertext):
                    return await write(session, ciphertext)
            if tries_left:
                ciphertext = await self.seal(key, user_id=user_id, provider=provider)
        if version_of(ciphertext) == (await self._transit.versions(Purpose.PROVIDER_KEYS)).latest:
            # Vault was restored from an older backup than the database, or is a new one.
            raise Unavailable(
                "Nothing can be stored: Vault is older than the database of key-vault; an operator restores its newest "
                "backup, or rotates the key with services.key_vault.rotate_keys until this passes.",
                retry_after=60,
            )
        raise Unavailable(
            "Encryption keys are being rotated, and nothing was stored; try again in a moment.", retry_after=2
        )


def hint_of(key: ProviderKey) -> str:
    """Returns the last four characters of a key, to tell keys apart; nothing of a short one."""
    return key.reveal()[-_HINT_LENGTH:] if len(key) >= _HINTED_KEY_LENGTH else ""
