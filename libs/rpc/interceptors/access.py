"""Lets a call through when the method's rule admits its service, its person and its token."""

from __future__ import annotations

from typing import Any

from libs.audit import AuditTrail, observed
from libs.errors import PermissionDenied
from libs.rpc.access_policy import SESSION, AccessPolicy, Rule
from libs.rpc.identity import Call
from libs.rpc.pipeline import Proceed


class Access:
    """Denies by default: a method without a rule is closed to everyone. What is denied is audited."""

    def __init__(self, policy: AccessPolicy, audit: AuditTrail | None = None) -> None:
        self._policy = policy
        self._audit = audit

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        rule = self._policy.get(call.method)
        if rule is None or not rule.admits_peer(call.peer):
            denial = PermissionDenied("This service may not call this method.")
            self._note(call, denial, peer=call.peer)
            raise denial
        if rule.role is not None:
            refusal = _denial(call, rule)
            if refusal is not None:
                self._note(call, refusal)
                raise refusal
        return await proceed()

    def _note(self, call: Call, denial: PermissionDenied, **details: str) -> None:
        if self._audit is not None:
            self._audit.note(observed("access.denied", resource=call.method, reason=denial.reason, **details))


def _denial(call: Call, rule: Rule) -> PermissionDenied | None:
    if call.principal is None or not rule.admits_role(call.principal.role):
        return PermissionDenied("Your account may not do this; ask an administrator.")
    if rule.admits_scopes(call.principal.scopes):
        return None
    needed = sorted(rule.scopes - {SESSION})
    if not needed:
        return PermissionDenied(
            "An API token may not do this; sign in and use the session.", reason="INSUFFICIENT_SCOPE"
        )
    names = " or ".join(needed)
    return PermissionDenied(
        f"This API token may not be used for this; make one with the scope {names}.",
        reason="INSUFFICIENT_SCOPE",
        scope=names,
    )
