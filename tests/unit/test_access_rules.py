"""Whom a rule admits by the name in the certificate."""

import pytest

from libs.rpc.access_policy import ANY_SERVICE, ANY_WORKER, open_to

STRANGE = [
    "",
    "*",
    "worker",
    "worker-",
    "worker-*",
    "worker-auto",
    "worker-A",
    "worker-a b",
    "worker-a/b",
    "worker-a\n",
]


class TestAnyWorker:
    rule = open_to({ANY_WORKER, "key-vault"})

    @pytest.mark.parametrize("peer", ["worker-openai", "worker-our-vllm-2", "key-vault"])
    def test_the_worker_of_any_provider_may(self, peer: str) -> None:
        assert self.rule.admits_peer(peer)

    @pytest.mark.parametrize("peer", [*STRANGE, "openai", "envoy", "key-vault-2", "my-worker-openai", "operator"])
    def test_nobody_else_may(self, peer: str) -> None:
        assert not self.rule.admits_peer(peer)


class TestNamedServices:
    rule = open_to({"envoy", "worker-openai"})

    @pytest.mark.parametrize("peer", ["worker-grok", "auth", *STRANGE])
    def test_a_rule_with_names_admits_no_others(self, peer: str) -> None:
        assert self.rule.admits_peer("envoy")
        assert self.rule.admits_peer("worker-openai")
        assert not self.rule.admits_peer(peer)


class TestAnyService:
    rule = open_to({ANY_SERVICE})

    @pytest.mark.parametrize("peer", ["envoy", "operator", "worker-openai", "worker-our-vllm-2"])
    def test_every_service_may(self, peer: str) -> None:
        assert self.rule.admits_peer(peer)

    @pytest.mark.parametrize("peer", [ANY_SERVICE, ANY_WORKER])
    def test_a_certificate_with_the_name_of_a_sentinel_is_nobodys(self, peer: str) -> None:
        assert not self.rule.admits_peer(peer)
