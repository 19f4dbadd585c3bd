"""How many tokens a conversation in Anthropic's words has: asked of providers that count, estimated for others.

https://platform.claude.com/docs/en/api/messages/count_tokens
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.anthropic_api.request import to_counted
from libs.errors import ProviderError
from libs.json_members import JsonMembers
from libs.rpc.identity import Call, caller
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter, Credential, ProviderRequest
from libs.worker.attempts import Attempts
from libs.worker.credentials import CredentialSource
from libs.worker.failures import Failures
from libs.worker.json_object import plain
from libs.worker.model_choice import model_of, named_by
from libs.worker.request_amounts import check_amounts
from libs.worker.request_check import check_chat_request
from libs.worker.upstream import Upstream

# How long a provider may take to count, in seconds, and what the worker keeps back of the caller's deadline.
_COUNTING_SECONDS = 20.0
_DEADLINE_MARGIN = 0.1
_LONGEST_COUNT_BYTES = 64 * 1024

# Rough averages, for counts that are marked as estimated: over languages and tokenizers, and over sizes of pictures.
_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_PICTURE = 1_000

# Holds a place among the calls under way for a person, by their id, or refuses.
Slot = Callable[[str], AbstractContextManager[None]]


@runtime_checkable
class TokenCounter(Protocol):
    """An adapter of a provider that counts tokens itself."""

    def count_request(
        self, body: JsonMembers, model: str, credential: Credential, headers: Mapping[str, str]
    ) -> ProviderRequest:
        """Builds the request for the count of a conversation in Anthropic's words.

        `headers` are those of the caller. Raises InvalidRequest for what the provider does not take.
        """
        ...

    def read_count(self, answer: bytes) -> bytes:
        """Returns the answer to that in Anthropic's words. Raises the ProviderError of an error with status 200.

        What is not in the provider's format may fail with one of NOT_UNDERSTOOD.
        """
        ...


class TokenCounts:
    """Counts for one provider."""

    def __init__(self, adapter: Adapter, upstream: Upstream, credentials: CredentialSource, *, slot: Slot) -> None:
        self._adapter = adapter
        self._counter = adapter if isinstance(adapter, TokenCounter) else None
        self._failures = Failures(adapter.provider, adapter.display_name)
        self._upstream = upstream
        self._credentials = credentials
        self._slot = slot

    async def count(self, body: bytes, model: str, headers: Mapping[str, str], call: Call) -> bytes:
        """Returns the count as Anthropic's API has it; an empty `model` leaves it to the body.

        A count that nobody made is marked by `estimated`. Raises InvalidRequest for what the provider would not take.
        """
        members = JsonMembers(body)
        with self._slot(caller().user_id):
            credential = await self._credentials.of(caller().user_id)
            asked = model_of(named_by(members, model), self._adapter, credential)
            if self._counter is None:
                estimate = estimated_tokens(counted_request(members, provider=self._adapter.provider, model=asked))
                return orjson.dumps({"input_tokens": estimate, "estimated": True})
            wire = self._counter.count_request(members, asked, credential, headers).at(credential.endpoint)
            platform_key = credential.platform_key
            answer_by = min(
                call.deadline - _DEADLINE_MARGIN, _now() + min(_COUNTING_SECONDS, credential.answer_seconds)
            )
            del credential  # a key that is deleted meanwhile shall not wait for the end of this
            try:
                return await self._ask(self._counter, wire, answer_by)
            except ProviderError as error:
                raise self._failures.of_platform_key(error) if platform_key else error from None

    async def _ask(self, counter: TokenCounter, wire: ProviderRequest, answer_by: float) -> bytes:
        async def ask() -> bytes:
            seconds = max(0.001, answer_by - _now())
            answer = await self._upstream.fetch(wire, seconds, max_bytes=_LONGEST_COUNT_BYTES)
            try:
                return counter.read_count(answer)
            except NOT_UNDERSTOOD:
                raise self._failures.not_understood() from None

        return await Attempts().run(ask, deadline=answer_by)


def counted_request(body: JsonMembers, *, provider: str, model: str) -> chat.CreateChatCompletionRequest:
    """Puts a conversation to be counted into the hub's words, checked. Raises InvalidRequest."""
    request = to_counted(body, provider=provider, model=model)
    check_amounts(request)
    check_chat_request(request, streaming=True)
    return request


def estimated_tokens(request: chat.CreateChatCompletionRequest) -> int:
    """Estimates the tokens of a request: its texts, tool calls, tools and pictures."""
    characters = pictures = 0
    for message in request.messages:
        characters += len(message.content)
        for part in message.parts:
            characters += len(part.text)
            pictures += part.WhichOneof("part") == "image_url"
        characters += sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    for tool in request.options.tools:
        characters += len(tool.name) + len(tool.description) + len(orjson.dumps(plain(tool.parameters)))
    if request.options.HasField("response_format"):
        characters += len(orjson.dumps(plain(request.options.response_format.json_schema)))
    flat = _TOKENS_PER_MESSAGE * len(request.messages) + _TOKENS_PER_PICTURE * pictures
    return flat + -(-characters // _CHARACTERS_PER_TOKEN)


def _now() -> float:
    return asyncio.get_running_loop().time()
