"""The history of chats on the wire. Each method checks, calls and converts; all are about the caller's own chats."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any
from uuid import UUID

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.analytics.v1 import chat_content_pb2
from realmultillm.analytics.v1 import chat_history_service_pb2 as history_pb2
from realmultillm.analytics.v1.chat_history_service_pb2_grpc import ChatHistoryServiceServicer
from realmultillm.chat.v1 import chat_service_pb2 as chat
from sqlalchemy import Row

from libs.errors import Violation, refuse_any
from libs.pagination import PlaceTokens, broken_page_rules, rows_per_page
from libs.received_values import TIME_RULE, fitting, is_time, is_uuid
from libs.rpc.identity import caller
from services.analytics.amounts import count, dollars
from services.analytics.history import History, PastChat, no_such_chat
from services.analytics.history_repository import Wanted
from services.analytics.ingest_servicer import LONGEST_KEY
from services.analytics.kept_conversations import read_conversation

_DOES_NOT_OPEN = "Messages and answer do not open any more: they have been altered, or their key has."


class ChatHistoryServicer(ChatHistoryServiceServicer):
    """What people do with their history."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def ListChatRecords(
        self, request: history_pb2.ListChatRecordsRequest, _context: Any
    ) -> history_pb2.ListChatRecordsResponse:
        user_id = caller().user_id
        pages = page_tokens(request, user_id)
        check_list(request, pages)
        chats, last = await self._history.page(
            user_id,
            to_wanted(request),
            after=pages.place(request.page_token),
            size=rows_per_page(request.page_size, request.page_token, tokens=pages),
        )
        answer = history_pb2.ListChatRecordsResponse(next_page_token=pages.token(last) if last else "")
        for past in chats:
            answer.records.append(to_record(past))
            # Translating a long conversation takes milliseconds, in which others may be served in between.
            await asyncio.sleep(0)
        return answer

    async def GetChatRecord(self, request: history_pb2.GetChatRecordRequest, _context: Any) -> history_pb2.ChatRecord:
        return to_record(await self._history.get(caller().user_id, to_id(request.id)))

    async def DeleteChatRecord(
        self, request: history_pb2.DeleteChatRecordRequest, _context: Any
    ) -> history_pb2.DeleteChatRecordResponse:
        await self._history.erase_one(caller().user_id, to_id(request.id))
        return history_pb2.DeleteChatRecordResponse(success=True)

    async def DeleteChatHistory(
        self, _request: history_pb2.DeleteChatHistoryRequest, _context: Any
    ) -> history_pb2.DeleteChatHistoryResponse:
        deleted = await self._history.erase_all(caller().user_id)
        return history_pb2.DeleteChatHistoryResponse(success=True, deleted=count(deleted))


class RecordTokens(PlaceTokens):
    """The tokens of the pages of a list of records, whose ids are UUIDs."""

    def __contains__(self, token: object) -> bool:
        place = self.place(token) if super().__contains__(token) and isinstance(token, str) else None
        return place is not None and is_uuid(place.id)


def page_tokens(request: history_pb2.ListChatRecordsRequest, user_id: str) -> RecordTokens:
    """Returns the tokens of the pages of a person's list."""
    span = {name: (time.seconds, time.nanos) for name, time in _times(request).items()}
    return RecordTokens(user_id, request.provider, request.model, request.conversation_id, span)


def check_list(request: history_pb2.ListChatRecordsRequest, tokens: RecordTokens) -> None:
    """Raises InvalidRequest unless records can be listed like this; `tokens` are those of the pages."""
    violations = broken_page_rules(request.page_size, request.page_token, tokens=tokens)
    times = _times(request)
    broken = [Violation(name, TIME_RULE) for name, time in times.items() if not is_time(time)]
    violations += broken
    if len(times) == 2 and not broken and times["from"].ToNanoseconds() >= times["to"].ToNanoseconds():
        violations.append(Violation("from", "must lie before `to`."))
    refuse_any(violations)


def to_wanted(request: history_pb2.ListChatRecordsRequest) -> Wanted:
    """Converts the filters of a checked request. Names are cut as those of records are when they are stored."""
    times = {name: time.ToDatetime(UTC) for name, time in _times(request).items()}
    return Wanted(
        provider=fitting(request.provider, LONGEST_KEY),
        model=fitting(request.model, LONGEST_KEY),
        conversation_id=fitting(request.conversation_id, LONGEST_KEY),
        start=times.get("from"),
        end=times.get("to"),
    )


def to_id(text: str) -> UUID:
    """Converts the id of a record. Raises NotFound for what is the id of none."""
    if not is_uuid(text):
        raise no_such_chat()
    return UUID(text)


def to_record(past: PastChat) -> history_pb2.ChatRecord:
    """Converts a chat of the past."""
    row = past.row
    record = history_pb2.ChatRecord(
        id=str(row.id),
        conversation_id=row.conversation_id,
        provider=row.provider,
        model=row.model_requested,
        usage=to_usage(row),
        cost_usd=None if row.cost_picos is None else dollars(row.cost_picos),
        status=row.end_state,
        create_time=row.start_time,
        request_id=row.request_id,
        error_reason=row.error_reason,
    )
    content = _read(past.content)
    if content is None:
        record.missing = _DOES_NOT_OPEN
        return record
    messages, record.missing = read_conversation(content)
    record.messages.extend(messages)
    if content.HasField("completion"):
        record.completion.CopyFrom(content.completion)
        record.completion.object = "chat.completion"
        record.completion.created = int(row.start_time.timestamp())
        record.completion.model = row.model_requested
        record.completion.provider = row.provider
    return record


def to_usage(row: Row[Any]) -> chat.Usage:
    """Converts the tokens of a chat; kinds of which there were none are left out."""
    usage = chat.Usage(
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        total_tokens=count(row.prompt_tokens + row.completion_tokens),
    )
    for name in ("cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "tool_use_tokens"):
        if tokens := getattr(row, name):
            setattr(usage.prompt_tokens_details, name, tokens)
    if row.reasoning_tokens:
        usage.completion_tokens_details.reasoning_tokens = row.reasoning_tokens
    if row.estimated:
        usage.estimated = True
    return usage


def _read(content: bytes | None) -> chat_content_pb2.ChatContent | None:
    if content is None:
        return None
    try:
        return chat_content_pb2.ChatContent.FromString(content)
    except DecodeError:
        return None


def _times(request: history_pb2.ListChatRecordsRequest) -> dict[str, Timestamp]:
    # `from` is a keyword of Python, so the fields are reached by name.
    return {name: getattr(request, name) for name in ("from", "to") if request.HasField(name)}
