"""A provider that nobody wrote code for: a row of the catalogue, and the platform chats with it.

The provider is a server of its own, as a vLLM or Ollama server would be: the sandbox's OpenAI under another name.
"""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.server import running as sandbox_running
from tests.e2e.conftest import Person, Platform, error_of, events, running_platform

PROVIDER = "our-vllm"
PACKAGED = Path(__file__).parents[2] / "libs" / "provider_catalog.toml"


def catalog_with(endpoint: str) -> str:
    """The catalogue of the platform, and one row more."""
    return f"""{PACKAGED.read_text()}
[[providers]]
id = "{PROVIDER}"
name = "Our vLLM"
endpoint = "{endpoint}"
models = ["gpt-4o-mini"]
max_tokens = 8_192
max_context_length = 32_768
worker = "openai_compatible"
default_model = "gpt-4o-mini"
extra_headers = {{ x-team = "research" }}
"""


@dataclass
class Further:
    """A platform with the provider, and what that provider receives."""

    platform: Platform
    upstream: SandboxControl


@pytest.fixture(scope="module")
async def further(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Further]:
    folder = tmp_path_factory.mktemp("further")
    async with sandbox_running() as url, SandboxControl(url) as upstream:
        (folder / "catalog.toml").write_text(catalog_with(f"{url}/openai/v1"))
        # Of the workers, this one alone: the others are what they are without the row.
        async with running_platform(
            folder / "state", catalog=folder / "catalog.toml", only={"envoy", f"worker-{PROVIDER}"}
        ) as platform:
            yield Further(platform, upstream)


@pytest.fixture
async def owner(further: Further) -> AsyncIterator[Person]:
    """Somebody with a key of the provider."""
    async with further.platform.person(with_key=False) as somebody:
        somebody.key = f"sk-sandbox-{uuid.uuid4().hex}"
        stored = await somebody.http.post(f"/api/provider-config/{PROVIDER}", json={"apiKey": somebody.key})
        assert stored.json()["testResult"]["success"], stored.text
        yield somebody


class TestFurtherProvider:
    async def test_is_listed_with_the_others(self, owner: Person):
        listed = {row["id"]: row for row in (await owner.http.get("/api/providers")).json()["providers"]}

        row = listed[PROVIDER]
        assert (row["name"], row["models"], row["maxTokens"]) == ("Our vLLM", ["gpt-4o-mini"], 8192)
        assert (row["enabled"], row["configured"], row["healthy"]) == (True, True, True)
        assert not listed["openai"]["enabled"]

    async def test_is_part_of_the_platforms_health(self, further: Further):
        async with further.platform.client() as http:
            health = (await http.get("/api/health")).json()

        assert health["status"] == "ok"
        assert health["services"]["workers"] == {PROVIDER: "ok"}

    async def test_answers_whole_and_streamed(self, further: Further, owner: Person):
        whole = (await owner.chat(PROVIDER)).json()
        async with owner.stream(PROVIDER) as response:
            streamed = events([line async for line in response.aiter_lines()])

        assert whole["provider"] == PROVIDER
        assert whole["model"].startswith("gpt-4o-mini")
        said = whole["choices"][0]["message"]["content"]
        assert said
        assert "".join(event.get("content", "") for event in streamed) == said
        assert streamed[-1]["finish_reason"] == "stop"
        assert streamed[-1]["usage"] == whole["usage"]

        received = await further.upstream.requests(key=owner.key)
        assert {each.path for each in received} == {"/openai/v1/models", "/openai/v1/chat/completions"}
        assert all(each.headers["x-team"] == "research" for each in received)

    async def test_is_reached_by_grpc_through_the_router(self, further: Further, owner: Person):
        request = chat.CreateChatCompletionRequest(
            provider=PROVIDER, messages=[chat.ChatMessage(role="user", content="Hello")]
        )
        address = further.platform.stack.base_url.removeprefix("http://")
        async with grpc.aio.insecure_channel(address) as channel:
            mine = (("authorization", f"Bearer {owner.token}"),)
            answer = await ChatServiceStub(channel).CreateChatCompletion(request, metadata=mine, timeout=20)

        assert (answer.provider, answer.choices[0].finish_reason) == (PROVIDER, "stop")

    async def test_its_usage_is_accounted_for(self, owner: Person):
        answer = (await owner.chat(PROVIDER)).json()

        totals = await owner.usage_when(lambda totals: totals["requests"] == 1)
        assert totals["completionTokens"] == answer["usage"]["completion_tokens"]

    async def test_a_wrong_key_is_refused_by_name(self, owner: Person):
        stored = await owner.http.post(f"/api/provider-config/{PROVIDER}", json={"apiKey": "not-a-key-of-theirs"})

        result = stored.json()["testResult"]
        assert result["error"] == "INVALID_API_KEY"
        assert "Our vLLM" in result["message"]

    async def test_a_provider_without_a_worker_is_told_apart_from_none(self, owner: Person):
        assert error_of(await owner.chat("grok")) == (503, "PROVIDER_UNAVAILABLE")
        assert error_of(await owner.chat("closedai")) == (404, "PROVIDER_NOT_FOUND")
