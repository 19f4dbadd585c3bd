"""Those who call, looked at again inside the transaction of what they do.

Their tokens were verified before the call was let in, and it may have waited since: for the lock of whoever disabled
the account, changed its password or ended the session.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from libs.rpc.identity import Principal, invalid_token
from services.auth import repository, token_repository
from services.auth.models import User


async def lock_caller(tx: AsyncSession, caller: Principal) -> User:
    """Returns the account of a caller as it is now, and keeps it and the caller's token until the transaction ends.

    Raises Unauthenticated when the account is disabled or the token has been ended.
    """
    user = await repository.lock_user(tx, caller.user_id)
    if user is None or user.disabled_at is not None:
        raise invalid_token()
    await hold_token(tx, caller)
    return user


async def hold_token(tx: AsyncSession, caller: Principal) -> None:
    """Keeps the token of a caller until the transaction ends, which must hold the lock of the account.

    Raises Unauthenticated when it has been ended.
    """
    if not await token_repository.hold_token(tx, caller.token_id):
        raise invalid_token()
