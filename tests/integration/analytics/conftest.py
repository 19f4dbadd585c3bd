"""The analytics service for the tests of a file, and chats to report to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord

from tests.integration.analytics.deployment import NOW, Analytics, Make, running_analytics
from tests.support.postgres import PostgresServer
from tests.support.rpc import Identities


@pytest.fixture(scope="module")
async def analytics(postgres: PostgresServer, identity: Identities) -> AsyncIterator[Analytics]:
    """The running service; the tests of a file share it, each with people of its own."""
    async with running_analytics(postgres.fresh_database("analytics"), identity) as analytics:
        yield analytics


@pytest.fixture
def user_id() -> str:
    """A person without chats."""
    return str(uuid4())


@pytest.fixture
def record(user_id: str) -> Make:
    """Makes a well-formed record with a new id."""

    def make(**fields: Any) -> UsageRecord:
        defaults: dict[str, Any] = {
            "id": str(uuid4()),
            "user_id": user_id,
            "provider": "openai",
            "model_requested": "gpt-5.5",
            "model_served": "gpt-5.5-2026-04-23",
            "end_state": UsageRecord.COMPLETED,
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "cached_tokens": 4,
            "reasoning_tokens": 7,
            "streamed": True,
            "start_time": NOW - timedelta(hours=1),
            "latency_ms": 900,
            "time_to_first_token_ms": 80,
            "attempts": 1,
            "request_id": "request-1",
        }
        return UsageRecord(**(defaults | fields))

    return make
