"""Answers of generateContent, whole and streamed: a whole one is a stream of one event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import AnswerReader
from libs.worker.failures import Failures
from libs.worker.json_facts import needed_text, pieces
from libs.worker.json_object import json_object
from libs.worker.token_counts import count, tells, usage_of
from services.workers.google_ai.errors import error_object, read_in_band_error
from services.workers.google_ai.reasoning_details import sealed

# Calls of tools end with STOP too. What is not here is an error: a malformed or unexpected call, OTHER, and whatever
# Google may add.
_FINISH_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "ESCALATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "IMAGE_OTHER": "content_filter",
}
_NOT_YET = "FINISH_REASON_UNSPECIFIED"


class GoogleAIAnswerReader(AnswerReader):
    """Reads the partial responses of one streamed answer.

    Nothing says that the stream is over: a finish reason, or why the prompt was blocked, is the sign of a whole answer.
    """

    __slots__ = ("_answer_id", "_begun", "_calls", "_failures", "_usage", "has_candidate")

    def __init__(self, failures: Failures) -> None:
        super().__init__()
        self._failures = failures
        self._answer_id = ""
        self._begun = False
        self._calls = 0
        self._usage: Any = None
        self.has_candidate = False
        """True when the model has come to word, even if it said nothing."""

    def read(self, name: bytes, data: bytes, chunk: chat.ChatCompletionChunk) -> None:  # noqa: ARG002 - one kind of event
        response = orjson.loads(data)
        if error := error_object(response):
            raise read_in_band_error(self._failures, error)
        if not self._begun:
            self._begin(response, chunk)
        if not self.model and response.get("modelVersion"):
            chunk.model = response["modelVersion"]  # refuses what is no text
            self.model = chunk.model
        if (usage := response.get("usageMetadata")) and isinstance(usage, dict):
            self._usage = usage  # of all that was said so far
        if blocked := (response.get("promptFeedback") or {}).get("blockReason"):
            self._finish("content_filter", blocked)
        if candidates := response.get("candidates"):
            self.has_candidate = True
            candidate = candidates[0]  # more were not asked for
            self._read_parts(pieces((candidate.get("content") or {}).get("parts") or ()), chunk)
            reason = candidate.get("finishReason")
            if reason and reason != _NOT_YET:
                self._finish(_FINISH_REASONS.get(reason, "error"), reason)

    def _begin(self, response: dict[str, Any], chunk: chat.ChatCompletionChunk) -> None:
        self._begun = True
        chunk.id = self._answer_id = response.get("responseId") or ""
        chunk.provider = self._failures.provider

    def _finish(self, reason: str, native: Any) -> None:
        self.finish_reason = "tool_calls" if reason == "stop" and self._calls else reason
        self.native_finish_reason = needed_text(native)
        self.finished = True

    def _read_parts(self, parts: Iterable[dict[str, Any]], chunk: chat.ChatCompletionChunk) -> None:
        """Adds the parts of an event. Their texts are joined first: one that grows in a message is copied each time."""
        said: list[str] = []
        thought: list[str] = []
        for part in parts:
            signature = part.get("thoughtSignature")
            if call := part.get("functionCall"):
                self._read_call(call, signature, chunk)
                continue
            if text := part.get("text"):
                (thought if part.get("thought") else said).append(text)
            if signature:
                chunk.reasoning_details.append(json_object(sealed(needed_text(signature))))
        if said:
            chunk.content += "".join(said)
        if thought:
            chunk.reasoning_content += "".join(thought)

    def _read_call(self, call: dict[str, Any], signature: str | None, chunk: chat.ChatCompletionChunk) -> None:
        """Adds a call, which always comes whole. Older models give it no id; ours names the answer and the place."""
        index = self._calls
        self._calls += 1
        own = chunk.tool_calls.add(
            index=index,
            id=call.get("id") or (f"call_{self._answer_id}_{index}" if self._answer_id else f"call_{index}"),
            name=call["name"],
            arguments=orjson.dumps(call.get("args") or {}).decode(),
        )
        if signature:
            own.extra_content.google.thought_signature = signature

    def usage(self) -> chat.Usage | None:
        counted = read_usage(self._usage)
        if counted is not None and not self.finished:
            counted.estimated = True  # of an answer that was broken off Google may have made more than it told
        return counted


def read_usage(usage: Any) -> chat.Usage | None:
    """Reads usageMetadata: cached tokens are part of the prompt, while thoughts and what tools put in stand apart."""
    if not tells(usage, "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"):
        return None
    tool_use, reasoning = count(usage, "toolUsePromptTokenCount"), count(usage, "thoughtsTokenCount")
    return usage_of(
        count(usage, "promptTokenCount") + tool_use,
        count(usage, "candidatesTokenCount") + reasoning,
        cached=count(usage, "cachedContentTokenCount"),
        tool_use=tool_use,
        reasoning=reasoning,
    )
