"""Whom the rule of a method lets through by role and scope, what the others are told, and what is noted of it."""

from collections.abc import AsyncIterator

import grpc
import pytest

from libs.audit import AuditEvent, AuditTrail
from libs.errors import LimitExceeded
from libs.rpc.access_policy import SCOPES, SESSION_SCOPES, for_role, open_to
from tests.support.rpc import Identities, KnownTokens, bearer, error_info, running
from tests.unit.rpc.conftest import POLICY, SERVICE, Client, Echo, client_as, raising


class TestScopes:
    @pytest.mark.parametrize("scope", SCOPES)
    async def test_a_token_is_for_what_it_was_made_for(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, scope: str
    ) -> None:
        metadata = bearer(tokens.issue("usr_1", "admin", {scope}))
        for method, needed in (("personal", {"chat"}), ("GetPersonal", {"chat", "config"}), ("admin", {"admin"})):
            if scope in needed:
                assert await envoy.open(method, b"x", metadata=metadata) == b"x"
            else:
                error = await envoy.refused(method, metadata=metadata)
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED
                assert error_info(error).reason == "INSUFFICIENT_SCOPE"
                names = " or ".join(sorted(needed))
                assert error_info(error).metadata["scope"] == names
                assert names in str(error.details())

    async def test_no_scope_is_the_session(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        error = await envoy.refused("session", metadata=bearer(tokens.issue("usr_1", "admin", SCOPES)))
        assert error_info(error).reason == "INSUFFICIENT_SCOPE"
        assert "sign in" in str(error.details())
        assert await envoy.open("session", b"x", metadata=bearer(tokens.issue("usr_1"))) == b"x"

    @pytest.mark.parametrize("scopes", [set(), {"Chat"}, {"chat "}, {"*"}, {"chat,config"}])
    async def test_none_and_unknown_ones_are_for_nothing(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, scopes: set[str]
    ) -> None:
        metadata = bearer(tokens.issue("usr_1", "admin", scopes))
        for method in ("personal", "session", "admin"):
            assert error_info(await envoy.refused(method, metadata=metadata)).reason == "INSUFFICIENT_SCOPE"
        assert echo.calls == []

    @pytest.mark.parametrize("scopes", [SESSION_SCOPES, {"admin"}])
    async def test_a_scope_gives_no_role(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, scopes: frozenset[str]
    ) -> None:
        error = await envoy.refused("admin", metadata=bearer(tokens.issue("usr_1", "user", scopes)))
        assert error_info(error).reason == "PERMISSION_DENIED"
        assert echo.calls == []

    def test_a_method_without_a_person_asks_for_none(self) -> None:
        assert open_to({"envoy"}).admits_scopes(frozenset())
        assert not for_role("user", {"envoy"}, scopes=()).admits_scopes(SESSION_SCOPES)


class Trail(AuditTrail):
    """Remembers what it was told to note."""

    def __init__(self) -> None:
        self.noted: list[AuditEvent] = []

    def note(self, event: AuditEvent) -> None:
        self.noted.append(event)


class TestAudit:
    @pytest.fixture
    async def trail(self) -> Trail:
        return Trail()

    @pytest.fixture
    async def address(self, echo: Echo, tokens: KnownTokens, identity: Identities, trail: Trail) -> AsyncIterator[str]:
        async with running(identity("analytics"), echo.register, policy=POLICY, tokens=tokens, audit=trail) as address:
            yield address

    @pytest.mark.parametrize(
        ("method", "scopes", "reason"),
        [("admin", SESSION_SCOPES, "PERMISSION_DENIED"), ("session", {"chat"}, "INSUFFICIENT_SCOPE")],
    )
    async def test_what_a_person_is_denied_is_noted(
        self, envoy: Client, tokens: KnownTokens, trail: Trail, method: str, scopes: set[str], reason: str
    ) -> None:
        metadata = (
            *bearer(tokens.issue("usr_1", "user", scopes)),
            ("x-envoy-external-address", "203.0.113.7"),
            ("x-request-id", "request-1"),
        )
        await envoy.refused(method, metadata=metadata)
        (event,) = trail.noted
        assert (event.action, event.resource) == ("access.denied", f"/{SERVICE}/{method}")
        assert (event.user_id, event.address, event.request_id) == ("usr_1", "203.0.113.7", "request-1")
        assert event.details == {"reason": reason}

    async def test_what_is_allowed_is_not(self, envoy: Client, tokens: KnownTokens, trail: Trail) -> None:
        await envoy.open("personal", b"x", metadata=bearer(tokens.issue("usr_1")))
        assert trail.noted == []

    async def test_the_address_is_the_front_doors_word_alone(
        self, address: str, identity: Identities, tokens: KnownTokens, trail: Trail
    ) -> None:
        metadata = (*bearer(tokens.issue("usr_1", scopes={"config"})), ("x-envoy-external-address", "203.0.113.7"))
        async with client_as("provider-router", address, identity) as router:
            await router.refused("personal", metadata=metadata)
        assert [event.address for event in trail.noted] == [""]

    async def test_nobody_is_not_noted(self, envoy: Client, trail: Trail) -> None:
        """Strangers could fill the log."""
        await envoy.refused("admin")
        assert trail.noted == []

    async def test_a_service_that_may_not_call_is_noted(
        self, address: str, tokens: KnownTokens, identity: Identities, trail: Trail
    ) -> None:
        async with client_as("operator", address, identity) as operator:
            for method in ("personal", "unary_unary"):
                await operator.refused(method, metadata=bearer(tokens.issue("usr_1")))
        assert [(event.action, event.resource, event.details) for event in trail.noted] == [
            ("access.denied", f"/{SERVICE}/{method}", {"reason": "PERMISSION_DENIED", "peer": "operator"})
            for method in ("personal", "unary_unary")
        ]

    @pytest.mark.parametrize("method", ["personal", "unary_unary"])
    async def test_a_page_that_may_not_call_is_noted(
        self, envoy: Client, tokens: KnownTokens, trail: Trail, method: str
    ) -> None:
        cookie = ("cookie", f"rml_session={tokens.issue('usr_1').reveal()}")
        origin = (("origin", "https://evil.example"), ("x-envoy-external-address", "203.0.113.7"))
        await envoy.refused(method, metadata=(cookie, *origin))
        (event,) = trail.noted
        assert (event.action, event.resource, event.address) == (
            "access.denied",
            f"/{SERVICE}/{method}",
            "203.0.113.7",
        )
        assert event.details == {"reason": "ORIGIN_NOT_ALLOWED"}

    async def test_a_limit_of_the_method_itself_is_noted_whoever_calls(
        self, address: str, echo: Echo, tokens: KnownTokens, identity: Identities, trail: Trail
    ) -> None:
        metadata = bearer(tokens.issue("usr_1"))
        async with client_as("provider-router", address, identity) as router:
            echo.behavior = raising(LimitExceeded("Two at a time.", limit="2"))
            await router.refused("personal", metadata=metadata)
            echo.behavior = raising(LimitExceeded("Wait.", reason="TOO_MANY_ATTEMPTS"))
            await router.refused("personal", metadata=metadata)
        (event,) = trail.noted
        assert (event.action, event.resource) == ("rate_limit.exceeded", f"/{SERVICE}/personal")
        assert (event.user_id, event.details) == ("usr_1", {"limit": "2"})
