"""One streamed answer where the sandbox provider cannot be steered to: at the edges of its end."""

from collections.abc import AsyncIterator

import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import IncompleteResponse, ProviderError
from libs.worker.streaming import AnswerStream
from services.workers.openai.adapter import ADAPTER

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


class TestEndOfAPart:
    @pytest.mark.parametrize("rest", [b"", ENDED[:30]])
    async def test_is_a_failure(self, rest: bytes) -> None:
        with pytest.raises(ProviderError):
            await relayed(SAID, rest)
