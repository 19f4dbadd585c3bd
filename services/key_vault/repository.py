"""Reads and writes provider configurations. Each function works inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.key_vault.models import ProviderConfigRow, Trial


async def find(session: AsyncSession, user_id: str, provider: str) -> ProviderConfigRow | None:
    """Returns the configuration of one provider, or None."""
    return await session.get(ProviderConfigRow, (user_id, provider))


async def find_page(session: AsyncSession, user_id: str, *, after: str, size: int) -> Sequence[ProviderConfigRow]:
    """Returns at most `size` configurations of a person, ordered by provider, beginning after the provider `after`."""
    rows = await session.scalars(
        select(ProviderConfigRow)
        .where(ProviderConfigRow.user_id == user_id, ProviderConfigRow.provider > after)
        .order_by(ProviderConfigRow.provider)
        .limit(size)
    )
    return rows.all()


async def replace(
    session: AsyncSession,
    user_id: str,
    provider: str,
    *,
    ciphertext: str,
    key_hint: str,
    model: str,
    temperature: float | None,
    max_tokens: int | None,
    last_test: Trial,
) -> None:
    """Stores a configuration in place of the one there may be. The row is written whole, in one statement."""
    values = {
        "ciphertext": ciphertext,
        "key_hint": key_hint,
        "model": model,
        "temperature": temperature,
        "max_tokens": max_tokens,
        **_columns_of(last_test),
    }
    statement = insert(ProviderConfigRow).values(user_id=user_id, provider=provider, **values)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["user_id", "provider"], set_={**values, "update_time": func.now()}
        )
    )


async def note_test(session: AsyncSession, user_id: str, provider: str, *, ciphertext: str, last_test: Trial) -> None:
    """Notes how a trial of the stored key went, unless another key has taken its place meanwhile."""
    await session.execute(
        update(ProviderConfigRow)
        .where(
            ProviderConfigRow.user_id == user_id,
            ProviderConfigRow.provider == provider,
            ProviderConfigRow.ciphertext == ciphertext,
        )
        .values(_columns_of(last_test))
    )


async def remove(session: AsyncSession, user_id: str, provider: str) -> bool:
    """Deletes a configuration and tells whether there was one."""
    deleted = await session.execute(
        delete(ProviderConfigRow)
        .where(ProviderConfigRow.user_id == user_id, ProviderConfigRow.provider == provider)
        .returning(ProviderConfigRow.provider)
    )
    return deleted.first() is not None


def _columns_of(last_test: Trial) -> dict[str, object]:
    return {
        "last_test_success": last_test.success,
        "last_test_latency": last_test.latency,
        "last_test_message": last_test.message,
        "last_test_reason": last_test.reason,
        "last_test_time": last_test.time,
    }
