"""Streams flow as they are written, and end when either side is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from realmultillm.chat.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    CreateChatCompletionRequest,
    Usage,
)
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub

from tests.integration.envoy.conftest import Backends
from tests.support.envoy import FrontDoor
from tests.support.waiting import within_bound


class Held:
    """Answers of a worker that wait for the test, and tell when Envoy has gone."""

    def __init__(self, *before: str) -> None:
        self._before = before
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def complete(self, request: Any, context: Any) -> ChatCompletion:
        await self._hold()
        return ChatCompletion()

    async def stream(self, request: Any, context: Any) -> AsyncIterator[ChatCompletionChunk]:
        for text in self._before:
            yield ChatCompletionChunk(content=text)
        await self._hold()
        yield ChatCompletionChunk(finish_reason="stop", usage=Usage(total_tokens=2))

    async def _hold(self) -> None:
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class TestEvents:
    async def test_the_first_event_arrives_before_the_last_is_sent(
        self, rest: httpx.AsyncClient, backends: Backends
    ) -> None:
        held = Held("Hel", "lo")
        backends["worker-openai"].answers["StreamChatCompletion"] = held.stream

        async with rest.stream("POST", "/api/chat/openai/stream", json={}) as response:
            assert response.headers["content-type"] == "text/event-stream"
            lines = response.aiter_lines()
            early = [await within_bound(anext(lines)) for _ in range(4)]
            assert early == ['data: {"content":"Hel"}', "", 'data: {"content":"lo"}', ""]
            held.release.set()
            late = [line async for line in lines]

        assert [json.loads(line.removeprefix("data: ")) for line in late if line] == [
            {"finish_reason": "stop", "usage": {"total_tokens": 2}}
        ]

    async def test_a_grpc_stream_arrives_as_it_is_written(self, front_door: FrontDoor, backends: Backends) -> None:
        held = Held("Hello")
        backends["provider-router"].answers["StreamChatCompletion"] = held.stream

        async with front_door.channel() as channel:
            call = ChatServiceStub(channel).StreamChatCompletion(CreateChatCompletionRequest(provider="auto"))
            assert (await within_bound(call.read())).content == "Hello"
            held.release.set()
            assert (await within_bound(call.read())).finish_reason == "stop"
            assert await within_bound(call.read()) is grpc.aio.EOF


class TestHangUp:
    async def test_before_the_first_token(self, front_door: FrontDoor, backends: Backends) -> None:
        held = Held()
        backends["worker-openai"].answers["StreamChatCompletion"] = held.stream

        await _call_and_hang_up(front_door, "/api/chat/openai/stream", held)

    async def test_in_mid_stream(self, rest: httpx.AsyncClient, backends: Backends) -> None:
        held = Held("Hello")
        backends["worker-openai"].answers["StreamChatCompletion"] = held.stream

        async with rest.stream("POST", "/api/chat/openai/stream", json={}) as response:
            await within_bound(anext(response.aiter_lines()))

        await within_bound(held.cancelled.wait())

    async def test_while_a_whole_answer_is_awaited(self, front_door: FrontDoor, backends: Backends) -> None:
        held = Held()
        backends["worker-openai"].answers["CreateChatCompletion"] = held.complete

        await _call_and_hang_up(front_door, "/api/chat/openai", held)

    @pytest.mark.parametrize("method", ["CreateChatCompletion", "StreamChatCompletion"])
    async def test_of_a_grpc_client(self, front_door: FrontDoor, backends: Backends, method: str) -> None:
        held = Held()
        backends["provider-router"].answers = {
            "CreateChatCompletion": held.complete,
            "StreamChatCompletion": held.stream,
        }

        async with front_door.channel() as channel:
            call = getattr(ChatServiceStub(channel), method)(CreateChatCompletionRequest())
            await within_bound(held.begun.wait())
            call.cancel()

            await within_bound(held.cancelled.wait())


async def _call_and_hang_up(front_door: FrontDoor, path: str, held: Held) -> None:
    async with front_door.rest() as client:
        call = asyncio.create_task(client.post(path, json={}))
        await within_bound(held.begun.wait())
        call.cancel()
        await asyncio.wait([call])

    await within_bound(held.cancelled.wait())
