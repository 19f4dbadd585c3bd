"""One streamed answer where the sandbox provider cannot be steered to: at the edges of its end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import IncompleteResponse, ProviderError
from libs.worker import streaming
from libs.worker.streaming import AnswerStream
from services.workers.openai.adapter import ADAPTER
from tests.support.waiting import within_bound

SAID = b'data: {"model": "m", "choices": [{"delta": {"content": "Hello"}}]}\n\n'
ENDED = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
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
        assert answer.closing_chunk(chat.Usage()).content == ""

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


class TestEndOfAPart:
    @pytest.mark.parametrize("rest", [b"", ENDED[:30]])
    async def test_is_a_failure(self, rest: bytes) -> None:
        with pytest.raises(ProviderError):
            await relayed(SAID, rest)
