"""Who may call the auth service."""

from __future__ import annotations

from libs.rpc.access_policy import ANY_TOKEN, ANY_WORKER, SESSION, UNBOUNDED, AccessPolicy, for_role, open_to

_PEOPLE = "/realmultillm.auth.v1.AuthService"
_API_TOKENS = "/realmultillm.auth.v1.ApiTokenService"
_USERS = "/realmultillm.auth.v1.UserAdminService"
_AUDIT_LOGS = "/realmultillm.auth.v1.AuditLogService"
_SERVICES = "/realmultillm.auth.v1.TokenService"
_AUDIT_INGEST = "/realmultillm.auth.v1.AuditIngestService"

_FRONT_DOOR = {"envoy"}
_OTHER_SERVICES = {ANY_WORKER, "key-vault", "provider-router", "analytics"}

# An administrator's page may have to look at many rows.
_QUERY_DEADLINE = 25.0

ACCESS_POLICY: AccessPolicy = {
    # What nobody needs an account for is counted by address, and costs a password hash.
    f"{_PEOPLE}/SignUp": open_to(_FRONT_DOOR, limit="10/minute"),
    f"{_PEOPLE}/SignIn": open_to(_FRONT_DOOR, limit="30/minute"),
    # Whoever finds a token may ask what it is, and end it.
    f"{_PEOPLE}/SignOut": for_role("user", _FRONT_DOOR, scopes={ANY_TOKEN}),
    f"{_PEOPLE}/GetSession": for_role("user", _FRONT_DOOR, scopes={ANY_TOKEN}),
    f"{_PEOPLE}/ChangePassword": for_role("user", _FRONT_DOOR, scopes={SESSION}, limit="10/minute"),
    f"{_PEOPLE}/ListSessions": for_role("user", _FRONT_DOOR, scopes={SESSION}),
    f"{_PEOPLE}/DeleteSession": for_role("user", _FRONT_DOOR, scopes={SESSION}),
    f"{_PEOPLE}/DeleteOtherSessions": for_role("user", _FRONT_DOOR, scopes={SESSION}),
    f"{_API_TOKENS}/CreateApiToken": for_role("user", _FRONT_DOOR, scopes={SESSION}),
    f"{_API_TOKENS}/ListApiTokens": for_role("user", _FRONT_DOOR, scopes={SESSION}),
    f"{_API_TOKENS}/DeleteApiToken": for_role("user", _FRONT_DOOR, scopes={SESSION}),
    f"{_USERS}/ListUsers": for_role("admin", _FRONT_DOOR, scopes={"admin"}, deadline=_QUERY_DEADLINE),
    f"{_USERS}/GetUser": for_role("admin", _FRONT_DOOR, scopes={"admin"}),
    f"{_USERS}/UpdateUser": for_role("admin", _FRONT_DOOR, scopes={"admin"}),
    f"{_AUDIT_LOGS}/ListAuditLogs": for_role("admin", _FRONT_DOOR, scopes={"admin"}, deadline=_QUERY_DEADLINE),
    f"{_AUDIT_LOGS}/VerifyAuditLogs": for_role("admin", _FRONT_DOOR, scopes={"admin"}, deadline=_QUERY_DEADLINE),
    f"{_SERVICES}/VerifyToken": open_to(_OTHER_SERVICES),
    f"{_SERVICES}/WatchRevocations": open_to(_OTHER_SERVICES, deadline=UNBOUNDED),
    f"{_AUDIT_INGEST}/IngestAuditEvents": open_to(_OTHER_SERVICES),
}
