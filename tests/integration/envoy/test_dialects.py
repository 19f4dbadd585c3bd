"""Calls in the words of other APIs: errors in their form, headers their SDKs send and read, names with slashes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import grpc
import httpx
import openai
import pytest
from google.api.httpbody_pb2 import HttpBody
from realmultillm.openai.v1.embedding_service_pb2 import CreateEmbeddingRequest
from realmultillm.openai.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

from libs.errors import (
    InvalidRequest,
    LimitExceeded,
    PlatformError,
    ProviderQuotaExhausted,
    ProviderUnavailable,
    Violation,
)
from tests.integration.envoy.conftest import ORIGIN, Backends
from tests.support.envoy import FrontDoor

OPENAI = ("/v1/chat/completions", "/v1/embeddings", "/openai/v1/chat/completions", "/nobody/v1/embeddings")
ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens", "/openai/v1/messages", "/openai/v1/messages/count_tokens")
JSON = {"content-type": "application/json"}
METHODS = ("CreateChatCompletion", "CreateEmbedding", "CreateMessage", "CountMessageTokens", "GetModels", "GetModel")


def refuse(backends: Backends, error: Exception) -> None:
    """Makes every service fail in this way."""

    async def whole(request: Any, context: Any) -> HttpBody:
        raise error

    async def stream(request: Any, context: Any) -> AsyncIterator[HttpBody]:
        raise error
        yield

    for service in ("provider-router", "worker-openai"):
        for method in METHODS:
            streamed = method in ("CreateChatCompletion", "CreateMessage")
            backends[service].answers[method] = stream if streamed else whole


def openai_error(response: httpx.Response) -> dict[str, Any]:
    """Returns the error of an answer in OpenAI's form, having checked the form."""
    _check_envelope(response)
    body = response.json()
    assert body.keys() == {"error"}, body
    assert {"message", "type", "param", "code"} <= body["error"].keys(), body
    error: dict[str, Any] = body["error"]
    return error


def anthropic_error(response: httpx.Response) -> dict[str, Any]:
    """Returns the error of an answer in Anthropic's form, having checked the form."""
    _check_envelope(response)
    body = response.json()
    assert (body.pop("type"), body.keys()) == ("error", {"error"}), body
    assert {"type", "message"} <= body["error"].keys(), body
    error: dict[str, Any] = body["error"]
    return error


def _check_envelope(response: httpx.Response) -> None:
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert "x-error-body" not in response.headers


class TestErrorsOfServices:
    @pytest.mark.parametrize("path", OPENAI)
    async def test_in_openai_s_form(self, rest: httpx.AsyncClient, backends: Backends, path: str) -> None:
        refuse(backends, InvalidRequest([Violation("messages", 'must hold "Grüße" \x7f\n and more')]))

        response = await rest.post(path, json={"stream": True})

        assert response.status_code == 400
        error = openai_error(response)
        assert error["message"] == 'messages: must hold "Grüße" \x7f\n and more'
        assert (error["type"], error["param"], error["code"]) == (
            "invalid_request_error",
            "messages",
            "invalid_value",
        )

    @pytest.mark.parametrize("path", ANTHROPIC)
    async def test_in_anthropic_s_form(self, rest: httpx.AsyncClient, backends: Backends, path: str) -> None:
        refuse(backends, LimitExceeded("Wait three seconds.", retry_after=3))

        response = await rest.post(path, json={"stream": True})

        assert (response.status_code, response.headers["retry-after"]) == (429, "3")
        error = anthropic_error(response)
        assert (error["type"], error["message"]) == ("rate_limit_error", "Wait three seconds.")

    async def test_of_models_in_the_form_of_whoever_asks(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        refuse(backends, ProviderUnavailable("The provider is down; try again later.", provider="openai"))

        assert openai_error(await rest.get("/v1/models"))["type"] == "server_error"
        version = {"anthropic-version": "2023-06-01"}
        assert anthropic_error(await rest.get("/v1/models/a/b", headers=version))["type"] == "overloaded_error"

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/messages"])
    async def test_a_bug_tells_nothing(self, rest: httpx.AsyncClient, backends: Backends, path: str) -> None:
        refuse(backends, RuntimeError("the secret"))

        response = await rest.post(path, json={})

        assert response.status_code == 500
        assert response.headers["x-request-id"] in response.json()["error"]["message"]
        assert "secret" not in response.text

    @pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/chat/completions"])
    async def test_as_long_as_they_get(self, rest: httpx.AsyncClient, backends: Backends, path: str) -> None:
        refuse(backends, InvalidRequest([Violation(f"messages[{n}]", "ü" * 100) for n in range(50)]))

        response = await rest.post(path, json={})

        assert response.status_code == 400
        assert openai_error(response)["message"].endswith("…")

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (ProviderQuotaExhausted("Pay the provider first.", provider="openai"), "false"),
            (LimitExceeded("Come back in an hour.", retry_after=3600), "false"),
            (LimitExceeded("Wait.", retry_after=1), None),
            (ProviderUnavailable("The provider is down; try again later.", provider="openai"), None),
        ],
    )
    async def test_an_sdk_learns_when_trying_again_is_in_vain(
        self, rest: httpx.AsyncClient, backends: Backends, error: PlatformError, said: str | None
    ) -> None:
        refuse(backends, error)

        assert (await rest.post("/v1/messages", json={})).headers.get("x-should-retry") == said

    async def test_a_grpc_caller_gets_the_platform_s_own(self, front_door: FrontDoor, backends: Backends) -> None:
        refuse(backends, LimitExceeded("Wait.", retry_after=3600))

        async with front_door.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await EmbeddingServiceStub(channel).CreateEmbedding(
                    CreateEmbeddingRequest(), metadata=[("x-envoy-original-path", "/v1/embeddings")], timeout=10
                )

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        said = dict(caught.value.trailing_metadata() or ()) | dict(caught.value.initial_metadata() or ())
        assert not {"x-error-body", "x-should-retry"} & said.keys()
        assert "grpc-status-details-bin" in said

    async def test_what_has_the_platform_s_own_form_keeps_it(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        async def fail(request: Any, context: Any) -> Any:
            context.set_trailing_metadata((("x-error-body", "{}"),))
            raise LimitExceeded("Wait.", retry_after=3)

        backends["worker-openai"].answers["CreateChatCompletion"] = fail

        response = await rest.post("/api/chat/openai", json={})

        assert response.status_code == 429
        assert response.json()["details"][0]["reason"] == "RATE_LIMIT_EXCEEDED"


class TestAnswers:
    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai/v1/messages"])
    async def test_streams_pass_byte_for_byte(self, rest: httpx.AsyncClient, backends: Backends, path: str) -> None:
        async def stream(request: Any, context: Any) -> AsyncIterator[HttpBody]:
            yield HttpBody(content_type="text/event-stream", data=b'event: a\ndata: {"x": 1.50}\n\n')
            yield HttpBody(content_type="text/event-stream", data=b"data: [DONE]\n\n")

        for service in ("provider-router", "worker-openai"):
            backends[service].answers |= {"CreateChatCompletion": stream, "CreateMessage": stream}

        response = await rest.post(path, content=b'{"model": "m",  "unheard-of": [1.50]}', headers=JSON)

        assert response.headers["content-type"] == "text/event-stream"
        assert response.content == b'event: a\ndata: {"x": 1.50}\n\ndata: [DONE]\n\n'
        (service,) = backends.asked()
        (call,) = backends[service].asked
        assert call.request.body.data == b'{"model": "m",  "unheard-of": [1.50]}'
        assert call.request.provider == ("openai" if path.startswith("/openai") else "")

    @pytest.mark.parametrize("path", ["/v1/messages", "/openai/v1/messages", "/v1/models", "/v1/models/m"])
    async def test_what_the_path_and_the_body_say_no_parameter_can_say(
        self, rest: httpx.AsyncClient, backends: Backends, path: str
    ) -> None:
        # `beta` is what Anthropic's SDKs add.
        query = {"beta": "true", "provider": "grok", "model": "other"}
        method = "GET" if "models" in path else "POST"

        await rest.request(method, path, params=query, content=b"{}" if method == "POST" else None)

        (service,) = backends.asked()
        (call,) = backends[service].asked
        assert call.request.provider == ("openai" if path.startswith("/openai") else "")
        assert getattr(call.request, "model", "") == ("m" if path == "/v1/models/m" else "")

    @pytest.mark.usefixtures("backends")
    async def test_the_request_id_has_the_names_both_sdks_read(self, rest: httpx.AsyncClient) -> None:
        response = await rest.post("/v1/embeddings", json={})

        assert response.headers["request-id"] == response.headers["x-request-id"]


class TestWhatEnvoyAnswersItself:
    @pytest.mark.parametrize(
        ("method", "path", "status", "kind"),
        [
            ("POST", "/v1/nothing", 404, "invalid_request_error"),
            ("POST", "/v1/chat/completions/more", 404, "invalid_request_error"),
            ("GET", "/v1/models?colour=red", 400, "invalid_request_error"),
            ("POST", "/grok/v1/embeddings", 503, "server_error"),
            ("POST", "/grok/v1/chat/completions?x=1", 400, "invalid_request_error"),
        ],
    )
    async def test_in_openai_s_form(
        self, rest: httpx.AsyncClient, backends: Backends, method: str, path: str, status: int, kind: str
    ) -> None:
        response = await rest.request(method, path)

        assert response.status_code == status, response.text
        assert openai_error(response)["type"] == kind
        assert backends.asked() == {}

    @pytest.mark.parametrize(
        ("path", "status", "kind"),
        [
            ("/v1/messages/nothing", 404, "not_found_error"),
            ("/grok/v1/messages", 503, "overloaded_error"),
            ("/v1/messages?x=1", 400, "invalid_request_error"),
        ],
    )
    async def test_in_anthropic_s_form(
        self, rest: httpx.AsyncClient, backends: Backends, path: str, status: int, kind: str
    ) -> None:
        response = await rest.post(path, json={})

        assert response.status_code == status, response.text
        assert anthropic_error(response)["type"] == kind
        assert backends.asked() == {}

    async def test_bodies_too_large(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        body = b" " * (40 * 1024 * 1024)

        for path, form in (("/v1/chat/completions", openai_error), ("/v1/messages", anthropic_error)):
            response = await rest.post(path, content=body, headers=JSON)
            assert response.status_code == 413
            assert "32 MiB" in form(response)["message"]
        assert backends.asked() == {}

    async def test_a_grpc_caller_gets_a_status(self, front_door: FrontDoor) -> None:
        async with front_door.channel() as channel:
            call = channel.unary_unary("/realmultillm.openai.v1.NobodyService/Get")(b"", timeout=10)
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


class TestModelNames:
    @pytest.mark.parametrize(
        "name", ["gpt-4o", "openai/gpt-4o", "openrouter/meta/llama:free", "a@b~c-1.5", "google/models/gemini (x)"]
    )
    async def test_as_the_sdks_send_them(self, front_door: FrontDoor, backends: Backends, name: str) -> None:
        for base, provider in ((front_door.url, ""), (f"{front_door.url}/openai", "openai")):
            async with (
                openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="k") as ours,
                anthropic.AsyncAnthropic(base_url=base, api_key="k") as theirs,
            ):
                await ours.models.with_raw_response.retrieve(name)
                await theirs.models.with_raw_response.retrieve(name)
            calls = backends["provider-router"].asked
            assert [(call.method, call.request.provider, call.request.model) for call in calls] == 2 * [
                ("GetModel", provider, name)
            ]
            calls.clear()


class TestEscapedSlashes:
    @pytest.mark.parametrize(
        ("path", "there"),
        [
            ("/api%2fhealth", "/api/health"),
            ("/v1/models/a%2Fb?x=c%2Fd", "/v1/models/a/b?x=c%2Fd"),
            # Not to another host, whatever a browser makes of slashes.
            ("/%2Fevil.example.com", "/evil.example.com"),
            ("/%5Cevil.example.com", "/evil.example.com"),
            ("/%5C%5Cevil.example.com", "/evil.example.com"),
            ("/%2Fa/%2e%2e/evil.example.com", "/evil.example.com"),
            ("/%2F%2e%2e/%2F/evil.example.com", "/evil.example.com"),
        ],
    )
    async def test_lead_to_the_path_as_it_is_read_here(
        self, rest: httpx.AsyncClient, backends: Backends, path: str, there: str
    ) -> None:
        response = await rest.get(path)

        assert (response.status_code, response.headers["location"]) == (307, there)
        assert backends.asked() == {}


class TestCors:
    async def test_pages_may_send_and_read_what_the_sdks_do(
        self, front_door: FrontDoor, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        async with (
            openai.AsyncOpenAI(base_url=f"{front_door.url}/v1", api_key="k") as ours,
            anthropic.AsyncAnthropic(base_url=front_door.url, api_key="k") as theirs,
        ):
            await ours.models.with_raw_response.list()
            await theirs.models.with_raw_response.list()
            await theirs.messages.with_raw_response.count_tokens(model="m", messages=[])
        sent = {name for call in backends["provider-router"].asked for name in call.metadata}
        own = {name for name in sent if name.startswith(("x-stainless-", "anthropic-", "openai-", "x-api-", "auth"))}
        assert {"authorization", "anthropic-version", "x-stainless-lang"} <= own

        for path in ("/v1/chat/completions", "/v1/messages", "/v1/models"):
            asks = {"origin": ORIGIN, "access-control-request-method": "POST"}
            preflight = await rest.options(path, headers=asks)
            assert own | {"x-api-key"} <= set(preflight.headers["access-control-allow-headers"].split(", "))
        answer = await rest.get("/v1/models", headers={"origin": ORIGIN})
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert {"x-provider", "x-model", "x-failed-attempts", "x-should-retry", "request-id"} <= exposed
