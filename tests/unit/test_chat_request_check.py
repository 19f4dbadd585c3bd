"""Requests that are made to keep the worker busy: each is refused in one sentence, before it is looked at closely."""

from typing import Any

import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import InvalidRequest, Violation
from libs.worker.request_check import check_chat_request

MANY = 200_000


def violations_of(*messages: chat.ChatMessage, **fields: Any) -> tuple[Violation, ...]:
    request = chat.CreateChatCompletionRequest(provider="openai", messages=messages, **fields)
    with pytest.raises(InvalidRequest) as caught:
        check_chat_request(request, streaming=False)
    return caught.value.violations


class TestFlood:
    def test_of_parts(self) -> None:
        parts = [chat.ContentPart()] * MANY
        (violation,) = violations_of(chat.ChatMessage(role="user", parts=parts))
        assert violation.field == "messages"

    def test_of_tool_calls_over_many_messages(self) -> None:
        calls = [chat.ToolCall()] * (MANY // 1_000)
        (violation,) = violations_of(*[chat.ChatMessage(role="assistant", tool_calls=calls)] * 1_000)
        assert violation.field == "messages"

    def test_of_messages(self) -> None:
        (violation,) = violations_of(*[chat.ChatMessage()] * MANY)
        assert violation.field == "messages"

    def test_of_tools(self) -> None:
        hello = chat.ChatMessage(role="user", content="Hello")
        (violation,) = violations_of(hello, options=chat.ChatOptions(tools=[chat.Tool()] * MANY))
        assert violation.field == "options.tools"
