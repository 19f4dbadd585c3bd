"""Embeddings of every worker, in OpenAI's words, read by OpenAI's own types."""

import asyncio
import base64
import struct
from typing import Any

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody
from openai.types import CreateEmbeddingResponse
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.openai.v1.embedding_service_pb2 import CreateEmbeddingRequest

from tests.contract.adapters import SECRET_WORDS
from tests.contract.conftest import Person, Worker
from tests.support.rpc import error_info

TEXTS = ["The first text.", "Ein zweiter, mit Ümläuten."]
MODELS = {
    "openai": "text-embedding-3-small",
    "openai-compatible": "text-embedding-3-small",
    "openrouter": "openai/text-embedding-3-small",
    "google-ai": "gemini-embedding-001",
}


def asking(worker: Worker, person: Person, *, model: str = "", provider: str = "", **body: Any) -> Any:
    """Asks for embeddings, and returns the call."""
    request = CreateEmbeddingRequest(
        provider=provider or worker.adapter.provider,
        model=model,
        body=HttpBody(content_type="application/json", data=orjson.dumps(body)),
    )
    return worker.embedding_stub.CreateEmbedding(request, metadata=person.metadata)


async def embedded(worker: Worker, person: Person, **asked: Any) -> dict[str, Any]:
    call = asking(worker, person, **asked)
    answer = await call
    assert {"x-provider-latency-ms", "x-overhead-ms"} <= {name for name, _ in await call.initial_metadata()}
    assert answer.content_type == "application/json"
    read: dict[str, Any] = orjson.loads(answer.data)
    return read


async def refused(worker: Worker, person: Person, **asked: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await asking(worker, person, **asked)
    return error_info(failure.value).reason, failure.value.details() or ""


embedding = pytest.mark.parametrize("worker", sorted(MODELS), indirect=True)


@pytest.mark.parametrize("worker", ["anthropic", "grok"], indirect=True)
async def test_providers_without_embeddings_say_so(worker: Worker) -> None:
    reason, message = await refused(worker, worker.new_person(), model="any", input="Hello")
    assert (reason, worker.adapter.display_name in message) == ("EMBEDDINGS_NOT_SUPPORTED", True)


@embedding
async def test_every_text_has_its_vector_in_both_forms_and_is_accounted_for(worker: Worker) -> None:
    provider = worker.adapter.provider
    person = worker.new_person()
    asked = {"model": MODELS[provider], "input": TEXTS, "dimensions": 64}
    floats = CreateEmbeddingResponse.model_validate(await embedded(worker, person, **asked), strict=True)
    assert [each.index for each in floats.data] == [0, 1]
    assert [len(each.embedding) for each in floats.data] == [64, 64]
    assert floats.data[0].embedding != floats.data[1].embedding
    assert floats.usage.prompt_tokens == floats.usage.total_tokens > 0
    assert floats.model == MODELS[provider]

    record = await worker.ledger.record_of(person.user_id)
    assert record.end_state == UsageRecord.EndState.COMPLETED
    assert (record.model_requested, record.model_served) == (MODELS[provider], MODELS[provider])
    assert (record.prompt_tokens, record.completion_tokens) == (floats.usage.prompt_tokens, 0)
    assert record.estimated == (provider == "google-ai")
    assert bool(record.reported_cost_picos) == (provider == "openrouter")

    packed = await embedded(worker, worker.new_person(), **asked, encoding_format="base64")
    unpacked = [struct.unpack("<64f", base64.b64decode(each["embedding"])) for each in packed["data"]]
    assert [list(each) for each in unpacked] == [each.embedding for each in floats.data]


@embedding
async def test_the_model_of_the_request_takes_the_place_of_the_one_in_the_body(worker: Worker) -> None:
    """And all else is as the caller wrote it, where the provider speaks the caller's dialect."""
    provider = worker.adapter.provider
    person = worker.new_person()
    answer = await embedded(worker, person, model=MODELS[provider], input="Hello", user="me")
    assert len(answer["data"]) == 1
    (received,) = await worker.received(person)
    if provider == "google-ai":
        assert received.path.endswith(f"/models/{MODELS[provider]}:batchEmbedContents")
    else:
        assert received.body == {"input": "Hello", "user": "me", "model": MODELS[provider]}


@embedding
async def test_what_is_wrong_is_told_by_its_name(worker: Worker) -> None:
    provider = worker.adapter.provider
    person = worker.new_person(allowed_models=("another",))
    reason, message = await refused(worker, person, provider="somebody-else", model="m", input="Hello")
    assert (reason, worker.adapter.provider in message) == ("PROVIDER_NOT_FOUND", True)
    assert (await refused(worker, person, model=MODELS[provider], input="Hello"))[0] == "MODEL_NOT_ALLOWED"
    reason, message = await refused(worker, worker.new_person(), input="Hello")
    assert (reason, message.startswith("model: ")) == ("INVALID_ARGUMENT", True)
    if provider == "google-ai":
        wrong = {"input": [1, 2, 3], "dimensions": 0, "encoding_format": "text"}
        reason, message = await refused(worker, worker.new_person(), model=MODELS[provider], **wrong)
        assert reason == "INVALID_ARGUMENT"
        assert all(f"{name}: must be" in message for name in wrong)
        assert (await refused(worker, worker.new_person(), model="a/../b", input="Hello"))[0] == "MODEL_NOT_FOUND"
        many = ["text"] * 101
        assert (await refused(worker, worker.new_person(), model=MODELS[provider], input=many))[0] == "INVALID_ARGUMENT"


@embedding
async def test_failures_of_the_provider_are_named_recorded_and_tried_again(worker: Worker) -> None:
    provider = worker.adapter.provider

    async def fail(reason: str, **behaviour: Any) -> None:
        person = worker.new_person()
        await worker.bad_day(person, **behaviour)
        told, message = await refused(worker, person, model=MODELS[provider], input="Hello")
        assert told == reason
        assert SECRET_WORDS not in message
        assert (await worker.ledger.record_of(person.user_id)).error_reason == reason

    async with asyncio.TaskGroup() as tasks:
        for reason, ((status, body), *_) in worker.contract.failures.items():
            tasks.create_task(fail(reason, status=status, body=body))
    answers: tuple[Any, ...] = ({"data": 1}, {"embeddings": []}, "<html>")
    for nonsense in answers:
        await fail("PROVIDER_UNAVAILABLE", body=nonsense)
    person = worker.new_person(platform_key=True)
    await worker.bad_day(person, status=402)
    reason, message = await refused(worker, person, model=MODELS[provider], input="Hello")
    assert (reason, "ask an administrator" in message) == ("PROVIDER_QUOTA_EXHAUSTED", True)
    person = worker.new_person()
    await worker.bad_day(person, status=503, times=1)
    assert (await embedded(worker, person, model=MODELS[provider], input="Hello"))["object"] == "list"
    assert (await worker.ledger.record_of(person.user_id)).attempts == 2


@embedding
async def test_a_caller_who_leaves_is_followed_to_the_provider(worker: Worker) -> None:
    provider = worker.adapter.provider
    person = worker.new_person()
    await worker.bad_day(person, silent=True)
    call = asking(worker, person, model=MODELS[provider], input="Hello")
    await worker.sandbox.wait_started(key=person.key)
    call.cancel()
    ended = await worker.sandbox.wait_closed(key=person.key)
    assert ended.ended == "client_closed"
    record = await worker.ledger.record_of(person.user_id)
    assert record.end_state == UsageRecord.EndState.CANCELLED_BEFORE_OUTPUT
