"""Every method of every service × every kind of caller, straight at the service, past Envoy.

The table is written out here, whatever the services' own tables say: a method that this one does not know, or that is
served where it should not be, fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message
from realmultillm.auth.v1.token_service_pb2 import VerifyTokenRequest
from realmultillm.keyvault.v1.credential_service_pb2 import GetCredentialRequest, WatchCredentialsRequest

from libs import tokens
from libs.rpc.channel import open_channel
from tests.architecture import descriptors
from tests.e2e.conftest import Person, Platform
from tests.e2e.people import Caller, administrator, everyone
from tests.support.rpc import error_info

# Names in certificates that the platform's authority issues. Which provider a worker is of makes no difference here.
WORKERS = frozenset({"worker-openai", "worker-grok"})
SERVICES = frozenset({"auth", "key-vault", "analytics", "provider-router", "envoy"}) | WORKERS
EVERYBODY = SERVICES | {"operator", "vault", "public"}
ENVOY = frozenset({"envoy"})


@dataclass(frozen=True)
class Row:
    """Which services may call, for a person of which role and with a token for which of the scopes; None is any."""

    peers: frozenset[str]
    role: str | None = None
    scopes: frozenset[str] | None = frozenset()


def nobody(peers: Iterable[str]) -> Row:
    """No person is needed."""
    return Row(frozenset(peers))


def user(*scopes: str, peers: Iterable[str] = ENVOY) -> Row:
    """Any person, by a session or by an API token with one of these scopes."""
    return Row(frozenset(peers), "user", frozenset({*scopes, "session"}))


def anyone() -> Row:
    """Any person, by any token, also one that has no scope left."""
    return Row(ENVOY, "user", None)


def admin() -> Row:
    """An administrator, by a session or by an API token for it."""
    return Row(ENVOY, "admin", frozenset({"admin", "session"}))


FRONT_DOORS = ("envoy", "provider-router")
ASKING_AUTH = {"key-vault", "analytics", "provider-router", *WORKERS}

TABLE: dict[str, dict[str, Row]] = {
    "auth": {
        "realmultillm.auth.v1.AuthService/SignUp": nobody(ENVOY),
        "realmultillm.auth.v1.AuthService/SignIn": nobody(ENVOY),
        "realmultillm.auth.v1.AuthService/SignOut": anyone(),
        "realmultillm.auth.v1.AuthService/GetSession": anyone(),
        "realmultillm.auth.v1.AuthService/ChangePassword": user(),
        "realmultillm.auth.v1.AuthService/ListSessions": user(),
        "realmultillm.auth.v1.AuthService/DeleteSession": user(),
        "realmultillm.auth.v1.AuthService/DeleteOtherSessions": user(),
        "realmultillm.auth.v1.ApiTokenService/CreateApiToken": user(),
        "realmultillm.auth.v1.ApiTokenService/ListApiTokens": user(),
        "realmultillm.auth.v1.ApiTokenService/DeleteApiToken": user(),
        "realmultillm.auth.v1.UserAdminService/ListUsers": admin(),
        "realmultillm.auth.v1.UserAdminService/GetUser": admin(),
        "realmultillm.auth.v1.UserAdminService/UpdateUser": admin(),
        "realmultillm.auth.v1.AuditLogService/ListAuditLogs": admin(),
        "realmultillm.auth.v1.AuditLogService/VerifyAuditLogs": admin(),
        "realmultillm.auth.v1.AuditIngestService/IngestAuditEvents": nobody(ASKING_AUTH),
        "realmultillm.auth.v1.TokenService/VerifyToken": nobody(ASKING_AUTH),
        "realmultillm.auth.v1.TokenService/WatchRevocations": nobody(ASKING_AUTH),
    },
    "key-vault": {
        "realmultillm.keyvault.v1.ProviderConfigService/GetProviderConfig": user("config", peers=FRONT_DOORS),
        "realmultillm.keyvault.v1.ProviderConfigService/ListProviderConfigs": user("config", peers=FRONT_DOORS),
        "realmultillm.keyvault.v1.ProviderConfigService/SetProviderConfig": user("config", peers=FRONT_DOORS),
        "realmultillm.keyvault.v1.ProviderConfigService/UpdateProviderConfig": user("config", peers=FRONT_DOORS),
        "realmultillm.keyvault.v1.ProviderConfigService/DeleteProviderConfig": user("config", peers=FRONT_DOORS),
        "realmultillm.keyvault.v1.ProviderConfigService/TestProviderConfig": user("config", peers=FRONT_DOORS),
        "realmultillm.keyvault.v1.CredentialService/GetCredential": nobody(WORKERS),
        "realmultillm.keyvault.v1.CredentialService/WatchCredentials": nobody(WORKERS),
        "realmultillm.keyvault.v1.CredentialService/ListProviderStates": user(
            "models:read", "chat", peers={"provider-router"}
        ),
        "realmultillm.keyvault.v1.PlatformConfigService/ListPlatformConfigs": admin(),
        "realmultillm.keyvault.v1.PlatformConfigService/SetPlatformConfig": admin(),
        "realmultillm.keyvault.v1.EncryptionKeyService/ListEncryptionKeys": admin(),
        "realmultillm.keyvault.v1.EncryptionKeyService/RotateEncryptionKey": admin(),
        "realmultillm.keyvault.v1.DataKeyService/GenerateDataKey": nobody(WORKERS),
        "realmultillm.keyvault.v1.DataKeyService/UnwrapDataKeys": user("analytics:read", peers={"analytics"}),
        "realmultillm.keyvault.v1.DataKeyService/RewrapDataKeys": nobody({"analytics"}),
    },
    "analytics": {
        "realmultillm.analytics.v1.AnalyticsService/GetUsage": user("analytics:read"),
        "realmultillm.analytics.v1.AnalyticsService/GetCosts": user("analytics:read"),
        "realmultillm.analytics.v1.AnalyticsService/GetPerformance": user("analytics:read"),
        "realmultillm.analytics.v1.AnalyticsService/ExportAnalytics": user("analytics:read"),
        "realmultillm.analytics.v1.PlatformAnalyticsService/GetPlatformAnalytics": admin(),
        "realmultillm.analytics.v1.PlatformAnalyticsService/ExportPlatformAnalytics": admin(),
        "realmultillm.analytics.v1.ChatHistoryService/ListChatRecords": user("analytics:read"),
        "realmultillm.analytics.v1.ChatHistoryService/GetChatRecord": user("analytics:read"),
        "realmultillm.analytics.v1.ChatHistoryService/DeleteChatRecord": user("chat"),
        "realmultillm.analytics.v1.ChatHistoryService/DeleteChatHistory": user(),
        "realmultillm.analytics.v1.UsageIngestService/IngestUsage": nobody(WORKERS),
    },
    "provider-router": {
        "realmultillm.chat.v1.ChatService/CreateChatCompletion": user("chat"),
        "realmultillm.chat.v1.ChatService/StreamChatCompletion": user("chat"),
        "realmultillm.chat.v1.ComparisonService/CompareChatCompletions": user("chat"),
        "realmultillm.chat.v1.ComparisonService/StreamChatComparison": user("chat"),
        "realmultillm.openai.v1.ChatCompletionService/CreateChatCompletion": user("chat"),
        "realmultillm.openai.v1.EmbeddingService/CreateEmbedding": user("chat"),
        "realmultillm.openai.v1.ModelService/GetModels": user("models:read", "chat"),
        "realmultillm.openai.v1.ModelService/GetModel": user("models:read", "chat"),
        "realmultillm.anthropic.v1.MessageService/CreateMessage": user("chat"),
        "realmultillm.anthropic.v1.MessageService/CountMessageTokens": user("chat"),
        "realmultillm.router.v1.CatalogService/ListProviders": user("models:read"),
        "realmultillm.router.v1.ModelService/ListModels": user("models:read"),
        "realmultillm.router.v1.ModelService/CompareModels": user("models:read"),
        "realmultillm.router.v1.PlatformHealthService/GetPlatformHealth": nobody({"envoy", "operator"}),
    },
    "worker-openai": {
        "realmultillm.chat.v1.ChatService/CreateChatCompletion": user("chat", peers=FRONT_DOORS),
        "realmultillm.chat.v1.ChatService/StreamChatCompletion": user("chat", peers=FRONT_DOORS),
        "realmultillm.openai.v1.ChatCompletionService/CreateChatCompletion": user("chat", peers=FRONT_DOORS),
        "realmultillm.openai.v1.EmbeddingService/CreateEmbedding": user("chat", peers=FRONT_DOORS),
        "realmultillm.anthropic.v1.MessageService/CreateMessage": user("chat", peers=FRONT_DOORS),
        "realmultillm.anthropic.v1.MessageService/CountMessageTokens": user("chat", peers=FRONT_DOORS),
        "realmultillm.provider.v1.ProviderService/TestKey": nobody({"key-vault"}),
        "realmultillm.provider.v1.ProviderService/ListModels": user("models:read", "chat", peers={"provider-router"}),
        "realmultillm.provider.v1.ProviderService/WatchProviderHealth": nobody({"provider-router"}),
    },
}
# Beside the platform's own; what is not listed is for nobody.
HEALTH = {
    "grpc.health.v1.Health/Check": nobody(EVERYBODY),
    "grpc.health.v1.Health/Watch": nobody(EVERYBODY),
    "grpc.health.v1.Health/List": nobody(()),
}

METHODS = {descriptors.full_name(method).removeprefix("/"): method for method in descriptors.methods()}
ROWS = [(service, method) for service, rows in TABLE.items() for method in rows]
every_row = pytest.mark.parametrize(("service", "method"), ROWS, ids=lambda part: part.rpartition(".")[2])

REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED")
# In place of the reason, where it is the service that may not call; a method itself could have refused the same.
NOT_YOU = "this service may not"
# How long a stream may take to say that it goes on, in seconds. It does so at once.
_BEGIN_SECONDS = 10.0


class Ports:
    """The services as each of their peers reaches them."""

    def __init__(self, platform: Platform, channels: AsyncExitStack, valid_token: str) -> None:
        self._platform = platform
        self._exit = channels
        self._channels: dict[tuple[str, str], grpc.aio.Channel] = {}
        self._valid_token = valid_token

    async def _channel(self, service: str, peer: str) -> grpc.aio.Channel:
        if (service, peer) not in self._channels:
            stack = self._platform.stack
            channel = open_channel(stack.address(service), service, stack.tls(peer))
            self._channels[service, peer] = await self._exit.enter_async_context(channel)
        return self._channels[service, peer]

    async def ask(self, service: str, method: str, *, peer: str, caller: Caller) -> tuple[str, str]:
        """Calls a method, and returns code and reason of the answer; NOT_YOU is the reason for a service itself."""
        channel = await self._channel(service, peer)
        request = self._request(method, peer)
        options = {"metadata": caller.metadata, "timeout": _BEGIN_SECONDS}
        path = f"/{method}"
        try:
            if method.endswith("/Watch") or (method in METHODS and METHODS[method].server_streaming):
                call = channel.unary_stream(path)(request, **options)
                try:
                    await call.read()
                finally:
                    call.cancel()
            else:
                await channel.unary_unary(path)(request, **options)
        except grpc.aio.AioRpcError as error:
            if error.code().name not in REFUSED:
                return error.code().name, ""
            not_you = error.details() == "This service may not call this method."
            return error.code().name, NOT_YOU if not_you else error_info(error).reason
        return "OK", ""

    def _request(self, method: str, peer: str) -> bytes:
        """An empty one will do where it is not refused as if the caller were wrong."""
        provider = peer.removeprefix("worker-")
        requests: dict[str, Message] = {
            "VerifyToken": VerifyTokenRequest(token_sha256=tokens.digest(self._valid_token)),
            "GetCredential": GetCredentialRequest(user_id="usr_1", provider=provider),
            "WatchCredentials": WatchCredentialsRequest(provider=provider),
        }
        name = method.rpartition("/")[2]
        return requests[name].SerializeToString() if name in requests else b""


def expected(row: Row, peer: str, caller: Caller) -> tuple[str, str] | None:
    """Returns code and reason of the refusal, None where the call is let through."""
    if row.role is not None and caller.role is None:
        return "UNAUTHENTICATED", "UNAUTHENTICATED"
    if peer not in row.peers:
        return "PERMISSION_DENIED", NOT_YOU
    if row.role == "admin" and caller.role != "admin":
        return "PERMISSION_DENIED", "PERMISSION_DENIED"
    if row.role is not None and row.scopes is not None and not row.scopes & caller.scopes:
        return "PERMISSION_DENIED", "INSUFFICIENT_SCOPE"
    return None


@pytest.fixture(scope="module")
async def chief(platform: Platform) -> AsyncIterator[Person]:
    async with administrator(platform) as person:
        yield person


@pytest.fixture(scope="module")
async def callers(platform: Platform, chief: Person) -> AsyncIterator[list[Caller]]:
    async with everyone(platform, chief) as found:
        yield found


@pytest.fixture(scope="module")
async def ports(platform: Platform) -> AsyncIterator[Ports]:
    async with AsyncExitStack() as channels, platform.person(with_key=False) as bystander:
        yield Ports(platform, channels, bystander.token)


class TestCompleteness:
    def test_every_method_there_is_has_a_row(self) -> None:
        assert {method for _, method in ROWS} == METHODS.keys()

    @pytest.mark.parametrize("service", TABLE)
    async def test_a_service_serves_what_its_rows_say_and_nothing_else(self, ports: Ports, service: str) -> None:
        codes = await asyncio.gather(
            *(ports.ask(service, method, peer="vault", caller=Caller("nobody")) for method in METHODS)
        )
        served = {method for method, (code, _) in zip(METHODS, codes, strict=True) if code != "UNIMPLEMENTED"}
        assert served == TABLE[service].keys()


class TestCallers:
    """What people may do, through the services that may ask for them."""

    @every_row
    async def test_is_what_the_table_says(
        self, ports: Ports, platform: Platform, chief: Person, callers: list[Caller], service: str, method: str
    ) -> None:
        row = TABLE[service][method]
        if method.endswith("/SignOut"):  # would make all the others nobody
            async with everyone(platform, chief) as leaving:
                await self._check(ports, service, method, row, leaving)
        else:
            await self._check(ports, service, method, row, callers)

    @staticmethod
    async def _check(ports: Ports, service: str, method: str, row: Row, callers: list[Caller]) -> None:
        for peer in sorted(row.peers):
            answers = await asyncio.gather(
                *(ports.ask(service, method, peer=peer, caller=caller) for caller in callers)
            )
            for caller, answer in zip(callers, answers, strict=True):
                refusal = expected(row, peer, caller)
                assert answer == refusal if refusal else answer[0] not in REFUSED, (peer, caller, answer)


class TestServices:
    """What a certificate opens by itself: nothing that is not in the table, whoever it speaks for."""

    @every_row
    async def test_is_what_the_table_says(self, ports: Ports, callers: list[Caller], service: str, method: str) -> None:
        row = TABLE[service][method]
        admin, nobody = (next(each for each in callers if each.name == name) for name in ("an administrator", "nobody"))
        wrong = sorted(EVERYBODY - row.peers)
        assert wrong
        for caller in (admin, nobody):
            answers = await asyncio.gather(*(ports.ask(service, method, peer=peer, caller=caller) for peer in wrong))
            for peer, answer in zip(wrong, answers, strict=True):
                assert answer == expected(row, peer, caller), (peer, caller)

    @pytest.mark.parametrize("service", TABLE)
    async def test_every_service_is_told_of_health(self, ports: Ports, service: str) -> None:
        for peer in sorted(EVERYBODY):
            for method, row in HEALTH.items():
                code, _ = await ports.ask(service, method, peer=peer, caller=Caller("nobody"))
                assert code == ("OK" if row.peers else "PERMISSION_DENIED"), (peer, method)


class TestNoCertificate:
    """Nothing is served to whoever shows none, or one of another authority: not even a refusal."""

    @pytest.mark.parametrize("service", TABLE)
    async def test_opens_nothing(self, platform: Platform, callers: list[Caller], service: str) -> None:
        admin = next(each for each in callers if each.name == "an administrator")
        stack = platform.stack
        credentials = grpc.ssl_channel_credentials(root_certificates=stack.tls().material.authority)
        options = (("grpc.ssl_target_name_override", service),)
        async with (
            grpc.aio.secure_channel(stack.address(service), credentials, options) as without,
            grpc.aio.insecure_channel(stack.address(service)) as in_clear,
        ):
            for channel in (without, in_clear):
                for method in (*TABLE[service], *HEALTH):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await channel.unary_unary(f"/{method}")(b"", metadata=admin.metadata, timeout=5)
                    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, method
