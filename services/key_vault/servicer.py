"""The key vault on the wire: people configure, workers and router read. Each method checks, calls and converts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from typing import Any

from realmultillm.keyvault.v1 import credential_service_pb2 as credential_pb2
from realmultillm.keyvault.v1 import credential_service_pb2_grpc, provider_config_service_pb2_grpc
from realmultillm.keyvault.v1 import provider_config_service_pb2 as config_pb2

from libs.pagination import rows_per_page
from libs.redaction import Secret
from libs.rpc.identity import caller, current_call
from services.key_vault.models import ProviderConfigRow, Trial
from services.key_vault.provider_configs import Defaults, OpenedConfig, ProviderConfigs, Stored
from services.key_vault.validation import (
    check_key_test,
    check_new_config,
    check_own_provider,
    check_provider,
    check_user_id,
)


class ProviderConfigServicer(provider_config_service_pb2_grpc.ProviderConfigServiceServicer):
    """Lets people configure their providers, of these ids. Keys go in and never come out."""

    def __init__(self, configs: ProviderConfigs, providers: Collection[str]) -> None:
        self._configs = configs
        self._providers = providers

    async def GetProviderConfig(
        self, request: config_pb2.GetProviderConfigRequest, _context: Any
    ) -> config_pb2.ProviderConfig:
        check_provider(request.provider, self._providers)
        return _config(await self._configs.get(caller().user_id, request.provider))

    async def ListProviderConfigs(
        self, request: config_pb2.ListProviderConfigsRequest, _context: Any
    ) -> config_pb2.ListProviderConfigsResponse:
        size = rows_per_page(request.page_size, request.page_token, tokens=self._providers)
        return _page(*await self._configs.find_page(caller().user_id, after=request.page_token, size=size))

    async def SetProviderConfig(
        self, request: config_pb2.SetProviderConfigRequest, _context: Any
    ) -> config_pb2.SetProviderConfigResponse:
        check_provider(request.provider, self._providers)
        check_new_config(request.api_key, _defaults(request))
        stored = await self._configs.store(caller().user_id, request.provider, _take_key(request), _defaults(request))
        return _stored(request.provider, stored)

    async def DeleteProviderConfig(
        self, request: config_pb2.DeleteProviderConfigRequest, _context: Any
    ) -> config_pb2.DeleteProviderConfigResponse:
        check_provider(request.provider, self._providers)
        await self._configs.delete(caller().user_id, request.provider)
        return config_pb2.DeleteProviderConfigResponse(success=True)

    async def TestProviderConfig(
        self, request: config_pb2.TestProviderConfigRequest, _context: Any
    ) -> config_pb2.TestProviderConfigResponse:
        check_provider(request.provider, self._providers)
        check_key_test(request.api_key, request.model)
        trial = await self._configs.test(caller().user_id, request.provider, _take_key(request), request.model)
        return config_pb2.TestProviderConfigResponse(
            success=trial.success, message=trial.message, latency=trial.latency, error=trial.reason
        )


class CredentialServicer(credential_service_pb2_grpc.CredentialServiceServicer):
    """Opens stored keys for the workers, each its own provider's, and tells the router for which there are any."""

    def __init__(self, configs: ProviderConfigs, providers: Collection[str]) -> None:
        self._configs = configs
        self._providers = providers

    async def GetCredential(
        self, request: credential_pb2.GetCredentialRequest, _context: Any
    ) -> credential_pb2.Credential:
        check_own_provider(request.provider, current_call().peer)
        check_user_id(request.user_id)
        reader = current_call().peer
        return _credential(await self._configs.open(request.user_id, request.provider, reader=reader))

    async def WatchCredentials(
        self, request: credential_pb2.WatchCredentialsRequest, _context: Any
    ) -> AsyncIterator[credential_pb2.CredentialEvent]:
        check_own_provider(request.provider, current_call().peer)
        async with aclosing(self._configs.changes(request.provider)) as changes:
            async for user_id in changes:
                yield _event(user_id)

    async def ListConfiguredProviders(
        self, request: credential_pb2.ListConfiguredProvidersRequest, _context: Any
    ) -> credential_pb2.ListConfiguredProvidersResponse:
        size = rows_per_page(request.page_size, request.page_token, tokens=self._providers)
        rows, more = await self._configs.find_page(caller().user_id, after=request.page_token, size=size)
        providers = [row.provider for row in rows]
        return credential_pb2.ListConfiguredProvidersResponse(
            providers=providers, next_page_token=providers[-1] if more else ""
        )


def _take_key(request: config_pb2.SetProviderConfigRequest | config_pb2.TestProviderConfigRequest) -> Secret:
    """Moves the key out of the request, so that it lives no longer than the domain needs it."""
    key = Secret(request.api_key)
    request.ClearField("api_key")
    return key


def _defaults(request: config_pb2.SetProviderConfigRequest) -> Defaults:
    return Defaults(
        model=request.model,
        temperature=request.temperature if request.HasField("temperature") else None,
        max_tokens=request.max_tokens if request.HasField("max_tokens") else None,
    )


def _config(row: ProviderConfigRow) -> config_pb2.ProviderConfig:
    return config_pb2.ProviderConfig(
        provider=row.provider,
        configured=True,
        model=row.model,
        temperature=row.temperature,
        max_tokens=row.max_tokens,
        key_hint=row.key_hint,
        create_time=row.create_time,
        update_time=row.update_time,
        last_test=_test_result(row.last_test),
    )


def _page(rows: Sequence[ProviderConfigRow], more: bool) -> config_pb2.ListProviderConfigsResponse:
    return config_pb2.ListProviderConfigsResponse(
        provider_configs=[_config(row) for row in rows], next_page_token=rows[-1].provider if more else ""
    )


def _stored(provider: str, stored: Stored) -> config_pb2.SetProviderConfigResponse:
    return config_pb2.SetProviderConfigResponse(
        success=stored.success,
        provider=provider,
        configured=stored.configured,
        test_result=_test_result(stored.trial),
    )


def _test_result(trial: Trial) -> config_pb2.TestResult:
    return config_pb2.TestResult(
        success=trial.success,
        latency=trial.latency,
        message=trial.message,
        error=trial.reason,
        test_time=trial.time,
    )


def _credential(opened: OpenedConfig) -> credential_pb2.Credential:
    return credential_pb2.Credential(
        api_key=opened.api_key.reveal(),
        model=opened.defaults.model,
        temperature=opened.defaults.temperature,
        max_tokens=opened.defaults.max_tokens,
    )


def _event(user_id: str | None) -> credential_pb2.CredentialEvent:
    if user_id is None:
        return credential_pb2.CredentialEvent(synchronized=True)
    return credential_pb2.CredentialEvent(user_id=user_id)
