"""The key vault as deployed, in this process: replicas on a real database and Vault, and those who call them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from realmultillm.keyvault.v1 import credential_service_pb2 as credentials
from realmultillm.keyvault.v1 import credential_service_pb2_grpc, provider_config_service_pb2_grpc
from realmultillm.keyvault.v1 import provider_config_service_pb2 as configs
from realmultillm.provider.v1 import provider_service_pb2 as provider_service
from realmultillm.provider.v1 import provider_service_pb2_grpc

from libs.audit import AuditEvent, audit_trail
from libs.change_feed import ChangeFeed, listening
from libs.database import connect
from libs.errors import Unavailable
from libs.provider_catalog import load_catalog
from libs.providers import worker_service
from libs.redaction import Secret
from libs.rpc.access_policy import SESSION_SCOPES, open_to
from libs.rpc.channel import open_channel
from services.key_vault.access_policy import ACCESS_POLICY
from services.key_vault.key_trials import connect_key_trials
from services.key_vault.provider_configs import ProviderConfigs
from services.key_vault.servicer import CredentialServicer, ProviderConfigServicer
from services.key_vault.transit import Transit, connect_transit
from tests.support.rpc import Identities, KnownTokens, bearer, running
from tests.support.vault import VaultServer

# Keys that the worker of the tests treats in a way of their own.
REFUSED_KEY = "sk-sandbox-refused-key"
UNREACHABLE_KEY = "sk-sandbox-provider-is-down"
BREAKING_KEY = "sk-sandbox-breaks-the-worker"
# A model that no key opens there.
MISSING_MODEL = "no-such-model"


class Worker(provider_service_pb2_grpc.ProviderServiceServicer):
    """Tries keys as a worker does; the key says how the trial ends. Remembers what it tried.

    The trial of `held_key` does not end before `goes_on` is set.
    """

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.models: list[str] = []
        self.refuses_all = False
        self.held_key = ""
        self.held = asyncio.Event()
        self.goes_on = asyncio.Event()

    def forget(self) -> None:
        """Makes it as new."""
        for of_this_test in (self.tried, self.models, self.held, self.goes_on):
            of_this_test.clear()
        self.refuses_all, self.held_key = False, ""

    async def TestKey(self, request: provider_service.TestKeyRequest, context: Any) -> provider_service.TestKeyResponse:
        self.tried.append(request.api_key)
        self.models.append(request.model)
        if request.api_key == self.held_key:
            self.held.set()
            await self.goes_on.wait()
        if request.model == MISSING_MODEL:
            return provider_service.TestKeyResponse(
                success=False, latency_ms=9, message="The provider has no such model.", reason="MODEL_NOT_FOUND"
            )
        if self.refuses_all or request.api_key == REFUSED_KEY:
            return provider_service.TestKeyResponse(
                success=False, latency_ms=7, message="The provider refused the key.", reason="INVALID_API_KEY"
            )
        if request.api_key == UNREACHABLE_KEY:
            return provider_service.TestKeyResponse(
                success=False, message="The provider cannot be reached.", reason="PROVIDER_UNAVAILABLE"
            )
        if request.api_key == BREAKING_KEY:
            raise Unavailable("The worker has other worries.")
        return provider_service.TestKeyResponse(success=True, latency_ms=12, message="The key works.")

    @asynccontextmanager
    async def serving(self, identity: Identities, provider: str) -> AsyncIterator[str]:
        """Serves as the worker of a provider and yields the address."""
        register = partial(provider_service_pb2_grpc.add_ProviderServiceServicer_to_server, self)
        policy = {"/realmultillm.provider.v1.ProviderService/TestKey": open_to({"key-vault"})}
        async with running(identity(worker_service(provider)), register, policy=policy) as address:
            yield address


class Person:
    """Somebody who configures providers, over a front door."""

    def __init__(self, channel: grpc.aio.Channel, token: Secret | None) -> None:
        self._stub = provider_config_service_pb2_grpc.ProviderConfigServiceStub(channel)
        self._call: dict[str, Any] = {"timeout": 20, "metadata": bearer(token) if token else ()}

    async def store(self, key: str, provider: str = "openai", **fields: Any) -> configs.SetProviderConfigResponse:
        request = configs.SetProviderConfigRequest(provider=provider, api_key=key, **fields)
        answer: configs.SetProviderConfigResponse = await self._stub.SetProviderConfig(request, **self._call)
        return answer

    async def get(self, provider: str = "openai") -> configs.ProviderConfig:
        answer: configs.ProviderConfig = await self._stub.GetProviderConfig(
            configs.GetProviderConfigRequest(provider=provider), **self._call
        )
        return answer

    async def list(self, **fields: Any) -> configs.ListProviderConfigsResponse:
        answer: configs.ListProviderConfigsResponse = await self._stub.ListProviderConfigs(
            configs.ListProviderConfigsRequest(**fields), **self._call
        )
        return answer

    async def delete(self, provider: str = "openai") -> configs.DeleteProviderConfigResponse:
        request = configs.DeleteProviderConfigRequest(provider=provider)
        answer: configs.DeleteProviderConfigResponse = await self._stub.DeleteProviderConfig(request, **self._call)
        return answer

    async def test(self, provider: str = "openai", **fields: Any) -> configs.TestProviderConfigResponse:
        request = configs.TestProviderConfigRequest(provider=provider, **fields)
        answer: configs.TestProviderConfigResponse = await self._stub.TestProviderConfig(request, **self._call)
        return answer


class WorkerClient:
    """A worker that reads credentials."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = credential_service_pb2_grpc.CredentialServiceStub(channel)

    async def credential(self, user_id: str, provider: str = "openai") -> credentials.Credential:
        request = credentials.GetCredentialRequest(user_id=user_id, provider=provider)
        answer: credentials.Credential = await self._stub.GetCredential(request, timeout=20)
        return answer

    async def configured(self, token: Secret, **fields: Any) -> credentials.ListConfiguredProvidersResponse:
        """Asks which providers the owner of a token has a key for, as the router may."""
        request = credentials.ListConfiguredProvidersRequest(**fields)
        answer: credentials.ListConfiguredProvidersResponse = await self._stub.ListConfiguredProviders(
            request, metadata=bearer(token), timeout=20
        )
        return answer

    def watch(self, provider: str = "openai") -> Any:
        """Opens the stream of changes; read it, and cancel it."""
        return self._stub.WatchCredentials(credentials.WatchCredentialsRequest(provider=provider), timeout=60)


class Log:
    """What has been delivered to the audit log, which takes nothing before it has failed as told."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.failures: list[Exception] = []
        self._news = asyncio.Condition()

    async def store(self, events: Sequence[AuditEvent]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        async with self._news:
            self.events += events
            self._news.notify_all()

    async def holding(self, count: int) -> list[AuditEvent]:
        """Waits until so many events have arrived, and returns all there are."""
        async with self._news, asyncio.timeout(20):
            await self._news.wait_for(lambda: len(self.events) >= count)
        return self.events


class Replica:
    """One running key vault, and what has arrived in the audit log."""

    def __init__(
        self,
        address: str,
        identity: Identities,
        tokens: KnownTokens,
        transit: Transit,
        log: Log,
        disk: Path,
        closing: AsyncExitStack,
    ) -> None:
        self.address = address
        self.transit = transit
        self.log = log
        self.disk = disk
        self._identity = identity
        self._tokens = tokens
        self._closing = closing

    async def person(self, user_id: str, *, through: str = "envoy", scopes: Collection[str] = SESSION_SCOPES) -> Person:
        """Somebody who is signed in; an empty id is somebody who is not."""
        token = self._tokens.issue(user_id, scopes=scopes) if user_id else None
        return Person(await self._channel(through), token)

    def token(self, user_id: str, *, scopes: Collection[str]) -> Secret:
        """A token of somebody, for some scopes."""
        return self._tokens.issue(user_id, scopes=scopes)

    async def worker(self, provider: str = "openai") -> WorkerClient:
        """The worker of a provider."""
        return await self.service(worker_service(provider))

    async def service(self, name: str) -> WorkerClient:
        """Any service, asking what only workers may ask."""
        return WorkerClient(await self._channel(name))

    async def _channel(self, name: str) -> grpc.aio.Channel:
        channel = open_channel(self.address, "key-vault", self._identity(name))
        return await self._closing.enter_async_context(channel)


@asynccontextmanager
async def connected_transit(vault: VaultServer, **different: Any) -> AsyncIterator[Transit]:
    """Transit with a login of its own, right in everything but what is given."""
    role_id, secret_id = vault.app_role()
    arguments = {"authority": vault.authority, "role_id": role_id, "secret_id": secret_id, **different}
    async with connect_transit(vault.address, **arguments) as transit:
        yield transit


@asynccontextmanager
async def key_vault(
    database_url: Secret, vault: VaultServer, identity: Identities, workers: Mapping[str, str]
) -> AsyncIterator[Replica]:
    """Runs a replica, wired as in the service's `__main__`."""
    tls, tokens, log = identity("key-vault"), KnownTokens(), Log()
    async with (
        AsyncExitStack() as closing,
        audit_trail(folder := Path(closing.enter_context(TemporaryDirectory())), log.store) as trail,
        connect(database_url) as transactions,
        listening(ChangeFeed("key_vault"), database_url) as feed,
        connected_transit(vault) as transit,
        connect_key_trials(workers, tls) as trials,
    ):
        provider_configs = ProviderConfigs(transactions, feed, transit, trials, trail)
        async with (
            running(
                tls,
                partial(
                    provider_config_service_pb2_grpc.add_ProviderConfigServiceServicer_to_server,
                    ProviderConfigServicer(provider_configs, load_catalog()),
                ),
                partial(
                    credential_service_pb2_grpc.add_CredentialServiceServicer_to_server,
                    CredentialServicer(provider_configs, load_catalog()),
                ),
                policy=ACCESS_POLICY,
                tokens=tokens,
                audit=trail,
                probes={"database": transactions.ping, "vault": transit.ping},
                drain_seconds=0.2,
            ) as address,
            AsyncExitStack() as channels,
        ):
            yield Replica(address, identity, tokens, transit, log, folder, channels)
