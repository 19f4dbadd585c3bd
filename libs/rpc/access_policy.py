"""Who may call what: one row per method, and no row means no."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

# Roles in rising order of rights: each may do what those before it may.
ROLES = ("user", "admin")

# How long a method may take when nobody says otherwise, in seconds.
DEFAULT_DEADLINE = 15.0
UNBOUNDED = float("inf")


@dataclass(frozen=True, slots=True)
class Rule:
    """Says which services may call a method, which role the person behind the call needs, and for how long it may run.

    `role` None means that no person is needed. `deadline` is in seconds and shortens what the caller allows.
    """

    peers: frozenset[str]
    role: str | None
    deadline: float = DEFAULT_DEADLINE

    def admits_role(self, role: str) -> bool:
        """Tells whether a person of this role may call. An unknown role may nothing."""
        if self.role is None:
            return True
        return role in ROLES and ROLES.index(role) >= ROLES.index(self.role)


AccessPolicy = Mapping[str, Rule]

# Sentinel peer: every service with a certificate of this platform.
ANY_SERVICE = "*"

# What every server offers beside its own services.
BOOTSTRAP_POLICY: AccessPolicy = {
    "/grpc.health.v1.Health/Check": Rule(frozenset({ANY_SERVICE}), None),
    "/grpc.health.v1.Health/List": Rule(frozenset({ANY_SERVICE}), None),
    "/grpc.health.v1.Health/Watch": Rule(frozenset({ANY_SERVICE}), None, UNBOUNDED),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(frozenset({ANY_SERVICE}), None, UNBOUNDED),
}


def open_to(peers: Collection[str], *, deadline: float = DEFAULT_DEADLINE) -> Rule:
    """A method these services may call without a person."""
    return Rule(frozenset(peers), None, deadline)


def for_role(role: str, peers: Collection[str], *, deadline: float = DEFAULT_DEADLINE) -> Rule:
    """A method these services may call for a person of this role or a higher one."""
    return Rule(frozenset(peers), role, deadline)
