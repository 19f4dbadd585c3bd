"""Answers of the dialect, whole and streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import ProviderError
from libs.worker.adapter import AnswerReader
from libs.worker.json_facts import needed_text, pieces, text
from libs.worker.json_object import json_object
from libs.worker.openai_dialect.call_places import CallPlaces
from libs.worker.openai_dialect.reasoning_details import ReasoningDetails
from libs.worker.openai_dialect.usage import ReadCost, ReadUsage
from libs.worker.token_counts import count

FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
}

# Turns an error that came inside an answer into ours.
InBandError = Callable[[dict[str, Any]], ProviderError]


def read_completion(
    answer: dict[str, Any], provider: str, read_usage: ReadUsage, read_cost: ReadCost
) -> chat.ChatCompletion:
    """Reads a whole answer that holds no error."""
    choice = answer["choices"][0]
    said = choice.get("message") or {}
    completion = chat.ChatCompletion(
        id=answer.get("id") or "",
        object="chat.completion",
        created=count(answer, "created"),
        model=answer.get("model") or "",
        provider=provider,
    )
    if tier := text(answer.get("service_tier")):
        completion.service_tier = tier
    if upstream := text(answer.get("provider")):
        completion.metadata.upstream_provider = upstream
    reason = needed_text(choice.get("finish_reason") or "")
    own = completion.choices.add(index=0, finish_reason=_finish_reason(reason))
    if native := text(choice.get("native_finish_reason")) or reason:
        own.native_finish_reason = native
    own.message.role = "assistant"
    own.message.content = said.get("content") or said.get("refusal") or ""
    if said.get("refusal"):
        own.finish_reason = "content_filter"
    if reasoning := said.get("reasoning_content") or said.get("reasoning"):
        own.message.reasoning_content = reasoning
    if details := said.get("reasoning_details"):
        whole = ReasoningDetails().keep(details).take()
        own.message.reasoning_details.extend(map(json_object, whole))
    for call in pieces(said.get("tool_calls") or ()):
        if _is_custom(call):
            continue
        function = call.get("function") or {}
        own.message.tool_calls.add(
            id=call.get("id") or "",
            type="function",
            function=chat.FunctionCall(name=function.get("name") or "", arguments=function.get("arguments") or ""),
        )
    if own.message.tool_calls and own.finish_reason == "stop":
        own.finish_reason = "tool_calls"  # what servers that came to tools later leave out
    if usage := answer.get("usage"):
        if (counted := read_usage(usage)) is not None:
            completion.usage.CopyFrom(counted)
        cost = read_cost(usage)
        if cost is not None:
            completion.cost_usd = cost
    return completion


class OpenAIAnswerReader(AnswerReader):
    """Reads the chunks of one streamed answer."""

    __slots__ = (
        "_calls",
        "_details",
        "_in_band_error",
        "_provider",
        "_read_cost",
        "_read_usage",
        "_spoke",
        "_usage",
    )

    def __init__(self, provider: str, in_band_error: InBandError, read_usage: ReadUsage, read_cost: ReadCost) -> None:
        super().__init__()
        self._provider = provider
        self._in_band_error = in_band_error
        self._read_usage = read_usage
        self._read_cost = read_cost
        self._usage: Any = None
        self._calls = CallPlaces()
        self._details = ReasoningDetails()
        self._spoke = False

    def read(self, name: bytes, data: bytes, chunk: chat.ChatCompletionChunk) -> None:  # noqa: ARG002 - one kind of event
        if data == b"[DONE]":
            self.closed = True
            # Nothing said and no reason given is no answer.
            if self._spoke and not self.finished:
                self._finish("stop", "")
            self._tell_details(chunk)
            return
        event = orjson.loads(data)
        if event.get("error") or event.get("object") == "error":
            raise self._in_band_error(event)
        if not self.model and event.get("model"):
            chunk.model = event["model"]  # refuses what is no text
            self.model = chunk.model
            chunk.id = event.get("id") or ""
            chunk.provider = self._provider
        if tier := text(event.get("service_tier")):
            self.service_tier = tier
        if upstream := text(event.get("provider")):
            self.upstream_provider = upstream
        if (usage := event.get("usage")) and isinstance(usage, dict):
            self._usage = usage  # of all that was said so far; some send it with every event
            self.cost_usd = self._read_cost(usage)
        if choices := event.get("choices"):
            self._spoke = True
            choice = choices[0]  # more were not asked for
            if choice.get("error"):
                raise self._in_band_error(choice)
            self._read_delta(choice.get("delta") or {}, chunk)
            if reason := choice.get("finish_reason"):
                self._tell_details(chunk)
                self._finish(reason, text(choice.get("native_finish_reason")) or reason)

    def _finish(self, reason: str, native: str) -> None:
        ours = _finish_reason(needed_text(reason))
        self.native_finish_reason = native
        if self._calls.called and ours == "stop":
            ours = "tool_calls"
        self.finish_reason = self.finish_reason or ours
        # Some compatible servers never send [DONE]; the reason is the end the dialect guarantees.
        self.finished = True

    def _read_delta(self, delta: dict[str, Any], chunk: chat.ChatCompletionChunk) -> None:
        if content := delta.get("content"):
            chunk.content += content
        if refusal := delta.get("refusal"):
            chunk.content += refusal
            self.finish_reason = "content_filter"
        if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
            chunk.reasoning_content += reasoning
        for detail in delta.get("reasoning_details") or ():
            self._details.add(detail)
        if calls := delta.get("tool_calls"):
            self._read_calls(pieces(calls), chunk)

    def _read_calls(self, fragments: Iterable[dict[str, Any]], chunk: chat.ChatCompletionChunk) -> None:
        """Adds fragments of tool calls, to the fragment before where that belongs to the same call.

        Their arguments are joined first: a text that grows in a message is copied each time.
        """
        last = chunk.tool_calls[-1] if chunk.tool_calls else None
        arguments: list[str] = []
        for fragment in fragments:
            if _is_custom(fragment):
                continue
            function, place = fragment.get("function") or {}, self._calls.of(fragment)
            if last is None or last.index != place:
                if last is not None and arguments:
                    last.arguments += "".join(arguments)
                    arguments.clear()
                last = chunk.tool_calls.add(index=place)
            if identity := fragment.get("id"):
                last.id = identity
            if name := function.get("name"):
                last.name = name
            if more := function.get("arguments"):
                arguments.append(more)
        if last is not None and arguments:
            last.arguments += "".join(arguments)

    def _tell_details(self, chunk: chat.ChatCompletionChunk) -> None:
        """Adds the reasoning details, which are whole only once nothing more is said."""
        chunk.reasoning_details.extend(json_object(detail) for detail in self._details.take())

    def usage(self) -> chat.Usage | None:
        usage = self._read_usage(self._usage)
        if usage is not None and not self.finished:
            usage.estimated = True  # of an answer that was broken off more may have been made than was told
        return usage


def _finish_reason(native: str) -> str:
    return FINISH_REASONS.get(native, "error")


def _is_custom(call: dict[str, Any]) -> bool:
    """Tells calls of OpenAI's custom tools, whose input is no JSON: nobody can have asked for them here.

    Later fragments of one have no type.
    """
    return bool(call.get("type") == "custom" or call.get("custom"))
