"""What becomes of what is said in chats: sealed into the record, or not kept, and the chat is as good either way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.chat.v1 import chat_service_pb2 as chat
from structlog.testing import capture_logs

from libs.errors import ProviderUnavailable
from libs.provider_keys import ProviderKey
from libs.rpc.access_policy import SESSION_SCOPES
from libs.rpc.identity import Call, Principal, enter_call
from libs.sealed_content import ContentDoesNotOpen
from libs.worker.adapter import Credential
from libs.worker.chats import Chats
from libs.worker.data_keys import DataKeys
from libs.worker.history import History, Outcome
from libs.worker.history_metrics import HistoryCollector
from libs.worker.kept_requests import MOST_BYTES
from services.workers.openai.adapter import ADAPTER
from tests.support.kept_contents import KeyMaker
from tests.support.waiting import within_bound

State = UsageRecord.EndState
ANSWER = {
    "id": "answer-1",
    "model": "m",
    "choices": [{"index": 0, "message": {"content": "Hello!"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 5},
}


class Book:
    """Keeps records in memory."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []

    def append(self, fact: bytes) -> None:
        self.records.append(UsageRecord.FromString(fact))

    def check_writable(self) -> None:
        """Lets every chat begin."""


class Credentials:
    """Has one for everybody."""

    async def of(self, _user_id: str) -> Credential:
        return Credential(ProviderKey("a key"))


class Provider:
    """Answers the same to everybody, whole or streamed; `answered` tells that it has."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | Exception = ANSWER
        self.pieces: list[bytes] = []
        self.answered = asyncio.Event()

    async def fetch(self, _request: object, _seconds: float) -> bytes:
        self.answered.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return orjson.dumps(self.answer)

    @asynccontextmanager
    async def stream(self, _request: object) -> AsyncIterator[AsyncIterator[bytes]]:
        async def arriving() -> AsyncIterator[bytes]:
            for piece in self.pieces:
                yield piece

        yield arriving()


class Stage:
    """A worker's chats over a provider and a key vault that do as they are told."""

    def __init__(self, *, key_seconds: float = 1e6, nearly_full: Callable[[], bool] = lambda: False) -> None:
        self.book, self.provider, self.keys = Book(), Provider(), KeyMaker()
        self.data_keys = DataKeys(self.keys.load)
        self.patience = asyncio.timeout(None)
        self.history = History(self.data_keys, nearly_full=nearly_full, key_seconds=key_seconds)
        upstream: Any = self.provider
        self.chats = Chats(
            ADAPTER,
            upstream,
            Credentials(),
            self.book,
            max_concurrent=9,
            max_of_one_person=9,
            answer_seconds=60,
            history=self.history,
        )

    def asking(self, user_id: str = "usr_1", text: str = "Hi.", **fields: Any) -> asyncio.Task[Any]:
        """Begins a chat, which lasts until `patience` ends."""
        message = chat.ChatMessage(role="user", content=text)
        self.patience = asyncio.timeout(None)
        request = chat.CreateChatCompletionRequest(provider="openai", messages=[message], **fields)

        async def ask() -> Any:
            principal = Principal(user_id, "user", "token-1", inf, SESSION_SCOPES)
            call = Call("", None, request_id="request-1", principal=principal, deadline=inf)
            enter_call(call)
            async with self.patience:
                return await self.chats.complete(request, call)

        return asyncio.create_task(ask())

    async def asked(self, user_id: str = "usr_1", **fields: Any) -> UsageRecord:
        """Has a chat, which must not last, and returns its record."""
        await within_bound(self.asking(user_id, **fields))
        return self.book.records[-1]

    def content(self) -> ChatContent:
        """Opens what was kept of the last chat."""
        return self.keys.content_of(self.book.records[-1])

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """What has become of contents, without what has not happened."""
        return {outcome: count for outcome, count in self.history.counts.items() if count}


class TestContent:
    async def test_is_what_was_asked_and_answered(self) -> None:
        stage = Stage()
        record = await stage.asked()
        content = stage.content()
        assert [(message.role, message.content) for message in content.messages] == [("user", "Hi.")]
        assert content.completion.id == "answer-1"
        assert content.completion.choices[0].message.content == "Hello!"
        assert not content.completion.HasField("usage")  # the record has it
        assert (record.end_state, stage.outcomes) == (State.COMPLETED, {Outcome.KEPT: 1})

    async def test_of_a_chat_without_answer_is_what_was_asked(self) -> None:
        stage = Stage()
        stage.provider.answer = ProviderUnavailable("away", provider="openai")
        stage.provider.answer.retryable = False
        with pytest.raises(ProviderUnavailable):
            await within_bound(stage.asking())
        assert stage.content().messages[0].content == "Hi."
        assert not stage.content().HasField("completion")

    async def test_is_bound_to_its_record(self) -> None:
        """Each has a nonce of its own, and opens for its own record alone."""
        stage = Stage()
        first, second = await stage.asked(), await stage.asked()
        assert first.content.wrapped_key == second.content.wrapped_key
        assert first.content.sealed != second.content.sealed
        second.content.CopyFrom(first.content)
        with pytest.raises(ContentDoesNotOpen):
            stage.keys.content_of(second)

    async def test_is_not_kept_where_that_is_not_wanted(self) -> None:
        stage = Stage()
        record = await stage.asked(store=False)
        assert not record.HasField("content")
        assert (stage.keys.asked, stage.outcomes) == (0, {})
        assert (await stage.asked(store=True)).HasField("content")

    async def test_that_is_too_large_is_told_to_be(self) -> None:
        stage = Stage()
        await stage.asked(text="x" * MOST_BYTES)
        assert stage.content() == ChatContent(left_out=True)
        stage.provider.answer = {**ANSWER, "choices": [{"message": {"content": "x" * MOST_BYTES}}]}
        await stage.asked()
        assert stage.content() == ChatContent(left_out=True)
        assert stage.outcomes == {Outcome.TOO_LARGE: 2}

    async def test_that_cannot_be_sealed_does_not_fail_the_chat(self) -> None:
        stage = Stage()
        await stage.asked()
        unsound: Any = Unsound()
        stage.history.keys = unsound
        with capture_logs() as logs:
            record = await stage.asked(text="a secret")
        assert (record.end_state, record.HasField("content")) == (State.COMPLETED, False)
        assert stage.outcomes == {Outcome.KEPT: 1, Outcome.FAILED: 1}
        assert [line["event"] for line in logs] == ["content of a chat not sealed"]
        assert "a secret" not in str(logs)

    async def test_is_not_added_to_an_outbox_that_is_nearly_full(self) -> None:
        full = False
        stage = Stage(nearly_full=lambda: full)
        assert (await stage.asked()).HasField("content")
        full = True
        with capture_logs() as logs:
            assert not (await stage.asked()).HasField("content")
            await stage.asked()
        assert stage.outcomes == {Outcome.KEPT: 1, Outcome.OUTBOX_FULL: 2}
        assert [line["why"] for line in logs] == ["outbox_full"]  # not once for every chat


class Unsound:
    """Data keys of which none is one."""

    def at_hand(self, _user_id: str) -> object:
        """Returns none, too."""
        return object()


class TestKeyVaultAway:
    async def test_costs_the_content_and_nothing_else(self) -> None:
        stage = Stage()
        stage.keys.away = True
        record = await stage.asked()
        assert (record.end_state, record.prompt_tokens, record.HasField("content")) == (State.COMPLETED, 7, False)
        assert stage.outcomes == {Outcome.NO_KEY: 1}

    async def test_costs_nothing_those_who_have_a_key(self) -> None:
        stage = Stage()
        await stage.asked()
        stage.keys.away = True
        assert (await stage.asked()).HasField("content")


class TestKeyVaultFrozen:
    async def test_holds_up_one_chat_for_as_long_as_it_may_and_no_other(self) -> None:
        stage = Stage(key_seconds=0.001)
        stage.keys.goes_on.clear()
        assert not (await stage.asked("usr_1")).HasField("content")
        stage.history.key_seconds = 1e6  # who waited now would wait until the test fails
        for user_id in ("usr_1", "usr_2", "usr_3"):
            assert not (await stage.asked(user_id)).HasField("content")
        assert stage.outcomes == {Outcome.NO_KEY: 4}

        stage.keys.goes_on.set()
        await within_bound(stage.data_keys.of("usr_1"))
        assert (await stage.asked("usr_1")).HasField("content")
        assert (await stage.asked("usr_4")).HasField("content")  # its key is waited for

    async def test_is_asked_while_the_provider_is(self) -> None:
        """A key that takes as long as the answer costs the chat nothing, and is waited for a little at the end."""
        stage = Stage()
        stage.keys.goes_on.clear()
        asking = stage.asking()
        await within_bound(stage.provider.answered.wait())
        assert stage.keys.asked == 1
        assert not asking.done()
        stage.keys.goes_on.set()
        completed = await within_bound(asking)
        assert completed.completion.choices[0].message.content == "Hello!"
        assert stage.content().completion.choices[0].message.content == "Hello!"

    @pytest.mark.parametrize("leaving", ["cancelled", "out of time"])
    async def test_lets_a_caller_leave_and_the_answer_be_accounted_for(self, leaving: str) -> None:
        stage = Stage()
        stage.keys.goes_on.clear()

        asking = stage.asking()
        await within_bound(stage.provider.answered.wait())
        if leaving == "cancelled":
            asking.cancel()
        else:
            stage.patience.reschedule(asyncio.get_running_loop().time())
        with pytest.raises(asyncio.CancelledError if leaving == "cancelled" else TimeoutError):
            await within_bound(asking)
        (record,) = stage.book.records
        assert (record.end_state, record.completion_tokens) == (State.COMPLETED, 5)


class TestMetrics:
    async def test_tell_what_becomes_of_contents(self) -> None:
        stage = Stage()
        await stage.asked()
        stage.keys.away = True
        await stage.asked("usr_2")
        registry = CollectorRegistry()
        registry.register(HistoryCollector("openai", stage.history))
        told = generate_latest(registry).decode()
        for outcome, count in (("kept", 1), ("no_key", 1), ("failed", 0)):
            assert f'realmultillm_chat_contents_total{{outcome="{outcome}",provider="openai"}} {count}.0' in told
