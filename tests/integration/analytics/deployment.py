"""A running analytics service and its callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import grpc
from realmultillm.analytics.v1.analytics_service_pb2 import GetUsageRequest, UsageReport
from realmultillm.analytics.v1.analytics_service_pb2_grpc import (
    AnalyticsServiceStub,
    PlatformAnalyticsServiceStub,
    add_AnalyticsServiceServicer_to_server,
    add_PlatformAnalyticsServiceServicer_to_server,
)
from realmultillm.analytics.v1.usage_ingest_service_pb2 import IngestUsageRequest, IngestUsageResponse, UsageRecord
from realmultillm.analytics.v1.usage_ingest_service_pb2_grpc import (
    UsageIngestServiceStub,
    add_UsageIngestServiceServicer_to_server,
)

from libs.database import Transactions, connect
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from services.analytics.access_policy import ACCESS_POLICY
from services.analytics.analytics_servicer import AnalyticsServicer, PlatformAnalyticsServicer
from services.analytics.ingest import UsageIngest
from services.analytics.ingest_servicer import UsageIngestServicer
from services.analytics.partitions import Partitions
from services.analytics.record_pages import RecordPages
from services.analytics.reports import Reports
from services.analytics.retention import Retention
from services.analytics.usage import UsageRecord as Fact
from tests.support.rpc import Identities, KnownTokens, bearer, running

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RETENTION = Retention(facts=400, rollups=1100, contents=90)

Make = Callable[..., UsageRecord]


class Analytics:
    """The running service and its callers."""

    def __init__(
        self,
        transactions: Transactions,
        address: str,
        tokens: KnownTokens,
        identity: Identities,
        channels: AsyncExitStack,
        ingest: UsageIngest,
    ) -> None:
        self._ingest = ingest
        self.transactions = transactions
        self._address = address
        self._tokens = tokens
        self._identity = identity
        self._channels = channels

    async def channel(self, service: str) -> grpc.aio.Channel:
        """Opens a channel as a service."""
        return await self._channels.enter_async_context(
            open_channel(self._address, "analytics", self._identity(service))
        )

    async def ingest(self, *records: UsageRecord, worker: str = "worker-openai") -> IngestUsageResponse:
        stub = UsageIngestServiceStub(await self.channel(worker))
        response: IngestUsageResponse = await stub.IngestUsage(IngestUsageRequest(records=records), timeout=10)
        return response

    async def usage(self, user_id: str, **span: Any) -> UsageReport:
        stub = AnalyticsServiceStub(await self.channel("envoy"))
        report: UsageReport = await stub.GetUsage(
            GetUsageRequest(**span), metadata=bearer(self._tokens.issue(user_id)), timeout=10
        )
        return report

    async def ask(self, method: str, request: Any, user_id: str) -> Any:
        """Asks for a report as a person."""
        stub = AnalyticsServiceStub(await self.channel("envoy"))
        return await getattr(stub, method)(request, metadata=bearer(self._tokens.issue(user_id)), timeout=30)

    async def ask_as_admin(self, request: Any) -> Any:
        """Asks for the report over all people."""
        stub = PlatformAnalyticsServiceStub(await self.channel("envoy"))
        return await stub.GetPlatformAnalytics(request, metadata=self._admin(), timeout=30)

    async def export(self, request: Any, user_id: str) -> str:
        """Returns what a person exports."""
        stub = AnalyticsServiceStub(await self.channel("envoy"))
        call = stub.ExportAnalytics(request, metadata=bearer(self._tokens.issue(user_id)), timeout=30)
        return "".join([body.data.decode() async for body in call])

    async def export_as_admin(self, request: Any) -> str:
        """Returns what an administrator exports."""
        stub = PlatformAnalyticsServiceStub(await self.channel("envoy"))
        call = stub.ExportPlatformAnalytics(request, metadata=self._admin(), timeout=30)
        return "".join([body.data.decode() async for body in call])

    def _admin(self) -> Any:
        return bearer(self._tokens.issue("usr_admin", role="admin"))

    async def store(self, facts: Sequence[Fact]) -> None:
        """Stores facts past the checks of who reports them."""
        await self._ingest.store(facts)


@asynccontextmanager
async def running_analytics(database_url: Secret, identity: Identities) -> AsyncIterator[Analytics]:
    """Runs the service over a database with its schema, at the time NOW."""
    tokens = KnownTokens()
    async with AsyncExitStack() as stack:
        transactions = await stack.enter_async_context(connect(database_url))
        reports = Reports(transactions, fact_days=RETENTION.facts, clock=lambda: NOW)
        pages = RecordPages(transactions)
        ingest = UsageIngest(transactions, Partitions(transactions), retention=RETENTION, clock=lambda: NOW)
        address = await stack.enter_async_context(
            running(
                identity("analytics"),
                partial(add_UsageIngestServiceServicer_to_server, UsageIngestServicer(ingest)),
                partial(add_AnalyticsServiceServicer_to_server, AnalyticsServicer(reports, pages, clock=lambda: NOW)),
                partial(
                    add_PlatformAnalyticsServiceServicer_to_server,
                    PlatformAnalyticsServicer(reports, pages, clock=lambda: NOW),
                ),
                policy=ACCESS_POLICY,
                tokens=tokens,
                probes={"database": transactions.ping},
            )
        )
        channels = await stack.enter_async_context(AsyncExitStack())
        yield Analytics(transactions, address, tokens, identity, channels, ingest)
