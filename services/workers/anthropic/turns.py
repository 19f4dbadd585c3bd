"""A conversation in Anthropic's form: the system prompt apart, and turns of user and assistant that alternate.

https://platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.json_text import MOST_LEVELS, as_object
from libs.worker.pictures import inline, is_linked
from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.anthropic.reasoning_details import thinking_blocks

_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]")
_THOUGHTS = ("thinking", "redacted_thinking")

Block = dict[str, Any]


@dataclass(slots=True)
class _Turn:
    """A turn while it is put together. So many `results` of tools stand before whatever else the user says."""

    role: str
    content: list[Block]
    results: int = 0


class Conversation:
    """The turns of a request; what cannot be said to Anthropic is noted in `unsupported`.

    `bound_thoughts` says that the model refuses thoughts it had under another system prompt. Long conversations are
    sent again with every turn, so places in the request are put into words only where something is noted.
    """

    def __init__(
        self, messages: Sequence[chat.ChatMessage], unsupported: UnsupportedOptions, *, bound_thoughts: bool
    ) -> None:
        self._unsupported = unsupported
        self._messages = messages
        self._bound_thoughts = bound_thoughts
        self._last_instruction: int | None = None
        self.system: list[Block] = []
        """The system prompt, one block for each system message."""
        self._turns: list[_Turn] = []
        for index, message in enumerate(messages):
            self._add(index, message)
        if self.ends_with_assistant:
            self._trim_end()

    @property
    def turns(self) -> list[dict[str, Any]]:
        """The turns as they are sent."""
        return [{"role": turn.role, "content": turn.content} for turn in self._turns]

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

    def _add(self, index: int, message: chat.ChatMessage) -> None:
        match message.role:
            case "system":
                said = self._content(index, message, pictures=False)
                self.system += [block for block in said if block["text"].strip()]
            case "tool":
                result: Block = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id)}
                said = self._content(index, message)
                if content := [block for block in said if block.get("text", "-").strip()]:
                    result["content"] = content
                self._add_result(result)
            case "assistant":
                if content := self._said(index, message):
                    self._say("assistant", content)
            case _:
                self._say("user", self._content(index, message))

    def _trim_end(self) -> None:
        """Takes away the white space at the end of a turn that Claude shall continue, which it refuses."""
        last = self._turns[-1].content[-1]
        if last["type"] == "text":
            last["text"] = last["text"].rstrip()

    def _say(self, role: str, content: list[Block]) -> None:
        if self._turns and self._turns[-1].role == role:
            self._turns[-1].content += content
        else:
            self._turns.append(_Turn(role, content))

    def _add_result(self, result: Block) -> None:
        self._say("user", [])
        turn = self._turns[-1]
        turn.content.insert(turn.results, result)
        turn.results += 1

    def _said(self, index: int, message: chat.ChatMessage) -> list[Block]:
        """Puts what the assistant said, thought and called back into the order it came in."""
        text = message.content
        if not text:
            text = "".join(block["text"] for block in self._content(index, message, pictures=False))
        made, details = message.tool_calls, message.reasoning_details
        if not made and not details:
            return _text(text)
        calls = [self._call(index, place, call) for place, call in enumerate(made)]
        content: list[Block] = []
        told = called = 0
        if details and index >= self._thoughts_since():
            for place, block in thinking_blocks(details):
                content += [*_text(text[told : place.characters]), *calls[called : place.calls], block]
                told, called = max(told, place.characters), max(called, place.calls)
        return [*content, *_text(text[told:]), *calls[called:]]

    def _thoughts_since(self) -> int:
        """Finds where thoughts begin that the model takes back.

        A system message in the middle goes to the top with the others: what was thought before it came was thought
        under a shorter prompt.
        """
        if not self._bound_thoughts:
            return 0
        if self._last_instruction is None:
            instructions = (index for index, message in enumerate(self._messages) if message.role == "system")
            self._last_instruction = max(instructions, default=0)
        return self._last_instruction

    def _call(self, index: int, place: int, call: chat.ToolCall) -> Block:
        given = as_object(call.arguments or call.function.arguments or "{}")
        if given is None:
            self._unsupported.refuse(
                f"messages[{index}].toolCalls[{place}].arguments",
                f"must be a JSON object of at most {MOST_LEVELS} levels for Anthropic; send what the model wrote, or "
                "{}.",
            )
        return {"type": "tool_use", "id": _id(call.id), "name": call.name or call.function.name, "input": given}

    def _content(self, index: int, message: chat.ChatMessage, *, pictures: bool = True) -> list[Block]:
        if text := message.content:
            return [{"type": "text", "text": text}]
        blocks: list[Block] = []
        for place, part in enumerate(message.parts):
            if part.WhichOneof("part") == "text":
                blocks += [{"type": "text", "text": part.text}] if part.text else []
            elif pictures:
                blocks.append(self._picture(part.image_url, f"messages[{index}].parts[{place}].imageUrl"))
            else:
                self._unsupported.refuse(
                    f"messages[{index}].parts[{place}].imageUrl",
                    "Anthropic takes pictures from user and tool only; move it there.",
                )
        return blocks

    def _picture(self, picture: chat.ImageUrl, at: str) -> Block:
        if picture.detail not in ("", "auto"):
            self._unsupported.drop_once(f"{at}.detail", "Anthropic decides itself how closely to look.")
        if is_linked(picture.url):
            return {"type": "image", "source": {"type": "url", "url": picture.url}}
        shown = inline(picture.url)
        if shown is None or shown.kind not in _PICTURES:
            self._unsupported.refuse(
                f"{at}.url", "must hold a JPEG, PNG, GIF or WebP picture in base64 for Anthropic; convert it."
            )
            return {"type": "image"}
        return {"type": "image", "source": {"type": "base64", "media_type": shown.kind, "data": shown.data}}


def _text(text: str) -> list[Block]:
    """Makes the block of a text; one of white space alone is refused, and Claude itself now and then sends it."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _id(identity: str) -> str:
    """Spells the id of a call that another provider made up in the letters that Anthropic takes.

    What two ids lose by that may be all they differ in; a digest of the whole keeps them apart.
    """
    spelt = _NOT_IN_AN_ID.sub("_", identity)
    return spelt if spelt == identity else f"{spelt}_{blake2b(identity.encode(), digest_size=6).hexdigest()}"
