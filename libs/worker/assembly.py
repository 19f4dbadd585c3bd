"""Puts together what was said in pieces: several chunks into one, and a streamed answer into a whole one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import AnswerReader


def merged(chunks: Sequence[chat.ChatCompletionChunk]) -> chat.ChatCompletionChunk:
    """Makes one chunk of several that follow each other; a single one is returned as it is.

    Texts are joined once: one that grows inside a message is copied for every piece, and protobuf keeps all copies
    for as long as the message lives.
    """
    if len(chunks) == 1:
        return chunks[0]
    whole = chat.ChatCompletionChunk()
    for chunk in chunks:
        for name in ("id", "model", "provider"):
            if chunk.HasField(name):
                setattr(whole, name, getattr(chunk, name))
        if chunk.HasField("metadata"):
            whole.metadata.MergeFrom(chunk.metadata)
        whole.reasoning_details.extend(chunk.reasoning_details)
    if content := "".join(chunk.content for chunk in chunks):
        whole.content = content
    if reasoning := "".join(chunk.reasoning_content for chunk in chunks):
        whole.reasoning_content = reasoning
    _merge_calls(whole, chunks)
    return whole


def _merge_calls(whole: chat.ChatCompletionChunk, chunks: Sequence[chat.ChatCompletionChunk]) -> None:
    """Joins fragments of a call that follow each other; where calls alternate, so do theirs."""
    last: chat.ToolCallDelta | None = None
    arguments: list[str] = []
    for fragment in (fragment for chunk in chunks for fragment in chunk.tool_calls):
        if last is None or fragment.index != last.index or fragment.id:
            if last is not None:
                last.arguments = "".join(arguments)
            last, arguments = whole.tool_calls.add(), []
        arguments.append(fragment.arguments)
        fragment.ClearField("arguments")
        last.MergeFrom(fragment)
    if last is not None:
        last.arguments = "".join(arguments)


def whole_answer(said: chat.ChatCompletionChunk, reader: AnswerReader) -> chat.ChatCompletion:
    """Makes the answer of one chunk that holds all that was said, and of what its reader knows besides."""
    completion = chat.ChatCompletion(
        id=said.id, object="chat.completion", created=int(time.time()), model=said.model, provider=said.provider
    )
    choice = completion.choices.add(index=0, finish_reason=reader.finish_reason)
    if reader.native_finish_reason:
        choice.native_finish_reason = reader.native_finish_reason
    message = choice.message
    message.role = "assistant"
    message.content = said.content
    if said.reasoning_content:
        message.reasoning_content = said.reasoning_content
    message.reasoning_details.extend(said.reasoning_details)
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


def _join_calls(message: chat.AssistantMessage, said: chat.ChatCompletionChunk) -> None:
    """Joins the fragments of each call: those of calls that were written at the same time alternate."""
    arguments: dict[int, list[str]] = {}
    calls: dict[int, chat.FunctionToolCall] = {}
    for fragment in said.tool_calls:
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
