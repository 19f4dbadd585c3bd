"""The keys people stored for a worker's provider: asked of `key_vault` once, kept in memory, dropped on change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Protocol

import grpc
from realmultillm.keyvault.v1 import credential_service_pb2 as vault
from realmultillm.keyvault.v1.credential_service_pb2_grpc import CredentialServiceStub

from libs.provider_keys import ProviderKey
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
# key_vault says every second that the stream is alive.
_LONGEST_SILENCE = 5.0


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
        self._allowed_models: tuple[str, ...] = ()
        self._cache: WatchedCache[str, Credential] = WatchedCache(
            self._ask, size=_CACHE_SIZE, ttl=_TTL, unwatched_ttl=_UNWATCHED_TTL
        )

    @property
    def cache(self) -> WatchedCache[str, Credential]:
        """What is remembered."""
        return self._cache

    async def of(self, user_id: str) -> Credential:
        """Returns what to call the provider with for this account.

        Raises FailedPrecondition PROVIDER_NOT_CONFIGURED when there is no key for it, PermissionDenied
        PROVIDER_DISABLED when administrators have switched the provider off, Unavailable when `key_vault` or Vault is
        away and the key is not in memory.
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
            api_key=ProviderKey(answer.api_key),
            model=answer.model,
            temperature=answer.temperature if answer.HasField("temperature") else None,
            max_tokens=answer.max_tokens if answer.HasField("max_tokens") else None,
            endpoint=answer.endpoint,
            answer_seconds=answer.request_timeout_ms / 1000 if answer.request_timeout_ms else inf,
            allowed_models=self._shared(tuple(answer.allowed_models)),
            platform_key=answer.platform_key,
            platform_model=answer.platform_model,
        )

    def _shared(self, allowed_models: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the same list for everybody whom it holds for: it is the platform's, and as long as 200 names."""
        if allowed_models != self._allowed_models:
            self._allowed_models = allowed_models
        return self._allowed_models

    def _apply(self, event: vault.CredentialEvent) -> None:
        if event.user_id:
            self._cache.discard(event.user_id)
        else:  # `everyone`, or what another version of the key vault says instead
            self._cache.clear()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follows the changes for the time of the block, and forgets every key at its end."""
        request = vault.WatchCredentialsRequest(provider=self._provider)
        try:
            async with self._cache.watching(
                lambda: self._stub.WatchCredentials(request, wait_for_ready=True),
                self._apply,
                longest_silence=_LONGEST_SILENCE,
            ):
                yield
        finally:
            self._cache.clear()


@asynccontextmanager
async def connect_credentials(address: str, tls: TlsIdentity, provider: str) -> AsyncIterator[Credentials]:
    """Opens a channel to `key_vault` and asks for credentials through it."""
    async with open_channel(address, "key-vault", tls) as channel:
        credentials = Credentials(CredentialServiceStub(channel), provider)
        async with credentials.watching():
            yield credentials
