"""What a client says of itself in headers, and a service in metadata: it makes nobody another, or somewhere else."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import httpx
import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import IngestUsageRequest, UsageRecord
from realmultillm.analytics.v1.usage_ingest_service_pb2_grpc import UsageIngestServiceStub
from realmultillm.auth.v1.audit_log_service_pb2 import AuditEvent, IngestAuditEventsRequest
from realmultillm.auth.v1.audit_log_service_pb2_grpc import AuditIngestServiceStub
from realmultillm.auth.v1.auth_service_pb2 import GetSessionRequest
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from realmultillm.keyvault.v1.credential_service_pb2 import GetCredentialRequest, WatchCredentialsRequest
from realmultillm.keyvault.v1.credential_service_pb2_grpc import CredentialServiceStub
from realmultillm.keyvault.v1.provider_config_service_pb2 import DeleteProviderConfigRequest
from realmultillm.keyvault.v1.provider_config_service_pb2_grpc import ProviderConfigServiceStub

from libs.rpc.channel import open_channel
from tests.e2e.conftest import PASSWORD, Person, Platform
from tests.support.waiting import eventually

ELSEWHERE = "203.0.113.7"
# Where this test is.
HERE = "127.0.0.1"
ADDRESSES = {
    "x-forwarded-for": ELSEWHERE,
    "x-envoy-external-address": ELSEWHERE,
    "x-envoy-internal": "true",
    "x-real-ip": ELSEWHERE,
    "x-client-ip": ELSEWHERE,
    "true-client-ip": ELSEWHERE,
    "cf-connecting-ip": ELSEWHERE,
    "forwarded": f"for={ELSEWHERE}",
}


def identities(person: Person, admin: Person) -> dict[str, str]:
    """Names under which some platform would take an identity from whoever sends it."""
    return {
        **ADDRESSES,
        "x-user-id": admin.user_id,
        "x-forwarded-user": admin.user_id,
        "x-remote-user": admin.email,
        "x-rml-user": admin.user_id,
        "x-role": "admin",
        "x-principal": f'{{"userId": "{admin.user_id}", "role": "admin"}}',
        "x-forwarded-client-cert": "URI=spiffe://realmultillm/key-vault",
        "x-peer": "spiffe://realmultillm/operator",
        "x-original-url": "/api/admin/users",
        "x-rewrite-url": "/api/admin/users",
        "x-scopes": "admin,session",
        "grpc-metadata-authorization": f"Bearer {admin.token}",
        "proxy-authorization": f"Bearer {admin.token}",
        "x-authorization": f"Bearer {admin.token}",
        "x-request-id": f"{person.user_id}-{admin.user_id}"[:64],
    }


async def entries(admin: Person, user_id: str, action: str) -> list[dict[str, Any]]:
    """Waits for what the audit log has of a person, and returns it."""

    async def asked() -> list[dict[str, Any]]:
        query = {"userId": user_id, "action": action}
        logs: list[dict[str, Any]] = (await admin.http.get("/api/admin/audit-logs", params=query)).json()["logs"]
        return logs

    return await eventually(asked, bool)


class TestPerson:
    async def test_is_whose_the_token_is(self, attacker: Person, admin: Person) -> None:
        headers = identities(attacker, admin)
        session = (await attacker.http.get("/api/auth/session", headers=headers)).json()
        assert (session["user"]["id"], session["user"]["role"]) == (attacker.user_id, "user")
        refused = await attacker.http.get("/api/admin/users", headers=headers)
        assert refused.status_code == 403
        assert (await attacker.http.get("/api/provider-config/openai", headers=headers)).status_code == 404

    async def test_is_nobody_without_a_token(self, platform: Platform, attacker: Person, admin: Person) -> None:
        async with platform.client() as http:
            for path in ("/api/auth/session", "/api/admin/users", "/api/providers", "/api/provider-config/openai"):
                answer = await http.get(path, headers=identities(attacker, admin))
                assert answer.status_code == 401, path

    async def test_of_a_grpc_caller_too(self, platform: Platform, attacker: Person, admin: Person) -> None:
        metadata = (*identities(attacker, admin).items(), ("authorization", f"Bearer {attacker.token}"))
        async with grpc.aio.insecure_channel(platform.stack.base_url.removeprefix("http://")) as channel:
            session = await AuthServiceStub(channel).GetSession(GetSessionRequest(), metadata=metadata, timeout=10)
        assert (session.user.id, session.user.role) == (attacker.user_id, "user")

    async def test_of_a_request_is_the_front_doors_alone(self, attacker: Person, admin: Person) -> None:
        theirs = identities(attacker, admin)["x-request-id"]
        answer = await attacker.http.get("/api/auth/session", headers={"x-request-id": theirs})
        assert answer.headers["x-request-id"] != theirs


class TestAddress:
    async def test_in_the_audit_log_and_the_list_of_sessions_is_the_true_one(
        self, platform: Platform, attacker: Person, admin: Person
    ) -> None:
        headers = {**identities(attacker, admin), "user-agent": "agent of the attacker"}
        async with platform.client() as http:
            body = {"email": attacker.email, "password": PASSWORD}
            signed_in = await http.post("/api/auth/signin", json=body, headers=headers)
        assert signed_in.status_code == 200
        (entry, *_) = await entries(admin, attacker.user_id, "auth.sign_in")
        assert (entry["ipAddress"], entry["userAgent"]) == (HERE, "agent of the attacker")
        assert entry["requestId"] == signed_in.headers["x-request-id"]
        sessions = (await attacker.http.get("/api/auth/sessions")).json()["sessions"]
        assert {session["ipAddress"] for session in sessions} == {HERE}

    async def test_of_what_other_services_saw_is_the_true_one(self, victim: Person, admin: Person) -> None:
        """Events of the key vault, which come to the log by way of its outbox."""
        deleted = await victim.http.delete("/api/provider-config/openai", headers=ADDRESSES)
        assert deleted.status_code == 200
        (entry,) = await entries(admin, victim.user_id, "provider_config.deleted")
        assert (entry["ipAddress"], entry["service"]) == (HERE, "key-vault")

    async def test_is_not_believed_of_a_service_that_is_not_the_front_door(
        self, platform: Platform, victim: Person, admin: Person
    ) -> None:
        stack = platform.stack
        metadata = (*ADDRESSES.items(), ("authorization", f"Bearer {victim.token}"))
        address, tls = stack.address("key-vault"), stack.tls("provider-router")
        async with open_channel(address, "key-vault", tls) as channel:
            await ProviderConfigServiceStub(channel).DeleteProviderConfig(
                DeleteProviderConfigRequest(provider="openai"), metadata=metadata, timeout=10
            )
        (entry,) = await entries(admin, victim.user_id, "provider_config.deleted")
        assert (entry["ipAddress"], entry["userAgent"]) == ("", "")

    async def test_of_another_does_not_begin_another_count(self, platform: Platform, attacker: Person) -> None:
        """What is counted by address goes on counting."""
        async with platform.client() as http:
            for number in range(5):
                pretended = {name: value.replace(ELSEWHERE, f"203.0.113.{number}") for name, value in ADDRESSES.items()}
                answer = await self._sign_in(http, attacker, pretended)
                limit, left = (int(answer.headers[f"ratelimit-{name}"]) for name in ("limit", "remaining"))
                assert left <= limit - 1 - number

    async def test_of_another_does_not_begin_another_wait(self, platform: Platform, attacker: Person) -> None:
        """Failures to sign in count for the address, and for the account wherever they come from."""
        async with platform.client() as http:
            reasons = []
            for number in range(7):
                pretended = {name: value.replace(ELSEWHERE, f"203.0.113.{number}") for name, value in ADDRESSES.items()}
                answer = await self._sign_in(http, attacker, pretended, password="another fine pass phrase")
                reasons.append(answer.json()["details"][0]["reason"])
        assert reasons[:5] == ["INVALID_CREDENTIALS"] * 5
        assert "TOO_MANY_ATTEMPTS" in reasons[5:]

    @staticmethod
    async def _sign_in(
        http: httpx.AsyncClient, person: Person, headers: dict[str, str], password: str = PASSWORD
    ) -> httpx.Response:
        return await http.post("/api/auth/signin", json={"email": person.email, "password": password}, headers=headers)


class TestServiceThatOversteps:
    """A service that was taken over: its certificate opens what it needs, and no more (see the access matrix)."""

    @pytest.mark.parametrize("claim", [{}, {"x-forwarded-client-cert": "URI=spiffe://realmultillm/envoy"}])
    async def test_no_metadata_makes_it_another(
        self, platform: Platform, victim: Person, claim: dict[str, str]
    ) -> None:
        stack = platform.stack
        metadata = (*claim.items(), ("authorization", f"Bearer {victim.token}"))
        async with open_channel(stack.address("auth"), "auth", stack.tls("worker-openai")) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await AuthServiceStub(channel).GetSession(GetSessionRequest(), metadata=metadata, timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    async def test_a_worker_gets_no_key_of_another_provider(self, platform: Platform, victim: Person) -> None:
        stack = platform.stack
        async with open_channel(stack.address("key-vault"), "key-vault", stack.tls("worker-grok")) as channel:
            stub: Any = CredentialServiceStub(channel)
            for call in (
                stub.GetCredential(GetCredentialRequest(user_id=victim.user_id, provider="openai"), timeout=10),
                stub.WatchCredentials(WatchCredentialsRequest(provider="openai"), timeout=10),
            ):
                assert await call.code() is grpc.StatusCode.PERMISSION_DENIED

    async def test_a_worker_reports_no_usage_of_another_provider(self, platform: Platform, victim: Person) -> None:
        stack = platform.stack
        record = UsageRecord(
            id=str(uuid.uuid4()),
            user_id=victim.user_id,
            provider="openai",
            model_requested="m",
            end_state=UsageRecord.COMPLETED,
            attempts=1,
        )
        record.start_time.GetCurrentTime()
        async with open_channel(stack.address("analytics"), "analytics", stack.tls("worker-grok")) as channel:
            stub: Any = UsageIngestServiceStub(channel)
            call = stub.IngestUsage(IngestUsageRequest(records=[record]), timeout=10)
            assert await call.code() is grpc.StatusCode.PERMISSION_DENIED, await call.details()

    async def test_a_worker_reports_nothing_to_the_audit_log_that_others_see(
        self, platform: Platform, victim: Person, admin: Person
    ) -> None:
        stack = platform.stack
        event = AuditEvent(id=str(uuid.uuid4()), user_id=victim.user_id, action="auth.sign_in", resource="session/x")
        event.timestamp.GetCurrentTime()
        async with open_channel(stack.address("auth"), "auth", stack.tls("worker-grok")) as channel:
            stub: Any = AuditIngestServiceStub(channel)
            call = stub.IngestAuditEvents(IngestAuditEventsRequest(events=[event]), timeout=10)
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT, await call.details()
            event.action = "access.denied"
            await stub.IngestAuditEvents(IngestAuditEventsRequest(events=[event]), timeout=10)
        await entries(admin, victim.user_id, "access.denied")
        found = await entries(admin, victim.user_id, "")
        reported = [(entry["action"], entry["service"]) for entry in found if entry["resource"] == "session/x"]
        assert reported == [("access.denied", "worker-grok")]
