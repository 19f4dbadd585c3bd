"""The accounts of the local stack, when the file with their passwords was lost or changed."""

import pytest

from deploy.local.accounts import Credentials, open_accounts
from deploy.local.stack import StackError
from tests.e2e.conftest import Person, Platform


async def test_another_password_is_told_with_what_to_do(platform: Platform, person: Person):
    passwords = {"adminPassword": "a phrase of the admin", "userPassword": "a phrase of old times"}
    credentials = Credentials(
        baseUrl=platform.stack.base_url, adminEmail="admin@example.com", userEmail=person.email, **passwords
    )
    async with platform.client() as http:
        with pytest.raises(StackError, match="make clean"):
            await open_accounts(platform.stack, http, credentials)
