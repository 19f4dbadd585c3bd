"""Answers of the hub in the words of OpenAI's API, whole and streamed.

Beside OpenAI's own fields they have those of the hub that other speakers of the dialect have too: `provider`,
`cost_usd`, `reasoning_content`, `reasoning_details`, `native_finish_reason`, and `extra_content` of a tool call.
https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.openai_api.errors import field_name, in_band_error
from libs.worker.json_object import plain

_DONE = b"data: [DONE]\n\n"

# OpenAI has no word for an answer that the provider could not bring to its end, such as a malformed call. Of those it
# has, this is the one that says neither that the answer is whole nor that a longer one would be.
_FINISH_REASONS = {"error": "content_filter"}
# Classes of service that others call as OpenAI does; what is no class of OpenAI's may not stand in its field.
_SERVICE_TIERS = {"standard": "default"} | {
    tier: tier for tier in ("auto", "default", "flex", "scale", "priority", "fast")
}


def completion_body(completion: chat.ChatCompletion) -> bytes:
    """Returns a whole answer as the JSON of a `chat.completion`."""
    body: dict[str, Any] = {
        "id": completion.id or _made_up_id(),
        "object": "chat.completion",
        "created": completion.created or int(time.time()),
        "model": completion.model,
        "choices": [_choice(choice) for choice in completion.choices],
    }
    if completion.HasField("usage"):
        body["usage"] = _usage(completion.usage)
    return orjson.dumps(body | _facts(completion) | {"provider": completion.provider})


class Chunks:
    """One streamed answer as server-sent events, each a `chat.completion.chunk`, with `[DONE]` at the end.

    With `include_usage` every chunk has `usage`, which is null in all but one more before the end, without choices.
    """

    __slots__ = ("_begun", "_called", "_id", "_include_usage", "_model", "_provider", "_started")

    def __init__(self, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._started = int(time.time())
        self._id = self._model = self._provider = ""
        self._begun = False
        self._called: set[int] = set()

    def events(self, chunk: chat.ChatCompletionChunk) -> bytes:
        """Returns the events that say what a chunk does; empty when it says nothing.

        The one with `finish_reason` ends the answer; one with `error` says only why it broke off, and is the last.
        """
        self._id, self._model = self._id or chunk.id, self._model or chunk.model
        self._provider = self._provider or chunk.provider
        if chunk.HasField("error"):
            return b"data: " + in_band_error(chunk.error.reason, chunk.error.message) + b"\n\n"
        delta, last = self._delta(chunk), bool(chunk.finish_reason)
        said = b""
        if delta or (last and not self._begun):
            if not self._begun:
                delta = {"role": "assistant", "content": None if "tool_calls" in delta else ""} | delta
                self._begun = True
            said = self._event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])
        return said + self._end(chunk) if last else said

    def _delta(self, chunk: chat.ChatCompletionChunk) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        if chunk.content:
            delta["content"] = chunk.content
        if chunk.reasoning_content:
            delta["reasoning_content"] = chunk.reasoning_content
        if chunk.reasoning_details:
            delta["reasoning_details"] = [plain(detail) for detail in chunk.reasoning_details]
        if chunk.tool_calls:
            delta["tool_calls"] = [self._fragment(fragment) for fragment in chunk.tool_calls]
        return delta

    def _fragment(self, fragment: chat.ToolCallDelta) -> dict[str, Any]:
        """Puts a fragment into words; the first of its call says which call it is."""
        wire: dict[str, Any] = {"index": fragment.index}
        function: dict[str, Any] = {}
        if fragment.index not in self._called:
            self._called.add(fragment.index)
            wire |= {"id": fragment.id, "type": "function"}
            function["name"] = fragment.name
        function["arguments"] = fragment.arguments
        wire["function"] = function
        if fragment.HasField("extra_content"):
            wire["extra_content"] = _extra(fragment.extra_content)
        return wire

    def _end(self, chunk: chat.ChatCompletionChunk) -> bytes:
        choice: dict[str, Any] = {
            "index": 0,
            "delta": {},
            "logprobs": None,
            "finish_reason": _finish_reason(chunk.finish_reason),
        }
        if chunk.native_finish_reason:
            choice["native_finish_reason"] = chunk.native_finish_reason
        end = self._event([choice], _facts(chunk))
        if self._include_usage:
            end += self._event([], {"usage": _usage(chunk.usage)})
        return end + _DONE

    def _event(self, choices: list[dict[str, Any]], facts: dict[str, Any] | None = None) -> bytes:
        event: dict[str, Any] = {
            "id": self._id or self._make_up_id(),
            "object": "chat.completion.chunk",
            "created": self._started,
            "model": self._model,
            "choices": choices,
            "provider": self._provider,
        }
        if self._include_usage:
            event["usage"] = None
        if facts:
            event |= facts
        return b"data: " + orjson.dumps(event) + b"\n\n"

    def _make_up_id(self) -> str:
        self._id = _made_up_id()
        return self._id


def _choice(choice: chat.Choice) -> dict[str, Any]:
    said = choice.message
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if said.tool_calls and not said.content else said.content,
        "refusal": None,
    }
    if said.reasoning_content:
        message["reasoning_content"] = said.reasoning_content
    if said.reasoning_details:
        message["reasoning_details"] = [plain(detail) for detail in said.reasoning_details]
    if said.tool_calls:
        message["tool_calls"] = [_call(call) for call in said.tool_calls]
    wire = {
        "index": choice.index,
        "message": message,
        "logprobs": None,
        "finish_reason": _finish_reason(choice.finish_reason),
    }
    return wire | {"native_finish_reason": choice.native_finish_reason} if choice.native_finish_reason else wire


def _call(call: chat.FunctionToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    wire: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if call.HasField("extra_content"):
        wire["extra_content"] = _extra(call.extra_content)
    return wire


def _extra(extra: chat.ExtraContent) -> dict[str, Any]:
    return {"google": {"thought_signature": extra.google.thought_signature}}


def _facts(answer: chat.ChatCompletion | chat.ChatCompletionChunk) -> dict[str, Any]:
    """Tells how an answer came about, as far as that is known."""
    facts: dict[str, Any] = {}
    if tier := _SERVICE_TIERS.get(answer.service_tier):
        facts["service_tier"] = tier
    if answer.HasField("cost_usd"):
        facts["cost_usd"] = answer.cost_usd
    if answer.metadata.upstream_provider:
        facts["upstream_provider"] = answer.metadata.upstream_provider
    if answer.metadata.dropped_options:
        facts["dropped_options"] = _dropped(answer.metadata.dropped_options)
    return facts


def _dropped(options: Iterable[chat.DroppedOption]) -> list[dict[str, str]]:
    return [{"option": field_name(dropped.option), "reason": dropped.reason} for dropped in options]


def _usage(usage: chat.Usage) -> dict[str, Any]:
    sent, received = usage.prompt_tokens_details, usage.completion_tokens_details
    prompt = {"cached_tokens": sent.cached_tokens}
    for name in ("cache_write_tokens", "cache_write_1h_tokens", "tool_use_tokens"):
        if sent.HasField(name):
            prompt[name] = getattr(sent, name)
    wire: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": received.reasoning_tokens},
    }
    return wire | {"estimated": True} if usage.estimated else wire


def _finish_reason(reason: str) -> str:
    return _FINISH_REASONS.get(reason, reason)


def _made_up_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
