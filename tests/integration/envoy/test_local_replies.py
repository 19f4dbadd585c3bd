"""What Envoy answers itself looks like what the services answer, and says what to do next."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from realmultillm.auth.v1 import auth_service_pb2
from realmultillm.auth.v1.auth_service_pb2 import GetSessionRequest
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from realmultillm.chat.v1.chat_service_pb2 import ChatCompletion, CreateChatCompletionRequest
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub

from tests.integration.envoy.conftest import ORIGIN, Backends
from tests.support.envoy import FrontDoor, running_envoy
from tests.support.rpc import Identities
from tests.support.stand_ins import StandIn
from tests.support.waiting import within_bound

AUTH = auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"]
JSON = {"content-type": "application/json"}


def expect(response: httpx.Response, status: int, code: int, reason: str) -> str:
    """Checks the form of an error and returns its message."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json"), response.text
    body = response.json()
    message: str = body.pop("message")
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "realmultillm"}
    assert body == {"code": code, "details": [info]}
    return message


async def forever(request: Any, context: Any) -> ChatCompletion:
    await asyncio.Event().wait()
    return ChatCompletion()


class TestFloods:
    async def test_from_one_address_are_refused_and_the_next_address_is_served(
        self, backends: Backends, pki_folder: Path, tmp_path: Path
    ) -> None:
        flooded = running_envoy(
            tmp_path, pki_folder, backends.addresses, flood_burst=10, flood_per_second=1, trusted_hops=1
        )
        async with flooded as front_door, front_door.rest() as rest:
            answers = [await rest.get("/api/providers", headers={"x-forwarded-for": "198.51.100.7"}) for _ in range(12)]
            served = [answer for answer in answers if answer.status_code == 200]
            # One more for each second that the twelve take.
            assert 10 <= len(served) < 12
            refused = answers[-1]
            assert "your address" in expect(refused, 429, 8, "RATE_LIMIT_EXCEEDED")
            assert refused.headers["retry-after"] == "1"
            other = await rest.get("/api/providers", headers={"x-forwarded-for": "198.51.100.8"})
            assert other.status_code == 200
            near = [
                (await rest.get("/api/providers", headers={"x-forwarded-for": f"2001:db8::{host}"})).status_code
                for host in range(1, 13)
            ]
            assert near.count(200) < 12


class TestRequestsThatCannotBeRead:
    @pytest.mark.parametrize(
        "body", ['{"model": ', "hello", '{"model": "m"} trailing', "[1]", "\udcff".encode("utf-8", "surrogateescape")]
    )
    async def test_malformed_json(self, rest: httpx.AsyncClient, backends: Backends, body: str | bytes) -> None:
        response = await rest.post("/api/chat/openai", content=body, headers=JSON)

        expect(response, 400, 3, "INVALID_ARGUMENT")
        assert backends.asked() == {}

    async def test_a_wrong_type_names_the_field(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        response = await rest.post("/api/chat/openai", json={"options": {"maxTokens": 'many "and" more'}})

        message = expect(response, 400, 3, "INVALID_ARGUMENT")
        assert "options.max_tokens" in message
        assert backends.asked() == {}

    @pytest.mark.parametrize("path", ["/api/auth/signin", "/api/provider-config/openai"])
    @pytest.mark.parametrize("body", ['{"password": 1234567, "apiKey": 1234567}', '{"x": 1234567 1234567}'])
    async def test_what_may_be_a_secret_is_not_repeated(self, rest: httpx.AsyncClient, path: str, body: str) -> None:
        response = await rest.post(path, content=body, headers=JSON)

        expect(response, 400, 3, "INVALID_ARGUMENT")
        assert "1234567" not in response.text

    async def test_a_provider_in_the_body_that_is_not_the_one_in_the_path(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        response = await rest.post("/api/chat/openai", json={"provider": "anthropic"})

        expect(response, 400, 3, "INVALID_ARGUMENT")
        assert backends.asked() == {}

    @pytest.mark.parametrize(
        ("path", "named"),
        [
            ("/api/providers?colour=red", '"colour"'),
            ("/api/auth/session?x=1", '"x"'),
            ("/api/providers?pageSize=many", "page_size"),
            ("/api/analytics/usage?from=yesterday", "from"),
        ],
    )
    async def test_query_parameters_that_are_unknown_or_wrong(
        self, rest: httpx.AsyncClient, backends: Backends, path: str, named: str
    ) -> None:
        response = await rest.get(path)

        assert named in expect(response, 400, 3, "INVALID_ARGUMENT")
        assert backends.asked() == {}

    async def test_escaped_slashes_in_the_path_of_a_grpc_client(self, front_door: FrontDoor) -> None:
        async with front_door.channel() as channel:
            call = channel.unary_unary("/realmultillm.auth.v1.AuthService%2FGetSession")(b"", timeout=10)
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "escaped slashes" in (await call.details() or "")

    async def test_what_is_not_http(self, front_door: FrontDoor) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", front_door.http_port)
        writer.write(b"GET /api/health HTTP/1.1\r\nno colon\r\n\r\n")
        answer = await within_bound(reader.read())
        writer.close()

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"reason":"INVALID_ARGUMENT"' in answer

    async def test_headers_that_are_too_large(self, rest: httpx.AsyncClient) -> None:
        response = await rest.get("/api/health", headers={"x-long": "x" * 40_000})

        assert "32 KiB" in expect(response, 431, 3, "REQUEST_TOO_LARGE")


class TestTooLargeBodies:
    SIZE = 40 * 1024 * 1024

    async def test_of_declared_length(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        response = await rest.post("/api/chat/openai", content=b" " * self.SIZE, headers=JSON)

        assert "32 MiB" in expect(response, 413, 3, "REQUEST_TOO_LARGE")
        assert backends.asked() == {}

    async def test_of_unknown_length(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        async def pieces() -> Any:
            for _ in range(self.SIZE // 65536):
                yield b" " * 65536

        response = await rest.post("/api/chat/openai/stream", content=pieces(), headers=JSON)

        expect(response, 413, 3, "REQUEST_TOO_LARGE")
        assert backends.asked() == {}

    async def test_of_a_grpc_client(self, front_door: FrontDoor, backends: Backends) -> None:
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{front_door.http_port}", options=options) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ChatServiceStub(channel).CreateChatCompletion(
                    CreateChatCompletionRequest(model="x" * (self.SIZE + 1))
                )

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


class TestNothingThere:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("GET", "/api/nothing"),
            ("GET", "/api/auth/signin"),
            ("POST", "/api/auth/nothing"),
            ("POST", "/api/chat/openai/nothing"),
            ("GET", "/api/chat/openai"),
            ("GET", "/api/providers/openai"),
            ("POST", "/realmultillm.auth.v1.AuthService/SignUp"),
            ("OPTIONS", "/api/health"),
        ],
    )
    async def test_unknown_paths_and_methods(
        self, rest: httpx.AsyncClient, backends: Backends, method: str, path: str
    ) -> None:
        expect(await rest.request(method, path), 404, 5, "NOT_FOUND")
        assert backends.asked() == {}


class TestServicesThatDoNotAnswer:
    @pytest.mark.parametrize("path", ["/api/chat/grok", "/api/chat/grok/stream"])
    async def test_a_service_that_is_down(self, rest: httpx.AsyncClient, path: str) -> None:
        response = await rest.post(path, json={})

        expect(response, 503, 14, "SERVICE_UNAVAILABLE")
        assert int(response.headers["retry-after"]) > 0

    async def test_a_browser_may_read_the_error(self, rest: httpx.AsyncClient) -> None:
        response = await rest.post("/api/chat/grok", json={}, headers={"origin": ORIGIN})

        expect(response, 503, 14, "SERVICE_UNAVAILABLE")
        assert response.headers["access-control-allow-origin"] == ORIGIN

    async def test_a_service_that_goes_away_in_mid_call_and_comes_back(
        self, backends: Backends, identity: Identities, pki_folder: Path, tmp_path: Path
    ) -> None:
        begun = asyncio.Event()

        async def hang(request: Any, context: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        auth = StandIn(AUTH)
        auth.answers["GetSession"] = hang
        async with AsyncExitStack() as stack:
            async with auth.running(identity("auth")) as address:
                clusters = backends.addresses | {"auth": [address]}
                door = await stack.enter_async_context(running_envoy(tmp_path, pki_folder, clusters))
                rest = await stack.enter_async_context(door.rest())
                call = asyncio.create_task(rest.get("/api/auth/session"))
                await within_bound(begun.wait())

            cut_short = await within_bound(call)
            assert (cut_short.status_code, cut_short.json()["details"][0]["reason"]) == (503, "SERVICE_UNAVAILABLE")
            # More than it takes to leave out a replica, were it not the only one.
            for _ in range(10):
                expect(await rest.get("/api/auth/session"), 503, 14, "SERVICE_UNAVAILABLE")

            auth.forget()
            async with auth.running(identity("auth"), port=int(address.rpartition(":")[2])):
                assert (await rest.get("/api/auth/session")).status_code == 200

    async def test_a_service_with_the_certificate_of_another(
        self, backends: Backends, pki_folder: Path, tmp_path: Path
    ) -> None:
        swapped = backends.addresses | {"auth": backends.addresses["worker-openai"]}
        async with running_envoy(tmp_path, pki_folder, swapped) as impostor, impostor.rest() as rest:
            expect(await rest.get("/api/auth/session"), 503, 14, "SERVICE_UNAVAILABLE")

            async with impostor.channel() as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await AuthServiceStub(channel).GetSession(GetSessionRequest())

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "The service that answers this is not available; try again in a moment."

    async def test_a_service_that_is_silent(self, backends: Backends, pki_folder: Path, tmp_path: Path) -> None:
        backends["auth"].answers["GetSession"] = forever
        backends["worker-openai"].answers["CreateChatCompletion"] = forever
        limits = {"request_seconds": 1, "chat_idle_seconds": 1}
        async with running_envoy(tmp_path, pki_folder, backends.addresses, **limits) as hasty, hasty.rest() as rest:
            expect(await rest.get("/api/auth/session"), 504, 4, "DEADLINE_EXCEEDED")
            expect(await rest.post("/api/chat/openai", json={}), 504, 4, "DEADLINE_EXCEEDED")

            async with hasty.channel() as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await AuthServiceStub(channel).GetSession(GetSessionRequest())

        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
