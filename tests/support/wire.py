"""What an adapter sends, and how it reads what comes back, without a worker around it."""

from typing import Any

import httpx
import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.provider_endpoints import EndpointRules
from libs.provider_keys import ProviderKey
from libs.worker.adapter import Adapter, AnswerReader, Credential, ProviderRequest
from libs.worker.assembly import whole_answer
from libs.worker.sse import EventParser
from tests.support.chat_requests import chat_request

# For providers that the tests play themselves.
LOCAL_RULES = EndpointRules(["127.0.0.1"])


def asked(
    adapter: Adapter, request: dict[str, Any], *, model: str = "", key: str = "sk-sandbox-1", stream: bool = False
) -> ProviderRequest:
    """Returns the request an adapter makes of one that is written as REST callers write it."""
    model = model or adapter.default_model
    return adapter.chat_request(chat_request(request), model, Credential(ProviderKey(key)), stream=stream)


def body_of(request: ProviderRequest) -> dict[str, Any]:
    """Returns the JSON of a request."""
    found: dict[str, Any] = orjson.loads(request.body)
    return found


async def exchange(base_url: str, request: ProviderRequest) -> httpx.Response:
    """Sends a request to a provider."""
    async with httpx.AsyncClient() as client:
        url = base_url + request.path
        return await client.request(request.method, url, headers=dict(request.headers), content=request.body)


def read_events(adapter: Adapter, *events: bytes) -> tuple[chat.ChatCompletionChunk, AnswerReader]:
    """Reads the data of events into one chunk."""
    reader, chunk = adapter.answer_reader(), chat.ChatCompletionChunk()
    for event in events:
        reader.read(b"", event, chunk)
    return chunk, reader


def read_stream(adapter: Adapter, body: bytes) -> tuple[chat.ChatCompletionChunk, AnswerReader]:
    """Reads the body of a streamed answer into one chunk."""
    parser = EventParser()
    return read_events(adapter, *(data for _, data in [*parser.feed(body), *parser.end()]))


def events_of(body: bytes) -> list[bytes]:
    """Returns the events of a streamed answer that are JSON, found without our own parser."""
    lines = (line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: "))
    return [line for line in lines if line != b"[DONE]"]


def put_together(adapter: Adapter, *events: bytes) -> chat.ChatCompletion:
    """Reads the data of events into a whole answer."""
    said, reader = read_events(adapter, *events)
    return whole_answer(said, reader)
