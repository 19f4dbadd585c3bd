"""Where keys may be sent: the form of an endpoint, its addresses in every spelling, and what a deployment lists."""

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

import pytest

from libs import provider_endpoints
from libs.provider_catalog import load_catalog
from libs.provider_endpoints import EndpointRules, is_endpoint
from libs.settings import SettingsError

PUBLIC_ONLY = EndpointRules()

WRONG_FORM = [
    *("", "api.example.com", "//api.example.com", "ftp://api.example.com", "HTTPS://api.example.com", "https://"),
    *("https://somebody@api.example.com", "https://somebody:secret@api.example.com", "https://@api.example.com"),
    *("https://api.example.com?", "https://api.example.com/v1?a=b", "https://api.example.com#", "https://a.example/#b"),
    *("https://api.example.com/", "https://api.example.com/v1/", "https://api.example.com//v1"),
    *("https://api.example.com/../v1", "https://api.example.com/v1/.", "https://api.example.com/a/./b"),
    *("https://api.example.com:", "https://api.example.com:0", "https://api.example.com:65536", "https://a.example:x"),
    *("https://api.example.com:080", "https://api.example.com:-1"),
    *(
        "https://api.example.com\n",
        "https://api.exa\tmple.com",
        " https://api.example.com",
        "https://api.example.com/v 1",
    ),
    *("https://api.example.com\\@evil.example", "https://api.example.com\x00", "https://api.example.com/v1\r\nx: y"),
    *("https://api.example.com.", "https://.example.com", "https://api..example.com", "https://-api.example.com"),
    *("https://bücher.example", "https://api。example.com", "https://①②⑦.0.0.1", "https://１２７.0.0.1"),
    *("https://%31%32%37.0.0.1", "https://loc%61lhost", "https://127.0.0.1%2eexample.com"),
    *("https://[fe80::1%25eth0]", "https://[fe80::1%eth0]", "https://[::1", "https://::1", "https://[127.0.0.1]"),
    *("https://[::ffff:0x7f.1]", "https://[1::2::3]", "https://[v1.x]", f"https://api.example.com/{'v' * 500}"),
    f"https://{'.'.join(['a' * 60] * 5)}",
]
OTHER_SPELLINGS = [
    *("https://127.1", "https://127.0.1", "https://2130706433", "https://0x7f000001", "https://0x7f.0.0.1"),
    *("https://0177.0.0.1", "https://017700000001", "https://127.0.0.01", "https://1.1.1.1.1", "https://999.1.1.1"),
    *("https://0x", "https://example.0x7f", "https://0X7F.1"),
]
NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
    *("169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1"),
    *("192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fd12:3456::1", "ff02::1", "100::1", "4000::1"),
    *("2001:db8::1", "2001:2::1", "2001:10::1", "2001:20::1", "3fff::1", "5f00::1", "64:ff9b:1::1.1.1.1"),
    # IPv4 inside IPv6: mapped, compatible, translated; 6to4 and Teredo lead by way of strangers, wherever to.
    *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe"),
    *("2002:7f00:1::", "2002:101:101::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
]
ARE_PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.1"),
    *("2606:4700::1111", "2a00:1450:4001::200e", "2001:4860:4860::8888", "::ffff:1.1.1.1", "64:ff9b::8.8.8.8"),
]
PRIVATE_NAMES = [
    *("localhost", "LOCALHOST", "x.localhost", "vault", "key-vault", "printer.local", "metadata.google.internal"),
    *("host.docker.internal", "nas.home.arpa", "ollama.lan", "localhost.localdomain"),
]


def url_of(address: str) -> str:
    return f"https://[{address}]/v1" if ":" in address else f"https://{address}/v1"


class TestForm:
    @pytest.mark.parametrize("url", WRONG_FORM)
    async def test_of_anything_else_is_refused(self, url: str) -> None:
        rule = PUBLIC_ONLY.broken_rule(url)
        assert rule is not None
        assert "like https://host/v1" in rule
        assert await PUBLIC_ONLY.broken_address_rule(url) == rule
        assert not is_endpoint(url)

    @pytest.mark.parametrize(
        "url",
        [
            *("https://api.example.com", "https://api.example.com:8443/v1", "https://xn--bcher-kva.example/v1"),
            *("https://API.Example.com/openai/deployments/gpt-4o_1", "https://api.example.com/a%20b/@cf/x:y/v1.2"),
            *("https://1.1.1.1:8443/v1", "https://[2606:4700::1111]:8443/v1", "https://3.example.com"),
        ],
    )
    def test_of_a_base_url_passes(self, url: str) -> None:
        assert PUBLIC_ONLY.broken_rule(url) is None

    def test_of_every_provider_in_the_catalogue_passes(self) -> None:
        assert [PUBLIC_ONLY.broken_rule(provider.endpoint) for provider in load_catalog().values()] == [None] * 5

    def test_is_that_of_https(self) -> None:
        rule = PUBLIC_ONLY.broken_rule("http://api.example.com/v1")
        assert rule is not None
        assert rule.startswith("must begin with https://")
        assert is_endpoint("http://api.example.com/v1")


class TestAddresses:
    @pytest.mark.parametrize("url", OTHER_SPELLINGS)
    def test_in_unusual_spellings_are_refused(self, url: str) -> None:
        assert PUBLIC_ONLY.broken_rule(url) == "must have a host name, or an address in its usual form."
        assert EndpointRules(["127.0.0.0/8"]).broken_rule(url) is not None

    @pytest.mark.parametrize("address", NOT_PUBLIC)
    def test_that_are_not_public_are_refused(self, address: str) -> None:
        rule = PUBLIC_ONLY.broken_rule(url_of(address))
        assert rule is not None
        assert rule.startswith("must lead to public addresses only")
        assert not PUBLIC_ONLY.admits(address)

    @pytest.mark.parametrize("address", ARE_PUBLIC)
    def test_that_are_public_pass(self, address: str) -> None:
        assert PUBLIC_ONLY.broken_rule(url_of(address)) is None
        assert PUBLIC_ONLY.admits(address)

    @pytest.mark.parametrize("text", ["", "api.example.com", "1.1.1", "2606:4700::1111%eth0", "fe80::1%1"])
    def test_are_nothing_else(self, text: str) -> None:
        assert not EndpointRules(["fe80::/10"]).admits(text)

    @pytest.mark.parametrize("name", PRIVATE_NAMES)
    def test_behind_private_names_are_refused_unasked(self, name: str) -> None:
        assert PUBLIC_ONLY.broken_rule(f"https://{name}/v1") == PUBLIC_ONLY.broken_rule("https://10.0.0.1")


class TestPrivateEndpoints:
    rules = EndpointRules(["Ollama.lan", "localhost", "10.1.0.0/16", "192.168.7.7", "fd00::/8"])

    @pytest.mark.parametrize(
        "host", ["ollama.lan", "OLLAMA.lan", "localhost", "10.1.2.3", "192.168.7.7", "[fd00::1]", "[::ffff:10.1.2.3]"]
    )
    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_need_neither_https_nor_a_public_address(self, scheme: str, host: str) -> None:
        assert self.rules.broken_rule(f"{scheme}://{host}:11434/v1") is None
        assert await self.rules.broken_address_rule(f"{scheme}://{host}:11434/v1") is None

    @pytest.mark.parametrize("host", ["x.ollama.lan", "x.localhost", "10.2.0.1", "192.168.7.8", "[fe80::1]", "127.1"])
    def test_are_those_that_are_listed(self, host: str) -> None:
        assert self.rules.broken_rule(f"https://{host}/v1") is not None
        assert self.rules.broken_rule(f"http://{host}/v1") is not None

    def test_make_no_exception_for_others(self) -> None:
        assert self.rules.broken_rule("http://api.example.com/v1") is not None
        assert self.rules.broken_rule("http://1.1.1.1/v1") is not None

    @pytest.mark.parametrize(
        ("url", "trusted"),
        [("http://ollama.lan/v1", True), ("http://10.1.2.3/v1", False), ("https://a.example", False), ("", False)],
    )
    def test_are_trusted_wherever_they_lead_if_listed_by_name(self, url: str, trusted: bool) -> None:
        assert self.rules.trusts(url) is trusted

    @pytest.mark.parametrize(
        "entry", ["http://ollama.lan", "ollama.lan:11434", "10.1.0.1/16", "10.1", "127.1", "*.lan", "", "a b", "[::1]"]
    )
    def test_that_are_misspelt_are_told(self, entry: str) -> None:
        with pytest.raises(SettingsError, match=r"^PRIVATE_ENDPOINTS names .*host names, addresses and networks"):
            EndpointRules([entry])


class TestResolution:
    @pytest.fixture
    async def resolver(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Iterable[str] | Exception]:
        """What the names of the test resolve to."""
        answers: dict[str, Iterable[str] | Exception] = {}

        async def getaddrinfo(host: str, port: int, **_options: Any) -> list[Any]:
            answer = answers[host]
            if isinstance(answer, Exception):
                raise answer
            kinds = [(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in answer]
            return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in kinds]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        return answers

    async def rule(self, resolver: Any, *addresses: str, private: Iterable[str] = ()) -> str | None:
        resolver["api.example.com"] = addresses
        return await EndpointRules(list(private)).broken_address_rule("https://api.example.com/v1")

    async def test_to_public_addresses_passes(self, resolver: Any) -> None:
        assert await self.rule(resolver, "1.1.1.1", "2606:4700::1111") is None

    @pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1%eth0"])
    async def test_to_one_private_address_among_others_is_refused(self, resolver: Any, address: str) -> None:
        for addresses in ((address,), ("1.1.1.1", address), (address, "1.1.1.1")):
            rule = await self.rule(resolver, *addresses)
            assert rule is not None
            assert rule.startswith("must lead to public addresses only")

    async def test_to_a_listed_network_passes(self, resolver: Any) -> None:
        assert await self.rule(resolver, "10.1.2.3", "1.1.1.1", private=["10.1.0.0/16"]) is None

    async def test_to_nothing_is_told(self, resolver: Any) -> None:
        assert await self.rule(resolver) is not None
        for failure in (socket.gaierror(-2, "unknown"), UnicodeError("label too long")):
            resolver["api.example.com"] = failure
            rule = await PUBLIC_ONLY.broken_address_rule("https://api.example.com")
            assert rule is not None
            assert "whose address can be found" in rule

    async def test_that_does_not_end_is_not_awaited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def never(*_arguments: Any, **_options: Any) -> list[Any]:
            await asyncio.Event().wait()
            return []

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
        monkeypatch.setattr(provider_endpoints, "_RESOLVE_SECONDS", 0.01)
        rule = await PUBLIC_ONLY.broken_address_rule("https://api.example.com")
        assert rule is not None
        assert "whose address can be found" in rule
