"""Who may call what of the analytics service."""

from __future__ import annotations

from libs.rpc.access_policy import ANY_WORKER, AccessPolicy, for_role, open_to

ACCESS_POLICY: AccessPolicy = {
    "/realmultillm.analytics.v1.AnalyticsService/GetUsage": for_role("user", {"envoy"}, scopes={"analytics:read"}),
    # Each worker may report its own provider only; `check_ingest_usage` sees to that.
    "/realmultillm.analytics.v1.UsageIngestService/IngestUsage": open_to({ANY_WORKER}),
}
