"""API tokens: long-lived, for programs that act for a person, never with more rights than the person has."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs import tokens
from libs.audit import observed
from libs.database import Transactions
from libs.errors import FailedPrecondition, NotFound, PermissionDenied
from libs.pagination import Place, cut_page
from libs.redaction import Secret
from libs.rpc.access_policy import SCOPES
from libs.rpc.identity import Principal
from services.auth import token_repository
from services.auth.audit_log import AuditLog
from services.auth.callers import lock_caller
from services.auth.models import ApiToken
from services.auth.revocations import Revocations, TokenRevoked

DEFAULT_SCOPES = ("chat", "models:read")

# Tokens that have ended count for as long as they are listed.
MOST_TOKENS = 100
LISTED_AFTER_END = timedelta(days=30)

_ID = re.compile(r"tok_[0-9a-f]{32}")
# What is shown of a token behind its prefix: 24 of its 256 bits.
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class NewApiToken:
    """A token just made, with the only copy of it."""

    token: Secret
    row: ApiToken


class ApiTokens:
    """The API tokens in the database."""

    def __init__(self, transactions: Transactions, revocations: Revocations, audit: AuditLog) -> None:
        self._transactions = transactions
        self._revocations = revocations
        self._audit = audit

    async def create(
        self, caller: Principal, *, name: str, scopes: Collection[str], expire_time: datetime | None
    ) -> NewApiToken:
        """Makes a token for a person who calls by a session.

        Raises PermissionDenied for a scope beyond their rights, FailedPrecondition when they have too many, and
        Unauthenticated when the session has ended meanwhile.
        """
        token = tokens.mint(tokens.API_TOKEN_PREFIX)
        async with self._transactions() as tx:
            user = await lock_caller(tx, caller)
            if beyond := set(scopes) - usable(scopes, user.role):
                raise _beyond_rights(sorted(beyond))
            if await token_repository.count_api_tokens(tx, user.id) >= MOST_TOKENS:
                raise FailedPrecondition(
                    f"You have {MOST_TOKENS} API tokens, which is as many as there may be; revoke one first.",
                    reason="TOO_MANY_API_TOKENS",
                    limit=str(MOST_TOKENS),
                )
            row = await token_repository.add_api_token(
                tx,
                id=f"tok_{uuid.uuid4().hex}",
                user_id=user.id,
                token_sha256=tokens.digest(token.reveal()),
                name=name,
                hint=token.reveal()[: len(tokens.API_TOKEN_PREFIX) + _SHOWN],
                scopes=[scope for scope in SCOPES if scope in scopes],
                expire_time=expire_time,
            )
            await self._audit.append(
                tx,
                observed(
                    "auth.api_token_created",
                    resource=f"api-token/{row.id}",
                    name=name,
                    scopes=" ".join(row.scopes),
                    expireTime=expire_time.isoformat() if expire_time else "never",
                ),
            )
        return NewApiToken(token, row)

    async def find_page(
        self, user_id: str, *, after: Place | None, size: int
    ) -> tuple[Sequence[ApiToken], Place | None]:
        """Returns a page of a person's API tokens, the newest first, and where the next one begins."""
        async with self._transactions() as tx:
            rows = await token_repository.find_api_tokens(tx, user_id, after=after, limit=size + 1)
        return cut_page(rows, size, lambda token: Place(token.create_time, token.id))

    async def revoke(self, caller: Principal, token_id: str, *, action: str = "auth.api_token_revoked") -> None:
        """Revokes a token of a person, everywhere.

        Raises NotFound when they have none with this id, and Unauthenticated when the session by which they revoke
        another one has ended meanwhile.
        """
        if not _ID.fullmatch(token_id):
            raise _no_such_token()
        async with self._transactions() as tx:
            if token_id != caller.token_id:
                await lock_caller(tx, caller)
            if not await token_repository.remove_api_token(tx, caller.user_id, token_id):
                raise _no_such_token()
            await self._revocations.announce(tx, TokenRevoked(token_id))
            await self._audit.append(tx, observed(action, resource=f"api-token/{token_id}"))


def usable(scopes: Collection[str], role: str) -> frozenset[str]:
    """Returns the scopes that a person of this role may use."""
    return frozenset(scopes) if role == "admin" else frozenset(scopes) - {"admin"}


def _beyond_rights(scopes: Sequence[str]) -> PermissionDenied:
    names = ", ".join(scopes)
    return PermissionDenied(f"Your account may not do this itself; make the token without {names}.", scopes=names)


def _no_such_token() -> NotFound:
    return NotFound("You have no API token with this id; list your tokens to see those you have.")
