"""Traces as a collector of OpenTelemetry has them: whole, honest about failures, and silent about what was said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from tests.e2e.conftest import HELLO, PASSWORD, Person, Platform, running_platform
from tests.support.collector import Collector, Told, collecting
from tests.support.waiting import within_bound

MODEL = "gpt-4o-mini"
CHAT = f"chat {MODEL}"
# Whose worker tells what was said, and tells the provider of the trace.
TALKATIVE = "grok"
COMPLETIONS = "realmultillm.openai.v1.ChatCompletionService/CreateChatCompletion"
STREAM = "realmultillm.chat.v1.ChatService/StreamChatCompletion"


@dataclass(frozen=True)
class Traced:
    """A platform that traces everything, and the collector."""

    platform: Platform
    collector: Collector


@pytest.fixture(scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    settings = {f"worker-{TALKATIVE}": {"WORKER_TRACE_CONTENT": "true", "WORKER_TRACE_TO_PROVIDER": "true"}}
    only = ("envoy", "worker-openai", f"worker-{TALKATIVE}")
    async with (
        collecting() as collector,
        running_platform(
            tmp_path_factory.mktemp("traced"), otlp=collector.endpoint, only=only, settings=settings
        ) as platform,
    ):
        yield Traced(platform, collector)


@pytest.fixture
async def somebody(traced: Traced) -> AsyncIterator[Person]:
    async with traced.platform.person() as person:
        yield person


def path_to(spans: Sequence[Told], last: Told) -> list[tuple[str, str, str]]:
    """Returns service, kind and name of the spans from the root of a trace down to one of them."""
    by_id = {span.span_id: span for span in spans}
    path = [last]
    while path[0].parent_id:
        path.insert(0, by_id[path[0].parent_id])
    return [(span.service, span.kind, span.name) for span in path]


def one(spans: Sequence[Told], service: str, name: str) -> Told:
    (span,) = (span for span in spans if span.is_of(service, name))
    return span


def request_id(response: httpx.Response) -> str:
    return response.headers["x-request-id"]


class TestOneTrace:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_leads_from_the_front_door_through_the_router_to_the_provider(
        self, traced: Traced, somebody: Person, stream: bool
    ) -> None:
        body = {"model": f"openai/{MODEL}", "messages": HELLO, "stream": stream}

        response = await somebody.http.post("/v1/chat/completions", json=body)

        assert response.status_code == 200, response.text
        spans = await traced.collector.trace(request_id(response), ("worker-openai", "POST"), ("worker-openai", CHAT))
        assert {span.trace_id for span in spans} == {spans[0].trace_id}
        assert path_to(spans, one(spans, "worker-openai", "POST")) == [
            ("envoy", "server", "POST (/[^/]+)?/v1/.*"),
            ("envoy", "client", "router provider-router egress"),
            ("provider-router", "server", COMPLETIONS),
            ("provider-router", "client", COMPLETIONS),
            ("worker-openai", "server", COMPLETIONS),
            ("worker-openai", "client", CHAT),
            ("worker-openai", "client", "POST"),
        ]
        assert not any(span.failed for span in spans)
        call = one(spans, "worker-openai", CHAT)
        assert call.attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": MODEL,
            "gen_ai.request.stream": stream,
            "gen_ai.response.model": call.attributes["gen_ai.response.model"],
            "gen_ai.usage.input_tokens": call.attributes["gen_ai.usage.input_tokens"],
            "gen_ai.usage.output_tokens": call.attributes["gen_ai.usage.output_tokens"],
            "realmultillm.attempts": 1,
            "realmultillm.cost_usd": call.attributes["realmultillm.cost_usd"],
            "realmultillm.end_state": "completed",
            **({"gen_ai.response.time_to_first_chunk": call.attributes.get("gen_ai.response.time_to_first_chunk")}
               if stream else {}),
        }  # fmt: skip
        if not stream:
            usage = response.json()["usage"]
            assert call.attributes["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
        assert {span.attributes.get("rpc.response.status_code") for span in spans} == {None, "OK"}

    async def test_tells_who_else_was_asked_for_a_first_chat(self, traced: Traced, somebody: Person) -> None:
        response = await somebody.chat()

        spans = await traced.collector.trace(
            request_id(response), ("key-vault", "vault decrypt"), ("worker-openai", "POST"), ("auth", "transaction")
        )
        assert path_to(spans, one(spans, "key-vault", "vault decrypt"))[-4:] == [
            ("worker-openai", "server", "realmultillm.chat.v1.ChatService/CreateChatCompletion"),
            ("worker-openai", "client", "realmultillm.keyvault.v1.CredentialService/GetCredential"),
            ("key-vault", "server", "realmultillm.keyvault.v1.CredentialService/GetCredential"),
            ("key-vault", "client", "vault decrypt"),
        ]

    async def test_tells_of_embeddings_too(self, traced: Traced, somebody: Person) -> None:
        body = {"model": "text-embedding-3-small", "input": "kanarienvogel"}

        response = await somebody.http.post("/openai/v1/embeddings", json=body)

        assert response.status_code == 200, response.text
        name = "embeddings text-embedding-3-small"
        spans = await traced.collector.trace(request_id(response), ("worker-openai", name), ("worker-openai", "POST"))
        assert path_to(spans, one(spans, "worker-openai", "POST"))[-2][2] == name
        assert one(spans, "worker-openai", name).attributes["gen_ai.operation.name"] == "embeddings"
        assert b"kanarienvogel" not in traced.collector.received

    async def test_is_not_the_caller_s_to_choose(self, traced: Traced, somebody: Person) -> None:
        theirs = "0af7651916cd43dd8448eb211c80319c"
        headers = {"traceparent": f"00-{theirs}-b7ad6b7169203331-01", "tracestate": "them=1"}

        response = await somebody.http.post("/api/chat/openai", json={"messages": HELLO}, headers=headers)

        spans = await traced.collector.trace(request_id(response), ("worker-openai", "POST"))
        assert theirs not in {span.trace_id for span in spans}
        assert b"them=1" not in traced.collector.received

    async def test_is_told_to_a_provider_only_where_a_setting_says_so(self, traced: Traced, somebody: Person) -> None:
        key = f"xai-sandbox-{somebody.user_id}"
        await somebody.http.post(f"/api/provider-config/{TALKATIVE}", json={"apiKey": key})

        silent, told = await somebody.chat(), await somebody.chat(TALKATIVE)

        assert (silent.status_code, told.status_code) == (200, 200), told.text
        (request,) = await asked(traced, somebody.key, "/openai/v1/chat/completions")
        assert "traceparent" not in request.headers
        (request,) = await asked(traced, key, "/grok/v1/chat/completions")
        spans = await traced.collector.trace(request_id(told), (f"worker-{TALKATIVE}", "POST"))
        sent = one(spans, f"worker-{TALKATIVE}", "POST")
        assert request.headers["traceparent"] == f"00-{sent.trace_id}-{sent.span_id}-01"


async def asked(traced: Traced, key: str, path: str) -> list[Any]:
    return [each for each in await traced.platform.sandbox.requests(key=key) if each.path == path]


class TestFailures:
    async def test_every_try_is_told_and_what_came_of_it(self, traced: Traced, somebody: Person) -> None:
        await traced.platform.bad_day(somebody, status=500, times=1)

        response = await somebody.chat()

        assert response.status_code == 200
        spans = await traced.collector.trace(request_id(response), ("worker-openai", CHAT))
        tries = sorted((span for span in spans if span.is_of("worker-openai", "POST")), key=lambda span: span.start)
        assert [(span.failed, span.attributes["http.response.status_code"]) for span in tries] == [
            (True, 500),
            (False, 200),
        ]
        call = one(spans, "worker-openai", CHAT)
        assert not call.failed
        assert call.attributes["realmultillm.attempts"] == 2

    async def test_a_stream_that_breaks_off(self, traced: Traced, somebody: Person) -> None:
        await traced.platform.bad_day(somebody, chunk_count=6, cut_after_chunks=3)

        async with somebody.stream() as response:
            await response.aread()

        spans = await traced.collector.trace(request_id(response), ("worker-openai", STREAM), ("worker-openai", CHAT))
        call = one(spans, "worker-openai", CHAT)
        assert call.failed
        assert call.attributes["error.type"] == "INCOMPLETE_RESPONSE"
        assert call.attributes["realmultillm.end_state"] == "provider_error_after_output"
        assert one(spans, "worker-openai", "POST").failed

    async def test_what_the_caller_did_wrong_is_no_failure_of_the_server(
        self, traced: Traced, somebody: Person
    ) -> None:
        response = await somebody.http.post("/api/chat/openai", json={"messages": []})

        assert response.status_code == 400
        spans = await traced.collector.trace(
            request_id(response), ("worker-openai", "realmultillm.chat.v1.ChatService/CreateChatCompletion")
        )
        served = one(spans, "worker-openai", "realmultillm.chat.v1.ChatService/CreateChatCompletion")
        assert not served.failed
        assert served.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"

    async def test_a_caller_who_leaves(self, traced: Traced, somebody: Person) -> None:
        await traced.platform.bad_day(somebody, chunk_count=500, chunk_delay_ms=100)

        async with somebody.stream() as response:
            await anext(response.aiter_lines())

        spans = await traced.collector.trace(request_id(response), ("worker-openai", STREAM), ("worker-openai", CHAT))
        assert one(spans, "worker-openai", CHAT).attributes["error.type"] == "CANCELLED"
        assert one(spans, "worker-openai", STREAM).attributes["rpc.response.status_code"] == "CANCELLED"


class TestSecrecy:
    async def test_nothing_said_and_no_secret_is_told(self, traced: Traced, somebody: Person) -> None:
        said, answered = "kanarienvogel-frage", "kanarienvogel-antwort"
        await traced.platform.bad_day(somebody, content=answered, chunk_count=1)
        messages = [{"role": "user", "content": said}]
        answers = []
        for stream in (False, True):
            body = {"model": f"openai/{MODEL}", "messages": messages, "stream": stream}
            answers.append(await somebody.http.post("/v1/chat/completions", json=body))
            path = "/api/chat/openai" + "/stream" * stream
            answers.append(await somebody.http.post(path, json={"messages": messages}))
        assert all(answered in answer.text for answer in answers)
        # Mistakes of which an error may say more than it should.
        mistakes = [
            await somebody.http.post("/api/chat/openai", content=f'{{"messages": [{{"role": "{said}'),
            await somebody.http.post("/api/chat/openai", json={"messages": [{"role": said, "content": said}]}),
            await somebody.http.get(f"/api/chat/{said}", params={"token": somebody.token}),
        ]

        for answer in answers:
            await traced.collector.trace(request_id(answer), ("worker-openai", "POST"), ("worker-openai", CHAT))
        for answer in mistakes:
            await traced.collector.trace(request_id(answer))
        for secret in (said, answered, somebody.key, somebody.token, somebody.email, PASSWORD, somebody.user_id):
            assert secret.encode() not in traced.collector.received, secret


class TestContent:
    async def test_is_told_where_a_setting_says_so_but_never_a_key(self, traced: Traced, somebody: Person) -> None:
        key = f"xai-sandbox-{somebody.user_id}"
        await somebody.http.post(f"/api/provider-config/{TALKATIVE}", json={"apiKey": key})
        await traced.platform.sandbox.behave(Behaviour(match=Match(key=key), content="Antwort", chunk_count=1))
        system, asked = {"role": "system", "content": "Kurz."}, {"role": "user", "content": "Frage"}
        body = {"model": f"{TALKATIVE}/grok-4.3", "messages": [system, asked]}

        chats = (
            await somebody.chat(TALKATIVE, messages=body["messages"]),
            await somebody.http.post(f"/api/chat/{TALKATIVE}/stream", json={"messages": body["messages"]}),
            await somebody.http.post("/v1/chat/completions", json=body),
            await somebody.http.post("/v1/chat/completions", json={**body, "stream": True}),
        )
        private = await somebody.http.post("/v1/chat/completions", json={**body, "store": False})

        for answer in (*chats, private):
            assert answer.status_code == 200, answer.text
            spans = await traced.collector.trace(request_id(answer), (f"worker-{TALKATIVE}", "POST"))
            (call,) = (span for span in spans if "gen_ai.operation.name" in span.attributes)
            told = {name: json.loads(text) for name, text in call.attributes.items() if name.endswith(".messages")}
            assert told == (
                {}
                if answer is private
                else {
                    "gen_ai.input.messages": [
                        {"role": "system", "parts": [{"type": "text", "content": "Kurz."}]},
                        {"role": "user", "parts": [{"type": "text", "content": "Frage"}]},
                    ],
                    "gen_ai.output.messages": [
                        {
                            "role": "assistant",
                            "parts": [{"type": "text", "content": "Antwort"}],
                            "finish_reason": "stop",
                        }
                    ],
                }
            )
        assert key.encode() not in traced.collector.received


class TestCollectorAway:
    async def test_chats_go_on_and_it_is_told_again_when_it_is_back(self, traced: Traced, somebody: Person) -> None:
        await traced.collector.stop()
        try:
            answers = await within_bound(asyncio.gather(*(somebody.chat() for _ in range(20))))
        finally:
            await traced.collector.start()

        assert {answer.status_code for answer in answers} == {200}
        response = await somebody.chat()
        await traced.collector.trace(request_id(response), ("worker-openai", CHAT))
