"""Reads and writes what people and administrators configure. Each function works inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.key_vault.models import PlatformConfigRow, ProviderConfigRow, Trial

# What a new row has where nothing is given; an empty model leaves the choice to the platform.
_NO_DEFAULTS: Mapping[str, Any] = {"model": "", "temperature": None, "max_tokens": None, "priority": None}


@dataclass(frozen=True, slots=True)
class State:
    """What a person may use of a provider; any of its models when none is named."""

    provider: str
    configured: bool
    enabled: bool
    allowed_models: Sequence[str]
    priority: int | None


async def find(session: AsyncSession, user_id: str, provider: str) -> ProviderConfigRow | None:
    """Returns a person's configuration of a provider, or None."""
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


async def put(
    session: AsyncSession,
    user_id: str,
    provider: str,
    *,
    ciphertext: str,
    key_hint: str,
    last_test: Trial,
    defaults: Mapping[str, Any],
) -> None:
    """Stores a key and, by their columns, defaults; others stay as they are, in one statement."""
    values = {"ciphertext": ciphertext, "key_hint": key_hint, **columns_of(last_test), **defaults}
    statement = insert(ProviderConfigRow).values(user_id=user_id, provider=provider, **{**_NO_DEFAULTS, **values})
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["user_id", "provider"], set_={**values, "update_time": func.now()}
        )
    )


async def change_defaults(session: AsyncSession, user_id: str, provider: str, defaults: Mapping[str, Any]) -> bool:
    """Changes defaults, given by their columns, and nothing else. Tells whether there is a configuration."""
    changed = await session.execute(
        update(ProviderConfigRow)
        .where(ProviderConfigRow.user_id == user_id, ProviderConfigRow.provider == provider)
        .values(**defaults, update_time=func.now())
        .returning(ProviderConfigRow.provider)
    )
    return changed.first() is not None


async def note_test(session: AsyncSession, config: ProviderConfigRow, last_test: Trial) -> None:
    """Notes how a trial of the key of a configuration went, unless that has changed meanwhile.

    A rotation changes the ciphertext, but neither the key nor the time of the last change.
    """
    await session.execute(
        update(ProviderConfigRow)
        .where(
            ProviderConfigRow.user_id == config.user_id,
            ProviderConfigRow.provider == config.provider,
            ProviderConfigRow.update_time == config.update_time,
        )
        .values(columns_of(last_test))
    )


async def remove(session: AsyncSession, user_id: str, provider: str) -> bool:
    """Deletes a configuration and tells whether there was one."""
    deleted = await session.execute(
        delete(ProviderConfigRow)
        .where(ProviderConfigRow.user_id == user_id, ProviderConfigRow.provider == provider)
        .returning(ProviderConfigRow.provider)
    )
    return deleted.first() is not None


async def find_platform(session: AsyncSession, provider: str) -> PlatformConfigRow | None:
    """Returns what is configured of a provider for everybody, or None."""
    return await session.get(PlatformConfigRow, provider)


async def find_platforms(session: AsyncSession, providers: Collection[str]) -> Sequence[PlatformConfigRow]:
    """Returns what is configured of these providers for everybody, in no order."""
    rows = await session.scalars(select(PlatformConfigRow).where(PlatformConfigRow.provider.in_(providers)))
    return rows.all()


async def put_platform(session: AsyncSession, provider: str, values: Mapping[str, Any]) -> PlatformConfigRow:
    """Changes what is given by columns and nothing else, in one statement, and returns all there is then.

    Nobody else can change it before the transaction ends.
    """
    statement = insert(PlatformConfigRow).values(provider=provider, **values)
    rows = await session.scalars(
        statement.on_conflict_do_update(
            index_elements=["provider"], set_={**values, "update_time": func.now()}
        ).returning(PlatformConfigRow)
    )
    return rows.one()


async def note_platform_test(session: AsyncSession, config: PlatformConfigRow, last_test: Trial) -> None:
    """Notes how a trial of the platform's key went, like `note_test`."""
    await session.execute(
        update(PlatformConfigRow)
        .where(PlatformConfigRow.provider == config.provider, PlatformConfigRow.update_time == config.update_time)
        .values(columns_of(last_test))
    )


async def find_both(
    session: AsyncSession, user_id: str, provider: str
) -> tuple[ProviderConfigRow | None, PlatformConfigRow | None]:
    """Returns what a person and what administrators have configured of a provider, in one query."""
    asked = select(literal(provider).label("provider")).subquery()
    query = (
        select(ProviderConfigRow, PlatformConfigRow)
        .select_from(asked)
        .outerjoin(
            ProviderConfigRow,
            and_(ProviderConfigRow.provider == asked.c.provider, ProviderConfigRow.user_id == user_id),
        )
        .outerjoin(PlatformConfigRow, PlatformConfigRow.provider == asked.c.provider)
    )
    own, platform = (await session.execute(query)).one()
    return own, platform


async def find_states(session: AsyncSession, user_id: str, *, after: str, size: int) -> Sequence[State]:
    """Returns what a person may use of providers that they or administrators have configured, like `find_page`."""
    own = (
        select(ProviderConfigRow.provider, ProviderConfigRow.priority)
        .where(ProviderConfigRow.user_id == user_id)
        .subquery()
    )
    provider = func.coalesce(own.c.provider, PlatformConfigRow.provider)
    rows = await session.execute(
        select(
            provider,
            own.c.provider.is_not(None) | PlatformConfigRow.ciphertext.is_not(None),
            func.coalesce(PlatformConfigRow.enabled, true()),
            PlatformConfigRow.allowed_models,
            own.c.priority,
        )
        .select_from(own)
        .join(PlatformConfigRow, PlatformConfigRow.provider == own.c.provider, full=True)
        .where(provider > after)
        .order_by(provider)
        .limit(size)
    )
    return [
        State(provider, configured, enabled, models or (), priority)
        for provider, configured, enabled, models, priority in rows
    ]


def columns_of(last_test: Trial) -> dict[str, Any]:
    """Returns the columns of a trial, as both tables have them."""
    return {
        "last_test_success": last_test.success,
        "last_test_latency": last_test.latency,
        "last_test_message": last_test.message,
        "last_test_reason": last_test.reason,
        "last_test_time": last_test.time,
    }
