"""The account of a chat when it cannot be written down, or when the failure is our own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.chat.v1 import chat_service_pb2 as chat
from structlog.testing import capture_logs

from libs.errors import ProviderUnavailable
from libs.redaction import Secret
from libs.rpc.identity import Call, Principal, enter_call
from libs.worker.accounting import Account
from libs.worker.adapter import Credential
from libs.worker.chats import Chats
from libs.worker.streaming import AnswerStream
from services.workers.openai.adapter import ADAPTER


class Book:
    """Keeps facts in memory, or is as sick as a full disk."""

    def __init__(self, *, sick: bool = False) -> None:
        self._sick = sick
        self.records: list[UsageRecord] = []

    def append(self, fact: bytes) -> None:
        if self._sick:
            raise OSError("disk full")
        self.records.append(UsageRecord.FromString(fact))

    def check_writable(self) -> None:
        """Lets every chat begin: what is tried here is how it ends."""


def account(book: Book) -> Account:
    request = chat.CreateChatCompletionRequest(provider="openai")
    return Account(book, request, user_id="usr_1", request_id="request-1", streamed=False)


class TestSickDisk:
    @pytest.mark.parametrize("ending", [asyncio.CancelledError(), ProviderUnavailable("away", provider="openai")])
    async def test_does_not_hide_how_the_chat_ended(self, ending: BaseException) -> None:
        with capture_logs() as logs, pytest.raises(type(ending)), account(Book(sick=True)):
            raise ending
        assert [(line["log_level"], line["request_id"]) for line in logs] == [("error", "request-1")]

    async def test_a_whole_answer_is_not_given_away_unrecorded(self) -> None:
        chat_account = account(Book(sick=True))
        with pytest.raises(OSError, match="disk full"), chat_account:
            chat_account.complete("m", chat.Usage())

    async def test_the_caller_of_a_stream_is_told_in_band(self) -> None:
        class Provider:
            @asynccontextmanager
            async def stream(self, _request: object) -> AsyncIterator[AsyncIterator[bytes]]:
                yield arriving()

        class Keys:
            async def of(self, _user_id: str) -> Credential:
                return Credential(Secret("a key"))

        async def arriving() -> AsyncIterator[bytes]:
            yield b'data: {"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'

        written: list[chat.ChatCompletionChunk] = []

        async def write(chunk: chat.ChatCompletionChunk) -> None:
            written.append(chunk)

        upstream: Any = Provider()
        chats = Chats(ADAPTER, upstream, Keys(), Book(sick=True), max_concurrent=1, answer_seconds=10)
        call = Call("", None, request_id="request-1", principal=Principal("usr_1", "user", "token-1", inf))
        enter_call(call)
        with pytest.raises(OSError, match="disk full"):
            await chats.stream(chat.CreateChatCompletionRequest(provider="openai"), write, call)

        assert written[0].content == "Hello"
        assert (written[-1].finish_reason, written[-1].error.reason) == ("error", "INTERNAL")
        assert "request-1" in written[-1].error.message
        assert "disk" not in written[-1].error.message


class TestReason:
    @pytest.mark.parametrize(
        ("ending", "reason"),
        [
            (ProviderUnavailable("away", provider="openai"), "PROVIDER_UNAVAILABLE"),
            (ZeroDivisionError(), "INTERNAL"),
            (asyncio.CancelledError(), ""),
        ],
    )
    async def test_is_that_of_the_failure(self, ending: BaseException, reason: str) -> None:
        book = Book()
        with pytest.raises(type(ending)), account(book):
            raise ending
        assert [record.error_reason for record in book.records] == [reason]


class TestModelServed:
    async def test_is_kept_short_whatever_the_provider_calls_it(self) -> None:
        book = Book()
        with account(book) as chat_account:
            chat_account.complete("m" * 5_000_000, chat.Usage())
        assert len(book.records[0].model_served) == 200

    async def test_one_that_is_no_text_costs_nobody_the_record(self) -> None:
        async def arriving() -> AsyncIterator[bytes]:
            yield b'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\n'
            yield b'data: {"model": 5, "choices": [{"delta": {"content": "Hello"}}]}\n\n'

        async def write(_chunk: chat.ChatCompletionChunk) -> None:
            pass

        book = Book()
        chat_account, answer = account(book), AnswerStream(ADAPTER, arriving())
        chat_account.answer = answer
        with pytest.raises(ProviderUnavailable), chat_account:
            await answer.relay(write)
        assert [record.error_reason for record in book.records] == ["PROVIDER_UNAVAILABLE"]
