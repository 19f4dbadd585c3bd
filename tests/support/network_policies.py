"""What NetworkPolicies let through, worked out by the rules of their specification."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["Ingress", "Egress"]


@dataclass(frozen=True)
class Peer:
    """A pod, or a machine outside the cluster, which has an address and no labels."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str | None = None
    address: str = "192.0.2.1"


@dataclass(frozen=True)
class Policies:
    """All policies of one namespace."""

    namespace: str
    objects: tuple[Mapping[str, Any], ...]

    def lets(self, caller: Peer, called: Peer, port: int, protocol: str = "TCP") -> bool:
        """Tells whether the one may open a connection to the other."""
        return self._lets("Egress", caller, called, port, protocol) and self._lets(
            "Ingress", called, caller, port, protocol
        )

    def _lets(self, direction: Direction, pod: Peer, other: Peer, port: int, protocol: str) -> bool:
        if pod.namespace != self.namespace:
            return True  # nothing is said here of others' pods
        specs = [each["spec"] for each in self.objects]
        isolating = [
            spec
            for spec in specs
            if direction in spec["policyTypes"] and matches_labels(spec["podSelector"], pod.labels)
        ]
        if not isolating:
            return True
        rules = [rule for spec in isolating for rule in spec.get(direction.lower(), ())]
        side = "from" if direction == "Ingress" else "to"
        return any(
            self._is_one_of(rule.get(side), other) and _is_port(rule.get("ports"), port, protocol) for rule in rules
        )

    def _is_one_of(self, peers: Iterable[Mapping[str, Any]] | None, other: Peer) -> bool:
        return peers is None or any(self._is(each, other) for each in peers)

    def _is(self, described: Mapping[str, Any], other: Peer) -> bool:
        if (block := described.get("ipBlock")) is not None:
            address = ipaddress.ip_address(other.address)
            return (
                other.namespace is None
                and address in ipaddress.ip_network(block["cidr"])
                and not any(address in ipaddress.ip_network(each) for each in block.get("except", ()))
            )
        if other.namespace is None:
            return False
        namespaces = described.get("namespaceSelector")
        if namespaces is None:
            right_namespace = other.namespace == self.namespace
        else:
            right_namespace = matches_labels(namespaces, {"kubernetes.io/metadata.name": other.namespace})
        return right_namespace and matches_labels(described.get("podSelector", {}), other.labels)


def matches_labels(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tells whether a selector selects what has these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        value = labels.get(expression["key"])
        held = {
            "In": value is not None and value in expression.get("values", ()),
            "NotIn": value not in expression.get("values", ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not held[expression["operator"]]:
            return False
    return True


def _is_port(ports: Iterable[Mapping[str, Any]] | None, port: int, protocol: str) -> bool:
    return ports is None or any(
        each.get("protocol", "TCP") == protocol and each.get("port", port) == port for each in ports
    )
