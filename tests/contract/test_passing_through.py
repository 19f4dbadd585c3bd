"""Chats in the provider's own dialect: what both sides say passes as it is, under the rules of every chat."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
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
from tests.support.rpc import error_info, violations
from tests.support.waiting import within_bound

State = UsageRecord.EndState

OPENAI_SPEAKERS = ("openai", "openai-compatible", "openrouter", "grok")
SPEAKERS = (*OPENAI_SPEAKERS, "anthropic")
# OpenRouter tells the usage of every stream; Anthropic has no such option.
ASKED_FOR_USAGE = ("openai", "openai-compatible", "grok")

of_openai_speakers = pytest.mark.parametrize("worker", OPENAI_SPEAKERS, indirect=True)
of_speakers = pytest.mark.parametrize("worker", SPEAKERS, indirect=True)
of_one_of_each = pytest.mark.parametrize("worker", ["openai", "anthropic"], indirect=True)


def openai_events(*said: str) -> bytes:
    return b"".join(b"data: " + each.encode() + b"\n\n" for each in said)


def anthropic_events(*said: str) -> bytes:
    return b"".join(f"event: {json.loads(each)['type']}\ndata: {each}\n\n".encode() for each in said)


@dataclass(frozen=True)
class Talk:
    """A request and its answers, with what nobody has heard of and JSON that nobody here would write so.

    `begun` are the events up to the end, `ended` the one that makes the answer whole.
    """

    request: str
    whole: str
    begun: bytes
    ended: bytes


OPENAI_TALK = Talk(
    request='{ "model" : "m\\u0031",\r\n"messages":[{"role":"user","content":"H\\u00e9 \\/ é"}], "future": [1.0e2,'
    ' 12345678901234567890, {"a" :null}],"temperature":0.10%s }\n',
    whole='{"id":"x", "future":{"n":1.0},"model":"m1-7","choices":[{"index":0,"message":{"role":"assistant","content":'
    '[{"type":"novel"}],"sculpture":"…"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n',
    begun=openai_events(
        '{"id":"x","model":"m1-7","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}',
        '{"id":"x", "future":1.0,"choices":[{"index":0,"delta":{"sculpture":"h\\u00e9"}}]}',
        '{"choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":null}],"usage":null}',
    ),
    ended=openai_events('{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}], "also":"this"}'),
)
USAGE = openai_events('{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}')
DONE = b"data: [DONE]\n\n"

ANTHROPIC_TALK = Talk(
    request='{ "model" : "m\\u0031",\r\n"messages":[{"role":"user","content":"H\\u00e9 \\/ é"}], "future": [1.0e2,'
    ' 12345678901234567890, {"a" :null}],"max_tokens":10%s }\n',
    whole='{"id":"x", "type":"message","model":"m1-7","content":[{"type":"sculpture","shape":1.0}],'
    '"stop_reason":"end_turn","usage":{"input_tokens":7,"output_tokens":5},"future":[]}\n',
    begun=anthropic_events(
        '{"type":"message_start","message":{"id":"x","model":"m1-7","usage":{"input_tokens":7,"output_tokens":1}}}',
        '{"type": "ping"}',
        '{"type":"content_block_start","index":0,"content_block":{"type":"sculpture", "shape":1.0}}',
        '{"type":"content_block_delta","index":0,"delta":{"type":"chisel_delta","chip":"h\\u00e9"}}',
        '{"type":"content_block_stop","index":0}',
        '{"type":"rested"}',
        '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}',
    ),
    ended=anthropic_events('{"type":"message_stop", "future":1.0}'),
)


def talk(worker: Worker) -> Talk:
    return ANTHROPIC_TALK if worker.adapter.provider == "anthropic" else OPENAI_TALK


def ask(worker: Worker, person: Person, body: str | bytes, model: str = "", **metadata: str) -> Any:
    """Asks in the provider's own dialect, and returns the call."""
    data = body.encode() if isinstance(body, str) else body
    http = HttpBody(content_type="application/json", data=data)
    headers = (*person.metadata, *((name.replace("_", "-"), value) for name, value in metadata.items()))
    provider = worker.adapter.provider
    if provider == "anthropic":
        return worker.anthropic_stub.CreateMessage(
            CreateMessageRequest(provider=provider, model=model, body=http), metadata=headers
        )
    return worker.openai_stub.CreateChatCompletion(
        CreateChatCompletionRequest(provider=provider, model=model, body=http), metadata=headers
    )


def simple(worker: Worker, **fields: Any) -> str:
    """Writes the simplest request."""
    body: dict[str, Any] = {
        "model": worker.adapter.default_model,
        "messages": [{"role": "user", "content": "y" * 40}],
        **fields,
    }
    if worker.adapter.provider == "anthropic":
        body.setdefault("max_tokens", 500)
    return json.dumps({name: value for name, value in body.items() if value is not None})


async def whole(call: Any) -> bytes:
    """Returns the body of an answer in one message."""
    (message,) = [message async for message in call]
    assert message.content_type == "application/json"
    return bytes(message.data)


async def streamed(call: Any) -> bytes:
    """Returns the bytes of all events."""
    messages = [message async for message in call]
    assert messages[0].content_type == "text/event-stream"
    return b"".join(message.data for message in messages)


async def broken(call: Any) -> tuple[bytes, grpc.aio.AioRpcError]:
    """Returns what an answer said until it broke off, and the error it ended with."""
    said = b""
    try:
        async for message in call:
            said += message.data
    except grpc.aio.AioRpcError as error:
        return said, error
    pytest.fail("the call did not fail")


def data_of(events: bytes) -> list[dict[str, Any]]:
    lines = [line.removeprefix(b"data: ") for line in events.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


async def answers(worker: Worker, person: Person, *events: bytes, **behaviour: Any) -> None:
    """Has the provider answer with exactly these bytes."""
    await worker.bad_day(
        person, body=b"".join(events).decode(), headers={"content-type": "text/event-stream"}, **behaviour
    )


class TestBytes:
    @of_speakers
    async def test_of_a_whole_chat_are_those_of_both_sides(self, worker: Worker):
        person, own = worker.new_person(), talk(worker)
        await worker.bad_day(person, body=own.whole)
        request = own.request % ""
        assert await whole(ask(worker, person, request)) == own.whole.encode()
        (received,) = await worker.received(person)
        assert received.raw_body == request
        record = await worker.ledger.record_of(person.user_id)
        assert (record.end_state, record.model_requested, record.model_served) == (State.COMPLETED, "m1", "m1-7")
        assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (7, 5, False)
        assert (record.attempts, record.streamed, record.provider) == (1, False, worker.adapter.provider)

    @of_speakers
    async def test_of_a_stream_are_too_but_for_the_usage_nobody_asked_for(self, worker: Worker):
        person, own = worker.new_person(), talk(worker)
        name = worker.adapter.provider
        rest = b"" if name == "anthropic" else USAGE + DONE
        await answers(worker, person, own.begun, own.ended, rest)
        request = own.request % ', "stream":true'
        kept = own.begun + own.ended + (rest if name not in ASKED_FOR_USAGE else DONE)
        assert await streamed(ask(worker, person, request)) == kept
        (received,) = await worker.received(person)
        asked = ',"stream_options":{"include_usage":true}' if name in ASKED_FOR_USAGE else ""
        assert received.raw_body == own.request % f', "stream":true{asked}'
        record = await worker.ledger.record_of(person.user_id)
        assert (record.end_state, record.model_served, record.streamed) == (State.COMPLETED, "m1-7", True)
        assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (7, 5, False)
        assert record.HasField("time_to_first_token_ms")

    @of_openai_speakers
    async def test_of_the_usage_pass_to_who_asked_for_it(self, worker: Worker):
        person, own = worker.new_person(), talk(worker)
        await answers(worker, person, own.begun, own.ended, USAGE, DONE)
        request = own.request % ', "stream":true,"stream_options":{ "include_usage" : true, "future":1.0 }'
        assert await streamed(ask(worker, person, request)) == own.begun + own.ended + USAGE + DONE
        (received,) = await worker.received(person)
        assert received.raw_body == request

    @pytest.mark.parametrize("worker", ["openai"], indirect=True)
    @pytest.mark.parametrize(
        ("options", "sent"),
        [
            ("null", '{"include_usage":true}'),
            ("{}", '{"include_usage":true}'),
            ('{ "future":1.0, "include_usage": false }', '{ "future":1.0, "include_usage": true }'),
            ('{ "future":1.0 }', '{ "future":1.0,"include_usage":true }'),
            ("5", "5"),
        ],
    )
    async def test_of_other_stream_options_pass(self, worker: Worker, options: str, sent: str):
        person, own = worker.new_person(), talk(worker)
        await answers(worker, person, own.begun, own.ended, USAGE, DONE)
        request = own.request % f', "stream":true,"stream_options":{options}, "x":1'
        assert await streamed(ask(worker, person, request)) == own.begun + own.ended + DONE
        (received,) = await worker.received(person)
        assert received.raw_body == request.replace(f'"stream_options":{options},', f'"stream_options":{sent},')

    @of_speakers
    async def test_change_where_the_model_does(self, worker: Worker):
        person, own = worker.new_person(), talk(worker)
        await worker.bad_day(person, body=own.whole)
        await whole(ask(worker, person, own.request % "", model='m"2'))
        (received,) = await worker.received(person)
        assert received.raw_body == (own.request % "").replace('"m\\u0031"', '"m\\"2"')
        assert (await worker.ledger.record_of(person.user_id)).model_requested == 'm"2'

    @of_openai_speakers
    async def test_end_with_the_sign_a_provider_leaves_out(self, worker: Worker):
        person, own = worker.new_person(), talk(worker)
        await answers(worker, person, own.begun, own.ended)
        assert (await streamed(ask(worker, person, own.request % ',"stream":true'))).endswith(own.ended + DONE)

    @of_openai_speakers
    async def test_of_several_answers_at_once_end_with_the_last_of_them(self, worker: Worker):
        person = worker.new_person()
        first = '{"choices":[{"index":0,"delta":{"content":"A"},"finish_reason":"stop"}]}'
        second = '{"choices":[{"index":1,"delta":{"content":"B"}}]}'
        last = '{"choices":[{"index":1,"delta":{},"finish_reason":"length"}]}'
        said = openai_events(first, second, last)
        await answers(worker, person, said, USAGE, DONE)
        got = await streamed(ask(worker, person, simple(worker, n=2, stream=True)))
        assert got.startswith(said)
        cut = worker.new_person()
        await answers(worker, cut, openai_events(first, second))
        _, error = await broken(ask(worker, cut, simple(worker, n=2, stream=True)))
        assert error_info(error).reason == "INCOMPLETE_RESPONSE"


class TestModel:
    @of_speakers
    async def test_that_is_not_named_is_the_configured_one(self, worker: Worker):
        person = worker.new_person(model=worker.contract.other_model)
        await whole(ask(worker, person, simple(worker, model=None)))
        (received,) = await worker.received(person)
        assert received.model == worker.contract.other_model

    @of_one_of_each
    async def test_that_is_not_allowed_is_not_asked(self, worker: Worker):
        person = worker.new_person(allowed_models=("some-other",))
        _, error = await broken(ask(worker, person, simple(worker)))
        assert error_info(error).reason == "MODEL_NOT_ALLOWED"
        assert await worker.received(person) == []


class TestOfficialTypes:
    """The SDKs' own, over answers of a normal day."""

    @of_speakers
    async def test_read_both_kinds_of_answers(self, worker: Worker):
        person, other = worker.new_person(), worker.new_person()
        body = await whole(ask(worker, person, simple(worker)))
        events = data_of(await streamed(ask(worker, other, simple(worker, stream=True))))
        if worker.adapter.provider == "anthropic":
            message = Message.model_validate_json(body)
            block = message.content[0]
            assert block.type == "text"
            text = block.text
            adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
            parsed = [adapter.validate_python(event) for event in events if event["type"] != "ping"]
            deltas = [event.delta for event in parsed if event.type == "content_block_delta"]
            assert "".join(delta.text for delta in deltas if delta.type == "text_delta") == text
        else:
            text = ChatCompletion.model_validate_json(body).choices[0].message.content or ""
            chunks = [ChatCompletionChunk.model_validate(event) for event in events]
            told = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
            assert "".join(filter(None, told)) == text
        assert "y" * 40 in text

    @of_one_of_each
    async def test_read_the_failure_in_band(self, worker: Worker):
        person = worker.new_person()
        await worker.bad_day(person, error_in_stream_after_chunks=2)
        said, error = await broken(ask(worker, person, simple(worker, stream=True)))
        last = data_of(said)[-1]
        assert error_info(error).reason == "PROVIDER_UNAVAILABLE"
        assert "provider_unavailable" in json.dumps(last).lower()
        if worker.adapter.provider == "anthropic":
            assert last["type"] == "error"
            assert b"event: error\n" in said
        else:
            assert set(last["error"]) >= {"message", "type", "param", "code"}
            assert b"[DONE]" not in said


class TestBadDay:
    @of_speakers
    @pytest.mark.parametrize(
        ("behaviour", "reason"),
        [
            ({"error_in_stream_after_chunks": 2}, "PROVIDER_UNAVAILABLE"),
            ({"malformed_after_chunks": 2}, "PROVIDER_UNAVAILABLE"),
            ({"end_after_chunks": 2}, "INCOMPLETE_RESPONSE"),
            ({"cut_after_chunks": 2}, "INCOMPLETE_RESPONSE"),
        ],
        ids=str,
    )
    async def test_in_the_middle_is_told_in_band_and_recorded(
        self, worker: Worker, behaviour: Mapping[str, Any], reason: str
    ):
        person = worker.new_person()
        await worker.bad_day(person, chunk_delay_ms=5, **behaviour)
        said, error = await broken(ask(worker, person, simple(worker, stream=True)))
        assert error_info(error).reason == reason
        events = data_of(said)
        assert [reason.lower() in json.dumps(event).lower() for event in events] == [False] * (len(events) - 1) + [True]
        assert SECRET_WORDS not in said.decode()
        (_,) = await worker.received(person)
        record = await worker.ledger.record_of(person.user_id)
        assert (record.end_state, record.error_reason) == (State.PROVIDER_ERROR_AFTER_OUTPUT, reason)
        assert record.estimated
        assert record.completion_tokens > 0

    @of_speakers
    async def test_before_the_output_is_tried_again_and_not_seen(self, worker: Worker):
        async def tried(*, stream: bool) -> None:
            person = worker.new_person()
            await worker.bad_day(person, status=500, body="busy " + SECRET_WORDS, times=1)
            call = ask(worker, person, simple(worker, stream=stream))
            assert [message async for message in call]
            assert len(await worker.received(person)) == 2
            assert (await worker.ledger.record_of(person.user_id)).attempts == 2

        await asyncio.gather(tried(stream=False), tried(stream=True))

    @of_speakers
    async def test_is_told_by_its_reason_and_in_our_words(self, worker: Worker):
        async def told(reason: str, status: int, body: Any, *, stream: bool) -> None:
            person = worker.new_person()
            await worker.bad_day(person, status=status, body=body, headers={"x-should-retry": "false"})
            said, error = await broken(ask(worker, person, simple(worker, stream=stream)))
            assert (error_info(error).reason, said) == (reason, b"")
            assert SECRET_WORDS not in (error.details() or "")
            record = await worker.ledger.record_of(person.user_id)
            assert (record.end_state, record.error_reason) == (State.PROVIDER_ERROR_BEFORE_OUTPUT, reason)

        async with asyncio.TaskGroup() as tasks:
            for index, (reason, ((status, body), *_)) in enumerate(worker.contract.failures.items()):
                if index < 4:
                    for stream in (False, True):
                        tasks.create_task(told(reason, status, body, stream=stream))

    @of_one_of_each
    async def test_error_for_a_body_is_an_error(self, worker: Worker):
        async def told(*, stream: bool) -> None:
            person = worker.new_person()
            await worker.bad_day(person, error_in_body=True)
            said, error = await broken(ask(worker, person, simple(worker, stream=stream)))
            assert said == b""
            assert error_info(error).domain == "realmultillm"

        await asyncio.gather(told(stream=False), told(stream=True))

    @of_one_of_each
    @pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"choices":[]}', '{"choices":5}', '{"content":5}'])
    async def test_answer_that_makes_no_sense_is_an_error(self, worker: Worker, body: str):
        person = worker.new_person()
        await worker.bad_day(person, body=body)
        _, error = await broken(ask(worker, person, simple(worker)))
        assert error_info(error).reason == "PROVIDER_UNAVAILABLE"

    @of_one_of_each
    async def test_usage_that_is_not_told_is_estimated(self, worker: Worker):
        for stream in (False, True):
            person = worker.new_person()
            await worker.bad_day(person, omit_usage=True, content="x" * 30)
            call = ask(worker, person, simple(worker, stream=stream))
            assert [message async for message in call]
            record = await worker.ledger.record_of(person.user_id)
            assert record.end_state == State.COMPLETED
            assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (10, 8, True)


class TestCallerWhoLeaves:
    @of_speakers
    async def test_ends_the_provider_s_work_and_pays_for_what_was_done(self, worker: Worker):
        person = worker.new_person()
        await worker.bad_day(person, hold_after_chunks=2)
        call = ask(worker, person, simple(worker, stream=True))
        assert (await within_bound(call.read())).data
        call.cancel()
        record = await worker.ledger.record_of(person.user_id)
        assert (record.end_state, record.estimated) == (State.CANCELLED_AFTER_OUTPUT, True)
        assert record.prompt_tokens > 0
        (received,) = await worker.received(person)
        assert received.ended in (None, "client_closed")

    @of_one_of_each
    async def test_before_the_answer_is_recorded_too(self, worker: Worker):
        for stream in (False, True):
            person = worker.new_person()
            await worker.bad_day(person, silent=True)
            call = ask(worker, person, simple(worker, stream=stream))
            async with asyncio.timeout(10):
                while not await worker.received(person):
                    await asyncio.sleep(0.01)
            call.cancel()
            assert (await worker.ledger.record_of(person.user_id)).end_state == State.CANCELLED_BEFORE_OUTPUT


class TestHeaders:
    @pytest.mark.parametrize("worker", ["anthropic"], indirect=True)
    async def test_of_anthropics_callers_pass(self, worker: Worker):
        person, plain = worker.new_person(), worker.new_person()
        await whole(
            ask(worker, person, simple(worker), anthropic_beta="files-2025-04-14", anthropic_version="2026-10-21")
        )
        (received,) = await worker.received(person)
        assert received.headers["anthropic-beta"] == "files-2025-04-14"
        assert received.headers["anthropic-version"] == "2026-10-21"
        assert "authorization" not in received.headers
        await whole(ask(worker, plain, simple(worker)))
        (received,) = await worker.received(plain)
        assert received.headers["anthropic-version"] == "2023-06-01"
        assert "anthropic-beta" not in received.headers

    @of_one_of_each
    async def test_of_a_whole_answer_tell_the_times(self, worker: Worker):
        call = ask(worker, worker.new_person(), simple(worker))
        await whole(call)
        headers = dict(await call.initial_metadata())
        assert float(headers["x-provider-latency-ms"]) > 0
        assert float(headers["x-overhead-ms"]) >= 0


class TestRefusal:
    @of_one_of_each
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (b"", "body"),
            (b"[]", "body"),
            (b'{"model":"m","messages":[]', "body"),
            (b'{"model":"m","model":"n"}', "body"),
            (b'{"model":5}', "model"),
            (b'{"model":"m","stream":"yes"}', "stream"),
        ],
    )
    async def test_names_what_is_wrong_and_asks_nobody(self, worker: Worker, body: bytes, field: str):
        person = worker.new_person()
        _, error = await broken(ask(worker, person, body))
        assert list(violations(error)) == [field]
        assert await worker.received(person) == []

    @of_one_of_each
    async def test_of_another_provider(self, worker: Worker):
        metadata = worker.new_person().metadata
        for call in (
            worker.openai_stub.CreateChatCompletion(CreateChatCompletionRequest(provider="grok"), metadata=metadata),
            worker.anthropic_stub.CreateMessage(CreateMessageRequest(), metadata=metadata),
        ):
            _, error = await broken(call)
            assert error_info(error).reason == "PROVIDER_NOT_FOUND"
