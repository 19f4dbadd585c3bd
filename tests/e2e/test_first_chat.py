"""From signing up to the usage of the first chats, over REST and over gRPC."""

import time

import grpc
import httpx
from realmultillm.analytics.v1 import analytics_service_pb2 as analytics
from realmultillm.analytics.v1.analytics_service_pb2_grpc import AnalyticsServiceStub
from realmultillm.auth.v1 import auth_service_pb2 as auth
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from realmultillm.keyvault.v1 import provider_config_service_pb2 as vault
from realmultillm.keyvault.v1.provider_config_service_pb2_grpc import ProviderConfigServiceStub

from deploy.local.topology import is_service, metrics_of
from libs.provider_catalog import load_catalog
from libs.providers import worker_service
from tests.e2e.conftest import HELLO, PASSWORD, Person, Platform, error_of, events


class TestOverRest:
    async def test_sign_up_store_key_chat_stream_and_see_usage(self, platform: Platform):
        async with platform.client() as http:
            body = {"email": "Ada@Example.com ", "password": PASSWORD, "name": "Ada"}
            signed_up = (await http.post("/api/auth/signup", json=body)).json()
            assert signed_up["user"]["email"] == "ada@example.com"
            assert signed_up["user"]["role"] == "user"
            signed_in = (
                await http.post("/api/auth/signin", json={"email": "ada@example.com", "password": PASSWORD})
            ).json()
            http.headers["authorization"] = f"Bearer {signed_in['token']}"
            session = (await http.get("/api/auth/session")).json()
            assert session["user"] == signed_up["user"]

            assert error_of(await http.get("/api/provider-config/openai")) == (404, "NOT_FOUND")
            stored = (await http.post("/api/provider-config/openai", json={"apiKey": "sk-sandbox-ada-0001"})).json()
            assert (stored["success"], stored["configured"], stored["provider"]) == (True, True, "openai")
            assert stored["testResult"]["success"]
            config = (await http.get("/api/provider-config/openai")).json()
            assert (config["configured"], config["keyHint"]) == (True, "0001")
            assert "sandbox" not in str(config)

            listed = (await http.get("/api/providers")).json()["providers"]
            openai = next(row for row in listed if row["id"] == "openai")
            assert openai["enabled"]
            assert openai["configured"]
            # Whether it is healthy depends on the bad days of other tests.
            assert openai["performance"]["windowSeconds"] == 60

            whole = await http.post("/api/chat/openai", json={"messages": HELLO})
            assert whole.status_code == 200, whole.text
            answer = whole.json()
            assert answer["choices"][0]["message"]["role"] == "assistant"
            assert answer["choices"][0]["index"] == 0
            assert answer["choices"][0]["finish_reason"] == "stop"
            assert answer["usage"]["total_tokens"] > 0
            assert float(whole.headers["x-overhead-ms"]) >= 0
            assert float(whole.headers["x-provider-latency-ms"]) > 0
            assert whole.headers["x-request-id"]

            streamed = await http.post("/api/chat/openai/stream", json={"messages": HELLO})
            assert streamed.headers["content-type"] == "text/event-stream"
            chunks = events(streamed.text.splitlines())
            assert "".join(chunk.get("content", "") for chunk in chunks) == answer["choices"][0]["message"]["content"]
            assert chunks[-1]["finish_reason"] == "stop"
            assert chunks[-1]["usage"] == answer["usage"]
            # A chunk says nothing but what is new.
            known = {"content", "finish_reason", "native_finish_reason", "service_tier", "usage", "cost_usd"}
            assert set(chunks[1]) <= known

            person = Person(http, signed_in["user"]["id"], "", "", "")
            totals = await person.usage_when(lambda totals: totals["requests"] == 2)
            assert totals["promptTokens"] == 2 * answer["usage"]["prompt_tokens"]
            assert totals["completionTokens"] == 2 * answer["usage"]["completion_tokens"]
            assert totals["requestsByEndState"] == {"completed": 2}

            assert (await http.post("/api/auth/signout", json={})).json() == {"success": True}
            assert error_of(await http.get("/api/auth/session")) == (401, "UNAUTHENTICATED")

    async def test_over_https_too(self, platform: Platform, person: Person):
        import ssl

        context = ssl.create_default_context(cafile=str(platform.stack.layout.pki / "public" / "ca.crt"))
        headers = {"authorization": f"Bearer {person.token}"}
        async with httpx.AsyncClient(base_url=platform.stack.https_url, verify=context, headers=headers) as http:
            assert (await http.post("/api/chat/openai", json={"messages": HELLO})).status_code == 200


class TestOverGrpc:
    async def test_the_same_by_a_plain_client(self, platform: Platform):
        async with grpc.aio.insecure_channel(platform.stack.base_url.removeprefix("http://")) as channel:
            signed_up = await AuthServiceStub(channel).SignUp(
                auth.SignUpRequest(email="grace@example.com", password=PASSWORD)
            )
            mine = (("authorization", f"Bearer {signed_up.token}"),)
            stored = await ProviderConfigServiceStub(channel).SetProviderConfig(
                vault.SetProviderConfigRequest(provider="openai", api_key="sk-sandbox-grace-0001"), metadata=mine
            )
            assert stored.test_result.success
            chats = ChatServiceStub(channel)
            request = chat.CreateChatCompletionRequest(
                provider="openai", messages=[chat.ChatMessage(role="user", content="Hello")]
            )
            whole = await chats.CreateChatCompletion(request, metadata=mine)
            chunks = [chunk async for chunk in chats.StreamChatCompletion(request, metadata=mine)]
            assert "".join(chunk.content for chunk in chunks) == whole.choices[0].message.content
            assert chunks[-1].usage == whole.usage
            usage = AnalyticsServiceStub(channel)
            deadline = time.monotonic() + 20
            report = await usage.GetUsage(analytics.GetUsageRequest(), metadata=mine)
            while report.totals.requests < 2 and time.monotonic() < deadline:
                report = await usage.GetUsage(analytics.GetUsageRequest(), metadata=mine)
            assert report.totals.requests == 2
            assert report.totals.completion_tokens == 2 * whole.usage.completion_tokens

    async def test_an_error_has_its_details(self, platform: Platform):
        async with grpc.aio.insecure_channel(platform.stack.base_url.removeprefix("http://")) as channel:
            call = ChatServiceStub(channel).CreateChatCompletion(chat.CreateChatCompletionRequest(provider="openai"))
            try:
                await call
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED  # noqa: PT017
                assert b"UNAUTHENTICATED" in dict(error.trailing_metadata())["grpc-status-details-bin"]  # noqa: PT017


class TestMetrics:
    async def test_every_service_tells_prometheus_how_it_fares(self, platform: Platform):
        services = [name for name in platform.stack.processes if is_service(name)]
        async with httpx.AsyncClient() as http:
            told = {
                name: (await http.get(f"http://{platform.stack.address(metrics_of(name))}/metrics")).text
                for name in services
            }
        assert all("process_resident_memory_bytes" in text for text in told.values())
        for provider in load_catalog():
            text = told[worker_service(provider)]
            assert f'realmultillm_provider_state{{provider="{provider}",state="healthy"}}' in text


class TestHealth:
    async def test_tells_how_the_services_stand(self, platform: Platform):
        async with platform.client() as http:
            response = await http.get("/api/health")
        assert response.status_code == 200
        body = response.json()
        assert body["status"] == "ok"
        assert body["services"]["workers"] == dict.fromkeys(load_catalog(), "ok")
        assert body["providers"].keys() == load_catalog().keys()
        assert "unknown" not in body["providers"].values()
        assert {body["services"][name] for name in ("auth", "keyVault", "vault", "analytics", "database")} == {"ok"}
        assert body["version"]
