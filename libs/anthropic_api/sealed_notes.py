"""What providers other than Anthropic want back with a turn, carried in blocks that callers send back unchanged.

Anthropic's callers keep thinking blocks as they came and look into neither `signature` nor `data`. So the notes of the
hub (`reasoning_details`, and the `extra_content` of calls) travel in these, marked as ours. A signature without the
mark is Claude's own. https://platform.claude.com/docs/en/build-with-claude/thinking
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1 import json_object_pb2

from libs.anthropic_api.json_amounts import JsonAmounts
from libs.errors import InvalidRequest, Violation
from libs.json_members import JsonMembers
from libs.worker.json_object import json_object, plain

_MARK = "rmllm1."
NO_NOTES = _MARK
"""The signature of thoughts with which nothing is wanted back."""
# The name that notes of Claude's thoughts have in the hub.
_CLAUDES = "anthropic-claude-v1"


def sealed(details: Iterable[json_object_pb2.JsonObject], signatures: Mapping[str, str]) -> str:
    """Makes the sealed text of some notes and of the thought signatures of calls, by their ids; empty for neither."""
    notes: dict[str, Any] = {}
    if plain_details := [plain(detail) for detail in details]:
        notes["details"] = plain_details
    if signatures:
        notes["calls"] = dict(signatures)
    return _MARK + base64.b64encode(orjson.dumps(notes)).decode() if notes else ""


def without_sealed(body: JsonMembers) -> bytes:
    """Returns the `messages` of a request without the blocks that carry notes; empty where there are none.

    Anthropic refuses thoughts that Claude did not have, and a conversation may have been with another provider so far.
    Raises InvalidRequest where they are no JSON, or more or deeper than may be read.
    """
    if b'"' + _MARK.encode() not in body.raw("messages"):
        return b""
    try:
        messages = JsonAmounts().read(body.raw("messages"), "messages")
        unsealed = list(map(_unsealed, messages)) if isinstance(messages, list) else []
        if all(kept is message for kept, message in zip(unsealed, messages, strict=False)):
            return b""
        return orjson.dumps([message for message in unsealed if message is not None])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # it reads deeper than it writes
        raise InvalidRequest([Violation("messages", "must be valid JSON, and not as deep as this.")]) from None


def _unsealed(message: Any) -> Any:
    """Returns a message without such blocks; None where it was nothing else."""
    if not isinstance(message, dict) or not isinstance(content := message.get("content"), list):
        return message
    kept = [block for block in content if not _is_sealed(block)]
    if len(kept) == len(content):
        return message
    return {**message, "content": kept} if kept else None


def _is_sealed(block: Any) -> bool:
    match block:
        case {"type": "thinking", "signature": str(seal)} | {"type": "redacted_thinking", "data": str(seal)}:
            return seal.startswith(_MARK)
        case _:
            return False


class Notes:
    """The notes of one turn that a caller sends back. What is no longer as it was sent is left out."""

    __slots__ = ("_amounts", "_message", "_signatures")

    def __init__(self, message: chat.ChatMessage, amounts: JsonAmounts) -> None:
        self._message = message
        self._amounts = amounts
        self._signatures: dict[str, str] = {}

    def take(self, block: Mapping[str, Any], characters: int) -> None:
        """Takes a thinking block that stands behind so many characters of text."""
        text = block.get("signature") if block["type"] == "thinking" else block.get("data")
        if not isinstance(text, str) or not text:
            return
        if not text.startswith(_MARK):
            self._add(_claudes_note(block, text, characters, len(self._message.tool_calls)))
            return
        try:
            notes = self._amounts.read(base64.b64decode(text.removeprefix(_MARK), validate=True), "messages")
        except ValueError:  # of base64 or JSON
            return
        if not isinstance(notes, dict):
            return
        self._amounts.use(notes, "messages")
        if isinstance(details := notes.get("details"), list):
            for detail in details:
                self._add(detail)
        if isinstance(calls := notes.get("calls"), dict):
            self._signatures.update((call, said) for call, said in calls.items() if isinstance(said, str))

    def settle(self) -> None:
        """Gives the calls of the turn their signatures, once all of it was read."""
        for call in self._message.tool_calls if self._signatures else ():
            if signature := self._signatures.get(call.id):
                call.extra_content.google.thought_signature = signature

    def _add(self, detail: Any) -> None:
        if not isinstance(detail, dict):
            return
        # What cannot be made into one is nothing that this platform has sealed.
        with suppress(TypeError, ValueError):
            self._message.reasoning_details.append(json_object(detail))


def _claudes_note(block: Mapping[str, Any], text: str, characters: int, calls: int) -> dict[str, Any]:
    if block["type"] == "thinking":
        thought = block.get("thinking")
        note: dict[str, Any] = {"type": "reasoning.text", "text": thought if isinstance(thought, str) else ""}
        note["signature"] = text
    else:
        note = {"type": "reasoning.encrypted", "data": text}
    note["format"] = _CLAUDES
    if characters:
        note["after_characters"] = characters
    if calls:
        note["after_calls"] = calls
    return note
