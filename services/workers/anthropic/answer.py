"""Claude's answers, whole and streamed, in the words of this platform.

https://platform.claude.com/docs/en/build-with-claude/streaming and …/handling-stop-reasons
"""

from __future__ import annotations

from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import AnswerReader
from libs.worker.assembly import merged
from libs.worker.failures import Failures
from libs.worker.json_facts import needed_text, pieces
from services.workers.anthropic.errors import error_object, read_in_band_error
from services.workers.anthropic.reasoning_details import Place, redacted_note, thinking_note
from services.workers.anthropic.usage import UsageCounts

# A reason that is not listed is an error, as with every provider: what it means for the answer nobody here knows.
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # cut off in the middle of a long turn; it would go on if sent back
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
BETWEEN_THOUGHTS = "\n\n"


class _Block:
    """A block that is being written. `call` is the place of a tool call among the calls, -1 for any other block."""

    __slots__ = ("call", "given", "kind", "place", "said", "signature", "thought")

    def __init__(self, kind: str, place: Place) -> None:
        self.kind = kind
        self.place = place
        self.call = -1
        self.given: Any = None  # input that came whole
        self.said = False
        self.thought: list[str] = []
        self.signature: list[str] = []


class AnthropicAnswerReader(AnswerReader):
    """Reads the events of one answer, or all of it at once."""

    __slots__ = ("_blocks", "_calls", "_characters", "_counts", "_failures", "_thought")

    def __init__(self, failures: Failures) -> None:
        super().__init__()
        self._failures = failures
        self._counts = UsageCounts()
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._characters = 0
        self._thought = False

    def usage(self) -> chat.Usage | None:
        return self._counts.usage()

    def read(self, name: bytes, data: bytes, chunk: chat.ChatCompletionChunk) -> None:
        if name == b"ping":
            return
        event = orjson.loads(data)
        match event["type"]:
            case "content_block_delta":
                self._delta(self._blocks[event["index"]], event["delta"], chunk)
            case "content_block_start":
                self._open(event["index"], event["content_block"], chunk)
            case "content_block_stop":
                self._close(event["index"], chunk)
            case "message_start":
                self._start(event["message"], chunk)
                self._counts.report(event["message"].get("usage"), complete=False)
            case "message_delta":
                self._end(event["delta"], chunk)
                self._report(event.get("usage"))
            case "message_stop":
                if not self.finish_reason:
                    raise ValueError("a message that stops without having ended")
                self.finished = self.closed = True
            case "error":
                raise read_in_band_error(self._failures, error_object(event))
            case _:
                pass  # Anthropic adds kinds of events without notice

    def read_message(self, message: dict[str, Any], chunk: chat.ChatCompletionChunk) -> None:
        """Reads an answer that came whole."""
        said = []
        for index, block in enumerate(pieces(message["content"])):
            said.append(chat.ChatCompletionChunk())
            self._open(index, block, said[-1])
            self._close(index, said[-1])
        chunk.MergeFrom(merged(said))
        self._start(message, chunk)
        self._end(message, chunk)
        self._report(message.get("usage"))
        if not self.finish_reason:
            raise ValueError("a message that has not ended")
        self.finished = self.closed = True

    def _start(self, message: dict[str, Any], chunk: chat.ChatCompletionChunk) -> None:
        chunk.id = message["id"]
        chunk.model = self.model = message["model"]
        chunk.provider = self._failures.provider

    def _report(self, usage: Any) -> None:
        self._counts.report(usage, complete=True)
        self.service_tier = self._counts.service_tier

    def _end(self, end: dict[str, Any], chunk: chat.ChatCompletionChunk) -> None:
        reason = end.get("stop_reason")
        if not reason:
            return
        self.native_finish_reason = needed_text(reason)
        self.finish_reason = FINISH_REASONS.get(self.native_finish_reason, "error")
        if reason == "refusal" and not self._characters:
            # Why Claude declined; all there is to show.
            details = end.get("stop_details")
            explanation = details.get("explanation") if isinstance(details, dict) else None
            if explanation:
                self._say(explanation, chunk)

    def _say(self, text: str, chunk: chat.ChatCompletionChunk) -> None:
        chunk.content += text
        self._characters += len(text)

    def _open(self, index: int, start: dict[str, Any], chunk: chat.ChatCompletionChunk) -> None:
        block = self._blocks[index] = _Block(start["type"], Place(self._characters, self._calls))
        match block.kind:
            case "text":
                if start["text"]:
                    self._say(start["text"], chunk)
            case "thinking":
                if start["thinking"]:
                    self._think(block, start["thinking"], chunk)
                if signature := start.get("signature"):
                    block.signature.append(needed_text(signature))
            case "redacted_thinking":
                chunk.reasoning_details.append(redacted_note(needed_text(start["data"]), block.place))
            case "tool_use":
                block.call = self._calls
                self._calls += 1
                block.given = start.get("input")
                chunk.tool_calls.add(index=block.call, id=start["id"], name=start["name"])
            case _:
                pass  # of tools that run at Anthropic, and of what is yet to come

    def _delta(self, block: _Block, delta: dict[str, Any], chunk: chat.ChatCompletionChunk) -> None:
        match delta["type"]:
            case "text_delta":
                self._say(delta["text"], chunk)
            case "input_json_delta":
                if block.call >= 0 and (fragment := delta["partial_json"]):
                    chunk.tool_calls.add(index=block.call, arguments=fragment)
                    block.said = True
            case "thinking_delta":
                self._think(block, delta["thinking"], chunk)
            case "signature_delta":
                block.signature.append(needed_text(delta["signature"]))
            case _:
                pass  # citations, and what is yet to come

    def _think(self, block: _Block, text: str, chunk: chat.ChatCompletionChunk) -> None:
        if not text:
            return
        if self._thought and not block.thought:
            chunk.reasoning_content += BETWEEN_THOUGHTS
        chunk.reasoning_content += text
        block.thought.append(text)
        self._thought = True

    def _close(self, index: int, chunk: chat.ChatCompletionChunk) -> None:
        block = self._blocks.pop(index)
        if block.kind == "thinking" and (signature := "".join(block.signature)):
            chunk.reasoning_details.append(thinking_note("".join(block.thought), signature, block.place))
        elif block.call >= 0 and not block.said:
            # A call without arguments has no fragments, or empty ones.
            chunk.tool_calls.add(index=block.call, arguments=orjson.dumps(block.given or {}).decode())
