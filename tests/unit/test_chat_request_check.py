"""Requests that are made to keep the worker busy: each is refused in one sentence, before it is looked at closely."""

from typing import Any

import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import InvalidRequest, Violation
from libs.worker.json_object import json_object
from libs.worker.request_check import check_chat_request, unfold_tool_calls

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


class TestRules:
    """Each broken rule is named by the path of its field."""

    HELLO = chat.ChatMessage(role="user", content="Hello")
    CALL = chat.ToolCall(id="c1", name="weather", arguments="{}")

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            (chat.ChatOptions(tool_choice="required"), "options.toolChoice"),
            (chat.ChatOptions(tool_choice="weather"), "options.toolChoice"),
            (chat.ChatOptions(reasoning_effort="extreme"), "options.reasoningEffort"),
        ],
    )
    def test_of_options(self, options: chat.ChatOptions, field: str) -> None:
        assert [violation.field for violation in violations_of(self.HELLO, options=options)] == [field]

    @pytest.mark.parametrize(
        ("message", "field"),
        [
            (chat.ChatMessage(role="assistant", tool_calls=[chat.ToolCall(id="c1")]), "toolCalls[0]"),
            (chat.ChatMessage(role="assistant", tool_calls=[chat.ToolCall(name="weather")]), "toolCalls[0]"),
            (chat.ChatMessage(role="user", content="x", tool_calls=[CALL]), "toolCalls"),
            (
                chat.ChatMessage(role="user", content="x", reasoning_details=[json_object({"type": "t"})]),
                "reasoningDetails",
            ),
            (
                chat.ChatMessage(
                    role="user", parts=[chat.ContentPart(image_url=chat.ImageUrl(url="https://x/y", detail="huge"))]
                ),
                "parts[0].imageUrl.detail",
            ),
        ],
    )
    def test_of_messages(self, message: chat.ChatMessage, field: str) -> None:
        assert [violation.field for violation in violations_of(message)] == [f"messages[0].{field}"]


class TestCallsAsAnswersHaveThem:
    def test_are_taken_apart(self) -> None:
        call = chat.ToolCall(id="c1", function=chat.FunctionCall(name="weather", arguments="{}"))
        request = chat.CreateChatCompletionRequest(messages=[chat.ChatMessage(role="assistant", tool_calls=[call])])
        unfold_tool_calls(request)
        assert request.messages[0].tool_calls[0] == TestRules.CALL
        check_chat_request(request, streaming=False)
