"""Who may call what of the analytics service."""

from __future__ import annotations

from libs.providers import WORKERS
from libs.rpc.access_policy import AccessPolicy, for_role, open_to

ACCESS_POLICY: AccessPolicy = {
    "/realmultillm.analytics.v1.AnalyticsService/GetUsage": for_role("user", {"envoy", "provider-router"}),
    "/realmultillm.analytics.v1.UsageIngestService/IngestUsage": open_to(WORKERS),
}
