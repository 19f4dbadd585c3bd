"""The catalogue, the models and the platform's health as the protos have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from realmultillm.router.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    health_service_pb2,
    health_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

from libs.provider_catalog import Catalog, Provider
from libs.providers import worker_service
from services.provider_router.catalog import page_of
from services.provider_router.model_lists import Model, ModelLists, well_known_models
from services.provider_router.observation import Observation
from services.provider_router.platform_health import PlatformHealth, judge, state
from services.provider_router.provider_states import UNTOUCHED, ProviderState, ProviderStates


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Lists the providers and how they stand for the caller; `offered` are those with a worker."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        offered: frozenset[str],
        states: ProviderStates,
        observation: Observation,
    ) -> None:
        self._catalog = catalog
        self._offered = offered
        self._states = states
        self._observation = observation

    async def ListProviders(
        self, request: catalog_service_pb2.ListProvidersRequest, _context: Any
    ) -> catalog_service_pb2.ListProvidersResponse:
        page, next_token = page_of(self._catalog, page_size=request.page_size, page_token=request.page_token)
        states = await self._states.by_provider()
        return catalog_service_pb2.ListProvidersResponse(
            providers=[self._to_proto(provider, states.get(provider.id, UNTOUCHED)) for provider in page],
            next_page_token=next_token,
        )

    def _to_proto(self, provider: Provider, state: ProviderState) -> catalog_service_pb2.Provider:
        return catalog_service_pb2.Provider(
            id=provider.id,
            name=provider.name,
            endpoint=provider.endpoint,
            models=well_known_models(provider, state),
            max_tokens=provider.max_tokens,
            supports_streaming=provider.supports_streaming,
            supports_system_prompt=provider.supports_system_prompt,
            max_context_length=provider.max_context_length,
            enabled=state.enabled and provider.id in self._offered,
            configured=state.configured,
            healthy=self._observation.is_healthy(worker_service(provider.id)),
        )


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Lists the models of the providers, as far as possible with the caller's key."""

    def __init__(self, lists: ModelLists) -> None:
        self._lists = lists

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, _context: Any
    ) -> model_service_pb2.ListModelsResponse:
        page = await self._lists.page(request.provider, page_size=request.page_size, page_token=request.page_token)
        return model_service_pb2.ListModelsResponse(
            models=[_to_model(model) for model in page.models],
            next_page_token=page.next_page_token,
            source=page.source,
            notice=page.notice,
        )


def _to_model(model: Model) -> model_service_pb2.Model:
    return model_service_pb2.Model(
        id=model.id,
        provider=model.provider,
        display_name=model.display_name,
        context_length=model.context_length,
        max_output_tokens=model.max_output_tokens,
    )


class PlatformHealthServicer(health_service_pb2_grpc.PlatformHealthServiceServicer):
    """Tells how the platform stands, from what is observed of the workers of these providers and of the services."""

    def __init__(self, observation: Observation, *, providers: Sequence[str], version: str) -> None:
        self._observation = observation
        self._providers = providers
        self._version = version

    async def GetPlatformHealth(
        self, _request: health_service_pb2.GetPlatformHealthRequest, _context: Any
    ) -> health_service_pb2.PlatformHealth:
        health = judge(self._observation, self._providers)
        return to_platform_health(health, version=self._version)


def to_platform_health(health: PlatformHealth, *, version: str) -> health_service_pb2.PlatformHealth:
    """Converts a judgement."""
    return health_service_pb2.PlatformHealth(
        status="ok" if health.complete else "degraded",
        services=health_service_pb2.ServiceStates(
            auth=state(health.auth),
            key_vault=state(health.key_vault),
            vault=state(health.vault),
            analytics=state(health.analytics),
            database=state(health.database),
            workers={provider: state(healthy) for provider, healthy in health.workers.items()},
        ),
        version=version,
    )
