"""How answers in OpenAI's form stand on the wire."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from deploy.local.sandbox_provider.answering import Answer
from deploy.local.sandbox_provider.dialects.dialect import Reply

CREATED = 1_767_225_600
"""Every answer bears this time (2026-01-01), so that the same request gets the same bytes."""

DONE = b"data: [DONE]\n\n"


def success(body: Mapping[str, Any], headers: Mapping[str, str]) -> Reply:
    """Answers with a body."""
    return Reply(200, orjson.dumps(body), {**headers, "content-type": "application/json"})


def event(data: Mapping[str, Any]) -> bytes:
    """Makes one event of a stream."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def model_list(names: Iterable[str], owner: str) -> dict[str, Any]:
    """Lists models."""
    return {"object": "list", "data": [model_entry(name, owner) for name in names]}


def model_entry(name: str, owner: str) -> dict[str, Any]:
    """Describes a model."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": owner}


def whole_tool_calls(answer: Answer) -> list[dict[str, Any]]:
    """Puts the tool calls into a message."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.tool_calls
    ]


def tool_call_fragments(answer: Answer) -> Iterator[dict[str, Any]]:
    """Puts the tool calls into deltas, by index; name and id come with the first of each."""
    for index, call in enumerate(answer.tool_calls):
        function = {"name": call.name, "arguments": ""}
        yield {"index": index, "id": call.id, "type": "function", "function": function}
        for fragment in call.fragments:
            yield {"index": index, "function": {"arguments": fragment}}
