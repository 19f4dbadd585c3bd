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
from realmultillm.keyvault.v1 import (
    credential_service_pb2_grpc,
    data_key_service_pb2_grpc,
    encryption_key_service_pb2_grpc,
    platform_config_service_pb2_grpc,
    provider_config_service_pb2_grpc,
)
from realmultillm.keyvault.v1 import data_key_service_pb2 as data_keys
from realmultillm.keyvault.v1 import encryption_key_service_pb2 as encryption_keys
from realmultillm.keyvault.v1 import platform_config_service_pb2 as platform
from realmultillm.keyvault.v1 import provider_config_service_pb2 as configs
from realmultillm.provider.v1 import provider_service_pb2 as provider_service
from realmultillm.provider.v1 import provider_service_pb2_grpc

from libs.audit import AuditEvent, audit_trail
from libs.change_feed import ChangeFeed, listening
from libs.database import connect
from libs.errors import Unavailable
from libs.provider_catalog import load_catalog
from libs.provider_endpoints import EndpointRules
from libs.providers import worker_service
from libs.redaction import Secret
from libs.rpc.access_policy import SESSION_SCOPES, open_to
from libs.rpc.channel import open_channel
from services.key_vault.access_policy import ACCESS_POLICY
from services.key_vault.credential_changes import CredentialChanges
from services.key_vault.credential_servicer import CredentialServicer
from services.key_vault.credentials import Credentials
from services.key_vault.data_key_servicer import DataKeyServicer
from services.key_vault.encryption_key_servicer import EncryptionKeyServicer
from services.key_vault.key_trials import connect_key_trials
from services.key_vault.platform_config_servicer import PlatformConfigServicer
from services.key_vault.platform_configs import PlatformConfigs
from services.key_vault.provider_config_servicer import ProviderConfigServicer
from services.key_vault.provider_configs import ProviderConfigs
from services.key_vault.rewrapping import Rewrapping
from services.key_vault.rotations import Rotations
from services.key_vault.transit import Transit, connect_transit
from services.key_vault.vault_login import AppRole
from tests.support.rpc import Identities, KnownTokens, bearer, running
from tests.support.vault import VaultServer

# Keys that the worker of the tests treats in a way of their own.
REFUSED_KEY = "sk-sandbox-refused-key"
UNREACHABLE_KEY = "sk-sandbox-provider-is-down"
BREAKING_KEY = "sk-sandbox-breaks-the-worker"
# A model that no key opens there.
MISSING_MODEL = "no-such-model"
# Where administrators of the tests may send keys besides public addresses.
PRIVATE_ENDPOINTS = ("127.0.0.0/8", "our-llm.internal")
# How long a rotation waits for who has read an old ciphertext just before it was replaced.
SETTLE_SECONDS = 0.3


class Worker(provider_service_pb2_grpc.ProviderServiceServicer):
    """Tries keys as a worker does; the key says how the trial ends. Remembers what it tried.

    The trial of `held_key` does not end before `goes_on` is set.
    """

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.models: list[str] = []
        self.endpoints: list[str] = []
        self.refuses_all = False
        self.held_key = ""
        self.held = asyncio.Event()
        self.goes_on = asyncio.Event()

    def forget(self) -> None:
        """Makes it as new."""
        for of_this_test in (self.tried, self.models, self.endpoints, self.held, self.goes_on):
            of_this_test.clear()
        self.refuses_all, self.held_key = False, ""

    async def TestKey(self, request: provider_service.TestKeyRequest, context: Any) -> provider_service.TestKeyResponse:
        self.tried.append(request.api_key)
        self.models.append(request.model)
        self.endpoints.append(request.endpoint)
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

    async def update(self, provider: str = "openai", **fields: Any) -> configs.UpdateProviderConfigResponse:
        request = configs.UpdateProviderConfigRequest(provider=provider, **fields)
        answer: configs.UpdateProviderConfigResponse = await self._stub.UpdateProviderConfig(request, **self._call)
        return answer

    async def delete(self, provider: str = "openai") -> configs.DeleteProviderConfigResponse:
        request = configs.DeleteProviderConfigRequest(provider=provider)
        answer: configs.DeleteProviderConfigResponse = await self._stub.DeleteProviderConfig(request, **self._call)
        return answer

    async def test(self, provider: str = "openai", **fields: Any) -> configs.TestProviderConfigResponse:
        request = configs.TestProviderConfigRequest(provider=provider, **fields)
        answer: configs.TestProviderConfigResponse = await self._stub.TestProviderConfig(request, **self._call)
        return answer


class Admin:
    """An administrator, over the front door."""

    def __init__(self, channel: grpc.aio.Channel, token: Secret) -> None:
        self._stub = platform_config_service_pb2_grpc.PlatformConfigServiceStub(channel)
        self._call: dict[str, Any] = {"timeout": 20, "metadata": bearer(token)}

    async def set(self, provider: str = "openai", **fields: Any) -> platform.SetPlatformConfigResponse:
        request = platform.SetPlatformConfigRequest(provider=provider, **fields)
        answer: platform.SetPlatformConfigResponse = await self._stub.SetPlatformConfig(request, **self._call)
        return answer

    async def list(self, **fields: Any) -> platform.ListPlatformConfigsResponse:
        request = platform.ListPlatformConfigsRequest(**fields)
        answer: platform.ListPlatformConfigsResponse = await self._stub.ListPlatformConfigs(request, **self._call)
        return answer

    async def get(self, provider: str = "openai") -> platform.PlatformConfig:
        """Returns one of the list."""
        return next(config for config in (await self.list()).configs if config.provider == provider)


class WorkerClient:
    """A worker that reads credentials."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = credential_service_pb2_grpc.CredentialServiceStub(channel)

    async def credential(self, user_id: str, provider: str = "openai") -> credentials.Credential:
        request = credentials.GetCredentialRequest(user_id=user_id, provider=provider)
        answer: credentials.Credential = await self._stub.GetCredential(request, timeout=20)
        return answer

    async def states(self, token: Secret, **fields: Any) -> credentials.ListProviderStatesResponse:
        """Asks what the owner of a token may use, as the router may."""
        request = credentials.ListProviderStatesRequest(**fields)
        answer: credentials.ListProviderStatesResponse = await self._stub.ListProviderStates(
            request, metadata=bearer(token), timeout=20
        )
        return answer

    def watch(self, provider: str = "openai") -> Any:
        """Opens the stream of changes; read it, and cancel it."""
        return self._stub.WatchCredentials(credentials.WatchCredentialsRequest(provider=provider), timeout=60)


async def next_news(stream: Any) -> credentials.CredentialEvent:
    """Reads the next change from a watcher's stream, which must come within the second that the API promises."""
    async with asyncio.timeout(1):
        while (event := await stream.read()).alive:
            pass
        news: credentials.CredentialEvent = event
        return news


class KeyAdmin:
    """Somebody who rotates encryption keys."""

    def __init__(self, channel: grpc.aio.Channel, token: Secret) -> None:
        self._stub = encryption_key_service_pb2_grpc.EncryptionKeyServiceStub(channel)
        self._call: dict[str, Any] = {"timeout": 20, "metadata": bearer(token)}

    async def keys(self, **fields: Any) -> encryption_keys.ListEncryptionKeysResponse:
        answer: encryption_keys.ListEncryptionKeysResponse = await self._stub.ListEncryptionKeys(
            encryption_keys.ListEncryptionKeysRequest(**fields), **self._call
        )
        return answer

    async def key(self, purpose: str = "provider-keys") -> encryption_keys.EncryptionKey:
        return next(key for key in (await self.keys()).keys if key.purpose == purpose)

    async def rotate(self, purpose: str = "provider-keys", *, rewrap_only: bool = False) -> encryption_keys.KeyRotation:
        answer: encryption_keys.RotateEncryptionKeyResponse = await self._stub.RotateEncryptionKey(
            encryption_keys.RotateEncryptionKeyRequest(purpose=purpose, rewrap_only=rewrap_only), **self._call
        )
        return answer.rotation


class DataKeyClient:
    """A worker, or `analytics` for a person, that uses data keys."""

    def __init__(self, channel: grpc.aio.Channel, token: Secret | None) -> None:
        self._stub = data_key_service_pb2_grpc.DataKeyServiceStub(channel)
        self._call: dict[str, Any] = {"timeout": 20, "metadata": bearer(token) if token else ()}

    async def generate(self, user_id: str) -> data_keys.DataKey:
        request = data_keys.GenerateDataKeyRequest(user_id=user_id)
        answer: data_keys.DataKey = await self._stub.GenerateDataKey(request, **self._call)
        return answer

    async def unwrap(self, *wrapped_keys: str) -> list[bytes]:
        request = data_keys.UnwrapDataKeysRequest(wrapped_keys=wrapped_keys)
        return list((await self._stub.UnwrapDataKeys(request, **self._call)).keys)

    async def rewrap(self, *keys: tuple[str, str]) -> list[str]:
        pairs = [data_keys.WrappedKey(user_id=user_id, wrapped_key=wrapped) for user_id, wrapped in keys]
        answer = await self._stub.RewrapDataKeys(data_keys.RewrapDataKeysRequest(keys=pairs), **self._call)
        return list(answer.wrapped_keys)


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

    async def admin(self, user_id: str = "usr_admin", *, role: str = "admin") -> Admin:
        """An administrator who is signed in, or somebody of another role who would like to be one."""
        return Admin(await self._channel("envoy"), self._tokens.issue(user_id, role))

    async def key_admin(self, user_id: str = "usr_admin") -> KeyAdmin:
        """An administrator who is signed in and rotates encryption keys."""
        return KeyAdmin(await self._channel("envoy"), self._tokens.issue(user_id, "admin"))

    async def data_keys(self, service: str, *, user_id: str = "") -> DataKeyClient:
        """A service that uses data keys, for somebody who is signed in if an id is given."""
        return DataKeyClient(await self._channel(service), self._tokens.issue(user_id) if user_id else None)

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
    login = AppRole(*vault.app_role(), mount=vault.place.approle)
    arguments = {
        "authority": vault.authority,
        "login": login,
        "namespace": vault.namespace,
        "mount": vault.place.transit,
        **different,
    }
    async with connect_transit(arguments.pop("address", vault.address), **arguments) as transit:
        yield transit


@asynccontextmanager
async def key_vault(
    database_url: Secret, vault: VaultServer, identity: Identities, workers: Mapping[str, str], **different: Any
) -> AsyncIterator[Replica]:
    """Runs a replica, wired as in the service's `__main__`. What is `different` concerns its connection to Vault."""
    tls, tokens, log = identity("key-vault"), KnownTokens(), Log()
    async with (
        AsyncExitStack() as closing,
        audit_trail(folder := Path(closing.enter_context(TemporaryDirectory())), log.store) as trail,
        connect(database_url) as transactions,
        listening(ChangeFeed("key_vault"), database_url) as feed,
        connected_transit(vault, **different) as transit,
        connect_key_trials(workers, tls) as trials,
    ):
        changes = CredentialChanges(feed)
        provider_configs = ProviderConfigs(transactions, changes, transit, trials, trail)
        platform_configs = PlatformConfigs(transactions, changes, transit, trials, trail)
        rewrapping = Rewrapping(transactions, transit, trail, rows_per_second=0, settle_seconds=SETTLE_SECONDS)
        rotations = Rotations(transactions, transit, trail, rewrapping.wake)
        async with (
            rewrapping.going_on(),
            running(
                tls,
                partial(
                    provider_config_service_pb2_grpc.add_ProviderConfigServiceServicer_to_server,
                    ProviderConfigServicer(provider_configs, load_catalog()),
                ),
                partial(
                    platform_config_service_pb2_grpc.add_PlatformConfigServiceServicer_to_server,
                    PlatformConfigServicer(platform_configs, load_catalog(), EndpointRules(PRIVATE_ENDPOINTS)),
                ),
                partial(
                    credential_service_pb2_grpc.add_CredentialServiceServicer_to_server,
                    CredentialServicer(Credentials(transactions, transit, trail), changes, load_catalog()),
                ),
                partial(
                    encryption_key_service_pb2_grpc.add_EncryptionKeyServiceServicer_to_server,
                    EncryptionKeyServicer(rotations),
                ),
                partial(data_key_service_pb2_grpc.add_DataKeyServiceServicer_to_server, DataKeyServicer(transit)),
                policy=ACCESS_POLICY,
                tokens=tokens,
                audit=trail,
                probes={"database": transactions.ping, "vault": transit.ping},
                drain_seconds=0.2,
            ) as address,
            AsyncExitStack() as channels,
        ):
            yield Replica(address, identity, tokens, transit, log, folder, channels)
