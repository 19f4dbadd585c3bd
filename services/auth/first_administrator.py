"""The first administrator, whom the operator names in the settings: nobody becomes it by being first to sign up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from libs.errors import Unavailable
from libs.redaction import Secret
from libs.settings import SettingsError
from services.auth import emails, passwords
from services.auth.administrators import Administrators, NoAccount, Promotion, WrongPassword

log = structlog.get_logger()

# How long a database that does not answer is waited for, and how often it is asked.
_TRY_SECONDS = 5.0
_INTERVAL_SECONDS = 1.0


class FirstAdministrator:
    """Makes the account of an email the first administrator's, while there is no other.

    Without an email there is nothing to do. The account needs a password when it has to be created; one that is there
    must have the password, if one is given: whoever signed up with an email need not be its owner. Raises
    SettingsError, when constructed and later, for settings that no administrator can be made of.
    """

    def __init__(self, administrators: Administrators, email: str | None, password: Secret | None) -> None:
        self._administrators = administrators
        self._email = None if email is None else emails.normal_form(email)
        self._password = password
        self._awaited = self._email is not None
        self._trouble = ""
        if problems := _problems(self._email, password):
            raise _unusable(*problems)

    def check_sign_up(self, email: str) -> None:
        """Raises Unavailable when somebody signs up with the administrator's email before the account is made."""
        if self._awaited and email == self._email:
            raise Unavailable("This account is being made ready; try again in a moment.", retry_after=2)

    async def make(self) -> None:
        """Makes the administrator. Raises Unavailable while the database is away."""
        if self._email is None or not self._awaited:
            return
        try:
            promotion = await self._administrators.make(self._email, self._password, only_first=True)
        except NoAccount:
            raise _unusable(
                "AUTH_ADMIN_PASSWORD_FILE is required: there is no administrator, and no account with the email of "
                "AUTH_ADMIN_EMAIL to make one"
            ) from None
        except WrongPassword:
            raise _unusable(
                "AUTH_ADMIN_PASSWORD is not the password of the account with the email of AUTH_ADMIN_EMAIL, which is "
                "there and may be somebody else's: name another email, or leave the password out to make this very "
                "account an administrator's"
            ) from None
        self._awaited = False
        if promotion is not Promotion.OTHERS_EXIST:
            log.info("the first administrator is made", account=promotion.name.lower())

    async def try_to_make(self) -> bool:
        """Tells whether the administrator is made, or none needed. Raises SettingsError."""
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                await self.make()
        except SettingsError:
            raise
        except Exception as error:
            # Most likely the database is not there, or its tables are not yet.
            trouble = type(error).__name__
            if trouble != self._trouble:
                log.warning("no first administrator yet; trying again and again", error=trouble)
            self._trouble = trouble
            return False
        return True

    async def make_when_possible(self) -> None:
        """Makes the administrator as soon as the database lets it. Raises SettingsError."""
        while not await self.try_to_make():  # noqa: ASYNC110 - a database that comes up tells nobody
            await asyncio.sleep(_INTERVAL_SECONDS)


@asynccontextmanager
async def making_first(administrator: FirstAdministrator) -> AsyncIterator[None]:
    """Makes the administrator before the block or, when the database is away, as soon as possible beside it.

    Ends the block with SettingsError when the settings turn out not to be enough.
    """
    if await administrator.try_to_make():
        yield
        return
    try:
        async with asyncio.TaskGroup() as tasks:
            trying = tasks.create_task(administrator.make_when_possible(), name="making of the first administrator")
            yield
            trying.cancel()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _unusable(*problems: str) -> SettingsError:
    return SettingsError("Settings are not usable:\n  " + "\n  ".join(problems))


def _problems(email: str | None, password: Secret | None) -> list[str]:
    problems = []
    if email is None:
        if password is not None:
            problems.append("AUTH_ADMIN_EMAIL is required: AUTH_ADMIN_PASSWORD is the password of this account")
        return problems
    if rule := emails.broken_rule(email):
        problems.append(f"AUTH_ADMIN_EMAIL is not usable: {rule}")
    if password is not None and (rule := passwords.broken_rule(password.reveal(), email)):
        problems.append(f"AUTH_ADMIN_PASSWORD is not usable: {rule}")
    return problems
