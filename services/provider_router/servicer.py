"""The catalogue, the models and the platform's health as the protos have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from realmultillm.router.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    health_service_pb2,
    health_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

from libs.model_catalog.prices import Rate
from libs.provider_catalog import Catalog, Provider
from services.provider_router.catalog import page_of
from services.provider_router.every_model import EveryModel
from services.provider_router.model_comparison import ModelComparison
from services.provider_router.model_lists import Model, ModelLists, well_known_models
from services.provider_router.observation import Observation
from services.provider_router.platform_health import PlatformHealth, judge, state
from services.provider_router.provider_health import Performance, ProviderHealth, State
from services.provider_router.provider_states import UNTOUCHED, ProviderState, ProviderStates


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Lists the providers and how they stand for the caller; `offered` are those with a worker."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        offered: frozenset[str],
        states: ProviderStates,
        health: ProviderHealth,
    ) -> None:
        self._catalog = catalog
        self._offered = offered
        self._states = states
        self._health = health

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
            healthy=self._health.is_healthy(provider.id),
            performance=_to_performance(self._health.performance(provider.id)),
        )


def _to_performance(performance: Performance | None) -> catalog_service_pb2.ProviderPerformance | None:
    if performance is None:
        return None
    return catalog_service_pb2.ProviderPerformance(
        state=performance.state,
        chats=performance.chats,
        error_rate=performance.error_rate,
        latency_p50_ms=performance.latency_p50_ms,
        latency_p95_ms=performance.latency_p95_ms,
        window_seconds=performance.window_seconds,
    )


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Lists the models of the providers, as far as possible with the caller's key, and puts them side by side."""

    def __init__(self, lists: ModelLists, every: EveryModel, comparison: ModelComparison) -> None:
        self._lists = lists
        self._every = every
        self._comparison = comparison

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, _context: Any
    ) -> model_service_pb2.ListModelsResponse:
        if not request.provider:
            return await self._of_all(request)
        page = await self._lists.page(request.provider, page_size=request.page_size, page_token=request.page_token)
        return model_service_pb2.ListModelsResponse(
            models=[_to_model(model) for model in page.models],
            next_page_token=page.next_page_token,
            source=page.source,
            notice=page.notice,
        )

    async def CompareModels(
        self, request: model_service_pb2.CompareModelsRequest, _context: Any
    ) -> model_service_pb2.CompareModelsResponse:
        compared = self._comparison.compare(request.models)
        return model_service_pb2.CompareModelsResponse(
            models=[_to_model(model) for model in compared.models],
            best=model_service_pb2.BestModels(**compared.best),
        )

    async def _of_all(self, request: model_service_pb2.ListModelsRequest) -> model_service_pb2.ListModelsResponse:
        models, next_token, listings = await self._every.page(
            page_size=request.page_size, page_token=request.page_token
        )
        return model_service_pb2.ListModelsResponse(
            models=[_to_model(model) for model in models],
            next_page_token=next_token,
            source="mixed",
            sources=[
                model_service_pb2.ModelSource(provider=listing.provider, source=listing.source, notice=listing.notice)
                for listing in listings
            ],
        )


def _to_model(model: Model) -> model_service_pb2.Model:
    prices = model.prices
    return model_service_pb2.Model(
        id=model.id,
        provider=model.provider,
        display_name=model.display_name,
        context_length=model.context_length,
        max_output_tokens=model.max_output_tokens,
        input_price_per_million=_dollars(prices.input if prices else None),
        output_price_per_million=_dollars(prices.output if prices else None),
        cached_input_price_per_million=_dollars(prices.cached_input if prices else None),
        capabilities=model_service_pb2.ModelCapabilities(**model.capabilities),
        source=model.source,
        aliases=model.aliases,
    )


def _dollars(rate: Rate | None) -> float | None:
    return None if rate is None else float(rate.lowest)


class PlatformHealthServicer(health_service_pb2_grpc.PlatformHealthServiceServicer):
    """Tells how the platform stands, from what is observed of the workers of these providers and of the services."""

    def __init__(
        self, observation: Observation, health: ProviderHealth, *, providers: Sequence[str], version: str
    ) -> None:
        self._observation = observation
        self._health = health
        self._providers = providers
        self._version = version

    async def GetPlatformHealth(
        self, _request: health_service_pb2.GetPlatformHealthRequest, _context: Any
    ) -> health_service_pb2.PlatformHealth:
        health = judge(self._observation, self._providers)
        providers = {provider: _answers(self._health.performance(provider)) for provider in self._providers}
        return to_platform_health(health, providers, version=self._version)


def _answers(performance: Performance | None) -> str:
    return "unknown" if performance is None else state(performance.state is State.HEALTHY)


def to_platform_health(
    health: PlatformHealth, providers: Mapping[str, str], *, version: str
) -> health_service_pb2.PlatformHealth:
    """Converts a judgement, and how the providers answer."""
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
        providers=providers,
    )
