"""What was said in a chat, as attributes of its span; only where a setting of the worker says so.

In the form of OpenTelemetry's conventions, as JSON:
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/#recording-content-on-attributes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.tracing import Span

_Part = dict[str, Any]
# Stands for what is no text: pictures and files are too long for a span.
_NO_TEXT = "(not text)"


def tell_content(span: Span, content: ChatContent) -> None:
    """Adds what was asked and what was answered, as far as it came."""
    if content.request:
        _tell_request(span, content.request)
    else:
        _tell(span, "gen_ai.input.messages", map(_asked, content.messages))
    _tell(span, "gen_ai.output.messages", map(_answered, content.completion.choices))


def _tell(span: Span, name: str, messages: Iterable[object]) -> None:
    if said := list(messages):
        span.note(name, orjson.dumps(said).decode())


def _tell_request(span: Span, body: bytes) -> None:
    """Adds what was asked in the words of another API: OpenAI's or Anthropic's, whose messages are alike."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:  # whose numbers are too large, say; the provider may have understood it
        return
    if not isinstance(request, Mapping):
        return
    if system := request.get("system"):
        _tell(span, "gen_ai.system_instructions", _parts_of(system))
    messages = request.get("messages")
    if isinstance(messages, list):
        _tell(
            span,
            "gen_ai.input.messages",
            (
                {"role": str(message.get("role", "")), "parts": _parts_of(message.get("content"))}
                for message in messages
                if isinstance(message, Mapping)
            ),
        )


def _parts_of(content: object) -> list[_Part]:
    if isinstance(content, str):
        return [_text(content)]
    parts = content if isinstance(content, list) else []
    return [_text(part["text"] if isinstance(part, Mapping) and "text" in part else _NO_TEXT) for part in parts]


def _text(content: object) -> _Part:
    return {"type": "text", "content": content}


def _asked(message: chat.ChatMessage) -> dict[str, Any]:
    if message.tool_call_id:
        part: _Part = {"type": "tool_call_response", "id": message.tool_call_id, "response": message.content}
        return {"role": message.role, "parts": [part]}
    parts = [_text(message.content)] if message.content else []
    parts += [_text(part.text if part.HasField("text") else _NO_TEXT) for part in message.parts]
    parts += [
        _call(call.id, call.function.name or call.name, call.function.arguments or call.arguments)
        for call in message.tool_calls
    ]
    return {"role": message.role, "parts": parts}


def _answered(choice: chat.Choice) -> dict[str, Any]:
    message = choice.message
    parts: list[_Part] = []
    if message.reasoning_content:
        parts.append({"type": "reasoning", "content": message.reasoning_content})
    if message.content:
        parts.append(_text(message.content))
    parts += [_call(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
    return {"role": "assistant", "parts": parts, "finish_reason": choice.finish_reason}


def _call(call_id: str, name: str, arguments: str) -> _Part:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
