"""Tokens that are forged, cut, confused with others or sent in odd ways: they speak for their owner or for nobody."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import grpc
import httpx
import pytest
from realmultillm.auth.v1.auth_service_pb2 import GetSessionRequest
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub

from libs import tokens
from libs.rpc.channel import open_channel
from tests.e2e.conftest import HELLO, Person, Platform, error_of
from tests.e2e.people import api_token

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# A method of every service that verifies tokens.
ASKED = {
    "auth": ("GET", "/api/auth/session"),
    "key-vault": ("GET", "/api/provider-config/openai"),
    "analytics": ("GET", "/api/analytics/usage"),
    "provider-router": ("GET", "/api/providers"),
    "worker-openai": ("POST", "/api/chat/openai"),
}
every_service = pytest.mark.parametrize("service", ASKED)


def forgeries(token: str) -> dict[str, str]:
    """Everything that is nearly this token, by what was done to it."""
    found = {f"cut to {length}": token[:length] for length in range(1, len(token))}
    found |= {f"without its first {length}": token[length:] for length in range(1, len(token))}
    for place, character in enumerate(token):
        changed = "x" if character != "x" else "y"
        found[f"character {place} changed"] = token[:place] + changed + token[place + 1 :]
        found[f"character {place} in the other case"] = token[:place] + character.swapcase() + token[place + 1 :]
    found |= {f"extended by {more!r}": token + more for more in ("0", "=", ".", ",", "%00", " x", token, "/../")}
    body = token[5:-6]
    for prefix in ("rmls_", "rmlk_", "rmlx_", "RMLS_", ""):
        found[f"with the prefix {prefix!r}"] = prefix + body + checksum(prefix + body)
    for place in (5, 20, 47):
        changed = token[:place] + ("a" if token[place] != "a" else "b") + token[place + 1 : -6]
        found[f"character {place} changed, with the right checksum"] = changed + checksum(changed)
    found["unknown"] = tokens.mint("rmls_").reveal()
    found["unknown API token"] = tokens.mint("rmlk_").reveal()
    found["its digest"] = tokens.digest(token).hex()
    return {how: forged for how, forged in found.items() if forged != token}


def checksum(text: str) -> str:
    """Returns the last six characters of the token that begins like this, as anybody can compute them."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = DIGITS[digit] + digits
    return digits


async def ask(http: httpx.AsyncClient, service: str, headers: Any) -> httpx.Response:
    method, path = ASKED[service]
    body = {"messages": HELLO} if method == "POST" else None
    return await http.request(method, path, headers=headers, json=body)


class TestForgery:
    @every_service
    @pytest.mark.parametrize("kind", ["session", "API token"])
    async def test_is_nobodys_token(self, platform: Platform, victim: Person, service: str, kind: str) -> None:
        token = victim.token
        if kind == "API token":
            token = await api_token(victim.http, "chat", "models:read", "config", "analytics:read")
        async with platform.client() as http:
            answers: dict[str, httpx.Response] = {}
            forged = list(forgeries(token).items())
            # Before and after the service has the true one in its cache.
            for part in (forged[::2], forged[1::2]):
                sent = (ask(http, service, {"authorization": f"Bearer {text}"}) for _, text in part)
                answers |= dict(zip((how for how, _ in part), await asyncio.gather(*sent), strict=True))
                true = await ask(http, service, {"authorization": f"Bearer {token}"})
                assert true.status_code == 200, true.text
        taken = {how: answer.text for how, answer in answers.items() if error_of(answer) != (401, "UNAUTHENTICATED")}
        assert taken == {}
        # What is wrong with it is nobody's business.
        assert len({answer.text for answer in answers.values()}) <= 2

    async def test_a_digest_that_begins_like_anothers_is_another(self, platform: Platform, victim: Person) -> None:
        """Such a token would be found by whoever keeps only part of the digest."""
        digest = tokens.digest(victim.token)
        alike = tokens.mint("rmls_").reveal()
        while tokens.digest(alike)[:2] != digest[:2]:
            alike = tokens.mint("rmls_").reveal()
        async with platform.client() as http:
            for service in ASKED:
                assert (await ask(http, service, {"authorization": f"Bearer {victim.token}"})).status_code == 200
                refused = await ask(http, service, {"authorization": f"Bearer {alike}"})
                assert error_of(refused) == (401, "UNAUTHENTICATED"), service


class TestSpelling:
    """Spellings of the header: each is refused, or speaks for the owner of the token in it."""

    REFUSED = (
        "{}",
        "Bearer{}",
        "Bearer  {}",
        "Bearer\t{}",
        "Bearer,{}",
        "Bearer Bearer {}",
        "Bearer {},{}",
        "Bearer {}, Bearer {}",
        'Bearer "{}"',
        "Bearer token={}",
        "Token {}",
        "Basic {}",
        "Bearer {} {}",
    )

    @every_service
    async def test_a_wrong_one_is_refused(self, platform: Platform, victim: Person, service: str) -> None:
        async with platform.client() as http:
            for spelling in self.REFUSED:
                header = spelling.format(victim.token, victim.token)
                answer = await ask(http, service, {"authorization": header})
                assert error_of(answer) == (401, "UNAUTHENTICATED"), spelling

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
    async def test_the_scheme_has_no_case(self, platform: Platform, victim: Person, scheme: str) -> None:
        async with platform.client() as http:
            answer = await ask(http, "auth", {"authorization": f"{scheme} {victim.token}"})
        assert answer.json()["user"]["id"] == victim.user_id


class TestSeveralCredentials:
    @every_service
    async def test_two_authorizations_are_none(
        self, platform: Platform, victim: Person, attacker: Person, service: str
    ) -> None:
        both = [("authorization", f"Bearer {each.token}") for each in (victim, attacker)]
        async with platform.client() as http:
            for headers in (both, both[::-1], [both[0], both[0]]):
                assert error_of(await ask(http, service, headers)) == (401, "UNAUTHENTICATED")

    async def test_two_authorizations_are_none_at_the_service_either(
        self, platform: Platform, victim: Person, attacker: Person
    ) -> None:
        both = tuple(("authorization", f"Bearer {each.token}") for each in (victim, attacker))
        stack = platform.stack
        async with open_channel(stack.address("auth"), "auth", stack.tls("envoy")) as channel:
            for metadata in (both, both[::-1]):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await AuthServiceStub(channel).GetSession(GetSessionRequest(), metadata=metadata, timeout=10)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_the_header_wins_over_the_cookie(self, platform: Platform, victim: Person, attacker: Person) -> None:
        for first, second in ((victim, attacker), (attacker, victim)):
            headers = {"authorization": f"Bearer {first.token}", "cookie": f"rml_session={second.token}"}
            async with platform.client() as http:
                answer = await http.get("/api/auth/session", headers=headers)
                assert answer.json()["user"]["id"] == first.user_id

    async def test_a_header_that_is_none_is_not_made_good_by_the_cookie(
        self, platform: Platform, victim: Person
    ) -> None:
        async with platform.client() as http:
            for text in ("", "Bearer", "Bearer x", f"Basic {victim.token}", f"Bearer {tokens.mint('rmls_').reveal()}"):
                headers = {"authorization": text, "cookie": f"rml_session={victim.token}"}
                assert error_of(await http.get("/api/auth/session", headers=headers)) == (401, "UNAUTHENTICATED")

    async def test_what_one_person_asks_at_the_same_time_is_never_anothers(
        self, platform: Platform, victim: Person, attacker: Person
    ) -> None:
        people = [victim, attacker] * 50

        async def who(person: Person, http: httpx.AsyncClient) -> str:
            headers = {"authorization": f"Bearer {person.token}"}
            return str((await http.get("/api/auth/session", headers=headers)).json()["user"]["id"])

        async with platform.client() as http:  # one connection pool, as of a proxy
            found = await asyncio.gather(*(who(person, http) for person in people))
        assert found == [person.user_id for person in people]
