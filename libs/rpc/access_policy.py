"""Who may call what: one row per method, and no row means no."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from libs.providers import provider_of

# Roles in rising order of rights: each may do what those before it may.
ROLES = ("user", "admin")

# What an API token may be made for. A sign-in session may be used for all of it, and has SESSION besides, which no API
# token gets: what could make further tokens or lock the owner out stays with the person.
SCOPES = ("chat", "models:read", "config", "analytics:read", "admin")
SESSION = "session"
SESSION_SCOPES = frozenset({*SCOPES, SESSION})
# Sentinel scope: any token at all, also one whose scopes its owner may not use any more.
ANY_TOKEN = "*"  # noqa: S105 - a sentinel

# How long a method may take when nobody says otherwise, in seconds.
DEFAULT_DEADLINE = 15.0
UNBOUNDED = float("inf")

# How often a person may call each method that is theirs, when nobody says otherwise.
DEFAULT_LIMIT = "100/minute"

# Sentinel peers: every service with a certificate of this platform, and the worker of any provider, in the catalogue
# or not. A method for any worker that is about one provider must check that the worker is that provider's.
ANY_SERVICE = "*"
ANY_WORKER = "worker-*"

# What the names of methods that change nothing begin with; see the conventions in proto/README.md.
_READING = ("Get", "List", "Verify", "Export")


@dataclass(frozen=True, slots=True)
class Rule:
    """Says which services may call a method, for whom, for how long it may run, and how often it may be called.

    The person behind the call needs `role` and a token with one of the `scopes`, or any with ANY_TOKEN; `role` None
    means that no person is needed. `deadline` is in seconds and shortens what the caller allows. `limit` counts what
    comes through the front door, for each person, or for each address where no person is needed; None is no limit.
    """

    peers: frozenset[str]
    role: str | None
    deadline: float = DEFAULT_DEADLINE
    scopes: frozenset[str] = frozenset()
    limit: str | None = None

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

    def admits_scopes(self, scopes: frozenset[str]) -> bool:
        """Tells whether a token of these scopes may be used for the call."""
        return self.role is None or ANY_TOKEN in self.scopes or not self.scopes.isdisjoint(scopes)


AccessPolicy = Mapping[str, Rule]

# What every server offers beside its own services.
BOOTSTRAP_POLICY: AccessPolicy = {
    "/grpc.health.v1.Health/Check": Rule(frozenset({ANY_SERVICE}), None),
    "/grpc.health.v1.Health/Watch": Rule(frozenset({ANY_SERVICE}), None, UNBOUNDED),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(frozenset({ANY_SERVICE}), None, UNBOUNDED),
}


def open_to(peers: Collection[str], *, deadline: float = DEFAULT_DEADLINE, limit: str | None = None) -> Rule:
    """A method these services may call without a person, as often as `limit` says for each address."""
    return Rule(frozenset(peers), None, deadline, limit=limit)


def for_role(
    role: str,
    peers: Collection[str],
    *,
    scopes: Collection[str],
    deadline: float = DEFAULT_DEADLINE,
    limit: str = DEFAULT_LIMIT,
) -> Rule:
    """A method these services may call for a person of this role or a higher one, by a token with one of the scopes."""
    return Rule(frozenset(peers), role, deadline, frozenset(scopes), limit)


def changes_state(method: str) -> bool:
    """Tells whether a method, by its full name, may change something."""
    return not method.rpartition("/")[2].startswith(_READING)
