"""What administrators configure for everybody, on the wire. Each method checks, calls and converts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from realmultillm.keyvault.v1 import platform_config_service_pb2 as platform_pb2
from realmultillm.keyvault.v1 import platform_config_service_pb2_grpc

from libs.pagination import rows_per_page
from libs.provider_endpoints import EndpointRules
from services.key_vault.models import PlatformConfigRow
from services.key_vault.platform_configs import PlatformChange, PlatformConfigs
from services.key_vault.provider_config_servicer import take_key, to_test_result
from services.key_vault.validation import check_platform_change, check_provider


class PlatformConfigServicer(platform_config_service_pb2_grpc.PlatformConfigServiceServicer):
    """Lets administrators configure providers, of these ids, with endpoints that keep the rules."""

    def __init__(self, configs: PlatformConfigs, providers: Collection[str], rules: EndpointRules) -> None:
        self._configs = configs
        self._providers = sorted(providers)
        self._rules = rules

    async def ListPlatformConfigs(
        self, request: platform_pb2.ListPlatformConfigsRequest, _context: Any
    ) -> platform_pb2.ListPlatformConfigsResponse:
        size = rows_per_page(request.page_size, request.page_token, tokens=self._providers)
        behind = [provider for provider in self._providers if provider > request.page_token]
        configs = await self._configs.find(behind[:size])
        return platform_pb2.ListPlatformConfigsResponse(
            configs=map(_config, configs), next_page_token=behind[size - 1] if len(behind) > size else ""
        )

    async def SetPlatformConfig(
        self, request: platform_pb2.SetPlatformConfigRequest, _context: Any
    ) -> platform_pb2.SetPlatformConfigResponse:
        check_provider(request.provider, self._providers)
        change = _take_change(request)
        await check_platform_change(change, await self._configs.get(request.provider), self._rules)
        stored = await self._configs.set(request.provider, change)
        return platform_pb2.SetPlatformConfigResponse(
            success=stored.success, config=_config(stored.config), test_result=to_test_result(stored.trial)
        )


def _take_change(request: platform_pb2.SetPlatformConfigRequest) -> PlatformChange:
    """Reads what changes, and moves the key out of the request."""
    fields = {
        "enabled": "enabled",
        "endpoint": "endpoint",
        "defaultModel": "default_model",
        "requestTimeoutMs": "request_timeout_ms",
    }
    given: dict[str, Any] = {name: getattr(request, field) for name, field in fields.items() if request.HasField(field)}
    if request.allowed_models:
        given["allowedModels"] = list(request.allowed_models)
    return PlatformChange(given, take_key(request) or None, tuple(request.clear))


def _config(row: PlatformConfigRow) -> platform_pb2.PlatformConfig:
    return platform_pb2.PlatformConfig(
        provider=row.provider,
        enabled=row.enabled,
        endpoint=row.endpoint,
        default_model=row.default_model,
        allowed_models=row.allowed_models,
        request_timeout_ms=row.request_timeout_ms,
        configured=row.ciphertext is not None,
        key_hint=row.key_hint,
        last_test=to_test_result(row.last_test),
        create_time=row.create_time,
        update_time=row.update_time,
    )
