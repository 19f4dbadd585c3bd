"""Where keys may be sent: what the base URL of a provider looks like, and which addresses it may lead to.

A URL with `https` at public addresses, unless the deployment lists a private host. Whoever sets an endpoint is told
before it is stored; workers look again at each address they connect to, since a name may lead elsewhere by then.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from libs.settings import SettingsError

LONGEST_ENDPOINT = 500
# How long the address of a name is asked for, in seconds.
_RESOLVE_SECONDS = 3.0

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
# One pattern, and not a parser that reads on where another stops: all who use the URL see the same host in it.
_URL = re.compile(
    rf"(?P<scheme>https?)://(?:(?P<name>{_LABEL}(?:\.{_LABEL})*)|\[(?P<v6>(?=[^\]]*:)[0-9A-Fa-f:.]+)\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?:/(?!\.{1,2}(?:/|\Z))(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*"
)
# What resolvers take for an IPv4 address, in any of its spellings: 127.1, 0x7f000001, 017700000001.
_NUMBER_AT_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)")
# Names that lead nowhere on the public internet, whatever a resolver says.
_PRIVATE_NAMES = ("localhost", "local", "internal", "home.arpa", "localdomain", "lan", "intranet", "onion")

# Special-purpose networks by the registries of IANA, beyond which an address is public.
_NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # Public by number, but what answers there is the metadata service of Azure's own machines.
        "168.63.129.16/32",
    )
)
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
# With Teredo and 6to4, which lead to any IPv4 address by way of strangers.
_NOT_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
# IPv6 that stands for the IPv4 address at its end: mapped, compatible, and translated (NAT64).
_STANDS_FOR_V4 = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "::/96", "64:ff9b::/96")))

_FORM = (
    f"must be a URL of at most {LONGEST_ENDPOINT} characters like https://host/v1, "
    "without user, query, fragment or slash at the end."
)
_SPELLING = "must have a host name, or an address in its usual form."
_SCHEME = "must begin with https://, unless the deployment lists its host as a private endpoint."
_PRIVATE = "must lead to public addresses only, unless the deployment lists its host as a private endpoint."
_UNKNOWN = "must have a host name whose address can be found; check its spelling, or try again in a moment."


class AddressRefused(OSError):
    """An address that no key may be sent to. Raised in place of a connection."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    scheme: str
    host: str
    port: int


def is_endpoint(url: str) -> bool:
    """Tells whether a text has the form of an endpoint, with http or https, whatever its host is."""
    return _read(url) is not None


class EndpointRules:
    """Tells where keys may be sent. `private` are host names, addresses and networks that need not be public.

    These may be called with http as well. A name among them is trusted wherever it leads. Raises SettingsError for an
    entry that is none of the three.
    """

    def __init__(self, private: Collection[str] = ()) -> None:
        names = set()
        networks: list[_Network] = []
        for entry in private:
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError:
                if _NAME.fullmatch(entry) is None or _NUMBER_AT_END.fullmatch(entry):
                    raise SettingsError(
                        f"PRIVATE_ENDPOINTS names {entry!r}; it takes host names, addresses and networks like"
                        " 10.1.0.0/16, without scheme and port"
                    ) from None
                names.add(entry.lower())
        self._names = frozenset(names)
        self._networks = tuple(networks)

    def broken_rule(self, url: str) -> str | None:
        """Says what an endpoint must be, or None when nothing is wrong with it as it is written."""
        endpoint = _read(url)
        if endpoint is None:
            return _FORM
        if endpoint.host in self._names:
            return None
        address = _address(endpoint.host)
        if address is None:
            if _NUMBER_AT_END.fullmatch(endpoint.host):
                return _SPELLING
            if "." not in endpoint.host or endpoint.host.endswith(tuple(f".{name}" for name in _PRIVATE_NAMES)):
                return _PRIVATE
        elif self._lists(address):
            return None
        elif not _is_public(address):
            return _PRIVATE
        return None if endpoint.scheme == "https" else _SCHEME

    async def broken_address_rule(self, url: str) -> str | None:
        """Says what an endpoint must be by the addresses its name leads to now, or None; within a few seconds."""
        if rule := self.broken_rule(url):
            return rule
        endpoint = _read(url)
        if endpoint is None or endpoint.host in self._names:
            return None
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(
                    endpoint.host, endpoint.port, type=socket.SOCK_STREAM
                )
        except (OSError, UnicodeError):  # TimeoutError is one
            return _UNKNOWN
        addresses = {str(sockaddr[0]) for *_, sockaddr in found}
        return None if addresses and all(map(self.admits, addresses)) else _PRIVATE

    def trusts(self, url: str) -> bool:
        """Tells whether a URL has a private host that is listed by its name."""
        endpoint = _read(url)
        return endpoint is not None and endpoint.host in self._names

    def admits(self, address: str) -> bool:
        """Tells whether keys may be sent to an address, as a resolver returns it."""
        parsed = _address(address)
        return parsed is not None and (self._lists(parsed) or _is_public(parsed))

    def _lists(self, address: _Address) -> bool:
        return any(form in network for form in _forms(address) for network in self._networks)


def _read(url: str) -> _Endpoint | None:
    match = _URL.fullmatch(url) if len(url) <= LONGEST_ENDPOINT else None
    if match is None:
        return None
    scheme, port = match["scheme"], int(match["port"] or 0)
    host = (match["name"] or match["v6"]).lower()
    if port > 65535 or len(host) > 253 or (match["v6"] and _address(host) is None):
        return None
    return _Endpoint(scheme, host, port or {"http": 80, "https": 443}[scheme])


def _address(text: str) -> _Address | None:
    """Reads an address in its usual form; None for a zone as well, which only a link has."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def _forms(address: _Address) -> Iterator[_Address]:
    """Yields an address and the IPv4 address it stands for, if it does."""
    yield address
    if isinstance(address, ipaddress.IPv6Address) and any(address in network for network in _STANDS_FOR_V4):
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def _is_public(address: _Address) -> bool:
    *_, reached = _forms(address)
    if isinstance(reached, ipaddress.IPv4Address):
        return not any(reached in network for network in _NOT_PUBLIC_V4)
    return reached in _PUBLIC_V6 and not any(reached in network for network in _NOT_PUBLIC_V6)
