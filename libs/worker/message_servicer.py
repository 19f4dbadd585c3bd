"""Chats in Anthropic's words: check, call, convert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from google.api.httpbody_pb2 import HttpBody
from realmultillm.anthropic.v1 import message_service_pb2 as anthropic_pb2
from realmultillm.anthropic.v1.message_service_pb2_grpc import MessageServiceServicer

from libs.anthropic_api.answer import Events, message_body
from libs.anthropic_api.request import Translated, to_hub
from libs.rpc.identity import Call, current_call
from libs.worker.adapter import MESSAGES, Adapter
from libs.worker.chats import Chats
from libs.worker.dialect import Dialect
from libs.worker.dialect_chats import DialectChats, callers_headers
from libs.worker.http_answer import answer
from libs.worker.own_provider import check_provider

DIALECT: Dialect[Translated] = Dialect(
    name=MESSAGES,
    api="messages",
    to_hub=to_hub,
    whole=message_body,
    events_of=lambda _: Events(),
    dropped_of=lambda translated: translated.dropped,
)
# https://platform.claude.com/docs/en/api/versioning and …/beta-headers
_HEADERS = frozenset({"anthropic-version", "anthropic-beta"})


class Counting(Protocol):
    """Counts the tokens of conversations."""

    async def count(self, body: bytes, model: str, headers: Mapping[str, str], call: Call) -> bytes:
        """Returns the answer in Anthropic's form."""
        ...


class WorkerMessageServicer(MessageServiceServicer):
    """Chats with this worker's provider, and counts tokens for it."""

    def __init__(self, chats: Chats, adapter: Adapter, counts: Counting) -> None:
        self._chats = DialectChats(chats, adapter, DIALECT)
        self._provider = adapter.provider
        self._counts = counts

    async def CreateMessage(self, request: anthropic_pb2.CreateMessageRequest, context: Any) -> None:
        check_provider(request.provider, self._provider)
        await answer(self._chats, self._chats.read(request.body.data, request.model), current_call(), context)

    async def CountMessageTokens(self, request: anthropic_pb2.CountMessageTokensRequest, _context: Any) -> HttpBody:
        check_provider(request.provider, self._provider)
        call = current_call()
        counted = await self._counts.count(request.body.data, request.model, callers_headers(_HEADERS, call), call)
        return HttpBody(content_type="application/json", data=counted)
