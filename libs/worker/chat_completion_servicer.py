"""Chats in OpenAI's words: check, call, convert."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from realmultillm.openai.v1 import chat_completion_service_pb2 as openai_pb2
from realmultillm.openai.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceServicer

from libs.openai_api.answer import Chunks, completion_body
from libs.openai_api.request import Translated, to_hub
from libs.rpc.identity import current_call
from libs.worker.adapter import CHAT_COMPLETIONS, Adapter
from libs.worker.chats import Chats
from libs.worker.dialect import Dialect
from libs.worker.dialect_chats import DialectChats
from libs.worker.http_answer import answer
from libs.worker.own_provider import check_provider


def _chunks(translated: Translated | None) -> Chunks:
    return Chunks(include_usage=translated is not None and translated.include_usage)


DIALECT: Dialect[Translated] = Dialect(
    name=CHAT_COMPLETIONS,
    api="chat_completions",
    to_hub=to_hub,
    whole=completion_body,
    events_of=_chunks,
    dropped_of=attrgetter("dropped"),
)


class WorkerChatCompletionServicer(ChatCompletionServiceServicer):
    """Chats with this worker's provider."""

    def __init__(self, chats: Chats, adapter: Adapter) -> None:
        self._chats = DialectChats(chats, adapter, DIALECT)
        self._provider = adapter.provider

    async def CreateChatCompletion(self, request: openai_pb2.CreateChatCompletionRequest, context: Any) -> None:
        check_provider(request.provider, self._provider)
        await answer(self._chats, self._chats.read(request.body.data, request.model), current_call(), context)
