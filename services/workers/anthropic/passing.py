"""Chats that pass through to Anthropic as their callers wrote them."""

from __future__ import annotations

from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import PassingReader
from libs.worker.failures import Failures
from libs.worker.json_facts import pieces, text
from services.workers.anthropic.errors import error_object, read_in_band_error
from services.workers.anthropic.kept_message import KeptMessage
from services.workers.anthropic.usage import UsageCounts

# What a model says, by the names it has in blocks and in their deltas.
_TEXTS = ("text", "thinking", "partial_json")
# Blocks that say nothing yet when they begin.
_OPENED_EMPTY = frozenset({"text", "thinking"})


class PassingAnthropicReader(PassingReader):
    """Reads the events of one answer, or all of it at once."""

    __slots__ = ("_counts", "_ended", "_failures", "_keeping")

    def __init__(self, failures: Failures) -> None:
        super().__init__()
        self._failures = failures
        self._counts = UsageCounts()
        self._ended = False
        self._keeping: KeptMessage | None = None

    def usage(self) -> chat.Usage | None:
        return self._counts.usage()

    def read_event(self, name: bytes, data: bytes) -> bool:
        if name == b"ping":
            return True
        event = orjson.loads(data)
        match event["type"]:
            case "content_block_delta":
                self.spoke = True
                self._hear(event["delta"])
            case "content_block_start":
                block = event["content_block"]
                self.spoke = self.spoke or block["type"] not in _OPENED_EMPTY
                self._hear(block)
            case "message_start":
                self._note(event["message"])
                self._report(event["message"].get("usage"), complete=False)
            case "message_delta":
                self._ended = self._ended or bool(event["delta"].get("stop_reason"))
                self._report(event.get("usage"), complete=True)
            case "message_stop":
                if not self._ended:
                    raise ValueError("a message that stops without having ended")
                self.finished = self.closed = True
            case "error":
                raise read_in_band_error(self._failures, error_object(event))
            case _:
                pass  # Anthropic adds kinds of events without notice
        if self.kept is not None:
            if self._keeping is None:
                self._keeping = KeptMessage(self.kept)
            self._keeping.hear(event)
        return True

    def read_whole(self, body: bytes) -> None:
        message = orjson.loads(body)
        if message.get("type") == "error" or "error" in message:
            raise read_in_band_error(self._failures, error_object(message))
        for block in pieces(message["content"]):
            self._hear(block)
        self._note(message)
        self._report(message.get("usage"), complete=True)
        if not message.get("stop_reason"):
            raise ValueError("a message that has not ended")
        if self.kept is not None:
            KeptMessage(self.kept).hear_whole(message)
        self.finished = self.closed = True

    def _note(self, message: dict[str, Any]) -> None:
        self.model = text(message.get("model"))

    def _report(self, usage: Any, *, complete: bool) -> None:
        self._counts.report(usage, complete=complete)
        self.service_tier = self._counts.service_tier

    def _hear(self, said: dict[str, Any]) -> None:
        for name in _TEXTS:
            if heard := said.get(name):
                self.spoke = True
                self.characters += len(text(heard))
