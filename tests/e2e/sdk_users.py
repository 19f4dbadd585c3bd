"""Somebody with a key of every provider, for the SDKs of others to call with."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai

from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.topology import SANDBOX_ROLES
from libs.provider_catalog import load_catalog
from tests.e2e.conftest import Platform
from tests.e2e.people import api_token

PROVIDERS = sorted(SANDBOX_ROLES)
_CATALOG = load_catalog()
# By the provider's own name.
MODELS = {provider: _CATALOG[provider].default_model or _CATALOG[provider].models[0] for provider in PROVIDERS}

QUESTION = "What is a gateway?"
# The sandbox calls every tool it is given when it is told to.
USE_THE_TOOLS = "Use the tools: how is it in Rome, and what time is it there?"
# One red pixel.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="

PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
    "additionalProperties": False,
}


def routed(provider: str) -> str:
    """Returns the name by which `/v1` routes to a provider's model."""
    return f"{provider}/{MODELS[provider]}"


async def drain(stream: AsyncIterator[Any], received: list[Any]) -> None:
    """Reads a stream to its end, noting what comes."""
    async for each in stream:
        received.append(each)  # noqa: PERF401 - what came before a failure is kept


@dataclass
class SdkUser:
    """A person with an API token for chatting, and a key of each provider that nobody else has."""

    platform: Platform
    token: str = field(repr=False)
    keys: dict[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        """Where the platform is."""
        return self.platform.stack.base_url

    def openai(self, path: str = "/v1", **options: Any) -> openai.AsyncOpenAI:
        """Opens OpenAI's client, changed by nothing but its address and key; it tries nothing twice."""
        settings: dict[str, Any] = {"max_retries": 0, "api_key": self.token, **options}
        return openai.AsyncOpenAI(base_url=f"{self.url}{path}", **settings)

    def anthropic(self, path: str = "", **options: Any) -> anthropic.AsyncAnthropic:
        """Opens Anthropic's client, changed by nothing but its address and key; it tries nothing twice."""
        settings: dict[str, Any] = {"max_retries": 0, "api_key": self.token, **options}
        return anthropic.AsyncAnthropic(base_url=f"{self.url}{path}", **settings)

    @asynccontextmanager
    async def bad_day(self, provider: str, **behaviour: Any) -> AsyncIterator[None]:
        """Makes a provider answer this person in this way for the time of the block."""
        key = self.keys[provider]
        await self.platform.sandbox.behave(Behaviour(match=Match(key=key), **behaviour))
        try:
            yield
        finally:
            await self.platform.sandbox.forget_behaviours(key=key)

    async def last_request(self, provider: str) -> int:
        """Returns the id of the last request of this person that the provider has received; 0 for none."""
        received = await self.platform.sandbox.requests(key=self.keys[provider])
        return max((each.id for each in received), default=0)


@asynccontextmanager
async def sdk_user(platform: Platform) -> AsyncIterator[SdkUser]:
    """Signs somebody up, with keys and a token."""
    async with platform.person(with_key=False) as person:
        keys = {}
        for provider in PROVIDERS:
            keys[provider] = f"{SANDBOX_ROLES[provider].key_prefix}-{uuid.uuid4().hex}"
            stored = await person.http.post(f"/api/provider-config/{provider}", json={"apiKey": keys[provider]})
            assert stored.json()["testResult"]["success"], stored.text
        yield SdkUser(platform, await api_token(person.http, "chat"), keys)
