"""Pages of others in the browser of somebody who is signed in: the cookie comes along, and opens nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from http.cookies import SimpleCookie

import httpx
import pytest

from tests.e2e.attacks.rest_calls import REST_CALLS, RestCall
from tests.e2e.conftest import PASSWORD, Person, Platform, error_of

EVIL = "https://evil.example"
# Calls that nobody needs to be signed in for.
OPEN = {"AuthService/SignUp", "AuthService/SignIn", "PlatformHealthService/GetPlatformHealth"}
CHANGING = [call for call in REST_CALLS if call.verb != "GET" and call.name not in OPEN]
READING = [call for call in REST_CALLS if call.verb == "GET" and call.name not in OPEN]

# What a page can send without asking the browser first, and what it could if that allowed it.
PAGES: Mapping[str, dict[str, str]] = {
    "no origin": {},
    "another origin": {"origin": EVIL},
    "a page without an origin": {"origin": "null"},
    "the same host over TLS": {"origin": "https://{host}"},
    "another port": {"origin": "http://127.0.0.1:1"},
    "the own origin as a part": {"origin": "http://{host}.evil.example"},
    "a form": {"origin": EVIL, "content-type": "text/plain", "referer": "http://{host}/"},
    "a claim about the host": {"origin": EVIL, "x-forwarded-host": "evil.example", "x-forwarded-proto": "https"},
}


@pytest.fixture
async def browser(platform: Platform, victim: Person) -> AsyncIterator[httpx.AsyncClient]:
    """The victim's browser, which adds the cookie of the session to every call."""
    async with platform.client() as http:
        http.headers["cookie"] = f"rml_session={victim.token}"
        yield http


def page(name: str, browser: httpx.AsyncClient) -> dict[str, str]:
    """Returns the headers of a call by a page."""
    host = browser.base_url.netloc.decode()
    return {name: value.format(host=host) for name, value in PAGES[name].items()}


def path_of(call: RestCall) -> str:
    return call.at(provider="openai", id="ses_00000000000000000000000000000000", purpose="chat-history", model="m")


class TestChangingCalls:
    @pytest.mark.parametrize("call", CHANGING, ids=str)
    async def test_of_another_page_are_refused(
        self, browser: httpx.AsyncClient, victim: Person, call: RestCall
    ) -> None:
        for name in PAGES:
            answer = await browser.request(
                call.verb,
                path_of(call),
                content=b"{}",
                headers={"content-type": "application/json"} | page(name, browser),
            )
            assert error_of(answer) == (403, "ORIGIN_NOT_ALLOWED"), name
        assert (await victim.http.get("/api/auth/session")).status_code == 200

    @pytest.mark.parametrize("call", CHANGING, ids=str)
    async def test_of_an_own_page_are_let_through(self, browser: httpx.AsyncClient, call: RestCall) -> None:
        """So that what is refused above is refused for the page."""
        own = f"http://{browser.base_url.netloc.decode()}"
        answer = await browser.request(call.verb, path_of(call), json={}, headers={"origin": own})
        assert answer.status_code != 401
        assert "ORIGIN_NOT_ALLOWED" not in answer.text

    async def test_that_would_hide_their_verb_are_what_they_are(
        self, browser: httpx.AsyncClient, victim: Person
    ) -> None:
        """A form can only GET and POST; nothing here makes a DELETE of that."""
        hidden = {"x-http-method-override": "DELETE", "x-http-method": "DELETE", "x-method-override": "DELETE"}
        for verb in ("GET", "POST"):
            await browser.request(verb, "/api/provider-config/openai", headers={"origin": EVIL, **hidden})
            await browser.request(verb, "/api/provider-config/openai?_method=DELETE", headers={"origin": EVIL})
        assert (await victim.http.get("/api/provider-config/openai")).json()["configured"] is True


class TestReadingCalls:
    @pytest.mark.parametrize("call", READING, ids=str)
    async def test_change_nothing_and_cannot_be_read_by_another_page(
        self, browser: httpx.AsyncClient, call: RestCall
    ) -> None:
        answer = await browser.get(path_of(call), headers={"origin": EVIL})
        assert answer.status_code != 401
        assert not [name for name in answer.headers if name.startswith("access-control-")]


class TestSigningIn:
    """A page that signs the browser of somebody in to an account of its own could read later what is stored there."""

    @pytest.mark.parametrize("path", ["/api/auth/signin", "/api/auth/signup"])
    @pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
    async def test_by_another_page_is_refused(
        self, platform: Platform, attacker: Person, path: str, content_type: str
    ) -> None:
        body = f'{{"email": "{attacker.email}", "password": "{PASSWORD}"}}'
        async with platform.client() as http:
            for origin in (EVIL, "null"):
                headers = {"origin": origin, "content-type": content_type}
                answer = await http.post(path, content=body, headers=headers)
                assert error_of(answer) == (403, "ORIGIN_NOT_ALLOWED")
                assert "set-cookie" not in answer.headers

    async def test_never_adopts_a_session_that_was_there_before(
        self, platform: Platform, attacker: Person, victim: Person
    ) -> None:
        """Whoever plants a cookie in a browser must not find it to be the victim's session afterwards."""
        async with platform.client() as http:
            for planted in (attacker.token, "rmls_" + "A" * 49, "", "x" * 4000):
                answer = await http.post(
                    "/api/auth/signin",
                    json={"email": victim.email, "password": PASSWORD},
                    headers={"cookie": f"rml_session={planted}"},
                )
                made = answer.json()["token"]
                assert answer.json()["user"]["id"] == victim.user_id
                (cookie,) = answer.headers.get_list("set-cookie")
                assert SimpleCookie(cookie)["rml_session"].value == made
                assert made not in (planted, victim.token)
        assert (await attacker.http.get("/api/auth/session")).json()["user"]["id"] == attacker.user_id

    async def test_each_makes_another_session(self, platform: Platform, victim: Person) -> None:
        async with platform.client() as http:
            body = {"email": victim.email, "password": PASSWORD}
            made = [(await http.post("/api/auth/signin", json=body)).json()["token"] for _ in range(3)]
        assert len({*made, victim.token}) == 4

    async def test_the_cookie_is_kept_from_scripts_and_other_sites(self, platform: Platform, victim: Person) -> None:
        async with (
            httpx.AsyncClient(base_url=platform.stack.https_url, verify=False) as secure,
            platform.client() as http,
        ):
            for client, over_tls in ((secure, True), (http, False)):
                answer = await client.post("/api/auth/signin", json={"email": victim.email, "password": PASSWORD})
                morsel = SimpleCookie(answer.headers["set-cookie"])["rml_session"]
                assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Lax", "/")
                assert bool(morsel["secure"]) is over_tls
                assert morsel["domain"] == ""
