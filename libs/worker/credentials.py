"""The keys people stored for a worker's provider: asked of `key_vault` once, kept in memory, dropped on change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import grpc
from realmultillm.keyvault.v1 import credential_service_pb2 as vault
from realmultillm.keyvault.v1.credential_service_pb2_grpc import CredentialServiceStub

from libs.redaction import Secret
from libs.rpc.channel import open_channel
from libs.rpc.status import from_rpc_error
from libs.rpc.tls import TlsIdentity
from libs.watched_cache import WatchedCache
from libs.worker.adapter import Credential

_CACHE_SIZE = 20_000
_TTL = 300.0
# While key_vault cannot tell us that a key was deleted, a key is trusted this long only.
_UNWATCHED_TTL = 30.0
_OPEN_SECONDS = 5.0


class CredentialSource(Protocol):
    """Knows what to call the provider with."""

    async def of(self, user_id: str) -> Credential:
        """Returns the credential of an account. Raises PlatformError when there is none, or none to be had now."""
        ...


class Credentials:
    """Effective configuration by account, for one provider."""

    def __init__(self, stub: Any, provider: str) -> None:
        self._stub = stub
        self._provider = provider
        self._cache: WatchedCache[str, Credential] = WatchedCache(
            self._ask, size=_CACHE_SIZE, ttl=_TTL, unwatched_ttl=_UNWATCHED_TTL
        )

    async def of(self, user_id: str) -> Credential:
        """Returns what to call the provider with for this account.

        Raises FailedPrecondition PROVIDER_NOT_CONFIGURED when it has stored no key, Unavailable when `key_vault` or
        Vault is away and the key is not in memory.
        """
        return await self._cache.get(user_id)

    async def _ask(self, user_id: str) -> Credential:
        try:
            answer = await self._stub.GetCredential(
                # Not `within` the chat that asks first: others with more time wait for the same answer.
                vault.GetCredentialRequest(user_id=user_id, provider=self._provider),
                timeout=_OPEN_SECONDS,
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="key-vault") from None
        return Credential(
            api_key=Secret(answer.api_key),
            model=answer.model,
            temperature=answer.temperature if answer.HasField("temperature") else None,
            max_tokens=answer.max_tokens if answer.HasField("max_tokens") else None,
        )

    def _apply(self, event: vault.CredentialEvent) -> None:
        self._cache.discard(event.user_id)

    def watching(self) -> AbstractAsyncContextManager[None]:
        """Follows the changes for the time of the block."""
        request = vault.WatchCredentialsRequest(provider=self._provider)
        return self._cache.watching(lambda: self._stub.WatchCredentials(request, wait_for_ready=True), self._apply)


@asynccontextmanager
async def connect_credentials(address: str, tls: TlsIdentity, provider: str) -> AsyncIterator[Credentials]:
    """Opens a channel to `key_vault` and asks for credentials through it."""
    async with open_channel(address, "key-vault", tls) as channel:
        credentials = Credentials(CredentialServiceStub(channel), provider)
        async with credentials.watching():
            yield credentials
