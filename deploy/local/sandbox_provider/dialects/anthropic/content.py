"""What Anthropic refuses in the messages of a request, each looked at alone.

Source: its API reference, and errors quoted in public issue threads.
"""

import re
from collections.abc import Mapping
from typing import Any

from deploy.local.sandbox_provider.dialects.anthropic.errors import expect, invalid
from deploy.local.sandbox_provider.dialects.anthropic.thinking import blocks

_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_CONTENT_TYPES = {
    "user": {"text", "image", "document", "search_result", "tool_result"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use"},
}
_BLOCK_FIELDS = {
    "text": {"text"},
    "image": {"source"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
    "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id"},
}
_OPTIONAL_FIELDS = {"tool_use": {"caller"}, "tool_result": {"content", "is_error"}, "text": {"citations"}}
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")


def check_system(system: Any) -> None:
    """Raises `Refusal` for what cannot be a system prompt."""
    if system is None or isinstance(system, str):
        return
    expect(isinstance(system, list), "system: Input should be a valid list")
    for index, block in enumerate(system):
        at = f"system.{index}"
        expect(isinstance(block, dict) and block.get("type") == "text", f"{at}.type: Input should be 'text'")
        _check_fields(block, at)
        expect(bool(block["text"]), "system: text content blocks must be non-empty")


def check_messages(messages: Any) -> None:
    """Raises `Refusal` for the first message that cannot be one."""
    expect(isinstance(messages, list), "messages: Input should be a valid list")
    expect(bool(messages), "messages: at least one message is required")
    for index, message in enumerate(messages):
        at = f"messages.{index}"
        expect(isinstance(message, dict), f"{at}: Input should be a valid dictionary")
        expect("role" in message, f"{at}.role: Field required")
        expect("content" in message, f"{at}.content: Field required")
        role = message["role"]
        expect(
            role != "system",
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system" '
            "as an input message role.",
        )
        expect(role in ("user", "assistant"), f"{at}.role: Input should be 'user' or 'assistant'")
        for name in message:
            expect(name in ("role", "content"), f"{at}.{name}: Extra inputs are not permitted")
        content = message["content"]
        expect(isinstance(content, str | list), f"{at}.content: Input should be a valid list")
        expect(
            bool(content) or (role == "assistant" and index == len(messages) - 1),
            f"{at}: all messages must have non-empty content except for the optional final assistant message",
        )
        for place, block in enumerate(blocks(content)):
            _check_block(block, role, f"{at}.content.{place}")


def _check_block(block: Any, role: str, at: str) -> None:
    expect(isinstance(block, dict), f"{at}: Input should be a valid dictionary")
    kind = block.get("type")
    expect(isinstance(kind, str), f"{at}.type: Field required")
    expect(
        kind in _CONTENT_TYPES["user"] | _CONTENT_TYPES["assistant"],
        f"{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'document', 'image', "
        "'redacted_thinking', 'search_result', 'text', 'thinking', 'tool_result', 'tool_use'",
    )
    if kind not in _CONTENT_TYPES[role]:
        other = "assistant" if role == "user" else "user"
        raise invalid(f"{at}: `{kind}` blocks can only be in `{other}` messages")
    _check_fields(block, at)
    match kind:
        case "text":
            expect(isinstance(block["text"], str), f"{at}.text: Input should be a valid string")
            expect(bool(block["text"]), "messages: text content blocks must be non-empty")
            expect(bool(block["text"].strip()), "messages: text content blocks must contain non-whitespace text")
            expect(not (role == "user" and block.get("citations")), f"{at}.citations: Extra inputs are not permitted")
        case "image":
            _check_source(block["source"], f"{at}.image.source")
        case "tool_use":
            expect(isinstance(block["input"], dict), f"{at}.tool_use.input: Input should be a valid dictionary")
            _check_id(block["id"], f"{at}.tool_use.id")
        case "tool_result":
            _check_id(block["tool_use_id"], f"{at}.tool_result.tool_use_id")
            for place, part in enumerate(blocks(block.get("content", []) or [])):
                expect(
                    isinstance(part, dict) and part.get("type") in ("text", "image", "document", "search_result"),
                    f"{at}.tool_result.content.{place}: Input tag does not match any of the expected tags",
                )
                _check_block(part, "user", f"{at}.tool_result.content.{place}")


def _check_fields(block: Mapping[str, Any], at: str) -> None:
    kind = block["type"]
    required = _BLOCK_FIELDS.get(kind)
    if required is None:
        return
    for name in required:
        expect(name in block, f"{at}.{kind}.{name}: Field required")
    allowed = {"type", "cache_control", *required, *_OPTIONAL_FIELDS.get(kind, ())}
    for name in block:
        expect(name in allowed, f"{at}.{kind}.{name}: Extra inputs are not permitted")


def _check_source(source: Any, at: str) -> None:
    expect(isinstance(source, dict), f"{at}: Input should be a valid dictionary")
    match source.get("type"):
        case "base64":
            kind = source.get("media_type")
            expect(
                kind in _MEDIA_TYPES,
                f"{at}.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'",
            )
            data = source.get("data")
            expect(bool(data) and isinstance(data, str), f"{at}.base64.data: Field required")
            expect(re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", data) is not None, f"{at}.base64: invalid base64 data")
        case "url":
            url = source.get("url")
            expect(isinstance(url, str), f"{at}.url.url: Field required")
            expect(url.startswith("https://"), f"{at}.url.url: Only HTTPS URLs are supported.")
        case kind:
            raise invalid(
                f"{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'base64', "
                "'url', 'file'"
            )


def _check_id(value: Any, at: str) -> None:
    expect(isinstance(value, str), f"{at}: Input should be a valid string")
    expect(_TOOL_ID.fullmatch(value) is not None, f"{at}: String should match pattern '^[a-zA-Z0-9_-]+$'")
