"""The turns of a conversation in Anthropic's form, as turns of the hub.

A turn of a user who answers tool calls becomes one turn for each answer and one for whatever else it says; the system
prompt becomes the first turn. Pictures in answers of tools are shown in the user's turn behind them, since of most
providers tools answer in words only. https://platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

from typing import Any, Protocol

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.anthropic_api.json_amounts import JsonAmounts
from libs.anthropic_api.sealed_notes import Notes
from libs.errors import InvalidRequest, Violation
from libs.worker.request_amounts import MAX_MESSAGES, MAX_PIECES

_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SHOWN_BELOW = "The picture is in the next message."
_FAILED = "Error: "


class _Messages(Protocol):
    """Where turns are added."""

    def add(self, *, role: str) -> chat.ChatMessage: ...

    def __len__(self) -> int: ...


class Turns:
    """Adds the turns of a request to `messages`, and notes in `violations` what cannot be said.

    Raises InvalidRequest at once for more turns or pieces than may be looked at.
    """

    def __init__(self, messages: _Messages, violations: list[Violation], amounts: JsonAmounts) -> None:
        self._messages = messages
        self._violations = violations
        self._amounts = amounts
        self._pieces_left = MAX_PIECES
        self._called: set[str] = set()

    def read_system(self, system: Any) -> None:
        """Adds the system prompt, where there is one."""
        if system is not None:
            self._add_texts("system", system, "system", needed=False)

    def read(self, messages: Any) -> None:
        """Adds the conversation."""
        if not isinstance(messages, list) or not messages:
            self._refuse("messages", "must be a list of at least one message.")
            return
        for index, message in enumerate(messages):
            at = f"messages.{index}"
            content = message.get("content") if isinstance(message, dict) else None
            match message:
                case {"role": "user"}:
                    self._add_user(content, at)
                case {"role": "assistant"}:
                    self._add_assistant(content, at)
                case {"role": "system"}:
                    self._add_texts("system", content, f"{at}.content", needed=True)
                case _:
                    self._refuse(f"{at}.role", "must be user, assistant or system.")

    def _refuse(self, at: str, rule: str) -> None:
        self._violations.append(Violation(at, rule))

    def _add(self, role: str) -> chat.ChatMessage:
        if len(self._messages) >= MAX_MESSAGES:
            rule = f"must be at most {MAX_MESSAGES}, the answers of tools among them; leave out older ones."
            raise InvalidRequest([Violation("messages", rule)])
        return self._messages.add(role=role)

    def _blocks(self, content: Any, at: str) -> list[tuple[str, Any]]:
        """Returns the blocks of a content, each with its place; a text is one block."""
        if isinstance(content, str):
            return [(at, {"type": "text", "text": content})]
        if not isinstance(content, list):
            self._refuse(at, "must be a text or a list of blocks.")
            return []
        self._pieces_left -= len(content)
        if self._pieces_left < 0:
            raise InvalidRequest([Violation("messages", f"must have at most {MAX_PIECES} blocks together.")])
        blocks = []
        for index, block in enumerate(content):
            if isinstance(block, dict) and isinstance(block.get("type"), str):
                blocks.append((f"{at}.{index}", block))
            else:
                self._refuse(f"{at}.{index}", "must be an object with a type.")
        return blocks

    def _text(self, block: dict[str, Any], at: str) -> str:
        text = block.get("text")
        if isinstance(text, str):
            return text
        self._refuse(f"{at}.text", "must be a text.")
        return ""

    def _add_texts(self, role: str, content: Any, at: str, *, needed: bool) -> None:
        texts, known = [], len(self._violations)
        for place, block in self._blocks(content, at):
            if block["type"] == "text":
                texts.append(self._text(block, place))
            else:
                self._refuse_block(block, place)
        if any(texts):
            _say(self._add(role), [chat.ContentPart(text=text) for text in texts if text])
        elif needed and len(self._violations) == known:
            self._refuse(at, "must not be empty.")

    def _add_user(self, content: Any, at: str) -> None:
        """Adds the answers of tools first, and then what else is said, pictures of theirs in front."""
        shown: list[chat.ContentPart] = []
        said: list[chat.ContentPart] = []
        answered, known = False, len(self._violations)
        for place, block in self._blocks(content, f"{at}.content"):
            if block["type"] == "tool_result":
                answered = True
                self._add_result(block, place, shown)
            else:
                said += self._parts(block, place)
        if parts := shown + said:
            _say(self._add("user"), parts)
        elif not answered and len(self._violations) == known:
            self._refuse(f"{at}.content", "must not be empty.")

    def _add_result(self, block: dict[str, Any], at: str, shown: list[chat.ContentPart]) -> None:
        identity = block.get("tool_use_id")
        if not isinstance(identity, str) or identity not in self._called:
            self._refuse(f"{at}.tool_use_id", "must be the id of a tool_use block of an assistant message before it.")
            return
        content = block.get("content")
        texts: list[str] = []
        pictures: list[chat.ContentPart] = []
        for place, inner in self._blocks("" if content is None else content, f"{at}.content"):
            for part in self._parts(inner, place):
                if part.WhichOneof("part") == "text":
                    texts.append(part.text)
                else:
                    pictures.append(part)
        if pictures:
            texts.append(_SHOWN_BELOW)
        said = "\n".join(texts)
        if block.get("is_error") is True and not said[: len(_FAILED)].lower().startswith("error"):
            said = _FAILED + said
        message = self._add("tool")
        message.tool_call_id = identity
        message.content = said
        shown += pictures

    def _parts(self, block: dict[str, Any], at: str) -> list[chat.ContentPart]:
        """Puts a block of a user or of a tool into parts: none for a text that is empty."""
        match block:
            case {"type": "text"}:
                text = self._text(block, at)
                return [chat.ContentPart(text=text)] if text else []
            case {"type": "image"}:
                url = self._picture(block.get("source"), f"{at}.source")
                return [chat.ContentPart(image_url=chat.ImageUrl(url=url))] if url else []
            case {"type": "document", "source": {"type": "text", "data": str(text)}} if text:
                title = block.get("title")
                return [chat.ContentPart(text=f"{title}\n\n{text}" if isinstance(title, str) and title else text)]
            case _:
                self._refuse_block(block, at)
                return []

    def _picture(self, source: Any, at: str) -> str:
        match source:
            case {"type": "base64", "media_type": str(kind), "data": str(data)} if kind in _PICTURES and data:
                return f"data:{kind};base64,{data}"
            case {"type": "base64"}:
                self._refuse(at, f"must have data, and a media_type of {', '.join(_PICTURES)}.")
            case {"type": "url", "url": str(url)} if url.startswith("https://"):
                return url
            case {"type": "url"}:
                self._refuse(f"{at}.url", "must be an https: URL.")
            case {"type": "file"}:
                self._refuse(at, "is a file kept at Anthropic; send it as base64, or ask a model of Anthropic.")
            case _:
                self._refuse(at, "must be of the type base64 or url.")
        return ""

    def _add_assistant(self, content: Any, at: str) -> None:
        message = self._add("assistant")
        notes = Notes(message, self._amounts)
        texts: list[str] = []
        characters = 0
        for place, block in self._blocks(content, f"{at}.content"):
            match block["type"]:
                case "text":
                    texts.append(self._text(block, place))
                    characters += len(texts[-1])
                case "thinking" | "redacted_thinking":
                    notes.take(block, characters)
                case "tool_use":
                    self._add_call(message, block, place)
                case _:
                    self._refuse_block(block, place)
        message.content = "".join(texts)
        notes.settle()

    def _add_call(self, message: chat.ChatMessage, block: dict[str, Any], at: str) -> None:
        match block:
            case {"id": str(identity), "name": str(name), "input": {**given}} if identity and name:
                try:
                    arguments = orjson.dumps(given).decode()
                except orjson.JSONEncodeError:  # it reads deeper than it writes
                    self._refuse(f"{at}.input", "is too deep; send what the model wrote, or {}.")
                    return
                message.tool_calls.add(id=identity, name=name, arguments=arguments)
                self._called.add(identity)
            case _:
                self._refuse(at, "must have an id, a name and an input, which is an object.")

    def _refuse_block(self, block: dict[str, Any], at: str) -> None:
        self._refuse(
            f"{at}.type",
            f"`{block['type'][:64]}` cannot be said to this model; leave the block out, or ask a model of Anthropic.",
        )


def _say(message: chat.ChatMessage, parts: list[chat.ContentPart]) -> None:
    """Says a single text plainly, which is what every provider takes."""
    if len(parts) == 1 and parts[0].WhichOneof("part") == "text":
        message.content = parts[0].text
    else:
        message.parts.extend(parts)
