"""Lets a call through when the method's rule admits its service and its person."""

from __future__ import annotations

from typing import Any

from libs.errors import PermissionDenied
from libs.rpc.access_policy import AccessPolicy
from libs.rpc.identity import Call
from libs.rpc.pipeline import Proceed


class Access:
    """Denies by default: a method without a rule is closed to everyone."""

    def __init__(self, policy: AccessPolicy) -> None:
        self._policy = policy

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        rule = self._policy.get(call.method)
        if rule is None or not rule.admits_peer(call.peer):
            raise PermissionDenied("This service may not call this method.")
        if rule.role is not None and (call.principal is None or not rule.admits_role(call.principal.role)):
            raise PermissionDenied("Your account may not do this; ask an administrator.")
        return await proceed()
