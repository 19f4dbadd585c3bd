"""REST calls become gRPC calls of the right service, and their answers JSON as the API promises it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.analytics.v1.analytics_service_pb2 import UsageReport, UsageTotals
from realmultillm.auth.v1.auth_service_pb2 import SignInResponse, User
from realmultillm.chat.v1.chat_service_pb2 import AssistantMessage, ChatCompletion, Choice, Usage
from realmultillm.keyvault.v1 import provider_config_service_pb2 as configs
from realmultillm.router.v1.model_service_pb2 import ListModelsResponse, Model

from libs.errors import InvalidRequest, LimitExceeded, ProviderUnavailable, Violation
from libs.worker.json_object import json_object, plain
from tests.integration.envoy.conftest import Backends


class TestRoutes:
    @pytest.mark.parametrize(
        ("method", "path", "service", "called"),
        [
            ("POST", "/api/auth/signup", "auth", "SignUp"),
            ("GET", "/api/auth/session", "auth", "GetSession"),
            ("PUT", "/api/auth/password", "auth", "ChangePassword"),
            ("GET", "/api/auth/sessions", "auth", "ListSessions"),
            ("DELETE", "/api/auth/sessions", "auth", "DeleteOtherSessions"),
            ("DELETE", "/api/auth/sessions/ses_1", "auth", "DeleteSession"),
            ("POST", "/api/auth/tokens", "auth", "CreateApiToken"),
            ("GET", "/api/auth/tokens?pageSize=3", "auth", "ListApiTokens"),
            ("DELETE", "/api/auth/tokens/key_1", "auth", "DeleteApiToken"),
            ("GET", "/api/admin/users", "auth", "ListUsers"),
            ("GET", "/api/admin/users/usr_1", "auth", "GetUser"),
            ("PATCH", "/api/admin/users/usr_1", "auth", "UpdateUser"),
            ("GET", "/api/admin/audit-logs", "auth", "ListAuditLogs"),
            ("GET", "/api/admin/audit-logs/verify", "auth", "VerifyAuditLogs"),
            ("GET", "/api/provider-config/google-ai", "key-vault", "GetProviderConfig"),
            ("DELETE", "/api/provider-config/openai", "key-vault", "DeleteProviderConfig"),
            ("POST", "/api/provider-config/openai", "key-vault", "SetProviderConfig"),
            ("POST", "/api/provider-config/test", "key-vault", "TestProviderConfig"),
            ("GET", "/api/provider-config/test", "key-vault", "GetProviderConfig"),
            ("GET", "/api/models/openai", "provider-router", "ListModels"),
            ("GET", "/api/models/google-ai?pageSize=3&pageToken=live%3A0%3Aa%2Fb", "provider-router", "ListModels"),
            ("GET", "/api/analytics/usage", "analytics", "GetUsage"),
            ("GET", "/api/providers", "provider-router", "ListProviders"),
            ("GET", "/api/health", "provider-router", "GetPlatformHealth"),
            ("POST", "/api/chat/openai", "worker-openai", "CreateChatCompletion"),
            ("POST", "/api/chat/openai/stream", "worker-openai", "StreamChatCompletion"),
            ("POST", "/api/chat/google-ai", "worker-google-ai", "CreateChatCompletion"),
            ("POST", "/api/chat/auto", "provider-router", "CreateChatCompletion"),
            ("POST", "/api/chat/auto/stream", "provider-router", "StreamChatCompletion"),
            ("POST", "/api/chat/nobody", "provider-router", "CreateChatCompletion"),
            ("POST", "/api/chat/openai2", "provider-router", "CreateChatCompletion"),
            ("POST", "/api//chat/openai", "worker-openai", "CreateChatCompletion"),
            ("POST", "/api/chat/compare", "provider-router", "CompareChatCompletions"),
            ("POST", "/api/chat/compare/stream", "provider-router", "StreamChatComparison"),
            ("GET", "/api/models", "provider-router", "ListModels"),
            ("POST", "/api/models/compare", "provider-router", "CompareModels"),
            ("POST", "/v1/chat/completions", "provider-router", "CreateChatCompletion"),
            ("POST", "/v1/embeddings", "provider-router", "CreateEmbedding"),
            ("POST", "/v1/messages", "provider-router", "CreateMessage"),
            ("POST", "/v1/messages/count_tokens", "provider-router", "CountMessageTokens"),
            ("GET", "/v1/models", "provider-router", "GetModels"),
            ("GET", "/v1/models?limit=1000", "provider-router", "GetModels"),
            ("GET", "/v1/models/openai/gpt-4o", "provider-router", "GetModel"),
            ("POST", "/openai/v1/chat/completions", "worker-openai", "CreateChatCompletion"),
            ("POST", "/google-ai/v1/embeddings", "worker-google-ai", "CreateEmbedding"),
            ("POST", "/openai/v1/messages", "worker-openai", "CreateMessage"),
            ("POST", "/openai/v1/messages/count_tokens", "worker-openai", "CountMessageTokens"),
            ("GET", "/openai/v1/models", "provider-router", "GetModels"),
            ("GET", "/openrouter/v1/models/meta/llama:free", "provider-router", "GetModel"),
            ("POST", "/nobody/v1/chat/completions", "provider-router", "CreateChatCompletion"),
            ("POST", "/openai2/v1/messages", "provider-router", "CreateMessage"),
        ],
    )
    async def test_each_path_reaches_the_one_service_that_serves_it(
        self, rest: httpx.AsyncClient, backends: Backends, method: str, path: str, service: str, called: str
    ) -> None:
        response = await rest.request(method, path)

        assert response.status_code == 200, response.text
        assert backends.asked() == {service: [called]}

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/api/admin/users"),
            ("DELETE", "/api/admin/users/usr_1"),
            ("PUT", "/api/admin/users/usr_1"),
            ("DELETE", "/api/admin/audit-logs"),
            ("POST", "/api/admin/audit-logs"),
            ("GET", "/api/admin"),
            ("GET", "/api/admin/usersx"),
            ("PATCH", "/api/auth/tokens/key_1"),
            ("GET", "/api/auth/tokens/key_1"),
            ("POST", "/api/auth/password"),
        ],
    )
    async def test_no_other_verb_or_path_reaches_any(
        self, rest: httpx.AsyncClient, backends: Backends, method: str, path: str
    ) -> None:
        response = await rest.request(method, path)

        assert response.status_code in (404, 405), response.text
        assert backends.asked() == {}

    async def test_the_service_knows_that_envoy_calls(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        await rest.get("/api/health")

        (call,) = backends["provider-router"].asked
        assert call.peer == "envoy"


class TestRequests:
    async def test_fields_are_read_in_both_spellings_and_the_path_fills_its_own(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        for name in ("maxTokens", "max_tokens"):
            await rest.post("/api/chat/openai", json={"model": "m", "options": {name: 5, "seed": 7, "temperature": 0}})

        for call in backends["worker-openai"].asked:
            assert call.request.provider == "openai"
            assert (call.request.options.max_tokens, call.request.options.seed) == (5, 7)
            assert call.request.options.HasField("temperature")
            assert not call.request.options.HasField("top_p")

    async def test_unknown_fields_of_the_body_are_ignored(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        response = await rest.post("/api/auth/signup", json={"email": "a@example.com", "surname": {"deep": [1]}})

        assert response.status_code == 200
        assert backends["auth"].asked[0].request.email == "a@example.com"

    async def test_an_empty_body_is_an_empty_request(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        assert (await rest.post("/api/auth/signout")).status_code == 200

    async def test_timestamps_and_page_tokens_are_read_from_the_query(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        span = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T01:00:00.5+01:00"}
        assert (await rest.get("/api/analytics/usage", params=span)).status_code == 200
        assert (await rest.get("/api/providers", params={"pageSize": 3, "page_token": "a+b/c="})).status_code == 200

        (usage,), (page,) = backends["analytics"].asked, backends["provider-router"].asked
        assert getattr(usage.request, "from") == Timestamp(seconds=1793491200)
        assert usage.request.to == Timestamp(seconds=1793577600, nanos=500_000_000)
        assert (page.request.page_size, page.request.page_token) == (3, "a+b/c=")

    async def test_json_objects_keep_the_order_of_their_members_and_every_kind_of_value(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("steps", "answer", "zeal", "a", "middle")},
            "required": ["steps", "answer"],
            "x": [None, True, False, 0, -1.5, 1e300, "", "Grüße", {}, [], {"b": 1, "a": {"d": [], "c": None}}],
        }
        options = {
            "tools": [{"name": "t", "parameters": schema}],
            "responseFormat": {"type": "json_schema", "jsonSchema": schema},
        }
        response = await rest.post("/api/chat/openai", json={"options": options})

        assert response.status_code == 200, response.text
        (call,) = backends["worker-openai"].asked
        for received in (call.request.options.tools[0].parameters, call.request.options.response_format.json_schema):
            assert json.dumps(plain(received)) == json.dumps(schema)

    async def test_large_bodies_pass_whole(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        picture = "x" * (31 * 1024 * 1024)

        response = await rest.post("/api/chat/openai", json={"messages": [{"role": "user", "content": picture}]})

        assert response.status_code == 200
        (call,) = backends["worker-openai"].asked
        assert call.request.messages[0].content == picture


class TestAnswers:
    async def test_empty_fields_are_printed(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        async def sign_in(request: Any, context: Any) -> SignInResponse:
            return SignInResponse(user=User(id="usr_1"), expire_time=Timestamp(seconds=1793491200))

        async def usage(request: Any, context: Any) -> UsageReport:
            return UsageReport(totals=UsageTotals(requests_by_end_state={"completed": 0}))

        backends["auth"].answers["SignIn"] = sign_in
        backends["analytics"].answers["GetUsage"] = usage

        assert (await rest.post("/api/auth/signin", json={})).json() == {
            "user": {"id": "usr_1", "email": "", "name": "", "role": ""},
            "token": "",
            "expireTime": "2026-11-01T00:00:00Z",
        }
        assert (await rest.get("/api/analytics/usage")).json() == {
            "totals": {
                "requests": 0,
                "promptTokens": 0,
                "completionTokens": 0,
                "reasoningTokens": 0,
                "cachedTokens": 0,
                "requestsByEndState": {"completed": 0},
                "cacheWriteTokens": 0,
                "estimatedRequests": 0,
                "embeddingRequests": 0,
            },
            "buckets": [],
        }
        assert (await rest.get("/api/providers")).json() == {"providers": [], "nextPageToken": ""}

    async def test_a_test_of_a_key_and_a_list_of_models_have_the_fields_they_promise(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        async def test(request: Any, context: Any) -> configs.TestProviderConfigResponse:
            return configs.TestProviderConfigResponse(success=True, message="OpenAI accepted the key.")

        async def models(request: Any, context: Any) -> ListModelsResponse:
            known = Model(id="a", provider="openai", display_name="A", context_length=0, max_output_tokens=8)
            return ListModelsResponse(models=[known, Model(id="b")], source="live")

        backends["key-vault"].answers["TestProviderConfig"] = test
        backends["provider-router"].answers["ListModels"] = models

        body = {"provider": "openai", "apiKey": "sk-1", "model": "gpt-4o"}
        assert (await rest.post("/api/provider-config/test", json=body)).json() == {
            "success": True,
            "message": "OpenAI accepted the key.",
            "latency": 0,
            "error": "",
        }
        (call,) = backends["key-vault"].asked
        assert (call.request.provider, call.request.api_key, call.request.model) == ("openai", "sk-1", "gpt-4o")
        assert (await rest.get("/api/models/openai")).json() == {
            "models": [
                {
                    "id": "a",
                    "provider": "openai",
                    "displayName": "A",
                    "source": "",
                    "aliases": [],
                    "contextLength": 0,
                    "maxOutputTokens": 8,
                },
                {"id": "b", "provider": "", "displayName": "", "source": "", "aliases": []},
            ],
            "sources": [],
            "nextPageToken": "",
            "source": "live",
            "notice": "",
        }

    async def test_json_objects_are_printed_as_what_they_are(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        details = [
            {"type": "reasoning.text", "text": "Hm.", "signature": "c2ln", "index": 0, "extra": {"z": [], "a": None}}
        ]

        async def complete(request: Any, context: Any) -> ChatCompletion:
            message = AssistantMessage(reasoning_details=[json_object(detail) for detail in details])
            return ChatCompletion(choices=[Choice(message=message)])

        backends["worker-openai"].answers["CreateChatCompletion"] = complete
        (choice,) = (await rest.post("/api/chat/openai", json={})).json()["choices"]
        assert json.dumps(choice["message"]["reasoning_details"]) == json.dumps(details)
        sent_back = {"role": "assistant", "content": "x", "reasoning_details": choice["message"]["reasoning_details"]}
        await rest.post("/api/chat/openai", json={"messages": [sent_back]})
        (returned,) = backends["worker-openai"].asked[-1].request.messages
        assert [plain(detail) for detail in returned.reasoning_details] == details

    async def test_of_a_chat_only_what_is_set_is_printed_in_openai_s_spelling(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        async def complete(request: Any, context: Any) -> ChatCompletion:
            return ChatCompletion(
                id="c1",
                created=1793491200,
                choices=[Choice(index=0, message=AssistantMessage(role="assistant", content=""), finish_reason="stop")],
                usage=Usage(prompt_tokens=0, total_tokens=9),
                cost_usd=0.25,
            )

        backends["worker-openai"].answers["CreateChatCompletion"] = complete

        assert (await rest.post("/api/chat/openai", json={})).json() == {
            "id": "c1",
            "created": 1793491200,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 0, "total_tokens": 9},
            "cost_usd": 0.25,
        }

    async def test_large_answers_pass_whole(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        text = "x" * (31 * 1024 * 1024)

        async def complete(request: Any, context: Any) -> ChatCompletion:
            return ChatCompletion(id=text)

        backends["worker-openai"].answers["CreateChatCompletion"] = complete

        assert (await rest.post("/api/chat/openai", json={})).json() == {"id": text}


class TestErrorsOfServices:
    async def test_an_error_keeps_its_details_and_gets_its_http_status(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        async def refuse(request: Any, context: Any) -> None:
            raise InvalidRequest([Violation("email", 'must hold an "@" <somewhere>')])

        backends["auth"].answers["SignUp"] = refuse

        response = await rest.post("/api/auth/signup", json={})

        assert response.status_code == 400
        assert response.headers["content-type"] == "application/json"
        body = response.json()
        assert (body["code"], body["message"]) == (3, 'email: must hold an "@" <somewhere>')
        assert [detail["@type"].rpartition(".")[2] for detail in body["details"]] == ["ErrorInfo", "BadRequest"]
        assert body["details"][0]["reason"] == "INVALID_ARGUMENT"
        assert body["details"][0]["domain"] == "realmultillm"
        assert body["details"][1]["fieldViolations"][0]["field"] == "email"

    async def test_a_limit_tells_when_to_come_back(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        async def refuse(request: Any, context: Any) -> None:
            raise LimitExceeded("Wait three seconds.", retry_after=3)

        backends["auth"].answers["SignIn"] = refuse

        response = await rest.post("/api/auth/signin", json={})

        assert (response.status_code, response.headers["retry-after"]) == (429, "3")
        assert response.json()["details"][1]["retryDelay"] == "3s"

    async def test_a_stream_that_fails_before_its_first_event_has_an_http_status(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        async def fail(request: Any, context: Any) -> Any:
            raise ProviderUnavailable("The provider is down; try again later.", provider="openai")
            yield

        backends["worker-openai"].answers["StreamChatCompletion"] = fail

        response = await rest.post("/api/chat/openai/stream", json={})

        assert (response.status_code, response.headers["content-type"]) == (503, "application/json")
        assert response.json()["details"][0]["reason"] == "PROVIDER_UNAVAILABLE"
        assert response.json()["details"][0]["metadata"] == {"provider": "openai"}
