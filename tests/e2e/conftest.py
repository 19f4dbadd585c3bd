"""The whole platform, as its users meet it: through Envoy, over REST and gRPC, with the provider in the test's hand."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.stack import LocalStack

PASSWORD = "a perfectly fine pass phrase"
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass
class Person:
    """Somebody who signed up, with a client that speaks for them and a key unlike anybody else's."""

    http: httpx.AsyncClient = field(repr=False)
    user_id: str
    email: str
    token: str = field(repr=False)
    key: str = field(repr=False)

    async def chat(self, provider: str = "openai", **body: Any) -> httpx.Response:
        """Asks for a whole answer."""
        return await self.http.post(f"/api/chat/{provider}", json={"messages": HELLO, **body})

    @asynccontextmanager
    async def stream(self, provider: str = "openai", **body: Any) -> AsyncIterator[httpx.Response]:
        """Asks for a streamed answer."""
        request = {"messages": HELLO, **body}
        async with self.http.stream("POST", f"/api/chat/{provider}/stream", json=request) as response:
            yield response

    async def usage(self) -> dict:
        """Returns the totals of everything so far."""
        response = await self.http.get("/api/analytics/usage")
        assert response.status_code == 200, response.text
        totals: dict = response.json()["totals"]
        return totals

    async def usage_when(self, enough: Callable[[dict], bool]) -> dict:
        """Waits until the records that were sent on their way have arrived."""
        async with asyncio.timeout(20):
            while not enough(totals := await self.usage()):
                await asyncio.sleep(0.05)
        return totals


def events(lines: list[str]) -> list[dict]:
    """Parses the events of a stream."""
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def error_of(response: httpx.Response) -> tuple[int, str]:
    """Returns status and reason of an error, having checked its form; in whose words it is does not matter."""
    body = response.json()
    if "error" in body:
        error = body["error"]
        assert len(error["message"].split()) > 3, body
        return response.status_code, error.get("reason") or error["details"]["error_code"].upper()
    assert set(body) == {"code", "message", "details"}, body
    infos = [detail for detail in body["details"] if detail["@type"].endswith("ErrorInfo")]
    assert len(infos) == 1, body
    assert infos[0]["domain"] == "realmultillm"
    assert len(body["message"].split()) > 3, body["message"]
    return response.status_code, infos[0]["reason"]


@dataclass
class Platform:
    """A running stack with its sandbox provider."""

    stack: LocalStack
    sandbox: SandboxControl

    @asynccontextmanager
    async def client(self, token: str = "") -> AsyncIterator[httpx.AsyncClient]:
        """Opens a REST client, with a person's token or without."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(base_url=self.stack.base_url, headers=headers, timeout=30) as http:
            yield http

    @asynccontextmanager
    async def person(self, *, with_key: bool = True) -> AsyncIterator[Person]:
        """Signs somebody up and, unless told otherwise, stores a key for them."""
        name = uuid.uuid4().hex
        key = f"sk-sandbox-{name}"
        async with self.client() as http:
            body = {"email": f"{name}@example.com", "password": PASSWORD, "name": "Test"}
            signed_up = await http.post("/api/auth/signup", json=body)
            assert signed_up.status_code == 200, signed_up.text
            answer = signed_up.json()
            http.headers["authorization"] = f"Bearer {answer['token']}"
            if with_key:
                stored = await http.post("/api/provider-config/openai", json={"apiKey": key})
                assert stored.json()["testResult"]["success"], stored.text
            yield Person(http, answer["user"]["id"], answer["user"]["email"], answer["token"], key)

    async def bad_day(self, person: Person, **behaviour: Any) -> None:
        """Makes the provider answer one person's chats in this way."""
        match = Match(key=person.key, path="/openai/v1/chat/completions")
        await self.sandbox.behave(Behaviour(match=match, **behaviour))

    async def chat_arrived(self, person: Person) -> int:
        """Waits until a chat of a person has reached the provider, and returns its id there."""
        after = 0
        while True:
            received = await self.sandbox.wait_started(key=person.key, after=after)
            if received.path.endswith("/chat/completions"):
                return received.id
            after = received.id


@asynccontextmanager
async def running_platform(state: Path, *, rate_limits: bool = False, **arguments: Any) -> AsyncIterator[Platform]:
    """Brings up a stack of its own for a test that breaks things; without the limits, unless the test is of those."""
    stack = LocalStack(state, rate_limits=rate_limits, **arguments)
    async with stack, SandboxControl(stack.sandbox_url) as sandbox:
        yield Platform(stack, sandbox)


@pytest.fixture(scope="session")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """One stack for all tests that leave it whole. Silence counts as lost sooner than in production."""
    settings = {"worker-openai": {"WORKER_ANSWER_SECONDS": "3", "WORKER_STREAM_IDLE_SECONDS": "2"}}
    async with running_platform(tmp_path_factory.mktemp("stack"), settings=settings) as running:
        yield running


@pytest.fixture
async def person(platform: Platform) -> AsyncIterator[Person]:
    """Somebody with a stored key."""
    async with platform.person() as somebody:
        yield somebody
