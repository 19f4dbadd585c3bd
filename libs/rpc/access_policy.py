"""Who may call what: one row per method, and no row means no."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from libs.providers import provider_of

# Roles in rising order of rights: each may do what those before it may.
ROLES = ("user", "admin")

# How long a method may take when nobody says otherwise, in seconds.
DEFAULT_DEADLINE = 15.0
UNBOUNDED = float("inf")

# Sentinel peers: every service with a certificate of this platform, and the worker of any provider, in the catalogue
# or not. A method for any worker that is about one provider must check that the worker is that provider's.
ANY_SERVICE = "*"
ANY_WORKER = "worker-*"


@dataclass(frozen=True, slots=True)
class Rule:
    """Says which services may call a method, which role the person behind the call needs, and for how long it may run.

    `role` None means that no person is needed. `deadline` is in seconds and shortens what the caller allows.
    """

    peers: frozenset[str]
    role: str | None
    deadline: float = DEFAULT_DEADLINE

    def admits_peer(self, peer: str) -> bool:
        """Tells whether the service with this name in its certificate may call. A sentinel is nobody's name."""
        if peer in (ANY_SERVICE, ANY_WORKER):
            return False
        if peer in self.peers or ANY_SERVICE in self.peers:
            return True
        return ANY_WORKER in self.peers and provider_of(peer) is not None

    def admits_role(self, role: str) -> bool:
        """Tells whether a person of this role may call. An unknown role may nothing."""
        if self.role is None:
            return True
        return role in ROLES and ROLES.index(role) >= ROLES.index(self.role)


AccessPolicy = Mapping[str, Rule]

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
