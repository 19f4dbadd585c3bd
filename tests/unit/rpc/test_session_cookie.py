"""The session cookie as a credential: whose word it is believed on, and which pages may use it."""

from http.cookies import SimpleCookie

import pytest

from libs.errors import PermissionDenied
from libs.redaction import Secret
from libs.rpc import session_cookie
from libs.rpc.session_cookie import check_origin, clear_cookie, set_cookie, token_in
from tests.support.rpc import Identities, KnownTokens, bearer, error_info
from tests.unit.rpc.conftest import ALLOWED_ORIGIN, Client, Echo, client_as

Metadata = tuple[tuple[str, str], ...]

# What the front door says of a call to https://app.example.com.
FORWARDED = (("x-forwarded-proto", "https"), ("x-forwarded-host", "app.example.com"))
OWN_PAGE = ("origin", "https://app.example.com")


def cookie(token: Secret) -> tuple[str, str]:
    return ("cookie", f"theme=dark; rml_session={token.reveal()}; lang=en")


async def person_of(client: Client, echo: Echo, metadata: Metadata, method: str = "personal") -> str:
    """Calls for a person, and returns who it was."""
    await client.open(method, b"x", metadata=metadata)
    principal = echo.calls[-1].principal
    assert principal is not None
    return principal.user_id


async def refused(client: Client, echo: Echo, metadata: Metadata, method: str = "personal") -> tuple[str, str]:
    """Calls in vain, and returns code and reason."""
    before = len(echo.calls)
    error = await client.refused(method, metadata=metadata)
    assert len(echo.calls) == before
    return error.code().name, error_info(error).reason


NOBODY = ("UNAUTHENTICATED", "UNAUTHENTICATED")
WRONG_PAGE = ("PERMISSION_DENIED", "ORIGIN_NOT_ALLOWED")


class TestCredential:
    async def test_a_cookie_speaks_for_its_person(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        metadata = (cookie(tokens.issue("usr_1")), OWN_PAGE, *FORWARDED)
        assert await person_of(envoy, echo, metadata) == "usr_1"

    async def test_the_method_calls_others_with_it_as_a_bearer(
        self, envoy: Client, echo: Echo, tokens: KnownTokens
    ) -> None:
        token = tokens.issue("usr_1")
        await person_of(envoy, echo, (cookie(token), OWN_PAGE, *FORWARDED))
        assert echo.calls[0].authorization == f"Bearer {token.reveal()}"
        assert token.reveal() not in repr(echo.calls[0])

    async def test_a_bearer_beside_it_wins(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        of_the_cookie, of_the_header = cookie(tokens.issue("usr_1")), bearer(tokens.issue("usr_2"))
        for metadata in ((of_the_cookie, *of_the_header), (*of_the_header, of_the_cookie)):
            assert await person_of(envoy, echo, metadata) == "usr_2"

    async def test_a_bearer_needs_no_origin(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        metadata = (*bearer(tokens.issue("usr_1")), ("origin", "https://evil.example"), *FORWARDED)
        assert await person_of(envoy, echo, metadata) == "usr_1"

    async def test_two_bearers_are_none(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        one, other = bearer(tokens.issue("usr_1")), bearer(tokens.issue("usr_2"))
        for metadata in ((*one, *other), (*one, *one), (*one, cookie(tokens.issue("usr_1")), *other)):
            assert await refused(envoy, echo, metadata) == NOBODY

    async def test_it_may_stand_in_any_of_several_headers(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        own, other = ("cookie", f"rml_session={tokens.issue('usr_1').reveal()}"), ("cookie", "theme=dark")
        for cookies in ((own, other), (other, own), (other, own, other)):
            assert await person_of(envoy, echo, (*cookies, OWN_PAGE, *FORWARDED)) == "usr_1"

    @pytest.mark.parametrize("authorization", ["", "Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "Bearer nonsense"])
    async def test_another_authorization_beside_it_is_not_passed_over(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, authorization: str
    ) -> None:
        metadata = (cookie(tokens.issue("usr_1")), ("authorization", authorization), OWN_PAGE, *FORWARDED)
        assert await refused(envoy, echo, metadata) == NOBODY

    @pytest.mark.parametrize(
        "text", ["", "rml_session", "rml_session=", "rml_session=nonsense", "RML_SESSION={}", "xrml_session={}", "{}"]
    )
    async def test_one_without_a_valid_token_is_nobodys(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, text: str
    ) -> None:
        metadata = (("cookie", text.format(tokens.issue("usr_1").reveal())), OWN_PAGE, *FORWARDED)
        assert await refused(envoy, echo, metadata) == NOBODY

    async def test_only_the_front_door_is_believed_that_a_browser_sent_it(
        self, address: str, identity: Identities, echo: Echo, tokens: KnownTokens
    ) -> None:
        token = tokens.issue("usr_1")
        async with client_as("provider-router", address, identity) as router:
            assert await refused(router, echo, (cookie(token), OWN_PAGE, *FORWARDED)) == NOBODY
            assert await person_of(router, echo, bearer(token)) == "usr_1"


class TestOrigin:
    @pytest.mark.parametrize(
        "origin",
        [
            None,
            "",
            "null",
            "https://evil.example",
            "https://app.example.com.evil.example",
            "https://evil-app.example.com",
            "https://sub.app.example.com",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com/",
            "https://app.example.com, https://evil.example",
            "app.example.com",
        ],
    )
    async def test_another_page_changes_nothing(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, origin: str | None
    ) -> None:
        origins = () if origin is None else (("origin", origin),)
        metadata = (cookie(tokens.issue("usr_1")), *origins, *FORWARDED)
        assert await refused(envoy, echo, metadata) == WRONG_PAGE

    async def test_another_page_may_have_what_changes_nothing(
        self, envoy: Client, echo: Echo, tokens: KnownTokens
    ) -> None:
        metadata = (cookie(tokens.issue("usr_1")), ("origin", "https://evil.example"), *FORWARDED)
        assert await person_of(envoy, echo, metadata, "GetPersonal") == "usr_1"
        assert await person_of(envoy, echo, metadata[:1], "GetPersonal") == "usr_1"

    async def test_case_does_not_matter(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        metadata = (cookie(tokens.issue("usr_1")), ("origin", "HTTPS://App.Example.com"), *FORWARDED)
        assert await person_of(envoy, echo, metadata) == "usr_1"

    async def test_a_port_belongs_to_the_host(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        forwarded = (("x-forwarded-proto", "http"), ("x-forwarded-host", "localhost:8080"))
        token = tokens.issue("usr_1")
        assert await person_of(envoy, echo, (cookie(token), ("origin", "http://localhost:8080"), *forwarded)) == "usr_1"
        for other in ("http://localhost", "http://localhost:8081", "https://localhost:8080"):
            assert await refused(envoy, echo, (cookie(token), ("origin", other), *forwarded)) == WRONG_PAGE

    async def test_the_page_is_asked_for_before_the_token(self, envoy: Client, echo: Echo) -> None:
        metadata = (("cookie", "rml_session=nonsense"), ("origin", "https://evil.example"), *FORWARDED)
        assert await refused(envoy, echo, metadata) == WRONG_PAGE

    @pytest.mark.parametrize("missing", ["x-forwarded-proto", "x-forwarded-host"])
    def test_without_the_word_of_the_front_door_no_page_is_our_own(self, missing: str) -> None:
        for origin in ("none://none", "https://", "://", "https://app.example.com", "https://none"):
            metadata = {"origin": origin, **dict(FORWARDED)}
            del metadata[missing]
            with pytest.raises(PermissionDenied):
                check_origin(metadata, ())


class TestWithoutAPerson:
    """What needs no token may give one: a page must not sign a browser in to an account of its own choice."""

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://app.example.com", ""])
    async def test_another_page_changes_nothing_either(self, envoy: Client, echo: Echo, origin: str) -> None:
        assert await refused(envoy, echo, (("origin", origin), *FORWARDED), "unary_unary") == WRONG_PAGE

    @pytest.mark.parametrize("metadata", [(), FORWARDED, (OWN_PAGE, *FORWARDED), (("origin", ALLOWED_ORIGIN),)])
    async def test_own_pages_and_programs_may(self, envoy: Client, metadata: Metadata) -> None:
        assert await envoy.open("unary_unary", b"x", metadata=metadata) == b"x"


class TestAllowedOrigins:
    @pytest.mark.parametrize("origin", [ALLOWED_ORIGIN, ALLOWED_ORIGIN.lower()])
    async def test_a_page_the_deployment_names_may(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, origin: str
    ) -> None:
        metadata = (cookie(tokens.issue("usr_1")), ("origin", origin), *FORWARDED)
        assert await person_of(envoy, echo, metadata) == "usr_1"

    async def test_one_like_it_may_not(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        token = tokens.issue("usr_1")
        for origin in (f"{ALLOWED_ORIGIN}:444", f"{ALLOWED_ORIGIN}.evil.example", ALLOWED_ORIGIN.replace("s:", ":")):
            assert await refused(envoy, echo, (cookie(token), ("origin", origin), *FORWARDED)) == WRONG_PAGE


class TestWriting:
    """What a browser makes of the header."""

    def test_a_browser_keeps_it_from_scripts_and_other_sites(self) -> None:
        name, value = set_cookie("rmls_x", max_age=60, secure=True)
        assert name == "set-cookie"
        morsel = SimpleCookie(value)["rml_session"]
        assert (morsel.value, morsel["max-age"], morsel["path"]) == ("rmls_x", "60", "/")
        assert (morsel["httponly"], morsel["secure"], morsel["samesite"]) == (True, True, "Lax")
        assert morsel["domain"] == ""

    def test_without_tls_it_can_still_be_sent(self) -> None:
        (_, written), (_, cleared) = set_cookie("rmls_x", max_age=60, secure=False), clear_cookie(secure=False)
        assert "Secure" not in written + cleared

    def test_cleared_it_is_gone_at_once_and_read_as_none(self) -> None:
        _, value = clear_cookie(secure=True)
        morsel = SimpleCookie(value)["rml_session"]
        assert (morsel.value, morsel["max-age"], morsel["path"]) == ("", "0", "/")

    def test_what_is_written_can_be_read(self) -> None:
        _, value = set_cookie("rmls_x", max_age=60, secure=True)
        assert token_in(value.partition(";")[0]) == "rmls_x"

    def test_whether_the_front_door_was_called_over_tls_is_its_own_word(self) -> None:
        assert session_cookie.is_secure({"x-forwarded-proto": "https"})
        assert not session_cookie.is_secure({"x-forwarded-proto": "http"})
        assert not session_cookie.is_secure({})
