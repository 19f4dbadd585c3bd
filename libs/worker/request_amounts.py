"""How much a chat request may hold.

A worker serves all its calls in turns: while it reads one request, nobody else is served. 32 MiB of text are read in a
blink, the same in millions of empty messages in many seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1 import json_object_pb2

from libs.errors import InvalidRequest, Violation
from libs.worker.json_object import count_values

MAX_MESSAGES = 2_000
# Parts, tool calls and reasoning details of all messages together.
MAX_PIECES = 10_000
MAX_TOOLS = 128
# Members and list values of all JSON objects together. Each is turned into a value of Python, at about 1 µs.
MAX_JSON_VALUES = 30_000
# The fewest bytes that one of them takes. Counting bytes costs next to nothing, and is enough for most requests.
_LEAST_VALUE = 2


def check_amounts(request: chat.CreateChatCompletionRequest) -> None:
    """Raises InvalidRequest for the first thing there is too much of.

    Comes before anything that looks at all of a request; its own work is bounded, whatever the request.
    """
    if len(request.messages) > MAX_MESSAGES:
        raise _too_much("messages", f"must have at most {MAX_MESSAGES} entries.")
    pieces = 0
    for message in request.messages:
        pieces += len(message.parts) + len(message.tool_calls) + len(message.reasoning_details)
        if pieces > MAX_PIECES:
            raise _too_much(
                "messages", f"must have at most {MAX_PIECES} parts, tool calls and reasoning details together."
            )
    if len(request.options.tools) > MAX_TOOLS:
        raise _too_much("options.tools", f"must have at most {MAX_TOOLS} entries.")
    if sum(wire.ByteSize() for wire, _, _ in _json_of(request)) > MAX_JSON_VALUES * _LEAST_VALUE:
        _check_json(request)


def _check_json(request: chat.CreateChatCompletionRequest) -> None:
    left = MAX_JSON_VALUES
    for wire, at, index in _json_of(request):
        left -= count_values(wire, left)
        if left < 0:
            raise _too_much(
                at.format(index),
                f"must have, with the JSON objects before it, at most {MAX_JSON_VALUES} members and list values; "
                "make it simpler.",
            )


def _json_of(request: chat.CreateChatCompletionRequest) -> Iterator[tuple[json_object_pb2.JsonObject, str, int]]:
    """Finds the JSON objects, each with the path of its field, in which the index is still to be put."""
    for index, tool in enumerate(request.options.tools):
        yield tool.parameters, "options.tools[{}].parameters", index
    yield request.options.response_format.json_schema, "options.responseFormat.jsonSchema", 0
    for index, message in enumerate(request.messages):
        for detail in message.reasoning_details:
            yield detail, "messages[{}].reasoningDetails", index


def _too_much(at: str, rule: str) -> InvalidRequest:
    return InvalidRequest([Violation(at, rule)])
