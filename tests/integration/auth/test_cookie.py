"""The session cookie: set with every new session, taken away by signing out."""

from __future__ import annotations

from http.cookies import Morsel, SimpleCookie

import pytest
from google.protobuf.message import Message
from realmultillm.auth.v1.auth_service_pb2 import (
    ChangePasswordRequest,
    GetSessionRequest,
    ListSessionsRequest,
    SignInRequest,
    SignOutRequest,
    SignUpRequest,
)

from tests.integration.auth.replica import LIFETIMES, PASSWORD, Auth, Headers, reason

OVER_TLS = (("x-forwarded-proto", "https"), ("x-forwarded-host", "llm.example.com"))
PAGE = (*OVER_TLS, ("origin", "https://llm.example.com"))


async def cookie(auth: Auth, request: Message, token: str = "", headers: Headers = ()) -> Morsel[str]:
    """Makes a call that must succeed, and returns the cookie its answer sets."""
    call = await auth.call(request, token, headers=headers)
    await call
    (header,) = (value for name, value in await call.initial_metadata() if name == "set-cookie")
    return SimpleCookie(header)["rml_session"]


def holding(token: str) -> tuple[tuple[str, str], ...]:
    """Returns the header of a browser that has this cookie."""
    return (("cookie", f"theme=dark; rml_session={token}"),)


class TestNewSession:
    @pytest.mark.parametrize("kind", [SignUpRequest, SignInRequest])
    @pytest.mark.parametrize("secure", [True, False])
    async def test_is_given_to_the_browser(self, auth: Auth, email: str, kind: type[Message], secure: bool) -> None:
        if kind is SignInRequest:
            await auth.sign_up(email)
        request = kind(email=email, password=PASSWORD)
        given = await cookie(auth, request, headers=OVER_TLS if secure else ())
        assert (await auth.session(given.value)).user.email == email
        assert given["max-age"] == str(int(LIFETIMES.absolute.total_seconds()))
        assert given["httponly"]
        assert given["samesite"] == "Lax"
        assert given["path"] == "/"
        assert given["domain"] == ""
        assert bool(given["secure"]) == secure

    @pytest.mark.parametrize("brought", ["own", "foreign", "invented"])
    async def test_has_a_token_of_its_own_whatever_the_browser_brought(
        self, auth: Auth, email: str, brought: str
    ) -> None:
        """Whoever planted a session in a browser must not find it signed in."""
        own, foreign = await auth.sign_up(email), await auth.sign_up(f"bob.{email}")
        token = {"own": own.token, "foreign": foreign.token, "invented": "rmls_" + 49 * "0"}[brought]
        given = await cookie(auth, SignInRequest(email=email, password=PASSWORD), headers=holding(token) + PAGE)
        assert given.value not in (own.token, foreign.token, token)
        assert (await auth.session(foreign.token)).user.email == foreign.user.email

    async def test_of_a_failed_sign_in_is_none(self, auth: Auth, email: str) -> None:
        error = await auth.fail_to_sign_in(email)
        metadata = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
        assert "set-cookie" not in dict(metadata)


class TestUse:
    async def test_speaks_for_the_person(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        session = await auth.ask(GetSessionRequest(), headers=holding(opened.token))
        assert session.user == opened.user

    async def test_changes_nothing_for_a_page_of_somebody_else(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        for headers in ((), (*OVER_TLS, ("origin", "https://evil.example.com")), (*OVER_TLS, ("origin", "null"))):
            refused = auth.ask(SignOutRequest(), headers=holding(opened.token) + tuple(headers))
            assert await reason(refused) == "ORIGIN_NOT_ALLOWED"
        await auth.session(opened.token)


class TestEnd:
    async def test_signing_out_takes_it_away(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        taken = await cookie(auth, SignOutRequest(), headers=holding(opened.token) + PAGE)
        assert taken.value == ""
        assert taken["max-age"] == "0"
        assert taken["path"] == "/"
        assert taken["secure"]
        assert await reason(auth.session(opened.token)) == "UNAUTHENTICATED"

    async def test_other_answers_leave_it_alone(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        for request in (
            GetSessionRequest(),
            ListSessionsRequest(),
            ChangePasswordRequest(current_password=PASSWORD, new_password="nine green kettles"),
        ):
            call = await auth.call(request, opened.token)
            await call
            assert "set-cookie" not in dict(await call.initial_metadata())
