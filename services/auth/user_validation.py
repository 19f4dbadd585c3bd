"""What a request of an administrator must look like, judged before anything is asked of the database."""

from __future__ import annotations

from collections.abc import Container, Iterator

from libs.errors import Violation, refuse_any
from libs.pagination import broken_page_rules
from libs.rpc.access_policy import ROLES
from services.auth.user_administration import AccountChange
from services.auth.user_repository import AccountFilter

_LONGEST_TEXT = 200


def check_account_list(wanted: AccountFilter, page_size: int, page_token: str, tokens: Container[str]) -> None:
    """Raises InvalidRequest unless accounts can be listed like this; `tokens` are those of the pages."""
    violations = broken_page_rules(page_size, page_token, tokens=tokens)
    if len(wanted.text) > _LONGEST_TEXT:
        violations.append(Violation("query", f"must be at most {_LONGEST_TEXT} characters long."))
    elif "\0" in wanted.text:
        violations.append(Violation("query", "must not hold the character U+0000."))
    if wanted.role:
        violations += _broken_role_rules(wanted.role)
    refuse_any(violations)


def check_account_id(user_id: str) -> None:
    """Raises InvalidRequest unless an id is given. Whatever it is: what no account has is not found."""
    refuse_any(_broken_id_rules(user_id))


def check_account_change(user_id: str, change: AccountChange) -> None:
    """Raises InvalidRequest unless an account can be changed like this."""
    violations = [*_broken_id_rules(user_id)]
    if change.role is not None:
        violations += _broken_role_rules(change.role)
    if change == AccountChange():
        violations.append(Violation("role", "must be given, or disabled, or endSessions: nothing is asked for."))
    refuse_any(violations)


def _broken_id_rules(user_id: str) -> Iterator[Violation]:
    if not user_id:
        yield Violation("id", "must be the id of an account.")


def _broken_role_rules(role: str) -> Iterator[Violation]:
    if role not in ROLES:
        yield Violation("role", f"must be {' or '.join(ROLES)}.")
