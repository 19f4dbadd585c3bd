"""The account of a chat when it cannot be written down, or when the failure is our own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import orjson
import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.chat.v1 import chat_service_pb2 as chat
from structlog.testing import capture_logs

from libs.errors import IncompleteResponse, ProviderUnavailable
from libs.model_catalog import ModelCatalog
from libs.provider_catalog import load_catalog
from libs.provider_keys import ProviderKey
from libs.rpc.access_policy import SESSION_SCOPES
from libs.rpc.identity import Call, Principal, enter_call
from libs.worker.accounting import Account
from libs.worker.adapter import Adapter, Credential
from libs.worker.answer_costs import Cost, costs_of, unknown
from libs.worker.chat_completion_servicer import DIALECT
from libs.worker.chats import Chats
from libs.worker.dialect_chats import DialectChats
from libs.worker.streaming import AnswerStream
from services.workers.anthropic.adapter import ADAPTER as ANTHROPIC
from services.workers.google_ai.adapter import ADAPTER as GOOGLE_AI
from services.workers.grok.adapter import ADAPTER as GROK
from services.workers.openai.adapter import ADAPTER

PRICED, REPORTED, UNPRICED = UsageRecord.PRICED, UsageRecord.REPORTED, UsageRecord.UNPRICED
NOTHING_USED = UsageRecord.COST_SOURCE_UNSPECIFIED


class Keys:
    """Has one key for everybody."""

    async def of(self, _user_id: str) -> Credential:
        return Credential(ProviderKey("a key"))


class Provider:
    """Streams the same bytes to everybody."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    @asynccontextmanager
    async def stream(self, _request: object) -> AsyncIterator[AsyncIterator[bytes]]:
        yield at_once(self._answer)


async def at_once(answer: bytes) -> AsyncIterator[bytes]:
    yield answer


def entered() -> Call:
    call = Call("", None, request_id="request-1", principal=Principal("usr_1", "user", "token-1", inf, SESSION_SCOPES))
    enter_call(call)
    return call


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


def account(book: Book, prompt: str = "", cost: Cost = unknown) -> Account:
    return Account(
        book,
        provider="openai",
        prompt_characters=lambda: len(prompt),
        user_id="usr_1",
        request_id="request-1",
        streamed=False,
        cost=cost,
    )


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
        hello = b'data: {"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
        written: list[chat.ChatCompletionChunk] = []

        async def write(chunk: chat.ChatCompletionChunk) -> None:
            written.append(chunk)

        upstream: Any = Provider(hello)
        chats = Chats(
            ADAPTER, upstream, Keys(), Book(sick=True), max_concurrent=1, max_of_one_person=1, answer_seconds=10
        )
        with pytest.raises(OSError, match="disk full"):
            await chats.stream(chat.CreateChatCompletionRequest(provider="openai"), write, entered())

        assert written[0].content == "Hello"
        assert (written[-1].finish_reason, written[-1].error.reason) == ("error", "INTERNAL")
        assert "request-1" in written[-1].error.message
        assert "disk" not in written[-1].error.message

    async def test_the_end_of_events_that_pass_is_not_given_away_unrecorded(self) -> None:
        begun = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n'
        ended = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        written: list[bytes] = []

        async def write(events: bytes) -> None:
            written.append(events)

        async def answer(book: Book) -> None:
            upstream: Any = Provider(begun + ended)
            chats = Chats(ADAPTER, upstream, Keys(), book, max_concurrent=1, max_of_one_person=1, answer_seconds=10)
            dialect_chats = DialectChats(chats, ADAPTER, DIALECT)
            await dialect_chats.stream(dialect_chats.read(b'{"stream":true}', ""), write, entered())

        await answer(Book())
        assert written == [begun, ended]
        written.clear()
        with pytest.raises(OSError, match="disk full"):
            await answer(Book(sick=True))
        assert written[0] == begun
        assert b"stop" not in written[-1]
        assert b"Something went wrong on our side" in written[-1]
        assert b"disk" not in written[-1]


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


def events(*told: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in told)


def claude(text: str, usage: dict[str, Any] | None) -> bytes:
    """Begins an answer of Anthropic."""
    return events(
        {"type": "message_start", "message": {"id": "msg_1", "model": "claude-haiku-5-5", "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
    )


def gemini(text: str, usage: dict[str, int]) -> bytes:
    return events({"candidates": [{"content": {"parts": [{"text": text}]}}], "usageMetadata": usage})


def grok(text: str, usage: dict[str, int]) -> bytes:
    return events({"choices": [{"delta": {"content": text}}], "usage": usage})


# 12 sent beside 1,000 from the cache and 200 into it: 12 + 1,000 + 200 = 1,212. The one token out is no count yet.
CLAUDE_SENT = {
    "input_tokens": 12,
    "cache_read_input_tokens": 1_000,
    "cache_creation_input_tokens": 200,
    "output_tokens": 1,
}
# 500 sent, of them 300 from the cache, and 40 put in by tools: 500 + 40 = 540. 3 said after 20 thought: 3 + 20 = 23.
GEMINI_SENT = {
    "promptTokenCount": 500,
    "cachedContentTokenCount": 300,
    "toolUsePromptTokenCount": 40,
    "candidatesTokenCount": 3,
    "thoughtsTokenCount": 20,
}
GROK_SENT = {"prompt_tokens": 32, "completion_tokens": 2, "total_tokens": 34}


class TestUsageOfAnAnswerThatBrokeOff:
    """What the provider told of the prompt holds; of the output at least what arrived, at 4 characters a token."""

    @pytest.mark.parametrize("ending", [asyncio.CancelledError, IncompleteResponse])
    @pytest.mark.parametrize(
        ("adapter", "answer", "prompt", "cached", "completion"),
        [
            (ANTHROPIC, claude("x" * 30, CLAUDE_SENT), 1_212, 1_000, 8),  # 30 / 4 = 7.5
            (ANTHROPIC, claude("x", CLAUDE_SENT), 1_212, 1_000, 1),
            (ANTHROPIC, claude("x" * 30, None), 10, 0, 8),  # nothing told: 40 / 4 = 10 sent
            (GOOGLE_AI, gemini("x" * 30, GEMINI_SENT), 540, 300, 23),  # 30 / 4 = 7.5 is less than the 23 told
            (GOOGLE_AI, gemini("x" * 200, GEMINI_SENT), 540, 300, 50),  # 200 / 4 = 50 is more
            (GOOGLE_AI, gemini("x" * 200, {"candidatesTokenCount": 3}), 10, 0, 50),
            (GROK, grok("x" * 30, GROK_SENT), 32, 0, 8),
            (ADAPTER, events({"choices": [{"delta": {"content": "x" * 30}}]}), 10, 0, 8),
        ],
    )
    async def test_is_recorded(
        self, adapter: Adapter, answer: bytes, ending: type[BaseException], prompt: int, cached: int, completion: int
    ) -> None:
        async def write(_chunk: chat.ChatCompletionChunk) -> None:
            if ending is asyncio.CancelledError:
                raise asyncio.CancelledError

        book = Book()
        chat_account = account(book, "y" * 40)
        chat_account.answer = AnswerStream(adapter, at_once(answer))
        with pytest.raises(ending), chat_account:
            await chat_account.answer.relay(write)
        (record,) = book.records
        assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (prompt, cached, completion)
        assert record.estimated
        assert chat_account.usage().total_tokens == prompt + completion

    async def test_of_counts_beyond_all_measure_still_adds_up_to_one(self) -> None:
        told = chat.Usage(prompt_tokens=2**31 - 1, completion_tokens=5, estimated=True)
        assert account(Book()).estimate(0, told).total_tokens == 2**31 - 1


class TestUsageOfAWholeAnswer:
    """Anthropic is asked for long ones in events, whose start tells the prompt whatever the end leaves out."""

    @pytest.mark.parametrize(
        ("final", "completion", "estimated"),
        [({"output_tokens": 5}, 5, False), (None, 8, True)],  # 30 / 4 = 7.5
    )
    async def test_is_estimated_as_far_as_it_was_not_told(
        self, final: dict[str, int] | None, completion: int, estimated: bool
    ) -> None:
        end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": final}
        upstream: Any = Provider(claude("x" * 30, CLAUDE_SENT) + events(end, {"type": "message_stop"}))
        book = Book()
        chats = Chats(ANTHROPIC, upstream, Keys(), book, max_concurrent=1, max_of_one_person=1, answer_seconds=10)
        request = chat.CreateChatCompletionRequest(
            provider="anthropic",
            messages=[chat.ChatMessage(role="user", content="Hi.")],
            options=chat.ChatOptions(max_tokens=60_000),
        )
        usage = (await chats.complete(request, entered())).completion.usage
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.estimated) == (
            1_212,
            completion,
            1_212 + completion,
            estimated,
        )
        assert [(record.completion_tokens, record.estimated) for record in book.records] == [(completion, estimated)]


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


# Half a trillionth of a dollar for a token: what two cost is the smallest that can be told.
HALF_A_PICO = """
[[models]]
provider = "openai"
model = "cheap"
prices = { input = 0.0000005, output = 1 }
[[models]]
provider = "openai"
model = "dear"
prices = { input = 1_000_000, output = 1_000_000 }
[[models]]
provider = "openai"
model = "dearer"
[[models.prices]]
until = 2026-11-01
input = 1
output = 1
[[models.prices]]
from = 2026-11-01
input = 2
output = 2
"""


@pytest.fixture(scope="module")
def cost(tmp_path_factory: pytest.TempPathFactory) -> Cost:
    file = tmp_path_factory.mktemp("models") / "models.toml"
    file.write_text(HALF_A_PICO)
    return costs_of("openai", ModelCatalog.load(load_catalog(), file))


class TestCost:
    @pytest.mark.parametrize(("tokens", "picos"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3), (7, 4)])
    async def test_is_rounded_half_to_even(self, cost: Cost, tokens: int, picos: int) -> None:
        book = Book()
        with account(book, cost=cost) as chat_account:
            chat_account.complete("cheap", chat.Usage(prompt_tokens=tokens))
        (record,) = book.records
        assert (record.cost_source, record.HasField("cost_picos"), record.cost_picos) == (PRICED, True, picos)
        assert (record.price, chat_account.cost_usd) == ("input=0.0000005 output=1", picos / 1e12)

    @pytest.mark.parametrize(("served", "picos"), [("dear", 1_000_000_000_000), ("nobody-knows", 0), ("", 0)])
    async def test_is_that_of_the_model_that_served_if_it_has_a_price(
        self, cost: Cost, served: str, picos: int
    ) -> None:
        book = Book()
        with account(book, cost=cost) as chat_account:
            chat_account.record.model_requested = "cheap"
            chat_account.complete(served, chat.Usage(prompt_tokens=1))
        assert [(record.cost_source, record.cost_picos) for record in book.records] == [(PRICED, picos)]

    @pytest.mark.parametrize(("start", "price"), [("2026-10-31T23:59:59Z", 1), ("2026-11-01T00:00:00Z", 2)])
    async def test_is_by_the_price_of_when_the_chat_started(self, cost: Cost, start: str, price: int) -> None:
        book = Book()
        with account(book, cost=cost) as chat_account:
            chat_account.record.start_time.FromJsonString(start)
            chat_account.complete("dearer", chat.Usage(prompt_tokens=1_000_000))
        (record,) = book.records
        assert (record.cost_picos, record.price) == (price * 10**12, f"input={price} output={price}")

    async def test_of_an_answer_that_broke_off_is_that_of_what_was_made(self, cost: Cost) -> None:
        """120 characters are 30 tokens, with the 10 of the prompt: 40 dollars at a dollar each."""
        book = Book()
        chat_account = account(book, "y" * 40, cost=cost)
        chat_account.record.model_requested = "dear"
        chat_account.answer = AnswerStream(ADAPTER, at_once(events({"choices": [{"delta": {"content": "x" * 120}}]})))

        async def write(_chunk: chat.ChatCompletionChunk) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError), chat_account:
            await chat_account.answer.relay(write)
        (record,) = book.records
        assert (record.cost_source, record.cost_picos, record.estimated) == (PRICED, 40 * 10**12, True)

    @pytest.mark.parametrize(
        ("model", "tokens", "source"),
        [
            ("dear", 1_000_000, PRICED),
            ("dear", 1_000_001, UNPRICED),  # above a million dollars is above every chat
            ("nobody-knows", 1, UNPRICED),
            ("nobody-knows", 0, NOTHING_USED),
        ],
    )
    async def test_that_is_not_known_is_not_zero(self, cost: Cost, model: str, tokens: int, source: int) -> None:
        book = Book()
        with account(book, cost=cost) as chat_account:
            chat_account.complete(model, chat.Usage(prompt_tokens=tokens))
        (record,) = book.records
        assert (record.cost_source, record.HasField("cost_picos")) == (source, source == PRICED)
        assert (chat_account.cost_usd is None) == (source != PRICED)

    @pytest.mark.parametrize(
        ("reported", "source", "picos"),
        [
            (0.0, REPORTED, 0),
            (0.000_000_000_001, REPORTED, 1),
            (0.1, REPORTED, 100_000_000_000),
            (4.1e-06, REPORTED, 4_100_000),  # × 1e12 is a little less
            (-1.0, PRICED, 1),
            (1_000_001.0, PRICED, 1),
            (float("nan"), PRICED, 1),
        ],
    )
    async def test_that_the_provider_reports_goes_before_if_it_makes_sense(
        self, cost: Cost, reported: float, source: int, picos: int
    ) -> None:
        book = Book()
        with account(book, cost=cost) as chat_account:
            chat_account.complete("cheap", chat.Usage(prompt_tokens=2), cost_usd=reported)
        (record,) = book.records
        assert (record.cost_source, record.cost_picos, record.HasField("reported_cost_picos")) == (
            source,
            picos,
            source == REPORTED,
        )
