"""Runs the analytics service."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

from realmultillm.analytics.v1.analytics_service_pb2_grpc import (
    add_AnalyticsServiceServicer_to_server,
    add_PlatformAnalyticsServiceServicer_to_server,
)
from realmultillm.analytics.v1.chat_history_service_pb2_grpc import add_ChatHistoryServiceServicer_to_server
from realmultillm.analytics.v1.usage_ingest_service_pb2_grpc import add_UsageIngestServiceServicer_to_server

from libs import database
from libs.audit import connect_audit
from libs.background import beside
from libs.cache_metrics import CacheCollector
from libs.metrics import process_metrics
from libs.outbox_metrics import OutboxCollector
from libs.rpc.remote_tokens import connect_tokens
from libs.rpc.server import run, serve
from libs.rpc.tls import TlsIdentity
from libs.settings import from_env
from libs.telemetry import configure_logging
from services.analytics.access_policy import ACCESS_POLICY
from services.analytics.analytics_servicer import AnalyticsServicer, PlatformAnalyticsServicer
from services.analytics.history import History
from services.analytics.history_servicer import ChatHistoryServicer
from services.analytics.ingest import UsageIngest
from services.analytics.ingest_metrics import IngestMetrics
from services.analytics.ingest_servicer import UsageIngestServicer
from services.analytics.opened_keys import connect_opened_keys
from services.analytics.partitions import Partitions
from services.analytics.record_pages import RecordPages
from services.analytics.reports import Reports
from services.analytics.retention import Retention, Upkeep
from services.analytics.settings import PREFIX, Settings


async def main() -> None:
    settings = from_env(Settings, PREFIX)
    configure_logging("analytics", level=settings.rpc.log_level, log_format=settings.rpc.log_format)
    tls = TlsIdentity.load(settings.rpc.tls_dir)
    async with (
        database.connect(settings.database.database_url) as transactions,
        connect_tokens(settings.auth_address, tls) as tokens,
        connect_audit(settings.auth_address, tls, settings.data_dir / "audit") as audit,
        connect_opened_keys(settings.key_vault_address, tls) as keys,
    ):
        clock = partial(datetime.now, UTC)
        retention = Retention(
            facts=settings.fact_retention_days,
            rollups=settings.rollup_retention_days,
            contents=settings.history_retention_days,
        )
        partitions = Partitions(transactions)
        ingest = UsageIngest(transactions, partitions, retention=retention, clock=clock)
        upkeep = Upkeep(transactions, partitions, retention=retention, clock=clock)
        reports = Reports(transactions, fact_days=retention.facts, clock=clock)
        pages = RecordPages(transactions)
        history = History(transactions, keys, audit, contents=retention.contents, clock=clock)
        metrics = process_metrics()
        metrics.register(OutboxCollector(audit=audit.outbox))
        metrics.register(transactions.metrics)
        metrics.register(CacheCollector(principals=tokens.cache, opened_data_keys=keys))
        ingest_metrics = IngestMetrics(metrics, clock=clock)
        async with beside({"upkeep": upkeep.run(), "erasures": history.keep_erasing()}):
            await serve(
                settings.rpc,
                tls=tls,
                registrations=[
                    partial(add_UsageIngestServiceServicer_to_server, UsageIngestServicer(ingest, ingest_metrics.note)),
                    partial(add_AnalyticsServiceServicer_to_server, AnalyticsServicer(reports, pages, clock=clock)),
                    partial(
                        add_PlatformAnalyticsServiceServicer_to_server,
                        PlatformAnalyticsServicer(reports, pages, clock=clock),
                    ),
                    partial(add_ChatHistoryServiceServicer_to_server, ChatHistoryServicer(history)),
                ],
                policy=ACCESS_POLICY,
                tokens=tokens,
                audit=audit,
                probes={"database": transactions.ping},
                metrics=metrics,
            )


if __name__ == "__main__":
    run(main())
