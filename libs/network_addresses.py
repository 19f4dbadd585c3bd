"""IP addresses as far as they tell people apart."""

from __future__ import annotations

import ipaddress


def network_of(address: str | None) -> str | None:
    """Returns what one customer of a network has: an IPv4 address, or the /64 of an IPv6 address.

    None for a text that is no address.
    """
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        # A customer of IPv6 gets 2^64 addresses at least.
        return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)
