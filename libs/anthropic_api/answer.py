"""Answers in Anthropic's words, whole and as server-sent events.

https://platform.claude.com/docs/en/api/messages/create and …/build-with-claude/streaming
"""

from __future__ import annotations

import uuid
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.anthropic_api.errors import in_band_error
from libs.anthropic_api.sealed_notes import NO_NOTES, sealed
from libs.errors import IncompleteResponse

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_TIERS = ("standard", "priority", "batch")
# The name that Anthropic gives a caller for arguments which the model did not write as a JSON object.
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming
_INVALID_JSON = "INVALID_JSON"
_BROKEN_OFF = "The provider ended its answer with an error; try again."


def message_body(completion: chat.ChatCompletion) -> bytes:
    """Returns the JSON of a whole answer.

    Raises IncompleteResponse for one that the provider ended with an error, for which Anthropic has no word.
    """
    choice = completion.choices[0]
    if choice.finish_reason not in _STOP_REASONS:
        raise IncompleteResponse(_BROKEN_OFF, provider=completion.provider)
    said = choice.message
    content: list[dict[str, Any]] = []
    signatures = {call.id: _thought_signature(call) for call in said.tool_calls if _thought_signature(call)}
    notes = sealed(said.reasoning_details, {} if said.reasoning_content else signatures)
    if said.reasoning_content:
        content.append({"type": "thinking", "thinking": said.reasoning_content, "signature": notes or NO_NOTES})
        notes = sealed((), signatures)
    if said.content:
        content.append({"type": "text", "text": said.content, "citations": None})
    content += [_tool_use(call.id, call.function.name, _input(call.function.arguments)) for call in said.tool_calls]
    if notes:
        content.append({"type": "redacted_thinking", "data": notes})
    message = _message(completion.id, completion.model, content)
    message["stop_reason"] = _stop_reason(choice.finish_reason, called=bool(said.tool_calls))
    message["usage"] = _usage(completion.usage, whole=True)
    if completion.service_tier in _TIERS:
        message["usage"]["service_tier"] = completion.service_tier
    if completion.provider:
        message["provider"] = completion.provider
    return orjson.dumps(message | _additions(completion, completion.metadata))


class Events:
    """One streamed answer as server-sent events.

    Blocks follow each other, as Anthropic's do; only a call whose arguments are not yet whole stays open while more is
    said, for its provider may write several at a time.
    """

    __slots__ = ("_blocks", "_calls", "_details", "_metadata", "_open", "_signatures", "_started")

    def __init__(self) -> None:
        self._started = False
        self._blocks = 0
        # The text or thinking block that is being written: its kind; empty for none. It is the last block.
        self._open = ""
        self._calls: dict[int, _Call] = {}
        self._details: list[Any] = []
        self._signatures: dict[str, str] = {}
        self._metadata = chat.AnswerMetadata()

    def events(self, chunk: chat.ChatCompletionChunk) -> bytes:
        """Returns the events that say what a chunk does; empty when it says nothing."""
        if chunk.HasField("error"):
            return _event("error", in_band_error(chunk.error.reason, chunk.error.message))
        out: list[bytes] = []
        if chunk.HasField("metadata"):
            self._metadata.MergeFrom(chunk.metadata)
        if not self._started and (chunk.id or chunk.content or chunk.reasoning_content or chunk.tool_calls):
            self._start(chunk, out)
        if chunk.reasoning_content:
            self._write("thinking", chunk.reasoning_content, out)
        if chunk.reasoning_details:
            self._details.extend(chunk.reasoning_details)
        if chunk.content:
            self._write("text", chunk.content, out)
        for fragment in chunk.tool_calls:
            self._call(fragment, out)
        if chunk.finish_reason:
            self._finish(chunk, out)
        return b"".join(out)

    def _start(self, chunk: chat.ChatCompletionChunk, out: list[bytes]) -> None:
        self._started = True
        message = _message(chunk.id, chunk.model, [])
        # Other providers tell the length of the prompt at the end; `message_delta` has it.
        message["usage"] = {"input_tokens": 0, "output_tokens": 0}
        if chunk.provider:
            message["provider"] = chunk.provider
        out.append(_event("message_start", orjson.dumps({"type": "message_start", "message": message})))

    def _write(self, kind: str, text: str, out: list[bytes]) -> None:
        if self._open != kind:
            self._close_written(out)
            self._close_calls(out)
            empty = {"type": "text", "text": ""} if kind == "text" else _thinking("")
            self._begin(empty, out)
            self._open = kind
        out.append(_delta(self._blocks - 1, b"text" if kind == "text" else b"thinking", text))

    def _begin(self, block: dict[str, Any], out: list[bytes]) -> int:
        index = self._blocks
        self._blocks += 1
        start = {"type": "content_block_start", "index": index, "content_block": block}
        out.append(_event("content_block_start", orjson.dumps(start)))
        return index

    def _close_written(self, out: list[bytes]) -> None:
        """Ends the text or thinking block. Notes that came by then are the seal of the thoughts before them."""
        if not self._open:
            return
        if self._open == "thinking":
            signature = sealed(self._details, {}) or NO_NOTES
            self._details = []
            out.append(_delta(self._blocks - 1, b"signature", signature))
        out.append(_stop(self._blocks - 1))
        self._open = ""

    def _call(self, fragment: chat.ToolCallDelta, out: list[bytes]) -> None:
        call = self._calls.get(fragment.index)
        if call is None:
            self._close_written(out)
            self._close_calls(out)
            identity = fragment.id or f"toolu_{uuid.uuid4().hex}"
            block = self._begin(_tool_use(identity, fragment.name, {}), out)
            call = self._calls[fragment.index] = _Call(identity, block)
        if fragment.arguments and call.is_open:
            call.arguments.append(fragment.arguments)
            out.append(_delta(call.block, b"input_json", fragment.arguments))
        if signature := fragment.extra_content.google.thought_signature:
            self._signatures[call.identity] = signature

    def _close_calls(self, out: list[bytes], *, at_end: bool = False) -> None:
        for call in self._calls.values():
            if call.is_open and (at_end or call.is_whole()):
                call.is_open = False
                call.arguments.clear()
                out.append(_stop(call.block))

    def _finish(self, chunk: chat.ChatCompletionChunk, out: list[bytes]) -> None:
        if chunk.finish_reason not in _STOP_REASONS:
            out.append(_event("error", in_band_error("INCOMPLETE_RESPONSE", _BROKEN_OFF)))
            return
        if not self._started:
            self._start(chunk, out)
        self._close_written(out)
        self._close_calls(out, at_end=True)
        if notes := sealed(self._details, self._signatures):
            out.append(_stop(self._begin({"type": "redacted_thinking", "data": notes}, out)))
        end = {
            "type": "message_delta",
            "delta": {
                "stop_reason": _stop_reason(chunk.finish_reason, called=bool(self._calls)),
                "stop_sequence": None,
                "stop_details": None,
            },
            "usage": _usage(chunk.usage, whole=False),
            **_additions(chunk, self._metadata),
        }
        out.append(_event("message_delta", orjson.dumps(end)))
        out.append(_event("message_stop", b'{"type":"message_stop"}'))


class _Call:
    """A tool call that is being written in a block of its own."""

    __slots__ = ("arguments", "block", "identity", "is_open")

    def __init__(self, identity: str, block: int) -> None:
        self.identity = identity
        self.block = block
        self.arguments: list[str] = []
        self.is_open = True

    def is_whole(self) -> bool:
        """Tells whether nothing can follow. A call without arguments may be about to get some."""
        try:
            orjson.loads("".join(self.arguments))
        except orjson.JSONDecodeError:
            return False
        return True


def _message(identity: str, model: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": identity or f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
    }


def _thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": ""}


def _tool_use(identity: str, name: str, given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": given}


def _thought_signature(call: chat.FunctionToolCall) -> str:
    return call.extra_content.google.thought_signature


def _input(arguments: str) -> Any:
    """Returns the arguments of a call as an object, and what is none under a name that says so."""
    try:
        given = orjson.loads(arguments) if arguments.strip() else {}
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        return {_INVALID_JSON: arguments}
    try:
        orjson.dumps(given)  # writes fewer levels than it reads
    except orjson.JSONEncodeError:
        return {_INVALID_JSON: arguments}
    return given


def _stop_reason(finish_reason: str, *, called: bool) -> str:
    reason = _STOP_REASONS[finish_reason]
    if reason == "end_turn" and called:
        return "tool_use"
    return "end_turn" if reason == "tool_use" and not called else reason


def _usage(usage: chat.Usage, *, whole: bool) -> dict[str, Any]:
    """Returns the counts as Anthropic has them: `input_tokens` leaves out what was read from or written to a cache."""
    details = usage.prompt_tokens_details
    read, written = details.cached_tokens, details.cache_write_tokens
    counts: dict[str, Any] = {
        "input_tokens": max(0, usage.prompt_tokens - read - written),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": usage.completion_tokens,
    }
    if thought := usage.completion_tokens_details.reasoning_tokens:
        counts["output_tokens_details"] = {"thinking_tokens": thought}
    if whole and written:
        for_an_hour = details.cache_write_1h_tokens
        counts["cache_creation"] = {
            "ephemeral_5m_input_tokens": max(0, written - for_an_hour),
            "ephemeral_1h_input_tokens": for_an_hour,
        }
    if usage.estimated:
        counts["estimated"] = True
    return counts


def _additions(answer: chat.ChatCompletion | chat.ChatCompletionChunk, metadata: chat.AnswerMetadata) -> dict[str, Any]:
    """Returns what this platform adds to an answer, where there is something to say."""
    added: dict[str, Any] = {}
    if answer.HasField("cost_usd"):
        added["cost_usd"] = answer.cost_usd
    if metadata.ByteSize():
        added["metadata"] = MessageToDict(metadata, preserving_proto_field_name=True)
    return added


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _delta(index: int, kind: bytes, text: str) -> bytes:
    member = b"partial_json" if kind == b"input_json" else kind
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{"type":"%b_delta","%b":%b}}\n\n' % (index, kind, member, orjson.dumps(text))
    )


def _stop(index: int) -> bytes:
    return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % index
