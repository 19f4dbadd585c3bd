"""Runs the provider router."""

from __future__ import annotations

from functools import partial

from realmultillm.keyvault.v1.credential_service_pb2_grpc import CredentialServiceStub
from realmultillm.openai.v1.model_service_pb2_grpc import (
    add_ModelServiceServicer_to_server as add_openai_model_servicer_to_server,
)
from realmultillm.provider.v1.provider_service_pb2_grpc import ProviderServiceStub
from realmultillm.router.v1.catalog_service_pb2_grpc import add_CatalogServiceServicer_to_server
from realmultillm.router.v1.health_service_pb2_grpc import add_PlatformHealthServiceServicer_to_server
from realmultillm.router.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server

from libs.audit import connect_audit
from libs.cache_metrics import CacheCollector
from libs.metrics import process_metrics
from libs.model_catalog import ModelCatalog
from libs.model_catalog.overrides import OverridesCollector, following
from libs.outbox_metrics import OutboxCollector
from libs.provider_catalog import check_workers, load_catalog
from libs.providers import worker_service
from libs.rpc.remote_tokens import connect_tokens
from libs.rpc.server import run, serve
from libs.rpc.tls import TlsIdentity
from libs.settings import from_env
from libs.telemetry import configure_logging
from libs.version import platform_version
from services.provider_router.access_policy import ACCESS_POLICY
from services.provider_router.auto_chats import AutoChats
from services.provider_router.backends import open_channels
from services.provider_router.callable_models import CallableModels
from services.provider_router.candidates import CandidateSearch
from services.provider_router.chat_forwarding import ChatForwarder, add_chat_forwarder_to_server
from services.provider_router.chat_workers import ChatWorker
from services.provider_router.comparison import Comparisons
from services.provider_router.comparison_servicer import ComparisonServicer, add_comparison_servicer_to_server
from services.provider_router.dialect_forwarding import DialectForwarder, add_dialect_forwarder_to_server
from services.provider_router.every_model import EveryModel
from services.provider_router.model_comparison import ModelComparison
from services.provider_router.model_lists import LiveModels, ModelLists
from services.provider_router.model_names import ModelNames
from services.provider_router.observation import observing
from services.provider_router.openai_model_servicer import OpenAIModelServicer
from services.provider_router.person_states import PersonStates
from services.provider_router.platform_health import DEPENDENCIES
from services.provider_router.provider_health import watching_providers
from services.provider_router.provider_states import ProviderStates
from services.provider_router.routing import Routes
from services.provider_router.servicer import CatalogServicer, ModelServicer, PlatformHealthServicer
from services.provider_router.settings import PREFIX, Settings
from services.provider_router.worker_models import WorkerModels


async def main() -> None:
    settings = from_env(Settings, PREFIX)
    configure_logging("provider-router", level=settings.rpc.log_level, log_format=settings.rpc.log_format)
    catalog = load_catalog(settings.catalog)
    check_workers(f"{PREFIX}_WORKERS", settings.workers, catalog)
    known = ModelCatalog.load(catalog, settings.models)
    tls = TlsIdentity.load(settings.rpc.tls_dir)
    addresses = {
        "auth": settings.auth_address,
        "key-vault": settings.key_vault_address,
        "analytics": settings.analytics_address,
        **{worker_service(provider): address for provider, address in settings.workers.items()},
    }
    async with (
        connect_tokens(settings.auth_address, tls) as tokens,
        connect_audit(settings.auth_address, tls, settings.data_dir / "audit") as audit,
        open_channels(addresses, tls) as channels,
        observing(channels, DEPENDENCIES) as observation,
        watching_providers(
            {provider: ProviderServiceStub(channels[worker_service(provider)]) for provider in settings.workers},
            observation,
        ) as provider_health,
        following(known, settings.models, providers=catalog) as overrides,
    ):
        states = ProviderStates(CredentialServiceStub(channels["key-vault"]))
        providers = CatalogServicer(
            catalog,
            offered=frozenset(settings.workers),
            states=states,
            health=provider_health,
        )
        health = PlatformHealthServicer(
            observation, provider_health, providers=sorted(settings.workers), version=platform_version()
        )
        workers = Routes(
            {provider: ChatWorker.on(channels[worker_service(provider)], provider) for provider in settings.workers},
            known=catalog,
        )
        person_states = PersonStates(states)
        search = CandidateSearch(ModelNames(sorted(settings.workers), known), person_states)
        chats = ChatForwarder(workers, AutoChats(workers, search, provider_health))
        dialects = DialectForwarder(workers, search, provider_health)
        models: dict[str, LiveModels] = {
            provider: WorkerModels(provider, ProviderServiceStub(channels[worker_service(provider)]))
            for provider in settings.workers
        }
        lists = ModelLists(catalog, Routes(models, known=catalog), states, known)
        every = EveryModel(catalog, lists, states)
        callable_models = CallableModels(catalog, every, ModelNames(sorted(settings.workers), known), known)
        metrics = process_metrics()
        metrics.register(OutboxCollector(audit=audit.outbox))
        metrics.register(CacheCollector(principals=tokens.cache, person_states=person_states.cache))
        metrics.register(OverridesCollector(overrides))
        await serve(
            settings.rpc,
            tls=tls,
            registrations=[
                partial(add_CatalogServiceServicer_to_server, providers),
                partial(
                    add_ModelServiceServicer_to_server,
                    ModelServicer(lists, every, ModelComparison(ModelNames(catalog, known), known)),
                ),
                partial(add_openai_model_servicer_to_server, OpenAIModelServicer(callable_models)),
                partial(add_PlatformHealthServiceServicer_to_server, health),
                partial(add_chat_forwarder_to_server, chats),
                partial(add_dialect_forwarder_to_server, dialects),
                partial(add_comparison_servicer_to_server, ComparisonServicer(Comparisons(workers), providers=catalog)),
            ],
            policy=ACCESS_POLICY,
            tokens=tokens,
            audit=audit,
            metrics=metrics,
        )


if __name__ == "__main__":
    run(main())
