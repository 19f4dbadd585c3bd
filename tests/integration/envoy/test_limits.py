"""What a caller learns of the limits, and that they count whoever it is, whatever it says of itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from realmultillm.auth.v1 import auth_service_pb2
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from realmultillm.chat.v1 import chat_service_pb2

from tests.integration.envoy.conftest import Backends
from tests.integration.envoy.test_headers import SPOOFED
from tests.support.envoy import FrontDoor, running_envoy
from tests.support.rpc import Identities
from tests.support.stand_ins import StandIn

LIMIT = 3


@pytest.fixture
async def limited(
    all_backends: Backends, identity: Identities, pki_folder: Path, tmp_path: Path
) -> AsyncIterator[FrontDoor]:
    """Envoy in front of services with a limit each."""
    auth = StandIn(auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"])
    worker = StandIn(chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"])
    worker.answers["StreamChatCompletion"] = _three_words
    async with AsyncExitStack() as stack:
        auth_address = await stack.enter_async_context(
            auth.running(identity("auth"), limits={"SignIn": f"{LIMIT}/hour"})
        )
        worker_address = await stack.enter_async_context(
            worker.running(identity("worker-openai"), limits={"StreamChatCompletion": f"{LIMIT}/hour"})
        )
        addresses = {**all_backends.addresses, "auth": [auth_address], "worker-openai": [worker_address]}
        yield await stack.enter_async_context(running_envoy(tmp_path, pki_folder, addresses))


async def _three_words(_request: Any, _context: Any) -> AsyncIterator[chat_service_pb2.ChatCompletionChunk]:
    for word in ("one", "two", "three"):
        yield chat_service_pb2.ChatCompletionChunk(content=word)


def standing(response: httpx.Response) -> tuple[int, str, str]:
    """Returns status, limit and what is left, having checked the rest."""
    assert 0 < int(response.headers["ratelimit-reset"]) <= 3600
    assert ("retry-after" in response.headers) is (response.status_code == 429)
    for name in ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"):
        assert len(response.headers.get_list(name)) <= 1
    return response.status_code, response.headers["ratelimit-limit"], response.headers["ratelimit-remaining"]


class TestHeaders:
    @pytest.mark.parametrize("path", ["/api/auth/signin", "/api/chat/openai/stream"])
    async def test_every_answer_tells_what_is_left(self, limited: FrontDoor, path: str) -> None:
        async with limited.rest() as rest:
            answers = [await rest.post(path, json={}) for _ in range(LIMIT + 2)]

        assert [standing(answer) for answer in answers] == [
            (200, "3", "2"),
            (200, "3", "1"),
            (200, "3", "0"),
            (429, "3", "0"),
            (429, "3", "0"),
        ]
        if path.endswith("stream"):
            assert answers[0].text.count("data: ") == 3
        body = answers[-1].json()
        assert body["details"][0]["reason"] == "RATE_LIMIT_EXCEEDED"
        assert int(answers[-1].headers["retry-after"]) <= 3600

    async def test_a_grpc_caller_learns_the_same(self, limited: FrontDoor) -> None:
        async with limited.channel() as channel:
            sign_in = AuthServiceStub(channel).SignIn
            for left in ("2", "1", "0"):
                call = sign_in(auth_service_pb2.SignInRequest(), timeout=10)
                assert dict(await call.initial_metadata())["ratelimit-remaining"] == left
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await sign_in(auth_service_pb2.SignInRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        said = dict(caught.value.initial_metadata()) | dict(caught.value.trailing_metadata())
        assert (said["ratelimit-remaining"], int(said["retry-after"]) > 0) == ("0", True)

    async def test_what_has_no_limit_says_nothing_of_it(self, limited: FrontDoor) -> None:
        async with limited.rest() as rest:
            answer = await rest.get("/api/auth/session")

        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("ratelimit")]


class TestSubject:
    async def test_another_address_in_a_header_is_not_another_caller(self, limited: FrontDoor) -> None:
        async with limited.rest() as rest:
            codes = []
            for number in range(LIMIT + 3):
                pretended = {
                    name: value.replace("203.0.113.7", f"203.0.113.{number}") for name, value in SPOOFED.items()
                }
                codes.append((await rest.post("/api/auth/signin", json={}, headers=pretended)).status_code)

        assert codes == [200] * LIMIT + [429] * 3
