"""What workers keep of chats: what was asked, as it was, and what the caller was told, sealed before it is written."""

import contextlib
import json
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.anthropic.v1.message_service_pb2 import CreateMessageRequest
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.openai.v1.chat_completion_service_pb2 import CreateChatCompletionRequest

from tests.contract.conftest import STREAMED, Person, Way, Worker
from tests.contract.test_passing_through import data_of, streamed, whole
from tests.contract.test_translated_chats import text_of_body

State = UsageRecord.EndState

DIALECTS = ("openai", "anthropic")
# As contents name the APIs.
API_OF = {"openai": "chat_completions", "anthropic": "messages"}
of_dialects = pytest.mark.parametrize("dialect", DIALECTS)
LOOK = chat.Tool(name="look", description="Looks.")


async def kept(worker: Worker, person: Person) -> tuple[UsageRecord, ChatContent]:
    """Returns the record of a person who chats once, and what was kept."""
    record = await worker.ledger.record_of(person.user_id)
    return record, worker.keys.content_of(record)


def said(content: ChatContent) -> chat.AssistantMessage:
    (choice,) = content.completion.choices
    return choice.message


def text_of(dialect: str, events: bytes) -> str:
    """Returns what a model says in events of a dialect."""
    told = data_of(events)
    if dialect == "openai":
        return "".join(choice["delta"].get("content") or "" for event in told for choice in event.get("choices", ()))
    return "".join(event["delta"].get("text", "") for event in told if event["type"] == "content_block_delta")


def body_of(worker: Worker, dialect: str, text: str, **fields: Any) -> bytes:
    body = {"model": worker.adapter.default_model, "messages": [{"role": "user", "content": text}], **fields}
    if dialect == "anthropic":
        body["max_tokens"] = 500
    return json.dumps(body).encode()


def ask(worker: Worker, dialect: str, person: Person, body: bytes) -> Any:
    """Asks in a dialect, be it the provider's own or not, and returns the call."""
    http = HttpBody(content_type="application/json", data=body)
    provider = worker.adapter.provider
    if dialect == "anthropic":
        return worker.anthropic_stub.CreateMessage(
            CreateMessageRequest(provider=provider, body=http), metadata=person.metadata
        )
    return worker.openai_stub.CreateChatCompletion(
        CreateChatCompletionRequest(provider=provider, body=http), metadata=person.metadata
    )


class TestChats:
    async def test_are_kept_as_they_were_in_every_way(self, worker: Worker):
        async def check(way: Way) -> None:
            person = worker.new_person()
            await worker.bad_day(person, reasoning="Let me think.")
            call = worker.ask(person, way, f"asked {way}", tools=[LOOK], tool_choice="required")
            if way.streamed:
                chunks = [chunk async for chunk in call]
                answer = chat.ChatCompletion(id=chunks[0].id)
                message = answer.choices.add(index=0, finish_reason=chunks[-1].finish_reason).message
                message.content = "".join(chunk.content for chunk in chunks)
                reasoning = "".join(chunk.reasoning_content for chunk in chunks)
                called = [part for chunk in chunks for part in chunk.tool_calls]
                arguments = "".join(part.arguments for part in called)
                names = [part.name for part in called if part.name]
            else:
                answer = await call
                message, reasoning = answer.choices[0].message, answer.choices[0].message.reasoning_content
                arguments = "".join(tool.function.arguments for tool in message.tool_calls)
                names = [tool.function.name for tool in message.tool_calls]
            record, content = await kept(worker, person)

            assert [(turn.role, turn.content) for turn in content.messages] == [("user", f"asked {way}")]
            assert (content.dialect, content.request, content.left_out) == ("", b"", False)
            assert content.completion.id == answer.id
            assert content.completion.choices[0].finish_reason == answer.choices[0].finish_reason == "tool_calls"
            assert (said(content).content, said(content).reasoning_content) == (message.content, reasoning)
            assert [tool.function.name for tool in said(content).tool_calls] == names == ["look"]
            assert "".join(tool.function.arguments for tool in said(content).tool_calls) == arguments
            assert record.end_state == State.COMPLETED

        await worker.in_every_way(check)

    @of_dialects
    async def test_in_a_dialect_are_kept_in_its_words(self, worker: Worker, dialect: str):
        """Whether they pass through or are translated."""
        for stream in (False, True):
            person = worker.new_person()
            body = body_of(worker, dialect, f"asked with {stream}", stream=stream)
            call = ask(worker, dialect, person, body)
            text = text_of(dialect, await streamed(call)) if stream else text_of_body(dialect, await whole(call))
            _, content = await kept(worker, person)
            assert (content.dialect, content.request, list(content.messages)) == (API_OF[dialect], body, [])
            assert said(content).content == text
            assert f"asked with {stream}" in text
            assert content.completion.choices[0].finish_reason == "stop"
            assert content.completion.id

    async def test_that_break_off_are_kept_as_far_as_they_were_told(self, worker: Worker):
        person = worker.new_person()
        await worker.bad_day(person, error_in_stream_after_chunks=2, chunk_delay_ms=5)
        call, told = worker.ask(person, STREAMED), ""
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for chunk in call:
                told += chunk.content
        record, content = await kept(worker, person)
        assert record.end_state == State.PROVIDER_ERROR_AFTER_OUTPUT
        assert told
        assert said(content).content == told
        assert content.completion.choices[0].finish_reason == ""

    @of_dialects
    async def test_that_are_left_are_kept_as_far_as_they_were_told(self, worker: Worker, dialect: str):
        native, foreign = worker.new_person(), worker.new_person()
        for person in (native, foreign):
            await worker.bad_day(person, hold_after_chunks=2)
        call = worker.ask(native, STREAMED)
        told = (await call.read()).content
        call.cancel()
        record, content = await kept(worker, native)
        assert record.end_state == State.CANCELLED_AFTER_OUTPUT
        assert said(content).content.startswith(told)

        passing = ask(worker, dialect, foreign, body_of(worker, dialect, "Hello", stream=True))
        await passing.read()
        passing.cancel()
        record, content = await kept(worker, foreign)
        assert record.end_state == State.CANCELLED_AFTER_OUTPUT
        assert content.request
        assert len(said(content).content) <= 4 * record.completion_tokens

    async def test_that_are_refused_are_kept_without_an_answer(self, worker: Worker):
        async def check(way: Way) -> None:
            person = worker.new_person()
            await worker.bad_day(person, status=401)
            call = worker.ask(person, way)
            with pytest.raises(grpc.aio.AioRpcError):
                await (call.read() if way.streamed else call)
            record, content = await kept(worker, person)
            assert record.end_state == State.PROVIDER_ERROR_BEFORE_OUTPUT
            assert content.messages[0].content == "Hello"
            assert not content.HasField("completion")

        await worker.in_every_way(check)


class TestStore:
    async def test_of_false_keeps_nothing_in_every_way(self, worker: Worker):
        people = [worker.new_person() for _ in range(4)]
        request = worker.request(store=False)
        await worker.stub.CreateChatCompletion(request, metadata=people[0].metadata)
        async for _ in worker.stub.StreamChatCompletion(request, metadata=people[1].metadata):
            pass
        for person, stream in zip(people[2:], (False, True), strict=True):
            call = ask(worker, "openai", person, body_of(worker, "openai", "Hello", stream=stream, store=False))
            await (streamed(call) if stream else whole(call))
        for person in people:
            record = await worker.ledger.record_of(person.user_id)
            assert (record.end_state, record.HasField("content")) == (State.COMPLETED, False)

    @pytest.mark.parametrize("worker", ["openai"], indirect=True)
    async def test_of_anything_but_true_keeps_nothing_of_what_passes(self, worker: Worker):
        """What else it means is left to the provider, which may take it for false."""
        for store, expected in (("no", False), (0, False), ({}, False), (None, True), (True, True)):
            person = worker.new_person()
            await worker.bad_day(person, body={"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})
            await whole(ask(worker, "openai", person, body_of(worker, "openai", "Hello", store=store)))
            assert (await worker.ledger.record_of(person.user_id)).HasField("content") is expected


class TestOutboxFile:
    @of_dialects
    async def test_holds_nothing_that_was_said(self, worker: Worker, dialect: str):
        """Neither words nor thoughts; the id of the account shows that the right file is read."""
        person, canary = worker.new_person(), "canary-in-the-coal-mine"
        await worker.bad_day(person, content=f"{canary} answers", reasoning=f"{canary} thinks")
        await worker.stub.CreateChatCompletion(worker.request(canary), metadata=person.metadata)
        async for _ in worker.stub.StreamChatCompletion(worker.request(canary), metadata=person.metadata):
            pass
        for stream in (False, True):
            call = ask(worker, dialect, person, body_of(worker, dialect, canary, stream=stream))
            await (streamed(call) if stream else whole(call))
        folder = worker.folder
        written = b"".join(path.read_bytes() for path in folder.iterdir())
        assert person.user_id.encode() in written
        assert canary.encode() not in written
