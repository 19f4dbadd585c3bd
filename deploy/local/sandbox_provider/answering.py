"""What the sandbox answers, in no provider's format: the same to the same request, always."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import orjson

from deploy.local.sandbox_provider import tokens
from deploy.local.sandbox_provider.control_messages import Behaviour, FinishReason
from deploy.local.sandbox_provider.schema_examples import example

TOOL_PHRASE = "use the tool"
"""Said by the user, it makes the sandbox call the tools it was given."""

_QUOTED_LENGTH = 200
_REASONING = "The question stands in the request, so the answer can quote it."


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the caller offers; `parameters` is a JSON schema."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request for an answer.

    `digest` identifies the request (hex, 32 digits). `reasoning_tokens` are spent before the first word and
    count against `max_tokens`, unless `limit_covers_reasoning` is false. `tools` are those to call, none where
    the answer is to be text. `json_schema` asks for an object that fits it.
    """

    digest: str
    model: str
    last_message: str
    prompt_tokens: int
    max_tokens: int | None
    stop: tuple[str, ...]
    reasoning_tokens: int
    tools: tuple[Tool, ...]
    json_schema: Mapping[str, Any] | None
    limit_covers_reasoning: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool; the fragments put together are its arguments in JSON."""

    id: str
    name: str
    fragments: tuple[str, ...]

    @property
    def arguments(self) -> str:
        """The arguments whole."""
        return "".join(self.fragments)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens used; `completion` includes `reasoning`."""

    prompt: int
    completion: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; the chunks put together are its text.

    `reasoning` is what the model thought, empty when it did not; a dialect tells it where the provider would.
    """

    digest: str
    model: str
    reasoning: str
    chunks: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    usage: Usage

    @property
    def text(self) -> str:
        """The text whole."""
        return "".join(self.chunks)


def wants_tools(choice: str, last_user_message: str | None) -> bool:
    """Decides whether to call tools, by the caller's choice: auto, none or required.

    `last_user_message` is None when the last word is not the user's.
    """
    if choice == "auto":
        return last_user_message is not None and TOOL_PHRASE in last_user_message.lower()
    return choice == "required"


def answer(question: Question, behaviour: Behaviour) -> Answer:
    """Answers a question, within its token limit and up to its first stop sequence."""
    limit = question.max_tokens
    thought = _REASONING if question.reasoning_tokens else ""
    spent_thinking = question.reasoning_tokens
    if behaviour.reasoning is not None:
        thought, spent_thinking = behaviour.reasoning, len(tokens.split(behaviour.reasoning))
    room = limit if question.limit_covers_reasoning else None
    reasoning = spent_thinking if room is None else min(spent_thinking, room)
    remaining = limit if room is None else room - reasoning
    if question.tools and behaviour.content is None:
        calls, spent, cut = _tool_calls(question, remaining)
        chunks: tuple[str, ...] = ()
        natural_end: FinishReason = "tool_calls"
    else:
        chunks, spent, cut = _text(question, behaviour, remaining)
        calls = ()
        natural_end = "stop"
    return Answer(
        digest=question.digest,
        model=question.model,
        reasoning=thought,
        chunks=chunks,
        tool_calls=calls,
        finish_reason=behaviour.finish_reason or ("length" if cut else natural_end),
        usage=Usage(question.prompt_tokens, reasoning + spent, reasoning),
    )


def _tool_calls(question: Question, limit: int | None) -> tuple[tuple[ToolCall, ...], int, bool]:
    calls: list[ToolCall] = []
    spent = 0
    cut = False
    for index, tool in enumerate(question.tools):
        spent += tokens.count(tool.name)
        arguments = tokens.split(orjson.dumps(example(tool.parameters)).decode())
        room = len(arguments) if limit is None else max(0, limit - spent)
        cut = room < len(arguments)
        kept = arguments[:room]
        spent += len(kept)
        calls.append(ToolCall(f"call_{question.digest[:22]}{index:02d}", tool.name, tuple(kept)))
        if cut:
            break
    return tuple(calls), spent if limit is None else min(spent, limit), cut


def _text(question: Question, behaviour: Behaviour, limit: int | None) -> tuple[tuple[str, ...], int, bool]:
    pieces = tokens.split(_wording(question) if behaviour.content is None else behaviour.content)
    if behaviour.content is None and behaviour.chunk_count:
        pieces = tokens.split(" ".join(islice(cycle(word.strip() for word in pieces), behaviour.chunk_count)))
    if question.stop:
        whole = "".join(pieces)
        stops = [place for sequence in question.stop if (place := whole.find(sequence)) >= 0]
        if stops:
            pieces = tokens.split(whole[: min(stops)])
    cut = limit is not None and len(pieces) > limit
    kept = pieces[:limit]
    if behaviour.content is not None and behaviour.chunk_count:
        return _divide("".join(kept), behaviour.chunk_count), len(kept), cut
    return tuple(kept), len(kept), cut


def _wording(question: Question) -> str:
    if question.json_schema is not None:
        return orjson.dumps(example(question.json_schema)).decode()
    quoted = question.last_message.strip()
    if len(quoted) > _QUOTED_LENGTH:
        quoted = quoted[:_QUOTED_LENGTH].rstrip() + "…"
    return (
        f"You said: “{quoted}” This is {question.model} in the sandbox: no model thought about it, "
        "but every word took the same road as a real one."
    )


def _divide(text: str, parts: int) -> tuple[str, ...]:
    parts = min(parts, len(text))
    return tuple(text[len(text) * index // parts : len(text) * (index + 1) // parts] for index in range(parts))
