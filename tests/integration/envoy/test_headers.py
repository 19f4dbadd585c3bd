"""Headers that are believed, added, hidden and logged."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from realmultillm.auth.v1.auth_service_pb2 import GetSessionRequest, Session
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub

from tests.integration.envoy.conftest import ORIGIN, Backends
from tests.support.envoy import FrontDoor, running_envoy

SPOOFED = {
    "x-forwarded-for": "203.0.113.7",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "evil.example.com",
    "forwarded": "for=203.0.113.7;host=evil.example.com;proto=https",
    "x-real-ip": "203.0.113.7",
    "x-envoy-external-address": "203.0.113.7",
    "x-envoy-internal": "true",
    "x-envoy-original-path": "/somewhere",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-made-up": "1",
}


class TestWhatServicesSee:
    @pytest.mark.parametrize("headers", [{}, SPOOFED], ids=["plain", "spoofed"])
    @pytest.mark.parametrize("times", [1, 2])
    async def test_the_caller_s_true_address_and_nothing_of_what_it_pretends(
        self, rest: httpx.AsyncClient, backends: Backends, headers: dict[str, str], times: int
    ) -> None:
        await rest.get("/api/auth/session", headers=times * list(headers.items()))

        (call,) = backends["auth"].asked
        assert call.metadata["x-forwarded-for"] == "127.0.0.1"
        assert call.metadata["x-envoy-external-address"] == "127.0.0.1"
        assert call.metadata["x-forwarded-proto"] == "http"
        assert call.metadata["x-forwarded-host"] == rest.base_url.netloc.decode()
        assert not {"forwarded", "x-real-ip"} & call.metadata.keys()
        assert {name for name in call.metadata if name.startswith("x-envoy-")} == {
            "x-envoy-external-address",
            "x-envoy-original-path",
            "x-envoy-original-method",
        }

    async def test_behind_a_trusted_proxy_the_address_it_names(
        self, backends: Backends, pki_folder: Path, tmp_path: Path
    ) -> None:
        spoofed = {"x-forwarded-for": "203.0.113.7, 198.51.100.9"}
        async with running_envoy(tmp_path, pki_folder, backends.addresses, trusted_hops=1) as door, door.rest() as rest:
            await rest.get("/api/auth/session", headers=spoofed)

        (call,) = backends["auth"].asked
        assert call.metadata["x-forwarded-for"] == "198.51.100.9"
        assert call.metadata["x-envoy-external-address"] == "198.51.100.9"

    async def test_the_token_the_origin_and_the_cookie(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        said = {"authorization": "Bearer t", "origin": ORIGIN, "cookie": "rml_session=t"}
        await rest.get("/api/auth/session", headers=said)

        (call,) = backends["auth"].asked
        assert said.items() <= call.metadata.items()

    async def test_the_scheme_and_host_it_was_called_by(self, front_door: FrontDoor, backends: Backends) -> None:
        """What a browser calls the origin of a page of ours."""
        async with httpx.AsyncClient(base_url=front_door.secure_url, verify=front_door.trust()) as secure:
            await secure.get("/api/auth/session", headers={"host": "app.example.com", **SPOOFED})

        (call,) = backends["auth"].asked
        assert (call.metadata["x-forwarded-proto"], call.metadata["x-forwarded-host"]) == ("https", "app.example.com")

    async def test_a_grpc_caller_cannot_pretend_either(self, front_door: FrontDoor, backends: Backends) -> None:
        async with front_door.channel() as channel:
            await AuthServiceStub(channel).GetSession(GetSessionRequest(), metadata=tuple(SPOOFED.items()), timeout=10)

        (call,) = backends["auth"].asked
        assert {name for name, value in SPOOFED.items() if call.metadata.get(name) == value} == set()

    @pytest.mark.parametrize("http2", [False, True])
    async def test_all_cookies_in_however_many_headers(
        self, front_door: FrontDoor, backends: Backends, http2: bool
    ) -> None:
        seen: list[str] = []

        async def look(request: Any, context: Any) -> Session:
            seen.extend(value for name, value in context.invocation_metadata() if name == "cookie")
            return Session()

        backends["auth"].answers["GetSession"] = look
        cookies = [("cookie", "a=1"), ("cookie", "rml_session=t"), ("cookie", "b=2; c=3")]
        if http2:
            async with front_door.channel() as channel:
                await AuthServiceStub(channel).GetSession(GetSessionRequest(), metadata=cookies, timeout=10)
        else:
            async with front_door.rest() as rest:
                await rest.get("/api/auth/session", headers=cookies)

        assert "; ".join(seen) == "a=1; rml_session=t; b=2; c=3"

    async def test_as_many_and_as_long_ones_as_envoy_takes(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        said = {"cookie": "a" * 25_000} | {f"x-{number}": "b" for number in range(80)}
        response = await rest.get("/api/auth/session", headers=said)

        assert response.status_code == 200
        (call,) = backends["auth"].asked
        assert said.items() <= call.metadata.items()


class TestWhatGrpcCannotRead:
    """gRPC fails a call for it, and then all calls with the same header that come over the same connection."""

    @pytest.mark.parametrize(
        ("name", "bad", "good"),
        [
            ("grpc-timeout", "-1S", "10S"),
            ("grpc-previous-rpc-attempts", "x", "1"),
            ("grpc-tags-bin", "!", "AAAA"),
            ("x-own-bin", "!", "AAAA"),
        ],
    )
    @pytest.mark.parametrize("sender", ["rest", "grpc"])
    @pytest.mark.usefixtures("backends")
    async def test_of_one_caller_does_not_fail_the_others(
        self, front_door: FrontDoor, rest: httpx.AsyncClient, sender: str, name: str, bad: str, good: str
    ) -> None:
        if sender == "rest":
            await rest.get("/api/auth/session", headers={name: bad})
        else:
            await _grpc_over_http_1(rest, {name: bad})

        assert (await rest.get("/api/auth/session", headers={name: good})).status_code == 200
        # The status of a success comes after the message, in trailers.
        assert "grpc-status" not in (await _grpc_over_http_1(rest, {name: good})).headers
        async with front_door.channel() as channel:
            await AuthServiceStub(channel).GetSession(GetSessionRequest(), timeout=10)

    @pytest.mark.parametrize("timeout", ["-1S", "5", "123456789S", "1S, 1S"])
    async def test_a_timeout_is_refused_in_words(
        self, rest: httpx.AsyncClient, backends: Backends, timeout: str
    ) -> None:
        response = await _grpc_over_http_1(rest, {"grpc-timeout": timeout})

        assert response.headers["grpc-status"] == "3"
        assert "grpc-timeout" in response.headers["grpc-message"]
        assert backends.asked() == {}

    @pytest.mark.parametrize("encoding", ["gzip", "bogus", "identity, gzip", ""])
    async def test_compression_is_refused_in_words(
        self, rest: httpx.AsyncClient, backends: Backends, encoding: str
    ) -> None:
        response = await _grpc_over_http_1(rest, {"grpc-encoding": encoding})

        assert response.headers["grpc-status"] == "12"
        assert "without compression" in response.headers["grpc-message"]
        assert backends.asked() == {}

    async def test_no_compression_may_be_said(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        assert "grpc-status" not in (await _grpc_over_http_1(rest, {"grpc-encoding": "identity"})).headers
        assert backends.asked()

    async def test_names_that_only_http_has_are_dropped(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        names = [f"x{mark}y" for mark in "!#$%&'*+^`|~"] + ["!"]
        response = await rest.get("/api/auth/session", headers={**dict.fromkeys(names, "a"), "x-kept.a_b": "b"})

        assert response.status_code == 200
        (call,) = backends["auth"].asked
        assert not set(names) & call.metadata.keys()


async def _grpc_over_http_1(rest: httpx.AsyncClient, headers: dict[str, str]) -> httpx.Response:
    """Calls GetSession with an empty message. A gRPC client would not send these headers."""
    grpc = {"content-type": "application/grpc", "te": "trailers", **headers}
    return await rest.post("/realmultillm.auth.v1.AuthService/GetSession", headers=grpc, content=bytes(5))


class TestRequestId:
    @pytest.mark.parametrize("theirs", [None, str(uuid.UUID(int=1)), "not an id"])
    async def test_is_ours_on_every_answer_and_the_service_sees_the_same(
        self, rest: httpx.AsyncClient, backends: Backends, theirs: str | None
    ) -> None:
        response = await rest.get("/api/auth/session", headers={"x-request-id": theirs} if theirs else {})

        (call,) = backends["auth"].asked
        assert response.headers["x-request-id"] == call.metadata["x-request-id"]
        assert str(uuid.UUID(response.headers["x-request-id"])) != theirs

    async def test_is_on_what_envoy_answers_itself(self, rest: httpx.AsyncClient) -> None:
        assert uuid.UUID((await rest.get("/api/nothing")).headers["x-request-id"])


class TestWhatClientsSee:
    @pytest.mark.usefixtures("backends")
    async def test_that_nobody_on_the_way_may_keep_it(self, rest: httpx.AsyncClient) -> None:
        assert (await rest.get("/api/auth/session")).headers["cache-control"] == "no-store"

    async def test_what_the_service_adds_and_nothing_of_the_machinery(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        async def session(request: object, context: object) -> Session:
            await context.send_initial_metadata(  # type: ignore[attr-defined]
                (("set-cookie", "rml_session=t; HttpOnly"), ("ratelimit-limit", "100"), ("x-overhead-ms", "1"))
            )
            return Session()

        backends["auth"].answers["GetSession"] = session

        response = await rest.get("/api/auth/session")

        assert response.headers["set-cookie"] == "rml_session=t; HttpOnly"
        assert response.headers["ratelimit-limit"] == "100"
        assert response.headers["x-overhead-ms"] == "1"
        assert response.headers["server"] == "realmultillm"
        assert not [name for name in response.headers if name.startswith(("grpc-", "x-envoy-"))]


class TestCors:
    async def test_a_listed_origin_may_call_with_credentials_and_read_our_headers(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        asks = {
            "origin": ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        preflight = await rest.options("/api/chat/openai", headers=asks)
        answer = await rest.post("/api/chat/openai", json={}, headers={"origin": ORIGIN})

        assert preflight.status_code == 200
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        for response in (preflight, answer):
            assert response.headers["access-control-allow-origin"] == ORIGIN
            assert response.headers["access-control-allow-credentials"] == "true"
        exposed = answer.headers["access-control-expose-headers"]
        assert {"x-request-id", "retry-after", "ratelimit-remaining"} <= set(exposed.split(", "))
        assert backends.asked() == {"worker-openai": ["CreateChatCompletion"]}

    @pytest.mark.parametrize(
        "origin", ["https://evil.example.com", f"{ORIGIN}.evil.com", "http://app.example.com", "null"]
    )
    async def test_no_other_origin_may(self, rest: httpx.AsyncClient, origin: str) -> None:
        asks = {"origin": origin, "access-control-request-method": "POST"}
        preflight = await rest.options("/api/chat/openai", headers=asks)
        answer = await rest.post("/api/chat/openai", json={}, headers={"origin": origin})

        for response in (preflight, answer):
            assert not [name for name in response.headers if name.startswith("access-control-")]


class TestAccessLog:
    async def test_one_line_tells_how_it_went_and_no_secret(
        self, rest: httpx.AsyncClient, front_door: FrontDoor, backends: Backends
    ) -> None:
        response = await rest.get(
            "/api/providers?pageToken=query-secret",
            headers={
                "authorization": "Bearer header-secret",
                "cookie": "rml_session=cookie-secret",
                "user-agent": 'agent "quoted"',
            },
        )

        entry = await front_door.access_log(response.headers["x-request-id"])
        assert (entry["method"], entry["route"], entry["status"]) == ("GET", "/api/providers", 200)
        assert (entry["cluster"], entry["client"], entry["flags"]) == ("provider-router", "127.0.0.1", "-")
        assert entry["user_agent"] == 'agent "quoted"'
        assert entry["bytes_out"] == len(response.content)
        assert "secret" not in (front_door.folder / "access.log").read_text()

    async def test_a_refused_query_is_not_logged_either(
        self, rest: httpx.AsyncClient, front_door: FrontDoor, backends: Backends
    ) -> None:
        response = await rest.get("/api/providers?apiKey=query-secret")

        entry = await front_door.access_log(response.headers["x-request-id"])
        assert (entry["route"], entry["status"]) == ("/api/providers", 400)
        assert "secret" not in (front_door.folder / "access.log").read_text()

    @pytest.mark.parametrize(
        ("path", "route"),
        [("/api/auth/tokens/path-secret", "/api/auth/"), ("/path-secret", None), ("/%70ath-secret/", None)],
    )
    async def test_nor_is_what_stands_in_a_path(
        self, rest: httpx.AsyncClient, front_door: FrontDoor, backends: Backends, path: str, route: str | None
    ) -> None:
        response = await rest.get(path)

        entry = await front_door.access_log(response.headers["x-request-id"])
        assert (entry["route"], entry["status"]) == (route, response.status_code)
        assert "secret" not in (front_door.folder / "access.log").read_text()
