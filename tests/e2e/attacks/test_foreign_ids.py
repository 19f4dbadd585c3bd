"""Ids of others: whoever knows or guesses one learns nothing by it and changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.e2e.attacks.rest_calls import REST_CALLS, RestCall
from tests.e2e.conftest import Person, Platform, error_of
from tests.support.waiting import eventually

WITH_ID = [call for call in REST_CALLS if "id" in call.variables]
# Of administrators: to others they are closed, whatever the id.
ADMIN = [call for call in WITH_ID if call.path.startswith("/api/admin/")]
OWN = [call for call in WITH_ID if call not in ADMIN]


async def _session_id(person: Person) -> str:
    (session,) = (await person.http.get("/api/auth/sessions")).json()["sessions"]
    return str(session["id"])


async def _api_token_id(person: Person) -> str:
    made = await person.http.post("/api/auth/tokens", json={"name": "mine"})
    return str(made.json()["id"])


async def _chat_id(person: Person) -> str:
    chatted = await person.chat()
    path = "/api/chat/history"

    async def latest() -> list[dict[str, Any]]:
        return list((await person.http.get(path, params={"pageSize": 1})).json()["records"])

    asked = chatted.headers["x-request-id"]
    (record,) = await eventually(latest, lambda found: bool(found) and found[0]["requestId"] == asked)
    return str(record["id"])


# How to learn the id of something of a person, by the path without it. A new path must be added.
IDS: dict[str, Callable[[Person], Awaitable[str]]] = {
    "/api/auth/sessions/{id}": _session_id,
    "/api/auth/tokens/{id}": _api_token_id,
    "/api/chat/history/{id}": _chat_id,
}


def like(known: str) -> str:
    """Returns an id of the same form that is nobody's."""
    prefix, separator, _ = known.partition("_")
    return f"{prefix}_{uuid.uuid4().hex}" if separator else str(uuid.uuid4())


async def call_as(person: Person, call: RestCall, thing: str) -> httpx.Response:
    return await person.http.request(call.verb, call.at(id=thing), json={} if call.verb in ("PATCH", "POST") else None)


class TestThings:
    def test_all_calls_with_an_id_are_attacked(self) -> None:
        assert {call.path for call in OWN} == IDS.keys()

    @pytest.mark.parametrize("call", OWN, ids=str)
    async def test_of_others_are_as_if_there_were_none(self, attacker: Person, victim: Person, call: RestCall) -> None:
        known = await IDS[call.path](victim)
        prefix, _, digits = known.partition("_")
        guessed = await call_as(attacker, call, like(known))
        foreign = await call_as(attacker, call, known)
        assert error_of(foreign) == (404, "NOT_FOUND")
        assert foreign.content == guessed.content
        for spelling in (
            known.upper(),
            f"{prefix}_{digits.upper()}",
            f"{known} ",
            f"%20{known}",
            f"{known}%00",
            f"{known[:-1]}%",
        ):
            assert (await call_as(attacker, call, spelling)).status_code in (400, 404)
        # It is still there.
        assert (await call_as(victim, call, known)).status_code == 200

    @pytest.mark.parametrize("call", OWN, ids=str)
    async def test_of_another_kind_are_not_found(self, victim: Person, call: RestCall) -> None:
        for path, id_of in IDS.items():
            if path != call.path:
                assert error_of(await call_as(victim, call, await id_of(victim))) == (404, "NOT_FOUND")
        assert error_of(await call_as(victim, call, victim.user_id)) == (404, "NOT_FOUND")

    async def test_lists_hold_ones_own_only(self, attacker: Person, victim: Person) -> None:
        theirs = {await id_of(victim) for id_of in IDS.values()}
        for path, key in (("/api/auth/sessions", "sessions"), ("/api/auth/tokens", "tokens")):
            first = (await victim.http.get(path, params={"pageSize": 1})).json()
            seen = (await attacker.http.get(path)).json()[key]
            assert theirs.isdisjoint(row["id"] for row in seen)
            if token := first["nextPageToken"]:
                page = await attacker.http.get(path, params={"pageToken": token})
                assert page.status_code == 400 or theirs.isdisjoint(row["id"] for row in page.json()[key])

    async def test_a_place_in_anothers_list_is_no_place_in_ones_own(self, attacker: Person, victim: Person) -> None:
        for _ in range(2):
            await _api_token_id(victim)
            await _api_token_id(attacker)
        token = (await victim.http.get("/api/auth/tokens", params={"pageSize": 1})).json()["nextPageToken"]
        answer = await attacker.http.get("/api/auth/tokens", params={"pageSize": 1, "pageToken": token})
        assert error_of(answer) == (400, "INVALID_ARGUMENT")


class TestAccounts:
    @pytest.mark.parametrize("call", ADMIN, ids=str)
    async def test_are_closed_to_users_the_same_for_every_id(
        self, attacker: Person, victim: Person, admin: Person, call: RestCall
    ) -> None:
        ids = (victim.user_id, admin.user_id, attacker.user_id, f"usr_{uuid.uuid4().hex}", "nonsense")
        answers = [await call_as(attacker, call, each) for each in ids]
        assert {error_of(answer) for answer in answers} == {(403, "PERMISSION_DENIED")}
        assert len({answer.content for answer in answers}) == 1

    async def test_nobody_makes_themselves_an_administrator(self, attacker: Person) -> None:
        answer = await attacker.http.patch(f"/api/admin/users/{attacker.user_id}", json={"role": "admin"})
        assert error_of(answer) == (403, "PERMISSION_DENIED")
        assert (await attacker.http.get("/api/auth/session")).json()["user"]["role"] == "user"

    async def test_signing_up_gives_no_role_whatever_is_asked(self, platform: Platform) -> None:
        body = {
            "email": f"{uuid.uuid4().hex}@example.com",
            "password": "a perfectly fine pass phrase",
            "role": "admin",
            "isAdmin": True,
            "id": "usr_1",
            "user": {"role": "admin"},
        }
        async with platform.client() as http:
            user = (await http.post("/api/auth/signup", json=body)).json()["user"]
        assert user["role"] == "user"
        assert user["id"] != "usr_1"

    async def test_a_token_has_no_scope_its_owner_has_not(self, attacker: Person) -> None:
        for scopes in (["admin"], ["chat", "admin"], ["session"], ["*"], ["Admin"]):
            answer = await attacker.http.post("/api/auth/tokens", json={"name": "mine", "scopes": scopes})
            assert answer.status_code in (400, 403), scopes
        assert (await attacker.http.get("/api/auth/tokens")).json()["tokens"] == []


class TestConfigurations:
    async def test_of_others_are_out_of_reach(self, attacker: Person, victim: Person) -> None:
        for path in (
            "/api/provider-config/openai",
            f"/api/provider-config/openai?userId={victim.user_id}",
            f"/api/provider-config/{victim.user_id}",
            f"/api/provider-config/openai%2F{victim.user_id}",
        ):
            for verb in ("GET", "DELETE"):
                answer = await attacker.http.request(verb, path, follow_redirects=True)
                assert answer.status_code in (400, 404), path
        found = (await victim.http.get("/api/provider-config/openai")).json()
        assert found["keyHint"] == victim.key[-4:]
