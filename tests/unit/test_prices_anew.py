"""Repricing prices a chat as its worker did: with the same prices nothing changes."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.model_catalog import ModelCatalog
from libs.provider_catalog import load_catalog
from libs.worker.accounting import Account
from libs.worker.answer_costs import costs_of
from services.analytics.ingest_servicer import to_record
from services.analytics.reprice import price_by
from services.analytics.repricing import tokens_of

PROVIDERS = load_catalog()
CATALOG = ModelCatalog.load(PROVIDERS)
USAGES = [
    chat.Usage(prompt_tokens=1_234, completion_tokens=567),
    chat.Usage(
        prompt_tokens=250_001,
        completion_tokens=567,
        prompt_tokens_details=chat.PromptTokensDetails(
            cached_tokens=100_003, cache_write_tokens=20_007, cache_write_1h_tokens=10_001
        ),
        completion_tokens_details=chat.CompletionTokensDetails(reasoning_tokens=345),
    ),
    chat.Usage(prompt_tokens=7),
]


class _Kept:
    """Keeps what would go to the outbox."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []

    def append(self, fact: bytes) -> None:
        self.records.append(UsageRecord.FromString(fact))

    def check_writable(self) -> None:
        pass


CHATS = [
    pytest.param(provider, model, usage, tier, id=f"{provider} {model} {number} {tier}")
    for provider, offered in PROVIDERS.items()
    for model in offered.models
    for number, usage in enumerate(USAGES)
    for tier in ("", "priority")
]


@pytest.mark.parametrize(("provider", "model", "usage", "tier"), CHATS)
def test_a_chat_costs_what_its_worker_said(provider: str, model: str, usage: chat.Usage, tier: str) -> None:
    kept = _Kept()
    with Account(
        kept,
        provider=provider,
        prompt_characters=lambda: 0,
        user_id=str(uuid4()),
        request_id="request-1",
        streamed=False,
        cost=costs_of(provider, CATALOG),
    ) as account:
        account.record.model_requested = model
        account.complete(f"{model}-served-by-another-name", usage, service_tier=tier)
    fact: Any = to_record(kept.records[0])

    priced = price_by(CATALOG, PROVIDERS)(fact, tokens_of(fact))

    assert (priced or (None, "")) == (fact.cost_picos, fact.price)
