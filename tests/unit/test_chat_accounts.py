"""The account of a chat when it cannot be written down, or when the failure is our own."""

import asyncio

import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.chat.v1 import chat_service_pb2 as chat
from structlog.testing import capture_logs

from libs.errors import ProviderUnavailable
from libs.worker.accounting import Account


class Book:
    """Keeps facts in memory, or is as sick as a full disk."""

    def __init__(self, *, sick: bool = False) -> None:
        self._sick = sick
        self.records: list[UsageRecord] = []

    def append(self, fact: bytes) -> None:
        if self._sick:
            raise OSError("disk full")
        self.records.append(UsageRecord.FromString(fact))


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
