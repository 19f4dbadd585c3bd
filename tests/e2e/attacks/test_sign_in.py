"""Guessing who has an account: nothing that is answered tells."""

from __future__ import annotations

import uuid

import httpx

from tests.e2e.conftest import PASSWORD, Person, Platform, error_of

# Differ from one answer to the next, whatever is asked.
VARYING = {"x-request-id", "date", "ratelimit-remaining", "ratelimit-reset"}


def comparable(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Returns all of an answer that could tell something."""
    headers = [(name, "" if name in VARYING else value) for name, value in answer.headers.multi_items()]
    return answer.status_code, answer.content, headers


class TestSignIn:
    async def test_unknown_email_and_wrong_password_are_told_apart_by_nothing(
        self, platform: Platform, victim: Person
    ) -> None:
        async with platform.client() as http:
            wrong, unknown = [
                await http.post("/api/auth/signin", json={"email": email, "password": "another fine pass phrase"})
                for email in (victim.email, f"{uuid.uuid4().hex}@example.com")
            ]
        assert error_of(wrong) == (401, "INVALID_CREDENTIALS")
        assert comparable(wrong) == comparable(unknown)

    async def test_of_a_disabled_account_tells_who_knows_the_password_only(
        self, platform: Platform, victim: Person, admin: Person
    ) -> None:
        path = f"/api/admin/users/{victim.user_id}"
        (await admin.http.patch(path, json={"disabled": True})).raise_for_status()
        async with platform.client() as http:
            wrong, unknown = [
                await http.post("/api/auth/signin", json={"email": email, "password": "another fine pass phrase"})
                for email in (victim.email, f"{uuid.uuid4().hex}@example.com")
            ]
            owner = await http.post("/api/auth/signin", json={"email": victim.email, "password": PASSWORD})
        assert comparable(wrong) == comparable(unknown)
        assert error_of(owner) == (403, "ACCOUNT_DISABLED")

    async def test_spellings_of_an_email_are_one_account(self, platform: Platform, victim: Person) -> None:
        """Otherwise somebody could have an account that looks like another's."""
        async with platform.client() as http:
            for email in (victim.email.upper(), f" {victim.email} ", victim.email.capitalize()):
                answer = await http.post("/api/auth/signup", json={"email": email, "password": PASSWORD})
                assert error_of(answer) == (409, "EMAIL_ALREADY_EXISTS")
