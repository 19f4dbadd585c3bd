"""Every wrong turn answers with its status and reason, says what to do next, and leaves nothing half-written."""

import asyncio
import json

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from libs import tokens
from tests.e2e.conftest import HELLO, PASSWORD, Person, Platform, error_of


class TestRequest:
    @pytest.mark.parametrize(
        ("method", "path", "content", "status", "reason"),
        [
            ("POST", "/api/chat/openai", b'{"messages": [', 400, "INVALID_ARGUMENT"),
            ("POST", "/api/chat/openai", b'{"messages": "hello"}', 400, "INVALID_ARGUMENT"),
            ("POST", "/api/chat/openai", b'{"options": {"temperature": "warm"}}', 400, "INVALID_ARGUMENT"),
            ("POST", "/api/chat/openai", b"{}", 400, "INVALID_ARGUMENT"),
            ("POST", "/api/chat/openai", b"", 400, "INVALID_ARGUMENT"),
            ("POST", "/api/chat/openai", b"\xff\xfe", 400, "INVALID_ARGUMENT"),
            ("POST", "/api/chat/openai", b'{"provider": "grok", "messages": []}', 400, "INVALID_ARGUMENT"),
            (
                "POST",
                "/api/chat/openai?verbose=true",
                json.dumps({"messages": HELLO}).encode(),
                400,
                "INVALID_ARGUMENT",
            ),
            ("GET", "/api/providers?colour=blue", b"", 400, "INVALID_ARGUMENT"),
            ("GET", "/api/analytics/usage?from=yesterday", b"", 400, "INVALID_ARGUMENT"),
            ("GET", "/api/elsewhere", b"", 404, "NOT_FOUND"),
            ("GET", "/", b"", 404, "NOT_FOUND"),
            ("POST", "/api/chat/nobody", json.dumps({"messages": HELLO}).encode(), 404, "PROVIDER_NOT_FOUND"),
            ("POST", "/api/provider-config/nobody", b'{"apiKey": "sk-sandbox-0000"}', 404, "PROVIDER_NOT_FOUND"),
            ("GET", "/api/provider-config/anthropic", b"", 404, "NOT_FOUND"),
            ("DELETE", "/api/provider-config/anthropic", b"", 404, "NOT_FOUND"),
        ],
    )
    async def test_is_refused(self, person: Person, method: str, path: str, content: bytes, status: int, reason: str):
        response = await person.http.request(
            method, path, content=content, headers={"content-type": "application/json"}
        )
        assert error_of(response) == (status, reason)

    async def test_body_of_40_mib_is_too_large(self, person: Person):
        response = await person.chat(messages=[{"role": "user", "content": "x" * (40 * 1024 * 1024)}])
        assert error_of(response) == (413, "REQUEST_TOO_LARGE")

    async def test_body_of_20_mib_is_not(self, platform: Platform, person: Person):
        picture = "data:image/png;base64," + "A" * (20 * 1024 * 1024)
        parts = [{"text": "What is this?"}, {"imageUrl": {"url": picture}}]
        response = await person.chat(model="gpt-4o", messages=[{"role": "user", "parts": parts}])
        assert response.status_code == 200, response.text[:500]

    async def test_refused_chat_is_not_recorded(self, person: Person):
        await person.chat(messages=[])
        await person.chat()
        assert (await person.usage_when(lambda totals: totals["requests"] >= 1))["requests"] == 1


class TestCaller:
    @pytest.mark.parametrize("path", ["/api/chat/openai", "/api/chat/openai/stream", "/api/chat/auto"])
    @pytest.mark.parametrize(
        "authorization",
        ["", "Bearer", "Bearer nonsense", "Basic YTpi", f"Bearer {tokens.mint('rmls_').reveal()}"],
        ids=["none", "scheme", "nonsense", "basic", "unknown"],
    )
    async def test_without_a_valid_token_is_refused(self, platform: Platform, path: str, authorization: str):
        async with platform.client() as http:
            headers = {"authorization": authorization} if authorization else {}
            response = await http.post(path, json={"messages": HELLO}, headers=headers)
        assert error_of(response) == (401, "UNAUTHENTICATED")

    async def test_token_is_dead_everywhere_within_a_second_of_signing_out(self, platform: Platform, person: Person):
        assert (await person.chat()).status_code == 200
        assert (await person.usage())["requests"] >= 0
        await person.http.post("/api/auth/signout", json={})
        await asyncio.sleep(1)
        for response in (
            await person.chat(),
            await person.http.get("/api/analytics/usage"),
            await person.http.get("/api/provider-config/openai"),
            await person.http.get("/api/providers"),
            await person.http.get("/api/auth/session"),
        ):
            assert error_of(response) == (401, "UNAUTHENTICATED")

    async def test_sees_nothing_of_another(self, platform: Platform, person: Person):
        await person.chat()
        await person.usage_when(lambda totals: totals["requests"] == 1)
        async with platform.person(with_key=False) as other:
            assert (await other.usage())["requests"] == 0
            assert error_of(await other.http.get("/api/provider-config/openai")) == (404, "NOT_FOUND")
            assert error_of(await other.http.get(f"/api/analytics/usage?userId={person.user_id}"))[0] == 400

    async def test_cannot_reach_internal_services(self, platform: Platform, person: Person):
        for method in (
            "realmultillm.auth.v1.TokenService/VerifyToken",
            "realmultillm.keyvault.v1.CredentialService/GetCredential",
            "realmultillm.analytics.v1.UsageIngestService/IngestUsage",
            "realmultillm.provider.v1.ProviderService/TestKey",
            "grpc.health.v1.Health/Check",
        ):
            response = await person.http.post(f"/{method}", content=b"", headers={"content-type": "application/grpc"})
            assert response.headers.get("grpc-status") not in (None, "0") or response.status_code == 404, method

    async def test_may_not_speak_to_a_service_without_a_certificate(self, platform: Platform):
        trusting = grpc.ssl_channel_credentials(platform.stack.tls().material.authority)
        async with grpc.aio.secure_channel(platform.stack.address("worker-openai"), trusting) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await HealthStub(channel).Check(HealthCheckRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    async def test_may_not_speak_to_a_service_in_the_clear(self, platform: Platform):
        host, port = platform.stack.address("worker-openai").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        await asyncio.wait_for(reader.read(), 5)
        assert reader.at_eof()
        writer.close()


class TestAccount:
    async def test_email_that_exists(self, platform: Platform, person: Person):
        async with platform.client() as http:
            body = {"email": person.email.upper(), "password": PASSWORD}
            assert error_of(await http.post("/api/auth/signup", json=body)) == (409, "EMAIL_ALREADY_EXISTS")

    async def test_all_violations_at_once(self, platform: Platform):
        async with platform.client() as http:
            response = await http.post("/api/auth/signup", json={"email": "nobody", "password": "short"})
        assert error_of(response) == (400, "INVALID_ARGUMENT")
        bad = next(detail for detail in response.json()["details"] if detail["@type"].endswith("BadRequest"))
        assert {violation["field"] for violation in bad["fieldViolations"]} == {"email", "password"}

    async def test_wrong_email_and_wrong_password_look_the_same(self, platform: Platform, person: Person):
        async with platform.client() as http:
            wrong = await http.post("/api/auth/signin", json={"email": person.email, "password": "not the pass phrase"})
            unknown = await http.post("/api/auth/signin", json={"email": "no@example.com", "password": PASSWORD})
        assert wrong.json() == unknown.json()
        assert error_of(wrong) == (401, "INVALID_CREDENTIALS")


class TestKey:
    async def test_none_stored(self, platform: Platform):
        async with platform.person(with_key=False) as person:
            response = await person.chat()
        assert error_of(response) == (400, "PROVIDER_NOT_CONFIGURED")
        assert "/api/provider-config/openai" in response.json()["message"]

    async def test_refused_by_the_provider_is_told_and_not_stored(self, platform: Platform):
        async with platform.person(with_key=False) as person:
            response = await person.http.post("/api/provider-config/openai", json={"apiKey": "sk-wrong-0123456789"})
            assert response.status_code == 200
            answer = response.json()
            assert (answer["success"], answer["configured"]) == (False, False)
            assert answer["testResult"]["error"] == "INVALID_API_KEY"
            assert error_of(await person.http.get("/api/provider-config/openai")) == (404, "NOT_FOUND")

    async def test_that_stops_working_is_told_at_the_chat(self, platform: Platform, person: Person):
        await platform.bad_day(person, status=401)
        assert error_of(await person.chat()) == (400, "INVALID_API_KEY")

    async def test_deleted_key_is_out_of_use_within_a_second(self, person: Person):
        assert (await person.chat()).status_code == 200
        assert (await person.http.delete("/api/provider-config/openai")).json() == {"success": True}
        await asyncio.sleep(1)
        assert error_of(await person.chat()) == (400, "PROVIDER_NOT_CONFIGURED")

    async def test_replaced_key_is_in_use_within_a_second(self, platform: Platform, person: Person):
        await person.chat()
        new_key = f"{person.key}-new"
        await person.http.post("/api/provider-config/openai", json={"apiKey": new_key})
        await asyncio.sleep(1)
        await person.chat()
        assert [r.path for r in await platform.sandbox.requests(key=new_key)][-1].endswith("/chat/completions")


class TestProvider:
    async def test_down(self, platform: Platform, person: Person):
        await platform.bad_day(person, cut_before_headers=True)
        assert error_of(await person.chat()) == (503, "PROVIDER_UNAVAILABLE")

    async def test_silent(self, platform: Platform, person: Person):
        await platform.bad_day(person, silent=True)
        assert error_of(await person.chat()) == (504, "CONNECTION_TIMEOUT")

    async def test_unknown_model(self, person: Person):
        assert error_of(await person.chat(model="unknown-9")) == (404, "MODEL_NOT_FOUND")
