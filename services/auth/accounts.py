"""Accounts: signing up, signing in, and who is an administrator."""

from __future__ import annotations

import enum
import uuid

from libs.database import Transactions
from libs.errors import AlreadyExists, PermissionDenied, Unauthenticated
from services.auth import emails, repository, sign_in_attempts
from services.auth.password_hashing import PasswordHashing
from services.auth.revocations import AccountChanged, Revocations
from services.auth.sessions import NewSession, Sessions
from services.auth.sign_in_attempts import Attempt


class Accounts:
    """The accounts in the database."""

    def __init__(self, transactions: Transactions, sessions: Sessions, hashing: PasswordHashing) -> None:
        self._transactions = transactions
        self._sessions = sessions
        self._hashing = hashing

    async def sign_up(self, attempt: Attempt, password: str, name: str) -> NewSession:
        """Creates an account and opens its first session. An empty name becomes the email's local part.

        Raises AlreadyExists when the email is taken.
        """
        password_hash = await self._hashing.hash(password)
        async with self._transactions() as tx:
            user = await repository.add_user(
                tx, **_columns(attempt.email, name), role="user", password_hash=password_hash
            )
            if user is None:
                raise AlreadyExists(
                    "An account with this email exists; sign in instead.", reason="EMAIL_ALREADY_EXISTS"
                )
            await sign_in_attempts.remember_address(tx, attempt)
            return await self._sessions.open(tx, user)

    async def sign_in(self, attempt: Attempt, password: str) -> NewSession:
        """Opens a session.

        Raises LimitExceeded after repeated failures, Unauthenticated, equally for a wrong email and a wrong
        password, and PermissionDenied when the password is right and the account disabled.
        """
        async with self._transactions() as tx:
            judging = await sign_in_attempts.admit(tx, attempt)
            user = await repository.find_user(tx, attempt.email)
        # No transaction is open here: connections are scarcer than patience.
        matches = await self._hashing.matches(user.password_hash if user else None, password)
        if user is None or not matches:
            async with self._transactions() as tx:
                await sign_in_attempts.record_failure(tx, judging)
            raise Unauthenticated(
                "The email and the password do not belong together; check both and try again.",
                reason="INVALID_CREDENTIALS",
            )
        if user.disabled_at is not None:
            raise PermissionDenied("This account is disabled; ask an administrator.", reason="ACCOUNT_DISABLED")
        renewed = await self._hashing.hash(password) if self._hashing.is_outdated(user.password_hash) else None
        async with self._transactions() as tx:
            await sign_in_attempts.record_success(tx, attempt, judging)
            if renewed is not None:
                await repository.replace_password_hash(tx, user.id, old=user.password_hash, new=renewed)
            return await self._sessions.open(tx, user)


class Promotion(enum.Enum):
    """What it took to make someone an administrator."""

    CREATED = "Created the account {email}, an administrator."
    PROMOTED = "Made {email} an administrator; name and password of the account stay as they are."
    NONE_NEEDED = "{email} is an administrator already."


async def make_admin(
    transactions: Transactions, hashing: PasswordHashing, revocations: Revocations, *, email: str, password: str
) -> Promotion:
    """Makes the account of an email, in normal form, an administrator's; creates it when there is none.

    The password is that of a new account only.
    """
    async with transactions() as tx:
        user = await repository.find_user(tx, email)
    if user is None:
        password_hash = await hashing.hash(password)
        async with transactions() as tx:
            if await repository.add_user(tx, **_columns(email, ""), role="admin", password_hash=password_hash):
                return Promotion.CREATED
            # Somebody has signed up with it in this moment.
            user = await repository.find_user(tx, email)
    assert user is not None
    if user.role == "admin":
        return Promotion.NONE_NEEDED
    async with transactions() as tx:
        await repository.change_role(tx, user.id, "admin")
        await revocations.announce(tx, AccountChanged(user.id))
    return Promotion.PROMOTED


def _columns(email: str, name: str) -> dict[str, str]:
    """Returns the columns of a new account; an empty name becomes the email's local part."""
    return {"id": f"usr_{uuid.uuid4().hex}", "email": email, "name": name or emails.local_part(email)}
