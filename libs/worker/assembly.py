"""Puts a streamed answer together for a caller who wants it whole."""

from __future__ import annotations

import time

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import AnswerReader


def whole_answer(said: chat.ChatCompletionChunk, reader: AnswerReader) -> chat.ChatCompletion:
    """Makes the answer of one chunk that holds all that was said, and of what its reader knows besides.

    The fragments of a tool call may stand apart: those of calls that were written at the same time alternate.
    """
    completion = chat.ChatCompletion(
        id=said.id, object="chat.completion", created=int(time.time()), model=said.model, provider=said.provider
    )
    choice = completion.choices.add(index=0, finish_reason=reader.finish_reason or "stop")
    if reader.native_finish_reason:
        choice.native_finish_reason = reader.native_finish_reason
    message = choice.message
    message.role = "assistant"
    message.content = said.content
    if said.reasoning_content:
        message.reasoning_content = said.reasoning_content
    message.reasoning_details.extend(said.reasoning_details)
    calls: dict[int, chat.FunctionToolCall] = {}
    for fragment in said.tool_calls:
        call = calls.get(fragment.index)
        if call is None:
            call = calls[fragment.index] = message.tool_calls.add(type="function")
        call.id = call.id or fragment.id
        call.function.name = call.function.name or fragment.name
        call.function.arguments += fragment.arguments
        if fragment.HasField("extra_content"):
            call.extra_content.CopyFrom(fragment.extra_content)
    usage = reader.usage()
    if usage is not None:
        completion.usage.CopyFrom(usage)
    if reader.cost_usd is not None:
        completion.cost_usd = reader.cost_usd
    if reader.service_tier:
        completion.service_tier = reader.service_tier
    return completion
