"""Claude's answers that pass through, collected for the history as far as the hub has words for them."""

from __future__ import annotations

from typing import Any

import orjson

from libs.worker.adapter import NOT_UNDERSTOOD
from libs.worker.json_facts import text
from libs.worker.kept_answer import KeptAnswer
from services.workers.anthropic.answer import BETWEEN_THOUGHTS, FINISH_REASONS
from services.workers.anthropic.reasoning_details import Place, redacted_note, thinking_note


class _Block:
    """A block that is being written. `call` is the place of a tool call among the calls, -1 for any other block."""

    __slots__ = ("call", "given", "place", "said", "signature", "thought")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.call = -1
        self.given: Any = None  # input that came whole
        self.said = False
        self.thought: list[str] = []
        self.signature = ""


class KeptMessage:
    """Hears the events of one message, or all of it. What it does not understand is not kept."""

    __slots__ = ("_answer", "_blocks", "_calls", "_characters", "_thought")

    def __init__(self, answer: KeptAnswer) -> None:
        self._answer = answer
        self._blocks: dict[int, _Block] = {}
        self._characters = 0
        self._calls = 0
        self._thought = False

    def hear(self, event: dict[str, Any]) -> None:
        """Takes in an event."""
        if self._answer.too_long:
            return
        try:
            match event["type"]:
                case "content_block_delta":
                    self._delta(self._blocks[event["index"]], event["delta"])
                case "content_block_start":
                    self._open(event["index"], event["content_block"])
                case "content_block_stop":
                    self._close(event["index"])
                case "message_start":
                    self._answer.id = text(event["message"].get("id"))
                case "message_delta":
                    self._end(event["delta"])
                case _:
                    pass
        except NOT_UNDERSTOOD:
            pass

    def hear_whole(self, message: dict[str, Any]) -> None:
        """Takes in a message that came whole."""
        self._answer.id = text(message.get("id"))
        for index, block in enumerate(message["content"]):
            try:
                self._open(index, block)
                self._close(index)
            except NOT_UNDERSTOOD:
                continue
        self._end(message)

    def _open(self, index: int, start: dict[str, Any]) -> None:
        block = self._blocks[index] = _Block(Place(self._characters, self._calls))
        match start["type"]:
            case "text":
                self._say(text(start.get("text")))
            case "thinking":
                self._think(block, text(start.get("thinking")))
                block.signature = text(start.get("signature"))
            case "redacted_thinking":
                self._answer.choice().note(redacted_note(text(start["data"]), block.place))
            case "tool_use":
                block.call = self._calls
                self._calls += 1
                block.given = start.get("input")
                self._answer.choice().call(block.call, identity=text(start["id"]), name=text(start["name"]))
            case _:
                pass  # of tools that run at Anthropic, and of what is yet to come

    def _delta(self, block: _Block, delta: dict[str, Any]) -> None:
        match delta["type"]:
            case "text_delta":
                self._say(text(delta["text"]))
            case "input_json_delta":
                if block.call >= 0 and (fragment := text(delta["partial_json"])):
                    self._answer.choice().call(block.call, arguments=fragment)
                    block.said = True
            case "thinking_delta":
                self._think(block, text(delta["thinking"]))
            case "signature_delta":
                block.signature += text(delta["signature"])
            case _:
                pass  # citations, and what is yet to come

    def _say(self, said: str) -> None:
        if said:
            self._answer.choice().say(said)
            self._characters += len(said)

    def _think(self, block: _Block, thought: str) -> None:
        if not thought:
            return
        choice = self._answer.choice()
        if self._thought and not block.thought:
            choice.think(BETWEEN_THOUGHTS)
        choice.think(thought)
        block.thought.append(thought)
        self._thought = True

    def _close(self, index: int) -> None:
        block = self._blocks.pop(index)
        if block.signature:
            self._answer.choice().note(thinking_note("".join(block.thought), block.signature, block.place))
        elif block.call >= 0 and not block.said:
            # A call without arguments has no fragments, or empty ones.
            self._answer.choice().call(block.call, arguments=orjson.dumps(block.given or {}).decode())

    def _end(self, end: dict[str, Any]) -> None:
        reason = text(end.get("stop_reason"))
        if not reason:
            return
        if reason == "refusal" and not self._characters:
            # Why Claude declined; all there is to show.
            details = end.get("stop_details")
            self._say(text(details.get("explanation")) if isinstance(details, dict) else "")
        self._answer.choice().end(FINISH_REASONS.get(reason, "error"), reason)
