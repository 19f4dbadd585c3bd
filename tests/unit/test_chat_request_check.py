"""Requests that are made to keep the worker busy: each is refused in one sentence, before it is looked at closely."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import InvalidRequest, Violation
from libs.worker.chats import Chats
from libs.worker.json_object import json_object
from libs.worker.request_amounts import MAX_JSON_VALUES, check_amounts
from libs.worker.request_check import check_chat_request, unfold_tool_calls
from libs.worker.servicer import WorkerChatServicer
from services.workers.openai.adapter import ADAPTER
from tests.support.steps import steps_of

MANY = 200_000
HELLO = chat.ChatMessage(role="user", content="Hello")
# A value for each level, in a list of lists.
DEEP: list[Any] = [[[[]]]]


def request_of(*messages: chat.ChatMessage, **fields: Any) -> chat.CreateChatCompletionRequest:
    return chat.CreateChatCompletionRequest(provider="openai", messages=messages, **fields)


def violations_of(*messages: chat.ChatMessage, **fields: Any) -> tuple[Violation, ...]:
    request = request_of(*messages, **fields)
    with pytest.raises(InvalidRequest) as caught:
        check_chat_request(request, streaming=False)
    return caught.value.violations


def tool(parameters: dict[str, Any]) -> chat.Tool:
    return chat.Tool(name="f", parameters=json_object(parameters))


def assistant(**fields: Any) -> chat.ChatMessage:
    return chat.ChatMessage(role="assistant", content="Hm.", **fields)


NOTES = [json_object({"a": 1})] * 20
# By what there is too much of: the field that is named, and the request, with so many of it.
FLOODS: dict[str, tuple[str, Callable[[int], chat.CreateChatCompletionRequest]]] = {
    "messages": ("messages", lambda many: request_of(*[chat.ChatMessage()] * many)),
    "parts": ("messages", lambda many: request_of(chat.ChatMessage(role="user", parts=[chat.ContentPart()] * many))),
    "tool calls": ("messages", lambda many: request_of(assistant(tool_calls=[chat.ToolCall()] * many))),
    "notes": (
        "messages",
        lambda many: request_of(HELLO, assistant(reasoning_details=[json_object({})] * many)),
    ),
    "pieces of many messages": (
        "messages",
        lambda many: request_of(*[assistant(tool_calls=[chat.ToolCall()] * (many // 1_000))] * 1_000),
    ),
    "tools": ("options.tools", lambda many: request_of(HELLO, options=chat.ChatOptions(tools=[chat.Tool()] * many))),
    "members": (
        "options.tools[1].parameters",
        lambda many: request_of(
            HELLO, options=chat.ChatOptions(tools=[tool({"a": 1}), tool({str(index): 1 for index in range(many)})])
        ),
    ),
    "list values": (
        "options.responseFormat.jsonSchema",
        lambda many: request_of(
            HELLO,
            options=chat.ChatOptions(
                response_format=chat.ResponseFormat(type="json_schema", json_schema=json_object({"a": [None] * many}))
            ),
        ),
    ),
    "lists in lists": (
        "options.tools[0].parameters",
        lambda many: request_of(HELLO, options=chat.ChatOptions(tools=[tool({"a": DEEP * (many // 2)})])),
    ),
    "members of many objects": (
        "options.tools[64].parameters",
        lambda many: request_of(
            HELLO,
            options=chat.ChatOptions(tools=[tool({str(index): 1 for index in range(many // 430)})] * 128),
        ),
    ),
    "members of a note": (
        "messages[1].reasoningDetails",
        lambda many: request_of(
            HELLO, assistant(reasoning_details=[*NOTES, json_object({str(index): 1 for index in range(many)})])
        ),
    ),
}


class TestFlood:
    @pytest.mark.parametrize(("field", "made"), FLOODS.values(), ids=FLOODS)
    def test_is_refused_with_the_place(
        self, field: str, made: Callable[[int], chat.CreateChatCompletionRequest]
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            check_amounts(made(MANY))
        (violation,) = caught.value.violations
        assert violation.field == field

    @pytest.mark.parametrize(("field", "made"), FLOODS.values(), ids=FLOODS)
    def test_is_not_read_to_its_end(self, field: str, made: Callable[[int], chat.CreateChatCompletionRequest]) -> None:
        """Twice as much of it is no more work, and no work is more than what the largest request takes."""
        once, twice = (steps_of(partial(check_amounts, made(many))) for many in (MANY, 2 * MANY))
        assert twice <= once * 1.1
        assert once < MAX_JSON_VALUES * 60, field

    def test_does_not_reach_anything_that_goes_through_it(self) -> None:
        """Neither unfolding nor checking looks at a message of a request with too many of them."""
        servicer = WorkerChatServicer(cast(Chats, None), ADAPTER)
        many = request_of(*[chat.ChatMessage()] * MANY)

        async def ask() -> None:
            with pytest.raises(InvalidRequest):
                await servicer.CreateChatCompletion(many, None)

        steps = steps_of(lambda: ask().send(None))
        assert steps < 5_000

    def test_large_requests_that_people_make_pass(self) -> None:
        schema = {"type": "object", "properties": {f"p{index}": {"type": "string"} for index in range(40)}}
        note = json_object({"type": "reasoning.encrypted", "data": "x" * 50_000, "format": "f", "index": 0, "id": "i"})
        turns = [HELLO, assistant(reasoning_details=[note, note])] * 500
        check_amounts(request_of(*turns, options=chat.ChatOptions(tools=[tool(schema)] * 100)))

    def test_a_small_request_is_not_counted(self) -> None:
        """Its bytes tell that it cannot hold too many values: this is on the path of every chat."""
        schema = {"type": "object", "properties": {f"p{index}": {"type": "string"} for index in range(20)}}
        tools = chat.ChatOptions(tools=[tool(schema)] * 10)
        assert steps_of(partial(check_amounts, request_of(HELLO, options=tools))) < 1_000


class TestArguments:
    """What must be read of them is bounded, over all calls together."""

    @staticmethod
    def conversation(*arguments: str) -> list[chat.ChatMessage]:
        calls = [
            assistant(tool_calls=[chat.ToolCall(id=f"c{index}", name="f", arguments=each)])
            for index, each in enumerate(arguments)
        ]
        return [HELLO, *calls]

    @pytest.mark.parametrize(
        ("arguments", "place"),
        [
            (["{}", " " * 2_000_000], 2),
            ([" " * 1_000_000] * 4, 3),
            (["{}", "[" * 100_000, "{}"], 2),
            (["{}" * 50_000, "{}" * 50_001], 2),
        ],
        ids=["characters", "characters of several", "brackets", "brackets of several"],
    )
    def test_that_are_too_much_are_refused_once(self, arguments: list[str], place: int) -> None:
        (violation,) = violations_of(*self.conversation(*arguments))
        assert violation.field == f"messages[{place}].toolCalls[0].arguments"

    def test_as_long_as_a_model_may_write_pass(self) -> None:
        written = '{"path": "a.py", "text": "' + "x = {1: [2, 3]}\\n" * 1_000 + '"}'
        check_chat_request(request_of(*self.conversation(*[written] * 40)), streaming=False)


class TestCallsAndResults:
    @staticmethod
    def calls(*names: str) -> chat.ChatMessage:
        return assistant(tool_calls=[chat.ToolCall(id=name, name="f") for name in names])

    @staticmethod
    def result(name: str) -> chat.ChatMessage:
        return chat.ChatMessage(role="tool", content="r", tool_call_id=name)

    def test_that_belong_together_pass(self) -> None:
        talk = [HELLO, self.calls("a", "b"), self.result("b"), self.result("a"), self.calls("a"), self.result("a")]
        check_chat_request(request_of(*talk), streaming=False)

    @pytest.mark.parametrize("before", [[], ["b"]])
    def test_a_result_of_a_call_that_nobody_made_is_refused(self, before: list[str]) -> None:
        talk = [HELLO, self.calls(*before), self.result("a"), self.calls("a")]
        assert [violation.field for violation in violations_of(*talk)] == ["messages[2].toolCallId"]

    def test_a_result_without_a_call_is_told_so_once(self) -> None:
        assert [violation.field for violation in violations_of(HELLO, self.result(""))] == ["messages[1].toolCallId"]

    def test_two_calls_of_one_id_are_refused(self) -> None:
        (violation,) = violations_of(HELLO, self.calls("a", "b", "a"))
        assert violation.field == "messages[1].toolCalls[2].id"

    def test_names_that_nobody_gives_are_refused(self) -> None:
        long = chat.ToolCall(id="i" * 257, name="n" * 65)
        talk = [HELLO, assistant(tool_calls=[long]), chat.ChatMessage(role="user", content="x", tool_call_id="i" * 257)]
        assert [violation.field for violation in violations_of(*talk)] == [
            "messages[1].toolCalls[0].id",
            "messages[1].toolCalls[0].name",
            "messages[2].toolCallId",
        ]
        check_chat_request(
            request_of(HELLO, assistant(tool_calls=[chat.ToolCall(id="i" * 256, name="default_api." + "n" * 52)])),
            streaming=False,
        )


class TestRules:
    """Each broken rule is named by the path of its field."""

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
        assert [violation.field for violation in violations_of(HELLO, options=options)] == [field]

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
            (chat.ChatMessage(role="user", parts=[chat.ContentPart(text="")] * 2), "parts"),
            (chat.ChatMessage(role="system", parts=[chat.ContentPart(text="")]), "parts"),
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
