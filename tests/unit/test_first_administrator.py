"""What the settings may say of the first administrator, judged before the database is asked."""

import pytest

from libs.redaction import Secret
from libs.settings import SettingsError
from services.auth.administrators import Administrators, Promotion
from services.auth.first_administrator import FirstAdministrator, making_first

EMAIL = "root@example.com"
PASSWORD = Secret("seven green kettles")


class NoDatabase(Administrators):
    """Fails when it is asked for anything."""

    def __init__(self) -> None:
        pass

    async def make(self, email: str, password: Secret | None, *, only_first: bool = False) -> Promotion:
        raise AssertionError


def problems(email: str | None, password: Secret | None) -> list[str]:
    """Returns the lines that say what is wrong with settings."""
    with pytest.raises(SettingsError) as refused:
        FirstAdministrator(NoDatabase(), email, password)
    title, *lines = str(refused.value).splitlines()
    assert title == "Settings are not usable:"
    return [line.split()[0] for line in lines]


class TestSettings:
    @pytest.mark.parametrize(("email", "password"), [(None, None), (EMAIL, None), (EMAIL, PASSWORD)])
    def test_what_can_be_used_is_taken(self, email: str | None, password: Secret | None) -> None:
        FirstAdministrator(NoDatabase(), email, password)

    def test_a_password_needs_an_email(self) -> None:
        assert problems(None, PASSWORD) == ["AUTH_ADMIN_EMAIL"]

    def test_everything_that_is_wrong_is_said_at_once(self) -> None:
        assert problems("nobody", Secret("short")) == ["AUTH_ADMIN_EMAIL", "AUTH_ADMIN_PASSWORD"]

    def test_the_password_is_not_shown(self) -> None:
        with pytest.raises(SettingsError) as refused:
            FirstAdministrator(NoDatabase(), EMAIL, Secret("short"))
        assert "short" not in str(refused.value)

    async def test_without_an_email_nothing_is_done_or_kept_from_anybody(self) -> None:
        administrator = FirstAdministrator(NoDatabase(), None, None)
        assert await administrator.try_to_make()
        async with making_first(administrator):
            administrator.check_sign_up(EMAIL)
