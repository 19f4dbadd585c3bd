"""What spans tell of a chat where they may: OpenTelemetry's messages, out of every way in which a chat is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent

from libs.tracing import Span, Value
from libs.worker.content_spans import tell_content

PICTURE = "data:image/png;base64,AAAA"


class Noted:
    """A span that remembers what it was told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.headers = ()

    def begin(self, name: str, attributes: Mapping[str, Value]) -> Span:
        raise NotImplementedError

    def note(self, name: str, value: Value) -> None:
        assert isinstance(value, str)
        self.told[name] = json.loads(value)

    def end(self, error: str = "") -> None:
        raise NotImplementedError


def told(content: ChatContent) -> dict[str, Any]:
    span = Noted()
    tell_content(span, content)
    return span.told


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


class TestContent:
    def test_in_the_platform_s_own_words(self) -> None:
        call = {"id": "c1", "function": {"name": "weather", "arguments": '{"city":"Graz"}'}}
        messages = [
            {"role": "user", "parts": [{"text": "Look"}, {"imageUrl": {"url": PICTURE}}]},
            {"role": "assistant", "content": "Wait", "toolCalls": [call]},
            {"role": "tool", "toolCallId": "c1", "content": "rain"},
        ]
        answer = {
            "message": {"reasoning_content": "Hm", "content": "It rains", "tool_calls": [call]},
            "finish_reason": "stop",
        }

        content = ParseDict({"messages": messages, "completion": {"choices": [answer]}}, ChatContent())

        called = {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"Graz"}'}
        assert told(content) == {
            "gen_ai.input.messages": [
                {"role": "user", "parts": [text("Look"), text("(not text)")]},
                {"role": "assistant", "parts": [text("Wait"), called]},
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
            ],
            "gen_ai.output.messages": [
                {
                    "role": "assistant",
                    "parts": [{"type": "reasoning", "content": "Hm"}, text("It rains"), called],
                    "finish_reason": "stop",
                }
            ],
        }

    def test_in_the_words_of_another_api(self) -> None:
        request = {
            "system": [{"type": "text", "text": "Be brief"}],
            "messages": [
                {"role": "user", "content": "Hello"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Look"}, {"type": "image", "source": {"data": "A"}}],
                },
            ],
        }

        assert told(ChatContent(dialect="messages", request=json.dumps(request).encode())) == {
            "gen_ai.system_instructions": [text("Be brief")],
            "gen_ai.input.messages": [
                {"role": "user", "parts": [text("Hello")]},
                {"role": "user", "parts": [text("Look"), text("(not text)")]},
            ],
        }

    @pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": 1}', b'{"messages": [1]}', b'{"system": 1}'])
    def test_what_is_of_another_shape_is_not_told(self, body: bytes) -> None:
        assert told(ChatContent(dialect="chat_completions", request=body)) == {}
