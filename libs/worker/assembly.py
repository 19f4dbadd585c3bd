"""Puts a streamed answer together for a caller who wants it whole."""

from __future__ import annotations

import time
from collections.abc import Sequence

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import AnswerReader


def whole_answer(said: Sequence[chat.ChatCompletionChunk], reader: AnswerReader) -> chat.ChatCompletion:
    """Makes the answer of the chunks that hold all that was said, and of what their reader knows besides.

    The fragments of a tool call may stand apart: those of calls that were written at the same time alternate.
    """
    first = said[0]
    completion = chat.ChatCompletion(
        id=first.id, object="chat.completion", created=int(time.time()), model=first.model, provider=first.provider
    )
    choice = completion.choices.add(index=0, finish_reason=reader.finish_reason or "stop")
    if reader.native_finish_reason:
        choice.native_finish_reason = reader.native_finish_reason
    message = choice.message
    message.role = "assistant"
    message.content = "".join(chunk.content for chunk in said)
    if reasoning := "".join(chunk.reasoning_content for chunk in said):
        message.reasoning_content = reasoning
    for chunk in said:
        message.reasoning_details.extend(chunk.reasoning_details)
    _join_calls(message, said)
    usage = reader.usage()
    if usage is not None:
        completion.usage.CopyFrom(usage)
    if reader.cost_usd is not None:
        completion.cost_usd = reader.cost_usd
    if reader.upstream_provider:
        completion.metadata.upstream_provider = reader.upstream_provider
    if reader.service_tier:
        completion.service_tier = reader.service_tier
    return completion


def _join_calls(message: chat.AssistantMessage, said: Sequence[chat.ChatCompletionChunk]) -> None:
    calls: dict[int, chat.FunctionToolCall] = {}
    arguments: dict[int, list[str]] = {}
    for fragment in (fragment for chunk in said for fragment in chunk.tool_calls):
        call = calls.get(fragment.index)
        if call is None:
            call = calls[fragment.index] = message.tool_calls.add(type="function")
            arguments[fragment.index] = []
        call.id = call.id or fragment.id
        call.function.name = call.function.name or fragment.name
        arguments[fragment.index].append(fragment.arguments)
        if fragment.HasField("extra_content"):
            call.extra_content.CopyFrom(fragment.extra_content)
    for index, call in calls.items():
        call.function.arguments = "".join(arguments[index])
