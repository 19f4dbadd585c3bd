"""Runs the analytics service."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

from realmultillm.analytics.v1.analytics_service_pb2_grpc import add_AnalyticsServiceServicer_to_server
from realmultillm.analytics.v1.usage_ingest_service_pb2_grpc import add_UsageIngestServiceServicer_to_server

from libs import database
from libs.audit import connect_audit
from libs.rpc.remote_tokens import connect_tokens
from libs.rpc.server import run, serve
from libs.rpc.tls import TlsIdentity
from libs.settings import from_env
from libs.telemetry import configure_logging
from services.analytics.access_policy import ACCESS_POLICY
from services.analytics.repository import UsageRepository
from services.analytics.servicer import AnalyticsServicer, UsageIngestServicer
from services.analytics.settings import PREFIX, Settings


async def main() -> None:
    settings = from_env(Settings, PREFIX)
    configure_logging("analytics", level=settings.rpc.log_level, log_format=settings.rpc.log_format)
    tls = TlsIdentity.load(settings.rpc.tls_dir)
    async with (
        database.connect(settings.database.database_url) as transactions,
        connect_tokens(settings.auth_address, tls) as tokens,
        connect_audit(settings.auth_address, tls, settings.data_dir / "audit") as audit,
    ):
        usage = UsageRepository(transactions)
        await serve(
            settings.rpc,
            tls=tls,
            registrations=[
                partial(add_UsageIngestServiceServicer_to_server, UsageIngestServicer(usage)),
                partial(
                    add_AnalyticsServiceServicer_to_server,
                    AnalyticsServicer(usage, clock=partial(datetime.now, UTC)),
                ),
            ],
            policy=ACCESS_POLICY,
            tokens=tokens,
            audit=audit,
            probes={"database": transactions.ping},
        )


if __name__ == "__main__":
    run(main())
