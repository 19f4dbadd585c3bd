"""Reads and changes accounts as administrators do. Each function works inside the caller's transaction."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, Text, and_, collate, func, literal, or_, select, true, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from libs.pagination import Place
from services.auth import emails
from services.auth.models import ApiToken, Session, User
from services.auth.token_repository import open_now

# Folds the letters of all scripts, whatever the locale of the database is.
_UNICODE = "pg_unicode_fast"
# The lock under which the operator's administrators are made.
_MAKING = zlib.crc32(b"services.auth.administrators")
# Written into the statement, so that Postgres knows their index for the right one.
_ENABLED_ADMINISTRATORS = (User.role == literal("admin", literal_execute=True), User.disabled_at.is_(None))


@dataclass(frozen=True, slots=True)
class Account:
    """An account with what it has open. `last_use_time` is that of its sessions and API tokens, if any was used."""

    id: str
    email: str
    name: str
    role: str
    create_time: datetime
    disable_time: datetime | None
    last_use_time: datetime | None
    open_sessions: int
    api_tokens: int


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Which accounts are asked for; by default all. `text` must occur in the email or the name, in any case."""

    text: str = ""
    role: str = ""
    disabled: bool | None = None


async def find_accounts(
    tx: AsyncSession, wanted: AccountFilter, idle: timedelta, *, after: Place | None, limit: int
) -> Sequence[Account]:
    """Returns the accounts behind a place that the filter lets through, the newest first."""
    users = select(User).where(*_criteria(wanted)).order_by(User.create_time.desc(), User.id.desc()).limit(limit)
    if after is not None:
        users = users.where(tuple_(User.create_time, User.id) < (after.time, after.id))
    return await _accounts(tx, users, idle)


async def find_account(tx: AsyncSession, user_id: str, idle: timedelta) -> Account | None:
    """Returns the account with an id."""
    accounts = await _accounts(tx, select(User).where(User.id == user_id), idle)
    return accounts[0] if accounts else None


async def lock_with_administrators(tx: AsyncSession, user_id: str) -> tuple[User | None, frozenset[str]]:
    """Returns an account and the ids of the enabled administrators, and keeps all of them from others meanwhile.

    Who was demoted or disabled while this waited is no administrator any more. Everyone locks in the same order, and
    all at once, so that nobody waits in a circle: who has just been promoted is an administrator for some already.
    """
    locked = await tx.scalars(
        select(User)
        .where(or_(User.id == user_id, and_(*_ENABLED_ADMINISTRATORS)))
        .order_by(User.id)
        .with_for_update(key_share=True)
    )
    users = {user.id: user for user in locked}
    administrators = (user.id for user in users.values() if user.role == "admin" and user.disabled_at is None)
    return users.get(user_id), frozenset(administrators)


async def has_administrator(tx: AsyncSession) -> bool:
    """Tells whether there is an enabled administrator."""
    return await tx.scalar(select(User.id).where(*_ENABLED_ADMINISTRATORS).limit(1)) is not None


async def make_one_at_a_time(tx: AsyncSession) -> None:
    """Waits until no other transaction has come this far, and keeps others from it until this one ends."""
    await tx.execute(select(func.pg_advisory_xact_lock(_MAKING)))


async def change_account(tx: AsyncSession, user_id: str, *, role: str, disabled: bool) -> None:
    """Gives an account a role, and disables or enables it; one that is disabled already stays so since it was."""
    disable_time = func.coalesce(User.disabled_at, func.now()) if disabled else None
    await tx.execute(
        update(User)
        .where(User.id == user_id)
        .values(role=role, disabled_at=disable_time)
        .execution_options(synchronize_session=False)
    )


def _criteria(wanted: AccountFilter) -> list[ColumnElement[bool]]:
    criteria: list[ColumnElement[bool]] = []
    if wanted.text:
        criteria.append(or_(_holds(User.email, emails.normal_form(wanted.text)), _holds(User.name, wanted.text)))
    if wanted.role:
        criteria.append(User.role == wanted.role)
    if wanted.disabled is not None:
        criteria.append(User.disabled_at.is_not(None) if wanted.disabled else User.disabled_at.is_(None))
    return criteria


def _holds(column: InstrumentedAttribute[str], text: str) -> ColumnElement[bool]:
    """Tells whether a text occurs in a column, in any case. Not LIKE: what is searched for is no pattern."""
    return func.strpos(_folded(column), _folded(literal(text, Text))) > 0


def _folded(text: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[str]:
    return func.casefold(collate(text, _UNICODE))


async def _accounts(tx: AsyncSession, selected: Select[User], idle: timedelta) -> Sequence[Account]:
    """Looks the sessions and API tokens of selected users up, in the same statement and for these users alone."""
    users = selected.subquery("selected")
    sessions = (
        select(func.count().filter(*open_now(idle)).label("open"), func.max(Session.last_use_time).label("last_use"))
        .where(Session.user_id == users.c.id)
        .lateral("of_sessions")
    )
    not_ended = or_(ApiToken.expire_time.is_(None), ApiToken.expire_time > func.now())
    tokens = (
        select(func.count().filter(not_ended).label("open"), func.max(ApiToken.last_use_time).label("last_use"))
        .where(ApiToken.user_id == users.c.id)
        .lateral("of_tokens")
    )
    rows = await tx.execute(
        select(
            users.c.id,
            users.c.email,
            users.c.name,
            users.c.role,
            users.c.create_time,
            users.c.disabled_at,
            func.greatest(sessions.c.last_use, tokens.c.last_use),
            sessions.c.open,
            tokens.c.open,
        )
        .select_from(users.join(sessions, true()).join(tokens, true()))
        .order_by(users.c.create_time.desc(), users.c.id.desc())
    )
    return [Account(*row) for row in rows]
