"""What administrators do with accounts: find them, change roles, disable them, end their sessions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from libs.audit import AuditEvent, observed
from libs.database import Transactions
from libs.errors import FailedPrecondition, NotFound, PermissionDenied
from libs.pagination import Place, cut_page
from libs.rpc.identity import Principal
from services.auth import user_repository
from services.auth.audit_log import AuditLog
from services.auth.callers import hold_token
from services.auth.revocations import AccountChanged, Revocations
from services.auth.sessions import Sessions
from services.auth.user_repository import Account, AccountFilter

# Less than the deadline of the method.
_LIST_SECONDS = 20

_ID = re.compile(r"usr_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What shall be changed of an account; None is left as it is."""

    role: str | None = None
    disabled: bool | None = None
    end_sessions: bool = False


class UserAdministration:
    """The accounts in the database, as administrators see them."""

    def __init__(
        self, transactions: Transactions, sessions: Sessions, revocations: Revocations, audit: AuditLog
    ) -> None:
        self._transactions = transactions
        self._sessions = sessions
        self._revocations = revocations
        self._audit = audit

    async def find_page(
        self, wanted: AccountFilter, *, after: Place | None, size: int
    ) -> tuple[Sequence[Account], Place | None]:
        """Returns a page of accounts, the newest first, and where the next one begins; None at the end.

        Raises DeadlineExceeded when there is too much to look through.
        """
        async with self._transactions(statement_seconds=_LIST_SECONDS) as tx:
            accounts = await user_repository.find_accounts(
                tx, wanted, self._sessions.lifetimes.idle, after=after, limit=size + 1
            )
        return cut_page(accounts, size, lambda account: Place(account.create_time, account.id))

    async def get(self, user_id: str) -> Account:
        """Returns an account. Raises NotFound."""
        _check_id(user_id)
        async with self._transactions() as tx:
            account = await user_repository.find_account(tx, user_id, self._sessions.lifetimes.idle)
        if account is None:
            raise _no_account()
        return account

    async def change(self, user_id: str, change: AccountChange, *, by: Principal) -> Account:
        """Changes an account for the administrator `by`, all of it or nothing, and returns it as it is now.

        Raises NotFound, FailedPrecondition when no enabled administrator would be left, PermissionDenied when `by` is
        none any more, and Unauthenticated when the token of `by` has been ended meanwhile.
        """
        _check_id(user_id)
        async with self._transactions() as tx:
            user, administrators = await user_repository.lock_with_administrators(tx, user_id)
            if user is None:
                raise _no_account()
            was_disabled = user.disabled_at is not None
            role = user.role if change.role is None else change.role
            disabled = was_disabled if change.disabled is None else change.disabled
            _check_rule(administrators, by=by.user_id, without=None if role == "admin" and not disabled else user_id)
            await hold_token(tx, by)
            events: list[AuditEvent] = []
            if role != user.role:
                events.append(_seen("user.role_changed", user_id, **{"from": user.role, "to": role}))
            if disabled != was_disabled:
                events.append(_seen("user.disabled" if disabled else "user.enabled", user_id))
            if events:
                await user_repository.change_account(tx, user_id, role=role, disabled=disabled)
            if change.end_sessions or disabled != was_disabled:
                ended = await self._sessions.end_all(tx, user_id)
                if ended:
                    events.append(_seen("user.sessions_ended", user_id, count=str(ended)))
            account = await user_repository.find_account(tx, user_id, self._sessions.lifetimes.idle)
            if events:
                await self._revocations.announce(tx, AccountChanged(user_id))
                await self._audit.append(tx, *events)
        assert account is not None
        return account


def _check_rule(administrators: frozenset[str], *, by: str, without: str | None) -> None:
    """Raises FailedPrecondition when nobody would be left, and PermissionDenied when `by` is none of them."""
    if administrators == {without}:
        raise FailedPrecondition(
            "This is the last administrator who is enabled; make somebody else one first.", reason="LAST_ADMIN"
        )
    if by not in administrators:
        # Demoted or disabled since the call was let in, by one who was faster.
        raise PermissionDenied("Your account may not do this any more; ask an administrator.")


def _seen(action: str, user_id: str, **details: str) -> AuditEvent:
    return observed(action, resource=f"user/{user_id}", **details)


def _check_id(user_id: str) -> None:
    """Keeps what no account has for an id from the database, which cannot even be asked about some of it."""
    if not _ID.fullmatch(user_id):
        raise _no_account()


def _no_account() -> NotFound:
    return NotFound("There is no account with this id; GET /api/admin/users lists them.")
