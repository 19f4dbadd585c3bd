"""What answers cost, against invoices worked out by hand: every provider, every kind of token, whole and streamed.

A line of an invoice is tokens × US dollars for a million of them, as the provider's price page has them for the date of
genai-prices 0.2.3. Nothing here asks the catalogue for a price.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.anthropic.v1.message_service_pb2 import CreateMessageRequest
from realmultillm.openai.v1.chat_completion_service_pb2 import CreateChatCompletionRequest
from realmultillm.openai.v1.embedding_service_pb2 import CreateEmbeddingRequest

from tests.contract.conftest import STREAMED, Person, Way, Worker

# 1,000 sent, of which 600 were in the cache and 250 were put there; 300 received, of which 200 were thoughts.
OPENAI_SPENT: Mapping[str, Any] = {
    "prompt_tokens": 1_000,
    "completion_tokens": 300,
    "total_tokens": 1_300,
    "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 250},
    "completion_tokens_details": {"reasoning_tokens": 200},
}
OPENAI_LONG: Mapping[str, Any] = {
    "prompt_tokens": 272_001,
    "completion_tokens": 300,
    "total_tokens": 272_301,
    "prompt_tokens_details": {"cached_tokens": 200_000},
}
# 150 + 600 + 170 + 80 make 1,000 sent; 80 of those put into the cache stay for an hour.
CLAUDE_SPENT: Mapping[str, Any] = {
    "input_tokens": 150,
    "cache_read_input_tokens": 600,
    "cache_creation_input_tokens": 250,
    "cache_creation": {"ephemeral_5m_input_tokens": 170, "ephemeral_1h_input_tokens": 80},
    "output_tokens": 300,
    "output_tokens_details": {"thinking_tokens": 200},
}
# 900 + 100 make 1,000 sent, 600 of them cached; 100 said after 200 thought.
GEMINI_SPENT: Mapping[str, Any] = {
    "promptTokenCount": 900,
    "toolUsePromptTokenCount": 100,
    "cachedContentTokenCount": 600,
    "candidatesTokenCount": 100,
    "thoughtsTokenCount": 200,
}
# 100 said after 200 thought, which Grok counts beside.
GROK_SPENT: Mapping[str, Any] = {
    "prompt_tokens": 1_000,
    "completion_tokens": 100,
    "total_tokens": 1_300,
    "prompt_tokens_details": {"cached_tokens": 600},
    "completion_tokens_details": {"reasoning_tokens": 200},
}

PRICED, REPORTED, UNPRICED = UsageRecord.PRICED, UsageRecord.REPORTED, UsageRecord.UNPRICED


@dataclass(frozen=True, kw_only=True)
class Invoice:
    """What a provider says was used, and what that costs.

    `lines` are `tokens × dollars for a million`, added up; of a provider that says what it costs, the dollars.
    """

    provider: str
    model: str
    told: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    lines: str = ""
    price: str = ""
    source: UsageRecord.CostSource = PRICED

    @property
    def dollars(self) -> Decimal | None:
        """The sum of the lines."""
        if self.source == UNPRICED:
            return None
        if self.source == REPORTED:
            return Decimal(self.lines)
        parts = (line.split(" × ") for line in self.lines.split(" + "))
        return sum((Decimal(tokens) * Decimal(rate) for tokens, rate in parts), Decimal(0)) / 1_000_000

    def __str__(self) -> str:
        what = {PRICED: "", REPORTED: "-reported", UNPRICED: "-unpriced"}[self.source]
        return f"{self.provider}-{self.model}{what}-{'-'.join(map(str, self.extra.values()))}".rstrip("-")


INVOICES = [
    # What is put into the cache has no price of its own, and is plain.
    Invoice(
        provider="openai",
        model="gpt-4o",
        told=OPENAI_SPENT,
        lines="400 × 2.50 + 600 × 1.25 + 300 × 10.00",
        price="input=2.5 cached_input=1.25 output=10",
    ),
    Invoice(
        provider="openai",
        model="gpt-6.1-terra",
        told=OPENAI_SPENT,
        lines="150 × 1.00 + 600 × 0.05 + 250 × 1.25 + 300 × 5.00",
        price="input=1,272000:2 cached_input=0.05,272000:0.1 cache_write=1.25,272000:2.5 output=5,272000:7.5",
    ),
    # One token more than 272,000 makes all of them dear.
    Invoice(
        provider="openai",
        model="gpt-6.1-terra",
        told=OPENAI_LONG,
        extra={"service_tier": "default"},
        lines="72001 × 2.00 + 200000 × 0.10 + 300 × 7.50",
        price="input=1,272000:2 cached_input=0.05,272000:0.1 cache_write=1.25,272000:2.5 output=5,272000:7.5",
    ),
    Invoice(
        provider="openai",
        model="gpt-5",
        told=OPENAI_SPENT,
        extra={"service_tier": "flex"},
        lines="400 × 0.625 + 600 × 0.0625 + 300 × 5.00",
        price="input=0.625 cached_input=0.0625 output=5",
    ),
    Invoice(
        provider="openai",
        model="gpt-4o",
        told=OPENAI_SPENT,
        extra={"service_tier": "priority"},
        lines="400 × 4.25 + 600 × 2.125 + 300 × 17.00",
        price="input=4.25 cached_input=2.125 output=17",
    ),
    # Sold by contract; and a model that nobody publishes a price of.
    Invoice(provider="openai", model="gpt-4o", told=OPENAI_SPENT, extra={"service_tier": "scale"}, source=UNPRICED),
    Invoice(provider="openai", model="gpt-6.2-sol", told=OPENAI_SPENT, source=UNPRICED),
    Invoice(provider="openai-compatible", model="gpt-4o", told=OPENAI_SPENT, source=UNPRICED),
    Invoice(
        provider="anthropic",
        model="claude-sonnet-4-6",
        told=CLAUDE_SPENT,
        lines="150 × 3.00 + 600 × 0.30 + 170 × 3.75 + 80 × 6.00 + 300 × 15.00",
        price="input=3 cached_input=0.3 cache_write=3.75 cache_write_1h=6 output=15",
    ),
    # Longer than 100,000, with what was cached: five times as dear.
    Invoice(
        provider="anthropic",
        model="claude-haiku-5-5",
        told={**CLAUDE_SPENT, "cache_read_input_tokens": 99_601},
        lines="150 × 0.50 + 99601 × 0.05 + 170 × 0.625 + 80 × 1.00 + 300 × 2.50",
        price="input=0.1,100000:0.5 cached_input=0.01,100000:0.05 cache_write=0.125,100000:0.625"
        " cache_write_1h=0.2,100000:1 output=0.5,100000:2.5",
    ),
    Invoice(
        provider="google-ai",
        model="gemini-2.5-flash-lite",
        told=GEMINI_SPENT,
        lines="400 × 0.10 + 600 × 0.01 + 300 × 0.40",
        price="input=0.1 cached_input=0.01 output=0.4",
    ),
    Invoice(
        provider="google-ai",
        model="gemini-2.5-pro",
        told={**GEMINI_SPENT, "promptTokenCount": 199_901},
        lines="199401 × 2.50 + 600 × 0.25 + 300 × 15.00",
        price="input=1.25,200000:2.5 cached_input=0.125,200000:0.25 output=10,200000:15",
    ),
    # What the provider says stands, whatever its price list.
    Invoice(
        provider="openrouter",
        model="moonshotai/kimi-k3",
        told={**OPENAI_SPENT, "cost": 0.000_012_345_678},
        lines="0.000012345678",
        source=REPORTED,
    ),
    Invoice(
        provider="openrouter",
        model="moonshotai/kimi-k3",
        told={**OPENAI_SPENT, "cost": None},
        lines="400 × 3.00 + 600 × 0.30 + 300 × 15.00",
        price="input=3 cached_input=0.3 output=15",
    ),
    # Free is a cost too.
    Invoice(
        provider="openrouter", model="moonshotai/kimi-k3", told={**OPENAI_SPENT, "cost": 0}, lines="0", source=REPORTED
    ),
    # A dollar is 10,000,000,000 ticks.
    Invoice(
        provider="grok",
        model="grok-4-1-fast-non-reasoning",
        told={**GROK_SPENT, "cost_in_usd_ticks": 37_756_001},
        lines="0.0037756001",
        source=REPORTED,
    ),
    Invoice(
        provider="grok",
        model="grok-4-1-fast-non-reasoning",
        told={**GROK_SPENT, "cost_in_usd_ticks": None},
        lines="400 × 0.20 + 600 × 0.05 + 300 × 0.50",
        price="input=0.2 cached_input=0.05 output=0.5",
    ),
    # Of Grok's prompts those of 200,000 are long.
    Invoice(
        provider="grok",
        model="grok-4.6",
        told={**GROK_SPENT, "prompt_tokens": 200_000, "total_tokens": 200_300, "cost_in_usd_ticks": None},
        lines="199400 × 4.00 + 600 × 1.00 + 300 × 12.00",
        price="input=2,199999:4 cached_input=0.5,199999:1 output=6,199999:12",
    ),
]
of_each_invoice = pytest.mark.parametrize(
    ("worker", "invoice"), [(each.provider, each) for each in INVOICES], indirect=["worker"], ids=map(str, INVOICES)
)


async def recorded(worker: Worker, person: Person, invoice: Invoice) -> UsageRecord:
    """Returns the record of a chat, checked against the invoice."""
    record = await worker.ledger.record_of(person.user_id)
    dollars = invoice.dollars
    cost = Decimal(record.cost_picos).scaleb(-12) if record.HasField("cost_picos") else None
    assert (record.cost_source, cost, record.price) == (invoice.source, dollars, invoice.price)
    reported = record.reported_cost_picos if record.HasField("reported_cost_picos") else None
    assert reported == (record.cost_picos if invoice.source == REPORTED else None)
    assert not record.estimated
    return record


async def invoiced(worker: Worker, invoice: Invoice) -> Person:
    """Returns somebody whose answers use what is on the invoice."""
    person = worker.new_person()
    await worker.bad_day(person, usage=dict(invoice.told), extra_fields=dict(invoice.extra))
    return person


@of_each_invoice
async def test_an_answer_costs_what_is_on_the_invoice(worker: Worker, invoice: Invoice) -> None:
    async def check(way: Way) -> None:
        person = await invoiced(worker, invoice)
        call = worker.ask(person, way, model=invoice.model)
        told = [chunk async for chunk in call][-1] if way == STREAMED else await call

        dollars = invoice.dollars
        assert (told.cost_usd if told.HasField("cost_usd") else None) == (dollars and float(dollars))
        record = await recorded(worker, person, invoice)
        assert (record.kind, record.streamed) == (UsageRecord.CHAT, way == STREAMED)

    await worker.in_every_way(check)


@of_each_invoice
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_in_another_api_costs_the_same(worker: Worker, invoice: Invoice, stream: bool) -> None:
    """As OpenAI's and Anthropic's clients ask: passed through by some workers, translated by others."""
    for dialect in ("openai", "anthropic"):
        person = await invoiced(worker, invoice)
        asked = {
            "model": invoice.model,
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": stream,
            **({"max_tokens": 500} if dialect == "anthropic" else {}),
        }
        http = HttpBody(content_type="application/json", data=json.dumps(asked).encode())
        method: Any = (
            worker.openai_stub.CreateChatCompletion if dialect == "openai" else worker.anthropic_stub.CreateMessage
        )
        request: Any = CreateChatCompletionRequest if dialect == "openai" else CreateMessageRequest
        call = method(request(provider=worker.adapter.provider, body=http), metadata=person.metadata)
        assert [message async for message in call]

        await recorded(worker, person, invoice)
        told = dict(await call.initial_metadata()).get("x-cost-usd")
        dollars = invoice.dollars
        if stream or dollars is None:
            assert told is None
        else:
            assert told == f"{dollars.normalize():f}"


@pytest.mark.parametrize(
    ("worker", "model", "rate"),
    [("openai", "text-embedding-3-small", "0.02"), ("google-ai", "gemini-embedding-001", "0.15")],
    indirect=["worker"],
)
async def test_embeddings_cost_what_their_price_list_says(worker: Worker, model: str, rate: str) -> None:
    person = worker.new_person()
    http = HttpBody(content_type="application/json", data=json.dumps({"input": "A text of some words."}).encode())
    call = worker.embedding_stub.CreateEmbedding(
        CreateEmbeddingRequest(provider=worker.adapter.provider, model=model, body=http), metadata=person.metadata
    )
    used = json.loads((await call).data)["usage"]["prompt_tokens"]

    record = await worker.ledger.record_of(person.user_id)
    dollars = used * Decimal(rate) / 1_000_000
    assert used > 0
    assert (record.kind, record.cost_source) == (UsageRecord.EMBEDDINGS, PRICED)
    assert (Decimal(record.cost_picos).scaleb(-12), record.price) == (dollars, f"input={rate}")
    assert dict(await call.initial_metadata())["x-cost-usd"] == f"{dollars.normalize():f}"


@pytest.mark.parametrize("worker", ["openai"], indirect=True)
async def test_a_chat_that_used_nothing_is_not_unpriced(worker: Worker) -> None:
    person = worker.new_person()
    await worker.bad_day(person, status=400)
    call = worker.ask(person, STREAMED, model="gpt-6.2-sol")
    with pytest.raises(grpc.aio.AioRpcError):
        assert [chunk async for chunk in call]

    record = await worker.ledger.record_of(person.user_id)
    assert (record.cost_source, record.HasField("cost_picos")) == (UsageRecord.COST_SOURCE_UNSPECIFIED, False)
