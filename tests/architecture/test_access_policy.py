"""Every method has its rule where it is served, and the rules are as narrow as the architecture says."""

import pytest
from google.protobuf.descriptor import MethodDescriptor

from deploy.envoy.routes import PUBLIC_SERVICES
from libs.rpc.access_policy import (
    ANY_SERVICE,
    ANY_TOKEN,
    ANY_WORKER,
    BOOTSTRAP_POLICY,
    ROLES,
    SESSION,
    SESSION_SCOPES,
    Rule,
    changes_state,
)
from tests.architecture.deployables import DEPLOYABLES, SERVICE_NAMES, policy, served
from tests.architecture.descriptors import full_name, http_binding, is_public, methods, services
from tests.architecture.source_code import modules

METHODS = {full_name(method): method for method in methods()}
# Public methods that need no token, each with its reason.
OPEN_TO_EVERYONE = {
    "/realmultillm.auth.v1.AuthService/SignUp": "nobody has a token before it",
    "/realmultillm.auth.v1.AuthService/SignIn": "nobody has a token before it",
    "/realmultillm.router.v1.PlatformHealthService/GetPlatformHealth": "asked by load balancers",
}
# What workers do, and the router over the workers.
CHATS = {
    "realmultillm.chat.v1.ChatService",
    "realmultillm.openai.v1.ChatCompletionService",
    "realmultillm.openai.v1.EmbeddingService",
    "realmultillm.anthropic.v1.MessageService",
}
# What any token may be used for, also one that has no scope left.
FOR_ANY_TOKEN = {"/realmultillm.auth.v1.AuthService/SignOut", "/realmultillm.auth.v1.AuthService/GetSession"}
# Methods that hand out secrets, and who alone may call them.
REVEALING = {"/realmultillm.keyvault.v1.CredentialService/GetCredential": {ANY_WORKER}}


def rows() -> list[tuple[str, str, Rule]]:
    return [(deployable, method, rule) for deployable in DEPLOYABLES for method, rule in policy(deployable).items()]


every_row = pytest.mark.parametrize(("deployable", "method", "rule"), rows(), ids=lambda part: str(part)[:80])


class TestCompleteness:
    @pytest.mark.parametrize("deployable", DEPLOYABLES)
    def test_the_rows_are_exactly_the_methods_served(self, deployable: str) -> None:
        expected = {full_name(method) for service in served(deployable) for method in service.methods}
        assert expected
        assert set(policy(deployable)) == expected

    def test_every_service_of_the_protos_is_served(self) -> None:
        found = {service.full_name for deployable in DEPLOYABLES for service in served(deployable)}
        assert found == {service.full_name for service in services()}

    @pytest.mark.parametrize("name", [service.full_name for service in services()])
    def test_only_chat_is_served_by_more_than_one(self, name: str) -> None:
        servers = [
            deployable for deployable in DEPLOYABLES if name in (service.full_name for service in served(deployable))
        ]
        assert servers == (["provider-router", "worker"] if name in CHATS else servers[:1])

    def test_every_policy_there_is_was_looked_at(self) -> None:
        assert len([module for module in modules("libs", "services") if "ACCESS_POLICY: " in module.text]) == len(
            DEPLOYABLES
        )

    def test_the_front_door_leads_to_exactly_what_it_may_call(self) -> None:
        admitted = {method.split("/")[1] for _, method, rule in rows() if "envoy" in rule.peers}
        assert admitted == set(PUBLIC_SERVICES)
        for deployable in DEPLOYABLES:
            led_to = {service for service, cluster in PUBLIC_SERVICES.items() if cluster == deployable}
            # Chats that name their provider are led past the router.
            named = {service.full_name for service in served(deployable)} if deployable != "worker" else set()
            assert led_to == named & set(PUBLIC_SERVICES)


class TestRules:
    @every_row
    def test_public_methods_admit_envoy_and_no_other_does(self, deployable: str, method: str, rule: Rule) -> None:
        offered = is_public(METHODS[method]) or self._is_the_gateways_too(METHODS[method])
        assert ("envoy" in rule.peers) is offered

    @staticmethod
    def _is_the_gateways_too(method: MethodDescriptor) -> bool:
        """A method without an address in a service that has public ones is for gRPC callers, who come through Envoy."""
        return any(is_public(sibling) for sibling in method.containing_service.methods)

    @every_row
    def test_peers_are_services_that_exist(self, deployable: str, method: str, rule: Rule) -> None:
        assert rule.peers
        assert rule.peers <= SERVICE_NAMES

    @every_row
    def test_no_rule_admits_any_service(self, deployable: str, method: str, rule: Rule) -> None:
        assert ANY_SERVICE not in rule.peers

    @every_row
    def test_a_person_is_needed_wherever_people_come_from(self, deployable: str, method: str, rule: Rule) -> None:
        assert rule.role is None or rule.role in ROLES
        if "envoy" in rule.peers:
            assert (rule.role is None) is (method in OPEN_TO_EVERYONE)

    @every_row
    def test_what_people_call_is_for_known_scopes_and_limited(self, deployable: str, method: str, rule: Rule) -> None:
        if rule.role is None:
            assert rule.scopes == frozenset()
        else:
            assert rule.scopes
            assert rule.scopes == {ANY_TOKEN} if method in FOR_ANY_TOKEN else rule.scopes <= SESSION_SCOPES
        # Who asks for health asks often, and what it costs is nothing.
        limited = "envoy" in rule.peers and not method.endswith("/GetPlatformHealth")
        if limited:
            assert rule.limit
        elif rule.role is None:
            assert rule.limit is None

    @every_row
    def test_what_administers_is_for_administrators(self, deployable: str, method: str, rule: Rule) -> None:
        """By role and by scope, and nothing else is."""
        administers = http_binding(METHODS[method])[1].startswith("/api/admin/")
        assert (rule.role == "admin") is administers
        assert ("admin" in rule.scopes - {SESSION} and SESSION not in rule.scopes) is administers

    @every_row
    def test_a_method_changes_something_unless_it_is_a_get(self, deployable: str, method: str, rule: Rule) -> None:
        """What pages of others may not call by the session cookie is told by the name."""
        if is_public(METHODS[method]):
            assert changes_state(method) is (http_binding(METHODS[method])[0] != "GET")

    @every_row
    def test_a_method_ends(self, deployable: str, method: str, rule: Rule) -> None:
        assert rule.deadline > 0
        watches = METHODS[method].name.startswith("Watch")
        assert (rule.deadline == float("inf")) is watches
        if not watches:
            assert rule.deadline <= 600

    @pytest.mark.parametrize("method", REVEALING)
    def test_secrets_are_for_those_who_need_them(self, method: str) -> None:
        (found,) = [rule.peers for _, name, rule in rows() if name == method]
        assert found == REVEALING[method]

    def test_the_bootstrap_offers_health_and_reflection_and_nothing_else(self) -> None:
        offered = {method.split("/")[1] for method in BOOTSTRAP_POLICY}
        assert offered == {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
        assert not any(method in BOOTSTRAP_POLICY for _, method, _ in rows())
