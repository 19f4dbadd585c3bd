"""No event is lost on its way to the audit log, whatever dies in between."""

from __future__ import annotations

import uuid

import httpx
from realmultillm.keyvault.v1.credential_service_pb2 import Credential, GetCredentialRequest
from realmultillm.keyvault.v1.credential_service_pb2_grpc import CredentialServiceStub

from libs.rpc.channel import open_channel
from tests.e2e.conftest import Person, Platform
from tests.e2e.people import administrator
from tests.reliability.outages import halted
from tests.support.waiting import BOUND_SECONDS, eventually


async def reveal(platform: Platform, person: Person) -> str:
    """Has the key of a person revealed as the worker does, which needs no person for that. Returns the request id."""
    request_id = f"reveal-{uuid.uuid4().hex}"
    stack = platform.stack
    async with open_channel(stack.address("key-vault"), "key-vault", stack.tls("worker-openai")) as channel:
        answer: Credential = await CredentialServiceStub(channel).GetCredential(
            GetCredentialRequest(user_id=person.user_id, provider="openai"),
            metadata=(("x-request-id", request_id),),
            timeout=BOUND_SECONDS,
            wait_for_ready=True,
        )
    assert answer.api_key == person.key
    return request_id


async def revealed(http: httpx.AsyncClient, person: Person) -> list[str]:
    """Returns the request ids of the entries that tell of the key of a person being revealed, the latest first."""
    query = {"userId": person.user_id, "action": "provider_key.revealed"}
    answer = await http.get("/api/admin/audit-logs", params=query)
    return [entry["requestId"] for entry in answer.json().get("logs", ())]


async def is_intact(http: httpx.AsyncClient) -> bool:
    answer = await http.get("/api/admin/audit-logs/verify")
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["valid"])


class TestAuthDown:
    async def test_a_key_revealed_meanwhile_is_in_the_log_even_when_who_saw_it_dies(
        self, platform: Platform, person: Person
    ):
        async with administrator(platform) as admin:
            async with halted(platform.stack, "auth"):
                before = [await reveal(platform, person) for _ in range(3)]
                # At once, and without a chance to write anything.
                await platform.stack.kill("key-vault")
                await platform.stack.wait_ready("key-vault")
                after = await reveal(platform, person)
            expected = {*before, after}
            ids = await eventually(lambda: revealed(admin.http, person), lambda ids: expected <= set(ids))
            # Once each, and in their order.
            assert [each for each in reversed(ids) if each in expected] == [*before, after]
            assert await is_intact(admin.http)


class TestAuthKilled:
    async def test_no_event_is_lost_or_doubled_while_it_comes_and_goes(self, platform: Platform, person: Person):
        async with administrator(platform) as admin:
            ids = []
            for _ in range(3):
                ids += [await reveal(platform, person) for _ in range(4)]
                await platform.stack.kill("auth")
                ids += [await reveal(platform, person) for _ in range(4)]
                await platform.stack.wait_ready("auth")
            found = await eventually(lambda: revealed(admin.http, person), lambda found: set(ids) <= set(found))
            assert sorted(each for each in found if each in ids) == sorted(ids)
            assert await is_intact(admin.http)


class TestPostgresDown:
    async def test_what_happens_in_auth_is_told_exactly_when_it_is_true(self, platform: Platform, person: Person):
        async with administrator(platform) as admin:
            async with halted(platform.stack, "postgres"):
                tokens = await person.http.post("/api/auth/tokens", json={"name": "nightly"})
                assert tokens.status_code == 503
            answer = await eventually(lambda: person.http.get("/api/auth/tokens"), lambda answer: answer.is_success)
            assert answer.json().get("tokens", []) == []
            assert await eventually(lambda: admin.http.get("/api/auth/session"), lambda answer: answer.is_success)
            query = {"userId": person.user_id, "action": "auth.api_token_created"}
            assert (await admin.http.get("/api/admin/audit-logs", params=query)).json().get("logs", []) == []
            assert await is_intact(admin.http)
