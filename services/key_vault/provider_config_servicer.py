"""What people configure, on the wire. Each method checks, calls and converts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from realmultillm.keyvault.v1 import provider_config_service_pb2 as config_pb2
from realmultillm.keyvault.v1 import provider_config_service_pb2_grpc

from libs.pagination import rows_per_page
from libs.provider_keys import ProviderKey
from libs.rpc.identity import caller
from services.key_vault.models import ProviderConfigRow, Trial
from services.key_vault.provider_configs import Defaults, ProviderConfigs
from services.key_vault.validation import (
    FORGETTABLE,
    check_changed_config,
    check_key_test,
    check_new_config,
    check_provider,
)

_Change = config_pb2.SetProviderConfigRequest | config_pb2.UpdateProviderConfigRequest


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
        unset = {"temperature": None, "max_tokens": None, "priority": None}
        defaults = {"model": request.model, **unset, **_given(request)}
        check_new_config(request.api_key, defaults)
        stored = await self._configs.store(caller().user_id, request.provider, take_key(request), defaults)
        return config_pb2.SetProviderConfigResponse(
            success=stored.success,
            provider=request.provider,
            configured=stored.configured,
            test_result=to_test_result(stored.trial),
        )

    async def UpdateProviderConfig(
        self, request: config_pb2.UpdateProviderConfigRequest, _context: Any
    ) -> config_pb2.UpdateProviderConfigResponse:
        check_provider(request.provider, self._providers)
        check_changed_config(request.api_key, _given(request), request.clear)
        key = take_key(request) or None
        stored = await self._configs.update(caller().user_id, request.provider, key, _changes(request))
        return config_pb2.UpdateProviderConfigResponse(
            success=stored.success,
            provider=request.provider,
            configured=stored.configured,
            test_result=to_test_result(stored.trial),
        )

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
        key = take_key(request) or None
        trial = await self._configs.test(caller().user_id, request.provider, key, request.model)
        return config_pb2.TestProviderConfigResponse(
            success=trial.success, message=trial.message, latency=trial.latency, error=trial.reason
        )


def take_key(request: Any) -> ProviderKey:
    """Moves the key out of a request, so that it lives no longer than the domain needs it; empty when it has none."""
    key = ProviderKey(request.api_key)
    request.ClearField("api_key")
    return key


def to_test_result(trial: Trial | None) -> config_pb2.TestResult | None:
    """Converts a trial, if there was one."""
    if trial is None:
        return None
    return config_pb2.TestResult(
        success=trial.success,
        latency=trial.latency,
        message=trial.message,
        error=trial.reason,
        test_time=trial.time,
    )


def _given(request: _Change) -> Defaults:
    """Returns the defaults that a request gives, by column."""
    columns = ("temperature", "max_tokens", "priority")
    given = {column: getattr(request, column) for column in columns if request.HasField(column)}
    if isinstance(request, config_pb2.UpdateProviderConfigRequest) and request.HasField("model"):
        given["model"] = request.model
    return given


def _changes(request: config_pb2.UpdateProviderConfigRequest) -> Defaults:
    forgotten = {FORGETTABLE[name]: "" if name == "model" else None for name in request.clear}
    return {**_given(request), **forgotten}


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
        last_test=to_test_result(row.last_test),
        priority=row.priority,
    )


def _page(rows: Sequence[ProviderConfigRow], more: bool) -> config_pb2.ListProviderConfigsResponse:
    return config_pb2.ListProviderConfigsResponse(
        provider_configs=[_config(row) for row in rows], next_page_token=rows[-1].provider if more else ""
    )
