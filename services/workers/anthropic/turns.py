"""A conversation in Anthropic's form: the system prompt apart, and turns of user and assistant that alternate.

https://platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.anthropic.reasoning_details import thinking_blocks

_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]")
_THOUGHTS = ("thinking", "redacted_thinking")

Block = dict[str, Any]


@dataclass(slots=True)
class _Turn:
    """A turn while it is put together: results of tools stand before whatever else the user says."""

    role: str
    results: list[Block] = field(default_factory=list)
    content: list[Block] = field(default_factory=list)


class Conversation:
    """The turns of a request; what cannot be said to Anthropic is noted in `unsupported`.

    `bound_thoughts` says that the model refuses thoughts it had under another system prompt.
    """

    def __init__(
        self, messages: Sequence[chat.ChatMessage], unsupported: UnsupportedOptions, *, bound_thoughts: bool
    ) -> None:
        self._unsupported = unsupported
        # A system message in the middle goes to the top with the others: what was thought before it came was thought
        # under a shorter prompt.
        self._thoughts_since = 0
        if bound_thoughts:
            self._thoughts_since = max((i for i, each in enumerate(messages) if each.role == "system"), default=0)
        self.system: list[Block] = []
        """The system prompt, one block for each system message."""
        self._turns: list[_Turn] = []
        for index, message in enumerate(messages):
            self._add(message, f"messages[{index}]", thoughts=index >= self._thoughts_since)
        if self.ends_with_assistant:
            self._trim_end()

    @property
    def turns(self) -> list[dict[str, Any]]:
        """The turns as they are sent."""
        return [{"role": turn.role, "content": turn.results + turn.content} for turn in self._turns]

    @property
    def ends_with_assistant(self) -> bool:
        """True when the assistant had the last word."""
        return bool(self._turns) and self._turns[-1].role == "assistant"

    @property
    def thoughts_missing(self) -> bool:
        """True in a loop of tool calls that did not begin with the assistant's thoughts."""
        first = len(self._turns)
        while first >= 2 and self._turns[first - 1].results:
            first -= 2
        if first == len(self._turns) and not self.ends_with_assistant:
            return False
        content = self._turns[min(first, len(self._turns) - 1)].content
        return not content or content[0]["type"] not in _THOUGHTS

    def _add(self, message: chat.ChatMessage, at: str, *, thoughts: bool) -> None:
        if message.role == "system":
            self.system += [block for block in self._content(message, at, pictures=False) if block["text"].strip()]
        elif message.role == "tool":
            result: Block = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id)}
            if content := [block for block in self._content(message, at) if block.get("text", "-").strip()]:
                result["content"] = content
            self._turn("user").results.append(result)
        elif message.role == "assistant":
            if content := self._said(message, at, thoughts=thoughts):
                self._turn("assistant").content += content
        else:
            self._turn("user").content += self._content(message, at)

    def _trim_end(self) -> None:
        """Takes away the white space at the end of a turn that Claude shall continue, which it refuses."""
        last = self._turns[-1].content[-1]
        if last["type"] == "text":
            last["text"] = last["text"].rstrip()

    def _turn(self, role: str) -> _Turn:
        if not self._turns or self._turns[-1].role != role:
            self._turns.append(_Turn(role))
        return self._turns[-1]

    def _said(self, message: chat.ChatMessage, at: str, *, thoughts: bool) -> list[Block]:
        """Puts what the assistant said, thought and called back into the order it came in."""
        text = "".join(block["text"] for block in self._content(message, at, pictures=False))
        calls = [self._call(call, f"{at}.toolCalls[{index}]") for index, call in enumerate(message.tool_calls)]
        content: list[Block] = []
        told = called = 0
        for place, block in thinking_blocks(message.reasoning_details if thoughts else ()):
            content += [*_text(text[told : place.characters]), *calls[called : place.calls], block]
            told, called = max(told, place.characters), max(called, place.calls)
        return [*content, *_text(text[told:]), *calls[called:]]

    def _call(self, call: chat.ToolCall, at: str) -> Block:
        arguments = call.arguments or call.function.arguments
        try:
            given = orjson.loads(arguments or b"{}")
        except orjson.JSONDecodeError:
            given = None
        if not isinstance(given, dict):
            self._unsupported.refuse(f"{at}.arguments", "must be a JSON object for Anthropic; correct them.")
        return {"type": "tool_use", "id": _id(call.id), "name": call.name or call.function.name, "input": given}

    def _content(self, message: chat.ChatMessage, at: str, *, pictures: bool = True) -> list[Block]:
        if not message.parts:
            return [{"type": "text", "text": message.content}] if message.content else []
        blocks: list[Block] = []
        for index, part in enumerate(message.parts):
            if part.WhichOneof("part") == "text":
                blocks += [{"type": "text", "text": part.text}] if part.text else []
            elif pictures:
                blocks.append(self._picture(part.image_url, f"{at}.parts[{index}].imageUrl"))
            else:
                self._unsupported.refuse(
                    f"{at}.parts[{index}].imageUrl", "Anthropic takes pictures from user and tool only; move it there."
                )
        return blocks

    def _picture(self, picture: chat.ImageUrl, at: str) -> Block:
        if picture.detail not in ("", "auto"):
            self._unsupported.drop(f"{at}.detail", "Claude decides itself how closely to look.")
        if not picture.url.startswith("data:"):
            return {"type": "image", "source": {"type": "url", "url": picture.url}}
        described, _, data = picture.url.partition(",")
        kind, _, encoding = described.removeprefix("data:").partition(";")
        kind = "image/jpeg" if kind == "image/jpg" else kind
        if kind not in _PICTURES or encoding != "base64":
            self._unsupported.refuse(
                f"{at}.url", "Anthropic takes JPEG, PNG, GIF and WebP in base64; convert the picture."
            )
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _text(text: str) -> list[Block]:
    """Makes the block of a text; one of white space alone is refused, and Claude itself now and then sends it."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _id(identity: str) -> str:
    """Spells the id of a call that another provider made up in the letters that Anthropic takes."""
    return _NOT_IN_AN_ID.sub("_", identity)
