"""The messages of a kept chat in the hub's words, whatever API it came by.

What was good enough for a provider is to be read again here, so this is more forgiving than the workers are: only the
conversation is looked at, and what the hub has no words for, such as sound and files, is left out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from realmultillm.analytics.v1 import chat_content_pb2
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.anthropic_api.request import to_counted
from libs.errors import InvalidRequest
from libs.json_members import JsonMembers
from libs.openai_api.request import to_hub

TOO_LARGE = "The chat was too large to keep."
PICTURES_TOO_LARGE = "Pictures were too large to keep; what stands in their place shows nothing."
NO_WORDS = "Parts of the conversation are of kinds that are not shown here, such as files and sound."
UNREADABLE = "The conversation was sent in a form that cannot be shown here."

# What may begin an object or a list: each takes orjson up to 350 ns, in which nobody else is served.
_MOST_BRACKETS = 200_000

# Not sets: what is looked for in them is whatever JSON may hold.
_OPENAI_ROLES = ("system", "developer", "user", "assistant", "tool")
_OPENAI_PARTS = ("text", "refusal", "image_url")
_OPENAI_MEMBERS = ("role", "content", "refusal", "tool_calls", "tool_call_id", "reasoning_details")
_ANTHROPIC_ROLES = ("system", "user", "assistant")
_SAID_TO_CLAUDE = ("text", "image", "tool_result", "document")
_SAID_BY_CLAUDE = ("text", "thinking", "redacted_thinking", "tool_use")


def read_conversation(content: chat_content_pb2.ChatContent) -> tuple[Sequence[chat.ChatMessage], str]:
    """Returns the messages of a chat, and in one sentence what of them is missing; empty when nothing is."""
    if content.left_out:
        return (), TOO_LARGE
    pictures = PICTURES_TOO_LARGE if content.pictures_left_out else ""
    if not content.dialect:
        return content.messages, pictures
    read = _READERS.get(content.dialect)
    if read is None or content.request.count(b"{") + content.request.count(b"[") > _MOST_BRACKETS:
        return (), UNREADABLE
    sieve = _Sieve()
    try:
        messages = read(orjson.loads(content.request), sieve)
    except (InvalidRequest, ValueError):  # of JSON, and of what is deeper than orjson writes
        return (), UNREADABLE
    return messages, pictures or (NO_WORDS if sieve.left_out else "")


class _Sieve:
    """Takes out of lists what is not wanted, and remembers that there was something."""

    def __init__(self) -> None:
        self.left_out = False

    def wanted(self, values: Any, wanted: Callable[[dict[str, Any]], object]) -> list[dict[str, Any]]:
        found = values if isinstance(values, list) else []
        kept = [value for value in found if isinstance(value, dict) and wanted(value)]
        self.left_out = self.left_out or len(kept) < len(found)
        return kept


def _from_openai(body: Any, sieve: _Sieve) -> Sequence[chat.ChatMessage]:
    said = sieve.wanted(_member(body, "messages"), lambda message: message.get("role") in _OPENAI_ROLES)
    messages = []
    for message in said:
        kept = {name: message[name] for name in _OPENAI_MEMBERS if message.get(name) is not None}
        if isinstance(content := kept.get("content"), list):
            kept["content"] = sieve.wanted(content, lambda part: part.get("type") in _OPENAI_PARTS)
        if calls := kept.get("tool_calls"):
            kept["tool_calls"] = sieve.wanted(calls, lambda call: call.get("type", "function") == "function")
        sieve.left_out = sieve.left_out or any(message.get(name) is not None for name in ("audio", "function_call"))
        messages.append(kept)
    return to_hub(_members(messages=messages), provider="", model="").request.messages


def _from_anthropic(body: Any, sieve: _Sieve) -> Sequence[chat.ChatMessage]:
    messages = []
    for message in sieve.wanted(_member(body, "messages"), lambda message: message.get("role") in _ANTHROPIC_ROLES):
        content = message.get("content")
        if isinstance(content, list):
            content = _blocks(content, sieve, by_claude=message["role"] == "assistant")
            if not content:
                continue
        messages.append({"role": message["role"], "content": content})
    system = _member(body, "system")
    if isinstance(system, list):
        system = sieve.wanted(system, lambda block: block.get("type") == "text")
    members = {"messages": messages} if system is None else {"system": system, "messages": messages}
    return to_counted(_members(**members), provider="", model="").messages


def _blocks(content: list[Any], sieve: _Sieve, *, by_claude: bool) -> list[dict[str, Any]]:
    kinds = _SAID_BY_CLAUDE if by_claude else _SAID_TO_CLAUDE
    kept = []
    for block in sieve.wanted(content, lambda block: block.get("type") in kinds and _is_at_hand(block)):
        if block["type"] == "tool_result" and isinstance(inner := block.get("content"), list):
            shown = sieve.wanted(inner, lambda part: part.get("type") in _SAID_TO_CLAUDE and _is_at_hand(part))
            block = {**block, "content": shown}
        kept.append(block)
    return kept


def _is_at_hand(block: dict[str, Any]) -> bool:
    """Tells whether a picture or document came inside the request or is on the web, and is one that has words."""
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    match block["type"]:
        case "image":
            return kind in ("base64", "url")
        case "document":
            return kind == "text"
        case _:
            return True


def _member(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else None


def _members(**values: Any) -> JsonMembers:
    return JsonMembers(orjson.dumps(values))


_READERS: dict[str, Callable[[Any, _Sieve], Sequence[chat.ChatMessage]]] = {
    "chat_completions": _from_openai,
    "messages": _from_anthropic,
}
