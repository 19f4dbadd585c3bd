"""One streamed answer where the sandbox provider cannot be steered to: at the edges of its end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import IncompleteResponse, ProviderError
from libs.json_members import JsonMembers
from libs.worker import streaming
from libs.worker.failures import Failures
from libs.worker.streaming import AnswerStream, PassingStream
from services.workers.openai.adapter import ADAPTER
from tests.support.waiting import within_bound

SAID = b'data: {"model": "m", "choices": [{"delta": {"content": "Hello"}}]}\n\n'
ENDED = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}\n\n'


async def relayed(*pieces: bytes, broken: bool = False) -> tuple[AnswerStream, str]:
    """Relays an answer that arrives in these pieces, and returns it with the text that was written."""

    async def arriving() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if broken:
            raise IncompleteResponse("broke off", provider="openai")

    written: list[chat.ChatCompletionChunk] = []

    async def write(chunk: chat.ChatCompletionChunk) -> None:
        written.append(chunk)

    answer = AnswerStream(ADAPTER, arriving())
    await answer.relay(write)
    return answer, "".join(chunk.content for chunk in written)


class TestEndOfAWholeAnswer:
    @pytest.mark.parametrize("broken", [False, True])
    @pytest.mark.parametrize("rest", [b"", USAGE[:20], USAGE[:-10]], ids=["nothing", "half a name", "half an object"])
    async def test_facts_that_do_not_arrive_whole_are_no_failure(self, rest: bytes, broken: bool) -> None:
        answer, text = await relayed(SAID, ENDED, rest, broken=broken)
        assert text == "Hello"
        assert answer.reader.usage() is None

    async def test_facts_without_the_last_blank_line_count(self) -> None:
        answer, _ = await relayed(SAID, ENDED, USAGE.rstrip(b"\n"))
        assert (usage := answer.reader.usage()) is not None
        assert usage.completion_tokens == 1


class TestProviderThatGoesOn:
    """A provider that has said the answer is whole, and sends and sends."""

    @pytest.mark.parametrize("after", [ENDED, b"data: [DONE]\n\n"], ids=["finished", "closed"])
    async def test_adds_nothing_to_the_answer(self, after: bytes) -> None:
        answer, text = await relayed(SAID + after + SAID + USAGE)
        assert text == "Hello"
        assert answer.closing(chat.Usage()).content == ""

    @pytest.mark.parametrize("end", [ENDED, b"data: [DONE]\n\n"], ids=["finished", "closed"])
    async def test_does_not_hold_the_answer_up(self, end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "_FACTS_SECONDS", 0.2)

        async def arriving() -> AsyncIterator[bytes]:
            yield SAID + end
            while True:
                yield b": still here\n\n"
                await asyncio.sleep(0.01)

        answer = AnswerStream(ADAPTER, arriving())
        await within_bound(answer.relay(_ignored))
        assert answer.reader.finished


async def _ignored(_chunk: chat.ChatCompletionChunk) -> None:
    pass


async def passed(body: bytes, *pieces: bytes) -> list[bytes]:
    """Passes an answer through that arrives in these pieces, and returns what was written, the closing last."""

    async def arriving() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
            await asyncio.sleep(0)

    written: list[bytes] = []

    async def write(events: bytes) -> None:
        written.append(events)

    answer = PassingStream(Failures("openai", "OpenAI"), ADAPTER.passing_reader(JsonMembers(body)), arriving())
    await answer.read_first_output()
    await answer.relay(write)
    return [*written, answer.closing(chat.Usage())]


class TestPassing:
    """Events that go on as they came."""

    async def test_output_of_an_unknown_kind_does_not_wait_for_the_end(self) -> None:
        role = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
        novel = b'data: {"choices":[{"delta":{"sculpture":"x"}}]}\n\n'
        assert await passed(b"{}", role, novel, ENDED) == [role + novel, ENDED + DONE]

    async def test_names_and_lines_of_events_are_kept(self) -> None:
        named = b'event: novel\ndata: {"choices":\ndata: [{"delta":{"content":"x"}}]}\n\n'
        crlf = named.replace(b"\n", b"\r\n")
        assert await passed(b"{}", b": a comment\n\nid: 5\n" + crlf, ENDED) == [named, ENDED + DONE]

    async def test_what_is_said_while_the_caller_is_slow_leaves_at_once(self) -> None:
        assert await passed(b"{}", SAID + SAID, SAID + ENDED) in (
            [SAID * 2, SAID, ENDED + DONE],
            [SAID * 3, ENDED + DONE],
        )

    async def test_a_provider_that_goes_on_after_the_end_fills_no_memory(self) -> None:
        more = b'data: {"more": "' + b"x" * 30_000 + b'"}\n\n'
        long_end = ENDED.replace(b"{}", b'{"content":"' + b"y" * 100_000 + b'"}')
        assert await passed(b"{}", SAID, ENDED + more * 5, DONE) == [SAID, ENDED + more * 2 + DONE]
        assert await passed(b"{}", SAID, long_end, DONE + more) == [SAID, long_end + DONE]

    async def test_a_provider_that_never_comes_to_the_point_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "_MAX_WHOLE_BYTES", 1_000)
        with pytest.raises(IncompleteResponse):
            await passed(b"{}", *[b'data: {"choices":[], "more":"%b"}\n\n' % (b"x" * 100)] * 20)

    @pytest.mark.parametrize(
        ("n", "ends", "whole"),
        [(b"1", b"0", True), (b"2", b"0", False), (b"2", b"01", True), (b"2", b"00", False), (b"null", b"0", True)],
    )
    async def test_is_whole_when_each_answer_has_ended(self, n: bytes, ends: bytes, whole: bool) -> None:
        events = [b'data: {"choices":[{"index":%c,"delta":{},"finish_reason":"stop"}]}\n\n' % end for end in ends]
        if whole:
            assert b"".join(await passed(b'{"n":%b}' % n, SAID, *events)) == SAID + b"".join(events) + DONE
        else:
            with pytest.raises(IncompleteResponse):
                await passed(b'{"n":%b}' % n, SAID, *events)
            assert b"".join(await passed(b'{"n":%b}' % n, SAID, *events, DONE)) == SAID + b"".join(events) + DONE


class TestEndOfAPart:
    @pytest.mark.parametrize("rest", [b"", ENDED[:30]])
    async def test_is_a_failure(self, rest: bytes) -> None:
        with pytest.raises(ProviderError):
            await relayed(SAID, rest)
