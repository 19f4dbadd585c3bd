"""A token that was taken from somebody is worth nothing once they have ended it, on every service that knew it well.

Every service keeps what it knows of a token for a minute. That each refuses it long before shows that it was told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import grpc
import httpx
import pytest
from realmultillm.chat.v1.chat_service_pb2 import ChatMessage, CreateChatCompletionRequest
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub

from tests.e2e.attacks.test_tokens import ASKED, ask
from tests.e2e.conftest import HELLO, PASSWORD, Person, Platform, error_of, events
from tests.e2e.people import api_token, signed_in
from tests.support.waiting import eventually, within_bound

UNAUTHENTICATED = (401, "UNAUTHENTICATED")


async def sign_out(_platform: Platform, http: httpx.AsyncClient, _victim: Person, _admin: Person) -> None:
    (await http.post("/api/auth/signout")).raise_for_status()


async def end_the_session(_platform: Platform, http: httpx.AsyncClient, victim: Person, _admin: Person) -> None:
    sessions = (await http.get("/api/auth/sessions")).json()["sessions"]
    (own,) = (session["id"] for session in sessions if session["current"])
    (await victim.http.delete(f"/api/auth/sessions/{own}")).raise_for_status()


async def end_the_others(_platform: Platform, _http: httpx.AsyncClient, victim: Person, _admin: Person) -> None:
    (await victim.http.delete("/api/auth/sessions")).raise_for_status()


async def change_the_password(_platform: Platform, _http: httpx.AsyncClient, victim: Person, _admin: Person) -> None:
    body = {"currentPassword": PASSWORD, "newPassword": "quite another fine pass phrase"}
    (await victim.http.put("/api/auth/password", json=body)).raise_for_status()


async def disable_the_account(_platform: Platform, _http: httpx.AsyncClient, victim: Person, admin: Person) -> None:
    (await admin.http.patch(f"/api/admin/users/{victim.user_id}", json={"disabled": True})).raise_for_status()


async def end_all_sessions(_platform: Platform, _http: httpx.AsyncClient, victim: Person, admin: Person) -> None:
    (await admin.http.patch(f"/api/admin/users/{victim.user_id}", json={"endSessions": True})).raise_for_status()


async def revoke_the_token(_platform: Platform, _http: httpx.AsyncClient, victim: Person, _admin: Person) -> None:
    (made,) = (await victim.http.get("/api/auth/tokens")).json()["tokens"]
    (await victim.http.delete(f"/api/auth/tokens/{made['id']}")).raise_for_status()


End = Callable[[Platform, httpx.AsyncClient, Person, Person], Awaitable[None]]
# What ends a session, and what an API token.
ENDS_SESSION = (
    sign_out,
    end_the_session,
    end_the_others,
    change_the_password,
    disable_the_account,
    end_all_sessions,
)
ENDS_API_TOKEN = (sign_out, revoke_the_token, disable_the_account)
CASES = [("session", end) for end in ENDS_SESSION] + [("API token", end) for end in ENDS_API_TOKEN]


async def begin_stream_through_router(
    stack: AsyncExitStack, platform: Platform, token: str
) -> Callable[[], Awaitable[str]]:
    """Begins such a chat as a gRPC caller does, and returns how to read to its end and what its last chunk says."""
    channel = grpc.aio.insecure_channel(platform.stack.base_url.removeprefix("http://"))
    stub: Any = ChatServiceStub(await stack.enter_async_context(channel))
    request = CreateChatCompletionRequest(provider="openai", messages=[ChatMessage(role="user", content="Hello")])
    call = stub.StreamChatCompletion(request, metadata=(("authorization", f"Bearer {token}"),))
    last = await within_bound(call.read())

    async def rest() -> str:
        nonlocal last
        with suppress(grpc.aio.AioRpcError):
            while (chunk := await call.read()) is not grpc.aio.EOF:
                last = chunk
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        return str(last.error.reason)

    return rest


async def begin_stream(stack: AsyncExitStack, http: httpx.AsyncClient) -> Callable[[], Awaitable[list]]:
    """Begins a chat that would go on for long, and returns how to read it to its end."""
    request = http.stream("POST", "/api/chat/openai/stream", json={"messages": HELLO})
    response = await stack.enter_async_context(request)
    assert response.status_code == 200
    lines = response.aiter_lines()
    seen = [await anext(lines)]

    async def rest() -> list:
        seen.extend([line async for line in lines])
        return events(seen)

    return rest


class TestEndedToken:
    @pytest.mark.parametrize(("kind", "end"), CASES, ids=lambda part: getattr(part, "__name__", part))
    async def test_is_refused_by_every_service_and_ends_what_it_began(
        self,
        platform: Platform,
        victim: Person,
        admin: Person,
        kind: str,
        end: End,
        record_testsuite_property: Callable[[str, object], None],
    ) -> None:
        if kind == "session":
            token = await signed_in(platform, victim)
        else:
            token = await api_token(victim.http, "chat", "models:read", "config", "analytics:read")
        async with platform.client(token) as http, AsyncExitStack() as streams:
            for service in ASKED:
                assert (await ask(http, service, {})).status_code == 200, service
            await platform.bad_day(victim, chunk_delay_ms=100, chunk_count=1000)
            rest = await begin_stream(streams, http)
            through_router = await begin_stream_through_router(streams, platform, token)
            ended = time.monotonic()
            await end(platform, http, victim, admin)

            async def refused(service: str) -> None:
                answer = await eventually(lambda: ask(http, service, {}), lambda answer: answer.status_code != 200)
                assert error_of(answer) == UNAUTHENTICATED, service
                # The promise is a second; here it is told, and not asserted.
                seconds = time.monotonic() - ended
                record_testsuite_property(f"seconds to refuse: {service}, {kind}, {end.__name__}", seconds)

            # Chats of the worker would wait for the provider: who is refused is not.
            await asyncio.gather(*(refused(service) for service in ASKED if service != "worker-openai"))
            last = (await within_bound(rest()))[-1]
            assert (last["finish_reason"], last["error"]["reason"]) == ("error", "UNAUTHENTICATED")
            assert await within_bound(through_router()) == "UNAUTHENTICATED"
            assert error_of(await ask(http, "worker-openai", {})) == UNAUTHENTICATED

        async def how_they_ended() -> list[str | None]:
            received = await platform.sandbox.requests(key=victim.key)
            return [request.ended for request in received if request.ended != "completed"]

        await eventually(how_they_ended, lambda endings: endings == ["client_closed"] * 2)

    async def test_others_of_the_same_person_go_on(self, platform: Platform, victim: Person) -> None:
        token, other = await signed_in(platform, victim), await api_token(victim.http, "chat", "models:read")
        await platform.bad_day(victim, chunk_delay_ms=20, chunk_count=20)
        async with platform.client(token) as http, platform.client(other) as program, AsyncExitStack() as streams:
            rest = await begin_stream(streams, program)
            (await http.post("/api/auth/signout")).raise_for_status()
            assert (await within_bound(rest()))[-1]["finish_reason"] == "stop"
            assert (await program.get("/api/providers")).status_code == 200
            assert (await victim.http.get("/api/auth/session")).status_code == 200

    async def test_a_session_that_was_signed_out_twice_is_still_over(self, platform: Platform, victim: Person) -> None:
        async with platform.client(await signed_in(platform, victim)) as http:
            assert (await http.post("/api/auth/signout")).status_code == 200
            assert error_of(await http.post("/api/auth/signout")) == UNAUTHENTICATED

    async def test_its_cookie_is_as_dead(self, platform: Platform, victim: Person) -> None:
        token = await signed_in(platform, victim)
        async with platform.client() as http:
            own_page = {"cookie": f"rml_session={token}", "origin": platform.stack.base_url}
            assert (await http.get("/api/providers", headers=own_page)).status_code == 200
            out = await http.post("/api/auth/signout", headers=own_page)
            assert "Max-Age=0" in out.headers["set-cookie"]
            answer = await eventually(
                lambda: http.get("/api/providers", headers=own_page), lambda answer: answer.status_code != 200
            )
            assert error_of(answer) == UNAUTHENTICATED

    async def test_a_session_of_a_disabled_account_stays_over_when_it_is_enabled(
        self, platform: Platform, victim: Person, admin: Person
    ) -> None:
        path = f"/api/admin/users/{victim.user_id}"
        for disabled in (True, False):
            (await admin.http.patch(path, json={"disabled": disabled})).raise_for_status()
        assert error_of(await victim.http.get("/api/auth/session")) == UNAUTHENTICATED
        async with platform.client(await signed_in(platform, victim)) as http:
            assert (await http.get("/api/auth/session")).status_code == 200
