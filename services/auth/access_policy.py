"""Who may call the auth service."""

from __future__ import annotations

from libs.rpc.access_policy import ANY_WORKER, UNBOUNDED, AccessPolicy, for_role, open_to

_PEOPLE = "/realmultillm.auth.v1.AuthService"
_SERVICES = "/realmultillm.auth.v1.TokenService"

_VERIFIERS = {ANY_WORKER, "key-vault", "provider-router", "analytics"}

ACCESS_POLICY: AccessPolicy = {
    f"{_PEOPLE}/SignUp": open_to({"envoy"}),
    f"{_PEOPLE}/SignIn": open_to({"envoy"}),
    f"{_PEOPLE}/SignOut": for_role("user", {"envoy"}),
    f"{_PEOPLE}/GetSession": for_role("user", {"envoy"}),
    f"{_SERVICES}/VerifyToken": open_to(_VERIFIERS),
    f"{_SERVICES}/WatchRevocations": open_to(_VERIFIERS, deadline=UNBOUNDED),
}
