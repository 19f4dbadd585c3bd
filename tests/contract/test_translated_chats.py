"""Chats in a dialect the provider does not speak: translated, under the rules of every chat."""

import json
from typing import Any

import grpc
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from google.api.httpbody_pb2 import HttpBody
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.anthropic.v1.message_service_pb2 import CreateMessageRequest
from realmultillm.openai.v1.chat_completion_service_pb2 import CreateChatCompletionRequest

from tests.contract.adapters import SECRET_WORDS
from tests.contract.conftest import Person, Worker
from tests.contract.test_passing_through import broken, data_of, streamed, whole
from tests.support.rpc import error_info
from tests.support.waiting import within_bound

State = UsageRecord.EndState

_FOREIGN = {
    "openai": ("anthropic", "google-ai"),
    "anthropic": ("openai", "openai-compatible", "openrouter", "grok", "google-ai"),
}
of_foreign_speakers = pytest.mark.parametrize(
    ("dialect", "worker"),
    [(dialect, name) for dialect, names in _FOREIGN.items() for name in names],
    indirect=["worker"],
)


def ask(worker: Worker, dialect: str, person: Person, **fields: Any) -> Any:
    """Asks the simplest request in a dialect, and returns the call."""
    body = {"messages": [{"role": "user", "content": "y" * 40}], **fields}
    if dialect == "anthropic":
        body.setdefault("max_tokens", 500)
    http = HttpBody(content_type="application/json", data=json.dumps(body).encode())
    provider = worker.adapter.provider
    if dialect == "anthropic":
        request = CreateMessageRequest(provider=provider, body=http)
        return worker.anthropic_stub.CreateMessage(request, metadata=person.metadata)
    return worker.openai_stub.CreateChatCompletion(
        CreateChatCompletionRequest(provider=provider, body=http), metadata=person.metadata
    )


def text_of_body(dialect: str, body: bytes) -> str:
    """Reads a whole answer with the SDK's own types."""
    if dialect == "openai":
        return ChatCompletion.model_validate_json(body).choices[0].message.content or ""
    return "".join(block.text for block in Message.model_validate_json(body).content if block.type == "text")


def text_of_events(dialect: str, events: bytes) -> str:
    """Reads a streamed answer with the SDK's own types, to its proper end."""
    if dialect == "openai":
        assert events.endswith(b"data: [DONE]\n\n")
        chunks = [ChatCompletionChunk.model_validate(event) for event in data_of(events)]
        assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == [
            "stop"
        ]
        return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    parsed = [adapter.validate_python(event) for event in data_of(events) if event["type"] != "ping"]
    assert [parsed[0].type, parsed[-1].type] == ["message_start", "message_stop"]
    deltas = [event.delta for event in parsed if event.type == "content_block_delta"]
    return "".join(delta.text for delta in deltas if delta.type == "text_delta")


class TestAnswer:
    @of_foreign_speakers
    async def test_reads_as_the_dialect_has_it_and_is_recorded(self, worker: Worker, dialect: str):
        for stream in (False, True):
            person = worker.new_person(model=worker.contract.other_model)
            call = ask(worker, dialect, person, stream=stream)
            text = text_of_events(dialect, await streamed(call)) if stream else text_of_body(dialect, await whole(call))
            assert "y" * 40 in text
            (received,) = await worker.received(person)
            assert received.model == worker.contract.other_model
            record = await worker.ledger.record_of(person.user_id)
            assert (record.end_state, record.streamed) == (State.COMPLETED, stream)
            assert (record.model_requested, record.estimated) == (worker.contract.other_model, False)
            assert record.completion_tokens > 0
            assert record.HasField("time_to_first_token_ms") is stream

    @of_foreign_speakers
    async def test_that_breaks_off_ends_with_the_dialects_error(self, worker: Worker, dialect: str):
        person = worker.new_person()
        await worker.bad_day(person, error_in_stream_after_chunks=2, chunk_delay_ms=5)
        said, error = await broken(ask(worker, dialect, person, stream=True))
        reason = error_info(error).reason
        told = [reason.lower() in json.dumps(event).lower() for event in data_of(said)]
        assert told == [False] * (len(told) - 1) + [True]
        assert (b"event: error\n" in said) is (dialect == "anthropic")
        assert b"[DONE]" not in said
        assert SECRET_WORDS not in said.decode()
        record = await worker.ledger.record_of(person.user_id)
        assert (record.end_state, record.error_reason) == (State.PROVIDER_ERROR_AFTER_OUTPUT, reason)

    @of_foreign_speakers
    async def test_that_never_begins_is_an_error_like_any(self, worker: Worker, dialect: str):
        for stream in (False, True):
            person = worker.new_person()
            await worker.bad_day(person, status=401)
            said, error = await broken(ask(worker, dialect, person, stream=stream))
            assert said == b""
            assert error_info(error).metadata["provider"] == worker.adapter.provider

    @of_foreign_speakers
    async def test_nobody_waits_for_any_more_is_ended(self, worker: Worker, dialect: str):
        person = worker.new_person()
        await worker.bad_day(person, hold_after_chunks=2)
        call = ask(worker, dialect, person, stream=True)
        assert (await within_bound(call.read())).data
        call.cancel()
        assert (await worker.ledger.record_of(person.user_id)).end_state == State.CANCELLED_AFTER_OUTPUT


class TestRequest:
    @of_foreign_speakers
    async def test_that_cannot_be_taken_is_refused_before_anybody_is_asked(self, worker: Worker, dialect: str):
        person = worker.new_person()
        wrongs: tuple[dict[str, Any], ...] = (
            {"messages": 5},
            {"messages": []},
            {"messages": [{"role": "user", "content": "x"}], "stream": 1},
        )
        for wrong in wrongs:
            _, error = await broken(ask(worker, dialect, person, **wrong))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await worker.received(person) == []
