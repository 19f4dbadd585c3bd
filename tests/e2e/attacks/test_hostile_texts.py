"""SQL, control characters and floods in every text field of every method: refused or taken, and nothing breaks."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from libs.rpc.channel import open_channel
from tests.e2e.attacks.hostile_requests import (
    CONFIGURED,
    GOOD,
    METHODS,
    TEXTS,
    good_request,
    text_fields,
    with_text,
    written,
)
from tests.e2e.attacks.rest_calls import REST_CALLS, RestCall
from tests.e2e.conftest import Person, Platform, error_of
from tests.e2e.test_access_matrix import TABLE
from tests.support.waiting import within_bound

# What a caller can be told of such a text. Anything else would be our fault.
TAKEN_OR_REFUSED = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
}
WITH_TEXTS = [
    (service, f"/{method}")
    for service, rows in TABLE.items()
    for method in rows
    if any(text_fields(METHODS[f"/{method}"].input_type))
]
_AT_ONCE = 8
_LONGEST_IN_URL = 20_000


async def each(answers: Iterable[Any]) -> list[Any]:
    """Awaits a few at a time."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(answer: Any) -> Any:
        async with free:
            return await answer

    return await asyncio.gather(*map(one, answers))


@pytest.fixture
async def somebody(platform: Platform, admin: Person) -> AsyncIterator[Person]:
    """A person with a key whom an administrator made one too, so that every method is open."""
    async with platform.person() as person:
        path = f"/api/admin/users/{person.user_id}"
        (await admin.http.patch(path, json={"role": "admin"})).raise_for_status()
        yield person
    # What was taken for everybody's configuration; others use this platform after us.
    clear = ["endpoint", "defaultModel", "allowedModels", "requestTimeoutMs", "apiKey"]
    body = {"provider": CONFIGURED, "enabled": True, "clear": clear}
    (await admin.http.post("/api/admin/providers/config", json=body)).raise_for_status()


def test_every_method_with_texts_is_attacked() -> None:
    attacked = {method for _, method in WITH_TEXTS}
    assert attacked == {name for name, method in METHODS.items() if any(text_fields(method.input_type))}
    assert {name.rpartition("/")[2] for name in attacked} <= GOOD.keys()


class TestAtTheService:
    """Past Envoy, which would stop some of it."""

    @pytest.mark.parametrize(("service", "method"), WITH_TEXTS, ids=lambda part: part.rpartition(".")[2])
    async def test_is_refused_or_taken(
        self, platform: Platform, somebody: Person, admin: Person, service: str, method: str
    ) -> None:
        peer = min(TABLE[service][method[1:]].peers)
        stack = platform.stack
        ways = list(text_fields(METHODS[method].input_type))
        async with (
            open_channel(stack.address(service), service, stack.tls(peer)) as channel,
            AsyncExitStack() as people,
        ):

            async def code(request: Message, person: Person) -> str:
                kind = "unary_stream" if METHODS[method].server_streaming else "unary_unary"
                metadata = (("authorization", f"Bearer {person.token}"),)
                call = getattr(channel, kind)(method)(request.SerializeToString(), metadata=metadata, timeout=20)
                if METHODS[method].server_streaming and await self._read(call, endless="/Watch" in method):
                    return "OK"
                found = await call.code()
                return str(found.name) if found.name in TAKEN_OR_REFUSED else f"{found.name}: {await call.details()}"

            assert await code(good_request(method, somebody, peer=peer), somebody) in TAKEN_OR_REFUSED
            attacks = {}
            for way in ways:
                person = somebody
                if method.endswith("/ChangePassword"):  # could lock its owner out
                    person = await people.enter_async_context(platform.person())
                for what, text in TEXTS.items():
                    request = with_text(good_request(method, person, peer=peer), way, text)
                    attacks[f"{written(way)}: {what}"] = code(request, person)
            answers = dict(zip(attacks, await each(attacks.values()), strict=True))
        assert {how: answer for how, answer in answers.items() if answer not in TAKEN_OR_REFUSED} == {}
        assert (await admin.http.get("/api/auth/session")).status_code == 200

    @staticmethod
    async def _read(call: Any, *, endless: bool) -> bool:
        """Reads to the end, or sees that there is none; tells whether all was well."""
        try:
            while await within_bound(call.read()) is not grpc.aio.EOF:
                if endless:
                    call.cancel()
                    return True
        except grpc.aio.AioRpcError:
            return False
        return True


class TestThroughTheFrontDoor:
    """As JSON, in paths and in queries."""

    @pytest.mark.parametrize("call", [call for call in REST_CALLS if any(text_fields(call.method.input_type))], ids=str)
    async def test_is_refused_or_taken(
        self, platform: Platform, somebody: Person, admin: Person, call: RestCall
    ) -> None:
        method = next(name for name in METHODS if name.endswith(f".{call.name}"))
        async with AsyncExitStack() as people:
            attacks = {}
            for way in text_fields(call.method.input_type):
                person = somebody
                if method.endswith("/ChangePassword"):
                    person = await people.enter_async_context(platform.person())
                in_url = call.verb in ("GET", "DELETE") or way[0].name in call.variables or "body" in _fields(call)
                for what, text in TEXTS.items():
                    # Of a longer URL the service would not hear.
                    put = text[:_LONGEST_IN_URL] if in_url else text
                    request = with_text(good_request(method, person, peer="envoy"), way, put)
                    attacks[f"{written(way)}: {what}"] = self._send(call, request, person)
            answers = dict(zip(attacks, await each(attacks.values()), strict=True))
        broken = {how: answer.text[:500] for how, answer in answers.items() if answer.status_code >= 500}
        assert broken == {}
        for how, answer in answers.items():
            if answer.status_code >= 400:
                assert error_of(answer)[1], how
            assert "set-cookie" not in answer.headers or call.path.endswith(("/signin", "/signup"))
        assert (await admin.http.get("/api/auth/session")).status_code == 200

    @staticmethod
    async def _send(call: RestCall, request: Message, person: Person) -> httpx.Response:
        fields = MessageToDict(request, preserving_proto_field_name=True)
        variables = {name: quote(fields.pop(name, "") or "x", safe="") for name in call.variables}
        if call.verb in ("GET", "DELETE"):
            return await person.http.request(call.verb, call.at(**variables), params=fields)
        if "body" in fields:  # the rest can be said beside it
            body = base64.b64decode(fields.pop("body")["data"])
            return await person.http.request(call.verb, call.at(**variables), params=fields, content=body)
        return await person.http.request(call.verb, call.at(**variables), json=fields)


def _fields(call: RestCall) -> Collection[str]:
    return call.method.input_type.fields_by_name.keys()
