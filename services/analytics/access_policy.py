"""Who may call what of the analytics service."""

from __future__ import annotations

from libs.rpc.access_policy import ANY_WORKER, SESSION, AccessPolicy, for_role, open_to

_FRONT_DOOR = {"envoy"}
_ANALYTICS = "/realmultillm.analytics.v1.AnalyticsService"
_PLATFORM = "/realmultillm.analytics.v1.PlatformAnalyticsService"
_HISTORY = "/realmultillm.analytics.v1.ChatHistoryService"
_EXPORT_DEADLINE = 300.0
_HISTORY_DEADLINE = 25.0

ACCESS_POLICY: AccessPolicy = {
    f"{_ANALYTICS}/GetUsage": for_role("user", _FRONT_DOOR, scopes={"analytics:read"}),
    f"{_ANALYTICS}/GetCosts": for_role("user", _FRONT_DOOR, scopes={"analytics:read"}),
    f"{_ANALYTICS}/GetPerformance": for_role("user", _FRONT_DOOR, scopes={"analytics:read"}),
    f"{_ANALYTICS}/ExportAnalytics": for_role(
        "user", _FRONT_DOOR, scopes={"analytics:read"}, deadline=_EXPORT_DEADLINE, limit="10/minute"
    ),
    f"{_PLATFORM}/GetPlatformAnalytics": for_role("admin", _FRONT_DOOR, scopes={"admin"}),
    f"{_PLATFORM}/ExportPlatformAnalytics": for_role(
        "admin", _FRONT_DOOR, scopes={"admin"}, deadline=_EXPORT_DEADLINE, limit="10/minute"
    ),
    # What was said is opened for its owner alone; `for_role` only says who may ask for what is theirs.
    f"{_HISTORY}/ListChatRecords": for_role("user", _FRONT_DOOR, scopes={"analytics:read"}, deadline=_HISTORY_DEADLINE),
    f"{_HISTORY}/GetChatRecord": for_role("user", _FRONT_DOOR, scopes={"analytics:read"}, deadline=_HISTORY_DEADLINE),
    # A token that may only read erases nothing, and all at once only the person does.
    f"{_HISTORY}/DeleteChatRecord": for_role("user", _FRONT_DOOR, scopes={"chat"}),
    f"{_HISTORY}/DeleteChatHistory": for_role("user", _FRONT_DOOR, scopes={SESSION}, deadline=_HISTORY_DEADLINE),
    # Each worker may report its own provider only; `check_ingest_usage` sees to that.
    "/realmultillm.analytics.v1.UsageIngestService/IngestUsage": open_to({ANY_WORKER}),
}
