"""Accounts: signing up, signing in, and changing the password."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from libs.audit import AuditEvent, AuditTrail, observed
from libs.database import Transactions
from libs.errors import AlreadyExists, LimitExceeded, PermissionDenied, Unauthenticated
from libs.rpc.identity import Origin, Principal, invalid_token
from services.auth import repository, sign_in_attempts
from services.auth.audit_log import AuditLog
from services.auth.callers import hold_token
from services.auth.first_administrator import FirstAdministrator
from services.auth.models import User
from services.auth.password_hashing import PasswordHashing
from services.auth.sessions import NewSession, Sessions
from services.auth.sign_in_attempts import Attempt, Counter, attempt

_NOT_TOGETHER = "The email and the password do not belong together; check both and try again."
_WRONG_PASSWORD = "The current password is wrong; check it and try again."  # noqa: S105 - says so


class Accounts:
    """The accounts in the database."""

    def __init__(
        self,
        transactions: Transactions,
        sessions: Sessions,
        hashing: PasswordHashing,
        audit: AuditLog,
        trail: AuditTrail,
        first_administrator: FirstAdministrator,
    ) -> None:
        self._transactions = transactions
        self._sessions = sessions
        self._hashing = hashing
        self._audit = audit
        self._trail = trail
        self._first_administrator = first_administrator

    async def get(self, user_id: str) -> User:
        """Returns the account of a caller. Raises Unauthenticated when it is gone."""
        async with self._transactions() as tx:
            user = await repository.get_user(tx, user_id)
        if user is None:
            raise invalid_token()
        return user

    async def sign_up(self, email: str, password: str, name: str, origin: Origin) -> NewSession:
        """Creates an account and opens its first session. An empty name becomes the email's local part.

        Raises AlreadyExists when the email is taken, and Unavailable while it is about to be.
        """
        self._first_administrator.check_sign_up(email)
        password_hash = await self._hashing.hash(password)
        async with self._transactions() as tx:
            user = await repository.add_user(tx, email=email, name=name, role="user", password_hash=password_hash)
            if user is None:
                raise AlreadyExists(
                    "An account with this email exists; sign in instead.", reason="EMAIL_ALREADY_EXISTS"
                )
            await sign_in_attempts.remember_address(tx, attempt(email, origin.address))
            session = await self._sessions.open(tx, user, origin)
            await self._audit.append(tx, _event("auth.sign_up", user, by=user))
        return session

    async def sign_in(self, email: str, password: str, origin: Origin) -> NewSession:
        """Opens a session.

        Raises LimitExceeded after repeated failures, Unauthenticated, equally for a wrong email and a wrong
        password, and PermissionDenied when the password is right and the account disabled.
        """
        trying = attempt(email, origin.address)
        user, judging = await self._check(trying, password, failure="auth.sign_in_failed", words=_NOT_TOGETHER)
        renewed = await self._hashing.hash(password) if self._hashing.is_outdated(user.password_hash) else None
        async with self._transactions() as tx:
            await sign_in_attempts.record_success(tx, trying, judging)
            await self._lock_unchanged(tx, user, words=_NOT_TOGETHER)
            if renewed is not None:
                await repository.replace_password_hash(tx, user.id, renewed)
            session = await self._sessions.open(tx, user, origin)
            await self._audit.append(tx, _event("auth.sign_in", user, by=user))
        return session

    async def change_password(self, caller: Principal, email: str, current: str, new: str, origin: Origin) -> int:
        """Changes the password of the caller, whose account has this email, and ends their other sessions.

        Returns how many.

        Raises LimitExceeded after repeated failures, and Unauthenticated when the current password is wrong, or the
        session by which the caller came has ended meanwhile. It is guarded like signing in: who found a session must
        not guess the password by it.
        """
        trying = attempt(email, origin.address)
        user, judging = await self._check(trying, current, failure="auth.password_change_failed", words=_WRONG_PASSWORD)
        password_hash = await self._hashing.hash(new)
        async with self._transactions() as tx:
            await sign_in_attempts.record_success(tx, trying, judging)
            await self._lock_unchanged(tx, user, words=_WRONG_PASSWORD)
            await hold_token(tx, caller)
            await repository.replace_password(tx, user.id, password_hash)
            ended = await self._sessions.end_all(tx, user.id, but=caller.token_id)
            await self._audit.append(tx, _event("auth.password_changed", user, endedSessions=str(ended)))
        return ended

    async def _check(
        self, trying: Attempt, password: str, *, failure: str, words: str
    ) -> tuple[User, tuple[Counter, ...]]:
        """Returns the account an attempt has the password of, and what the attempt was judged by.

        Counts and audits a `failure`, and says it in these `words`. Does the same whether the account exists or not.
        """
        async with self._transactions() as tx:
            user = await repository.find_user(tx, trying.email)
            try:
                judging = await sign_in_attempts.admit(tx, trying)
            except LimitExceeded:
                self._trail.note(_event("auth.sign_in_delayed", user))
                raise
        # No transaction is open here: connections are scarcer than patience.
        matches = await self._hashing.matches(user.password_hash if user else None, password)
        if user is not None and matches and user.disabled_at is None:
            return user, judging
        refusal = _disabled() if matches else Unauthenticated(words, reason="INVALID_CREDENTIALS")
        async with self._transactions() as tx:
            if not matches:
                await sign_in_attempts.record_failure(tx, judging)
            await self._audit.append(tx, _event(failure, user, reason=refusal.reason))
        raise refusal

    async def _lock_unchanged(self, tx: AsyncSession, user: User, *, words: str) -> None:
        """Keeps the account as it is until the transaction ends.

        Raises PermissionDenied or Unauthenticated when it was disabled, or its password changed, while the password
        was checked: whoever changed it believes that all sessions by the old one have ended.
        """
        current = await repository.lock_user(tx, user.id)
        if current is None or current.password_set_time != user.password_set_time:
            raise Unauthenticated(words, reason="INVALID_CREDENTIALS")
        if current.disabled_at is not None:
            raise _disabled()


def _disabled() -> PermissionDenied:
    return PermissionDenied("This account is disabled; ask an administrator.", reason="ACCOUNT_DISABLED")


def _event(action: str, user: User | None, *, by: User | None = None, **details: str) -> AuditEvent:
    """Describes what happens to an account; what was typed for one that does not exist may be a password.

    `by` is who has proved by this call to be somebody.
    """
    return observed(action, resource=f"user/{user.id}" if user else "", user_id=by.id if by else None, **details)
