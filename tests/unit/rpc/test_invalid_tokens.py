"""Tokens that somebody makes up: verified up to a limit for each address, and refused unverified beyond."""

from collections.abc import AsyncIterator

import pytest

from libs import tokens as token_format
from libs.rpc.identity import Principal
from tests.support.rpc import Identities, KnownTokens, bearer, error_info, running
from tests.unit.rpc.conftest import POLICY, Client, Echo, client_as
from tests.unit.rpc.test_access import Trail

LIMIT = 3


class CountedTokens(KnownTokens):
    """Counts what it verifies, and may remember principals as the verifiers of services do."""

    def __init__(self) -> None:
        super().__init__()
        self.verified = 0
        self.remembers: dict[str, Principal] = {}

    def remembered(self, token: str) -> Principal | None:
        return self.remembers.get(token)

    async def verify(self, token: str) -> Principal:
        self.verified += 1
        return await super().verify(token)


@pytest.fixture
async def tokens() -> CountedTokens:
    return CountedTokens()


@pytest.fixture
async def trail() -> Trail:
    return Trail()


@pytest.fixture
async def address(echo: Echo, tokens: CountedTokens, identity: Identities, trail: Trail) -> AsyncIterator[str]:
    limits = {"InvalidTokens": f"{LIMIT}/hour"}
    async with running(
        identity("analytics"), echo.register, policy=POLICY, tokens=tokens, rate_limits=limits, audit=trail
    ) as address:
        yield address


def made_up(address: str = "192.0.2.1") -> tuple[tuple[str, str], ...]:
    """Returns the metadata of a call with a token that nobody has issued."""
    return (*bearer(token_format.mint(token_format.SESSION_PREFIX)), ("x-envoy-external-address", address))


async def reasons(client: Client, calls: int, address: str = "192.0.2.1") -> list[str]:
    return [error_info(await client.refused("personal", metadata=made_up(address))).reason for _ in range(calls)]


PAST_LIMIT = [*["UNAUTHENTICATED"] * LIMIT, "RATE_LIMIT_EXCEEDED", "RATE_LIMIT_EXCEEDED"]


class TestInvalidTokens:
    async def test_past_the_limit_are_not_verified(self, envoy: Client, tokens: CountedTokens) -> None:
        assert await reasons(envoy, LIMIT + 2) == PAST_LIMIT
        assert tokens.verified == LIMIT

    async def test_a_token_that_was_valid_lately_is_verified_all_the_same(
        self, envoy: Client, tokens: CountedTokens
    ) -> None:
        known = (*bearer(tokens.issue("usr_1")), ("x-envoy-external-address", "192.0.2.1"))
        await envoy.open("personal", b"a", metadata=known)
        assert await reasons(envoy, LIMIT + 2) == PAST_LIMIT
        assert await envoy.open("personal", b"a", metadata=known) == b"a"

    async def test_the_refusal_says_when_to_come_again(self, envoy: Client) -> None:
        await reasons(envoy, LIMIT)
        error = await envoy.refused("personal", metadata=made_up())
        trailing = dict(error.trailing_metadata() or ())
        assert 3_500 < int(trailing["retry-after"]) <= 3_600

    async def test_each_network_counts_on_its_own(self, envoy: Client) -> None:
        await reasons(envoy, LIMIT, "2001:db8::1")
        assert await reasons(envoy, 1, "2001:db8::ffff") == ["RATE_LIMIT_EXCEEDED"]
        assert await reasons(envoy, 1, "2001:db8:0:1::1") == ["UNAUTHENTICATED"]

    async def test_one_that_is_known_already_goes_on(self, envoy: Client, tokens: CountedTokens) -> None:
        known, new = tokens.issue("usr_1"), tokens.issue("usr_2")
        tokens.remembers[known.reveal()] = await tokens.verify(known.reveal())
        await reasons(envoy, LIMIT)
        place = ("x-envoy-external-address", "192.0.2.1")
        assert await envoy.open("personal", b"x", metadata=(*bearer(known), place)) == b"x"
        error = await envoy.refused("personal", metadata=(*bearer(new), place))
        assert error_info(error).reason == "RATE_LIMIT_EXCEEDED"

    async def test_valid_ones_do_not_count(self, envoy: Client, tokens: CountedTokens) -> None:
        metadata = (*bearer(tokens.issue("usr_1")), ("x-envoy-external-address", "192.0.2.1"))
        for _ in range(LIMIT * 2):
            assert await envoy.open("personal", b"x", metadata=metadata) == b"x"

    async def test_nor_do_malformed_ones_which_cost_nothing(self, envoy: Client) -> None:
        metadata = (("authorization", "Bearer rmls_nonsense"), ("x-envoy-external-address", "192.0.2.1"))
        for _ in range(LIMIT * 2):
            assert error_info(await envoy.refused("personal", metadata=metadata)).reason == "UNAUTHENTICATED"

    async def test_of_other_services_do_not_count(self, address: str, identity: Identities) -> None:
        async with client_as("provider-router", address, identity) as router:
            assert await reasons(router, LIMIT + 2) == ["UNAUTHENTICATED"] * (LIMIT + 2)

    async def test_reaching_the_limit_is_audited(self, envoy: Client, trail: Trail) -> None:
        await reasons(envoy, LIMIT)
        assert trail.noted == []
        await reasons(envoy, 1)
        (event,) = trail.noted
        assert (event.action, event.resource, event.address) == ("rate_limit.exceeded", "InvalidTokens", "192.0.2.1")
        assert event.details == {"limit": "3 requests an hour"}
