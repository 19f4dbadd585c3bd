"""Chats in Anthropic's words with every provider, put together by the official SDK and read by its own types.

To Anthropic they pass through, to the others they are translated; here nobody can tell which. The sandbox refuses what
the provider would: calls without results, thoughts or signatures that come back changed or missing.
"""

from typing import Any

import grpc
import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from google.api.httpbody_pb2 import HttpBody
from pydantic import TypeAdapter
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.anthropic.v1.message_service_pb2 import CountMessageTokensRequest, CreateMessageRequest

from deploy.local.sandbox_provider import tokens
from libs.worker.sse import EventParser
from tests.contract.adapters import SECRET_WORDS
from tests.contract.conftest import Person, Worker
from tests.support.rpc import error_info

EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
TIME = {"name": "time", "input_schema": {"type": "object", "properties": {}}}
SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
    "additionalProperties": False,
}
USE_THEM = {"role": "user", "content": "Use the tools: how is it in Rome?"}
PLAYS_ANTHROPIC = "anthropic"
COUNTS = {"anthropic", "google-ai"}


def asking(worker: Worker, person: Person, *, stream: bool, **members: Any) -> Any:
    """Asks for a message, and returns the call."""
    body = {"model": worker.contract.other_model, "max_tokens": 4_000, **members} | ({"stream": True} if stream else {})
    request = CreateMessageRequest(
        provider=worker.adapter.provider, body=HttpBody(content_type="application/json", data=orjson.dumps(body))
    )
    return worker.anthropic_stub.CreateMessage(request, metadata=person.metadata)


async def whole(worker: Worker, person: Person, **members: Any) -> Message:
    (body,) = [body async for body in asking(worker, person, stream=False, **members)]
    assert body.content_type == "application/json"
    return Message.model_validate_json(body.data)


async def streamed(worker: Worker, person: Person, **members: Any) -> Message:
    message: Any = None
    parser, buffers = EventParser(), dict[int, bytes]()
    last = b""
    async for body in asking(worker, person, stream=True, **members):
        for last, data in parser.feed(body.data):
            if last == b"ping":
                continue
            event: Any = EVENT.validate_json(data)
            message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)
    assert last == b"message_stop"
    return Message.model_validate(message.to_dict())


async def counted(worker: Worker, person: Person, **members: Any) -> dict[str, Any]:
    body = {"model": worker.contract.other_model, **members}
    answer = await worker.anthropic_stub.CountMessageTokens(
        CountMessageTokensRequest(provider=worker.adapter.provider, body=HttpBody(data=orjson.dumps(body))),
        metadata=person.metadata,
    )
    MessageTokensCount.model_validate_json(answer.data, strict=True)
    read: dict[str, Any] = orjson.loads(answer.data)
    return read


async def last_sent(worker: Worker, person: Person) -> str:
    """Returns what the provider was sent last, as text."""
    return orjson.dumps((await worker.received(person))[-1].body).decode()


def texts(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


both_ways = pytest.mark.parametrize("ask", [whole, streamed])


class TestMessages:
    @both_ways
    async def test_text_is_answered_and_accounted_for(self, worker: Worker, ask: Any) -> None:
        person = worker.new_person()
        message = await ask(worker, person, system="Be brief.", messages=[{"role": "user", "content": "Hello"}])
        assert "“Hello”" in texts(message)
        assert (message.stop_reason, message.role) == ("end_turn", "assistant")
        record = await worker.ledger.record_of(person.user_id)
        assert (record.end_state, record.estimated) == (UsageRecord.EndState.COMPLETED, False)
        assert (message.usage.input_tokens, message.usage.output_tokens) == (
            record.prompt_tokens,
            record.completion_tokens,
        )
        assert message.usage.input_tokens > 0

    @both_ways
    async def test_a_conversation_goes_on_after_parallel_calls(self, worker: Worker, ask: Any) -> None:
        person = worker.new_person()
        options: dict[str, Any] = {
            "model": worker.contract.thinking_model,
            "tools": [WEATHER, TIME],
            "thinking": {"type": "enabled", "budget_tokens": 2_000},
        }
        first = await ask(worker, person, messages=[USE_THEM], **options)
        calls = [block for block in first.content if block.type == "tool_use"]
        assert [call.name for call in calls] == ["weather", "time"]
        assert "place" in calls[0].input
        assert first.stop_reason == "tool_use"

        answers = [{"type": "tool_result", "tool_use_id": call.id, "content": "Rain."} for call in calls]
        turns = [
            USE_THEM,
            {"role": "assistant", "content": [block.to_dict() for block in first.content]},
            {"role": "user", "content": [*answers, {"type": "text", "text": "Well?"}]},
        ]
        second = await ask(worker, person, messages=turns, **options)
        assert second.stop_reason == "end_turn"
        assert "Well?" in texts(second)
        sent = await last_sent(worker, person)
        match worker.adapter.provider:
            case "google-ai":
                assert '"thoughtSignature":' in sent
                assert "skip_thought_signature_validator" not in sent
            case "openrouter":
                assert '"reasoning_details":' in sent
        assert "rmllm1" not in sent

    @pytest.mark.parametrize("worker", ["anthropic"], indirect=True)
    async def test_a_conversation_goes_over_to_anthropic(self, worker: Worker) -> None:
        person = worker.new_person()
        sealed = [
            {"type": "thinking", "thinking": "hm", "signature": "rmllm1."},
            {"type": "redacted_thinking", "data": "rmllm1.e30="},
        ]
        said = {"type": "text", "text": 'Not "rmllm1.'}
        turns = [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": [*sealed, said]},
            {"role": "assistant", "content": sealed},
            {"role": "user", "content": "Well?"},
        ]
        message = await whole(worker, person, messages=turns)
        assert "Well?" in texts(message)
        (request,) = await worker.received(person)
        body: Any = request.body
        assert body["messages"] == [turns[0], {"role": "assistant", "content": [said]}, turns[3]]
        await whole(worker, person, messages=[{"role": "user", "content": 'Say "rmllm1." twice'}])

    async def test_pictures_schemas_and_choices_arrive(self, worker: Worker) -> None:
        person = worker.new_person()
        source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        look = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
        model = "claude-haiku-4-5" if worker.adapter.provider == PLAYS_ANTHROPIC else worker.contract.other_model
        options: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": look}]}
        form = {"format": {"type": "json_schema", "schema": SCHEMA}}
        found = await whole(worker, person, output_config=form, **options)
        assert list(orjson.loads(texts(found))) == ["place"]
        assert PICTURE in await last_sent(worker, person)

        chosen = await whole(
            worker, person, tools=[WEATHER, TIME], tool_choice={"type": "tool", "name": "time"}, **options
        )
        assert [block.name for block in chosen.content if block.type == "tool_use"] == ["time"]

    @both_ways
    async def test_a_short_limit_ends_an_answer(self, worker: Worker, ask: Any) -> None:
        person = worker.new_person()
        message = await ask(worker, person, max_tokens=3, messages=[{"role": "user", "content": "Hello"}])
        assert (message.stop_reason, len(tokens.split(texts(message)))) == ("max_tokens", 3)

    @both_ways
    async def test_a_refusal_is_told_before_the_first_message(self, worker: Worker, ask: Any) -> None:
        person = worker.new_person()
        status, body = worker.contract.failures["INVALID_API_KEY"][0]
        await worker.bad_day(person, status=status, body=body)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await ask(worker, person, messages=[{"role": "user", "content": "Hello"}])
        assert error_info(failure.value).reason == "INVALID_API_KEY"
        assert SECRET_WORDS not in (failure.value.details() or "")


class TestCounts:
    async def test_a_count_is_that_of_the_chat_or_an_estimate(self, worker: Worker) -> None:
        person = worker.new_person()
        asked: dict[str, Any] = {
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "How is it in Rome?"}],
            "tools": [WEATHER],
        }
        count = await counted(worker, person, **asked)
        message = await whole(worker, person, **asked)
        exact = worker.adapter.provider in COUNTS
        assert count.get("estimated", False) is not exact
        if exact:
            assert count["input_tokens"] == message.usage.input_tokens
        assert 20 < count["input_tokens"] < 200
        longer = await counted(worker, person, **asked | {"system": "Be brief. " * 100})
        assert longer["input_tokens"] > count["input_tokens"] + 100
        # Nobody pays for a count.
        record = await worker.ledger.record_of(person.user_id)
        assert record.prompt_tokens == message.usage.input_tokens

    async def test_what_would_be_refused_is_refused(self, worker: Worker) -> None:
        person = worker.new_person()
        for members, reasons in (
            ({"messages": []}, {"INVALID_ARGUMENT", "PROVIDER_REJECTED_REQUEST"}),
            ({"model": 1, "messages": []}, {"INVALID_ARGUMENT"}),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await counted(worker, person, **members)
            assert error_info(failure.value).reason in reasons
        stranger = worker.new_person(allowed_models=("another",))
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await counted(worker, stranger, messages=[{"role": "user", "content": "Hello"}])
        assert error_info(failure.value).reason == "MODEL_NOT_ALLOWED"

    @pytest.mark.parametrize("worker", sorted(COUNTS), indirect=True)
    async def test_a_provider_that_cannot_count_is_an_error(self, worker: Worker) -> None:
        for reason in ("INVALID_API_KEY", "PROVIDER_QUOTA_EXHAUSTED"):
            person = worker.new_person()
            status, body = worker.contract.failures[reason][0]
            await worker.bad_day(person, status=status, body=body)
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await counted(worker, person, messages=[{"role": "user", "content": "Hello"}])
            assert error_info(failure.value).reason == reason
            assert "platform" not in (failure.value.details() or "")
        person = worker.new_person(platform_key=True)
        await worker.bad_day(person, status=status, body=body)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await counted(worker, person, messages=[{"role": "user", "content": "Hello"}])
        assert "platform's" in (failure.value.details() or "")
        person = worker.new_person()
        await worker.bad_day(person, status=200, body={"count": "many"})
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await counted(worker, person, messages=[{"role": "user", "content": "Hello"}])
        assert error_info(failure.value).reason == "PROVIDER_UNAVAILABLE"
        person = worker.new_person()
        await worker.bad_day(person, status=503, times=1)
        assert (await counted(worker, person, messages=[{"role": "user", "content": "Hello"}]))["input_tokens"] > 0
