"""Makes administrators at the operator's word. People make them otherwise by `user_administration.py`."""

from __future__ import annotations

import enum

from sqlalchemy.ext.asyncio import AsyncSession

from libs.audit import AuditEvent
from libs.database import Transactions
from libs.errors import Unavailable
from libs.redaction import Secret
from services.auth import repository, token_repository, user_repository
from services.auth.audit_log import AuditLog
from services.auth.models import User
from services.auth.password_hashing import PasswordHashing
from services.auth.revocations import AccountChanged, Revocations, TokenRevoked


class Promotion(enum.Enum):
    """What it took to make someone an administrator."""

    CREATED = "Created the account {email}, an administrator."
    PROMOTED = "Made {email} an administrator, to sign in anew; name and password of the account stay as they are."
    ENABLED = "Enabled {email} again, an administrator now; name and password of the account stay as they are."
    NONE_NEEDED = "{email} is an administrator already."
    OTHERS_EXIST = "There is an administrator already."


class NoAccount(Exception):
    """There is no account to make an administrator's, and no password to create it with."""


class WrongPassword(Exception):
    """The account exists, and its password is another one: it may be somebody else's."""


class Administrators:
    """Makes the accounts in the database administrators'."""

    def __init__(
        self, transactions: Transactions, hashing: PasswordHashing, revocations: Revocations, audit: AuditLog
    ) -> None:
        self._transactions = transactions
        self._hashing = hashing
        self._revocations = revocations
        self._audit = audit

    async def make(self, email: str, password: Secret | None, *, only_first: bool = False) -> Promotion:
        """Makes the account of an email, in normal form, an enabled administrator's; creates it when there is none.

        The password is that of a new account. An account that is there loses its sessions and API tokens: nobody
        knows who has them. With `only_first` nothing is done while there is an enabled administrator, also when
        several processes come here at once; and an account that is there must have the password, if one is given.
        Raises NoAccount, WrongPassword, and Unavailable.
        """
        async with self._transactions() as tx:
            if only_first and await user_repository.has_administrator(tx):
                return Promotion.OTHERS_EXIST
            found = await repository.find_user(tx, email)
        # No transaction is open here: hashing takes its time.
        password_hash = None
        if password is not None:
            if found is None:
                password_hash = await self._hashing.hash(password.reveal())
            elif only_first and not await self._hashing.matches(found.password_hash, password.reveal()):
                raise WrongPassword
        async with self._transactions() as tx:
            await user_repository.make_one_at_a_time(tx)
            if only_first and await user_repository.has_administrator(tx):
                return Promotion.OTHERS_EXIST
            if created := await self._create(tx, email, password_hash):
                return created
            user = await _lock(tx, email)
            if password is not None and only_first and not _is_as_it_was(user, found):
                raise Unavailable("This account has changed in this moment; try again.")
            return await self._promote(tx, user)

    async def _create(self, tx: AsyncSession, email: str, password_hash: str | None) -> Promotion | None:
        """Creates the account; None when there is one."""
        if password_hash is None:
            return None
        user = await repository.add_user(tx, email=email, name="", role="admin", password_hash=password_hash)
        if user is None:
            # Somebody has signed up with it in this moment.
            return None
        await self._audit.append(tx, _by_operator("user.made_admin", user))
        return Promotion.CREATED

    async def _promote(self, tx: AsyncSession, user: User) -> Promotion:
        was, was_disabled = user.role, user.disabled_at is not None
        if was == "admin" and not was_disabled:
            return Promotion.NONE_NEEDED
        await user_repository.change_account(tx, user.id, role="admin", disabled=False)
        sessions = await token_repository.remove_sessions(tx, user.id)
        api_tokens = await token_repository.remove_api_tokens(tx, user.id)
        await self._revocations.announce(tx, AccountChanged(user.id), *map(TokenRevoked, (*sessions, *api_tokens)))
        events = [_by_operator("user.made_admin", user, was=was, enabled=str(was_disabled).lower())]
        if sessions or api_tokens:
            ended = {"count": str(len(sessions)), "apiTokens": str(len(api_tokens))}
            events.append(_by_operator("user.sessions_ended", user, **ended))
        await self._audit.append(tx, *events)
        return Promotion.ENABLED if was_disabled else Promotion.PROMOTED


async def _lock(tx: AsyncSession, email: str) -> User:
    found = await repository.find_user(tx, email)
    user = None if found is None else await repository.lock_user(tx, found.id)
    if user is None:
        raise NoAccount
    return user


def _is_as_it_was(user: User, found: User | None) -> bool:
    """Tells whether the password of an account is still the one it had when it was found."""
    return found is not None and found.id == user.id and found.password_set_time == user.password_set_time


def _by_operator(action: str, user: User, **details: str) -> AuditEvent:
    return AuditEvent(
        action,
        resource=f"user/{user.id}",
        user_id="",
        address="",
        user_agent="",
        request_id="",
        details={"by": "operator", **details},
    )
