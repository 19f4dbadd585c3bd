"""Answers of the dialects on the wire: bodies of HTTP, whole or piece by piece."""

from __future__ import annotations

from typing import Any

from google.api.httpbody_pb2 import HttpBody

from libs.rpc.identity import Call
from libs.worker.answer_headers import tell
from libs.worker.dialect_chats import Body, DialectChats


async def answer(chats: DialectChats, body: Body, call: Call, context: Any) -> None:
    """Answers a chat: whole in one message, or in events. The first message alone says which of them it is."""
    if body.streamed:
        await chats.stream(body, _EventWriter(context).write, call)
        return
    passed = await chats.complete(body, call)
    tell(call, total_ms=passed.total_ms, provider_ms=passed.provider_ms, cost_usd=passed.cost_usd)
    await context.write(HttpBody(content_type="application/json", data=passed.body))


class _EventWriter:
    __slots__ = ("_content_type", "_context")

    def __init__(self, context: Any) -> None:
        self._context = context
        self._content_type: str | None = "text/event-stream"

    async def write(self, events: bytes) -> None:
        message = HttpBody(content_type=self._content_type, data=events)
        self._content_type = None
        await self._context.write(message)
