"""Starts a worker: its wiring, the same for every provider."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

from realmultillm.anthropic.v1.message_service_pb2_grpc import add_MessageServiceServicer_to_server
from realmultillm.chat.v1.chat_service_pb2_grpc import add_ChatServiceServicer_to_server
from realmultillm.openai.v1.chat_completion_service_pb2_grpc import add_ChatCompletionServiceServicer_to_server
from realmultillm.openai.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server
from realmultillm.provider.v1.provider_service_pb2_grpc import add_ProviderServiceServicer_to_server

from libs.audit import connect_audit
from libs.cache_metrics import Cache, CacheCollector
from libs.metrics import process_metrics
from libs.model_catalog import ModelCatalog
from libs.model_catalog.overrides import OverridesCollector, following
from libs.outbox_metrics import OutboxCollector
from libs.provider_endpoints import EndpointRules
from libs.providers import worker_service
from libs.rpc.remote_tokens import connect_tokens
from libs.rpc.server import serve
from libs.rpc.tls import TlsIdentity
from libs.settings import SettingsError, from_env
from libs.telemetry import configure_logging
from libs.worker.access_policy import ACCESS_POLICY
from libs.worker.accounting import connect_accounting
from libs.worker.adapter import Adapter
from libs.worker.answer_costs import costs_of
from libs.worker.chat_completion_servicer import WorkerChatCompletionServicer
from libs.worker.chat_metrics import ChatMetrics, LoadCollector, ProviderHealthCollector
from libs.worker.chat_outcomes import PATIENCE_SECONDS, ChatOutcomes
from libs.worker.chats import Chats
from libs.worker.credentials import connect_credentials
from libs.worker.data_keys import connect_data_keys
from libs.worker.embedding_servicer import WorkerEmbeddingServicer
from libs.worker.embeddings import Embeddings
from libs.worker.history import History
from libs.worker.history_metrics import HistoryCollector
from libs.worker.message_servicer import WorkerMessageServicer
from libs.worker.model_listing import Models
from libs.worker.provider_health import ProviderHealth
from libs.worker.servicer import WorkerChatServicer, WorkerProviderServicer
from libs.worker.settings import PREFIX, Settings
from libs.worker.token_counting import TokenCounts
from libs.worker.upstream import connect_upstream


async def serve_worker(adapter: Adapter, settings: Settings | None = None) -> None:
    """Serves chats with the adapter's provider until SIGTERM; settings that are not given are read."""
    settings = settings or from_env(Settings, PREFIX)
    rules = endpoint_rules(adapter, settings)
    configure_logging(
        worker_service(adapter.provider), level=settings.rpc.log_level, log_format=settings.rpc.log_format
    )
    # Prices only: what a worker is asked for names the provider.
    known = ModelCatalog.load({}, settings.models)
    tls = TlsIdentity.load(settings.rpc.tls_dir)
    async with (
        connect_tokens(settings.auth_address, tls) as tokens,
        connect_audit(settings.auth_address, tls, settings.data_dir / "audit") as audit,
        connect_credentials(settings.key_vault_address, tls, adapter.provider) as credentials,
        connect_data_keys(settings.key_vault_address, tls) if settings.history else nullcontext() as data_keys,
        connect_accounting(
            settings.analytics_address, tls, settings.data_dir, limit_bytes=settings.outbox_max_bytes
        ) as outbox,
        connect_upstream(
            adapter,
            settings.endpoint or adapter.endpoint,
            stream_idle_seconds=settings.stream_idle_seconds,
            rules=rules,
            tells_trace=settings.trace_to_provider,
        ) as upstream,
        following(known, settings.models) as overrides,
    ):
        health = ProviderHealth(adapter.provider)
        patience_seconds = min(PATIENCE_SECONDS, settings.answer_seconds, settings.stream_idle_seconds)
        metrics = process_metrics()
        metrics.register(OutboxCollector(usage=outbox, audit=audit.outbox))
        metrics.register(ProviderHealthCollector(adapter.provider, health))
        caches: dict[str, Cache] = {"principals": tokens.cache, "credentials": credentials.cache}
        history = None
        if data_keys is not None:
            caches["data_keys"] = data_keys
            history = History(data_keys, nearly_full=lambda: outbox.nearly_full)
            metrics.register(HistoryCollector(adapter.provider, history))
        metrics.register(CacheCollector(**caches))
        metrics.register(OverridesCollector(overrides))
        chat_metrics = ChatMetrics(adapter.provider, known.known_as)
        metrics.register(chat_metrics)
        outcomes = ChatOutcomes(health, chat_metrics, patience_seconds=patience_seconds)
        cost = costs_of(adapter.provider, known)
        chats = Chats(
            adapter,
            upstream,
            credentials,
            outbox,
            max_concurrent=settings.max_concurrent_chats,
            max_of_one_person=settings.max_concurrent_chats_per_person,
            answer_seconds=settings.answer_seconds,
            ended=outcomes.note,
            cost=cost,
            overhead=chat_metrics.note_overhead,
            history=history,
            traces_content=settings.trace_content,
        )
        metrics.register(LoadCollector(adapter.provider, chats))
        embeddings = Embeddings(
            adapter,
            upstream,
            credentials,
            outbox,
            slot=chats.slot,
            answer_seconds=settings.answer_seconds,
            ended=outcomes.note,
            cost=cost,
        )
        counts = TokenCounts(adapter, upstream, credentials, slot=chats.slot)
        await serve(
            settings.rpc,
            tls=tls,
            registrations=[
                partial(add_ChatServiceServicer_to_server, WorkerChatServicer(chats, adapter)),
                partial(add_ChatCompletionServiceServicer_to_server, WorkerChatCompletionServicer(chats, adapter)),
                partial(add_MessageServiceServicer_to_server, WorkerMessageServicer(chats, adapter, counts)),
                partial(add_EmbeddingServiceServicer_to_server, WorkerEmbeddingServicer(embeddings, adapter.provider)),
                partial(
                    add_ProviderServiceServicer_to_server,
                    WorkerProviderServicer(adapter, upstream, Models(adapter, upstream, credentials), health),
                ),
            ],
            policy=ACCESS_POLICY,
            tokens=tokens,
            audit=audit,
            metrics=metrics,
        )


def endpoint_rules(adapter: Adapter, settings: Settings) -> EndpointRules:
    """Makes the rules of this deployment. Raises SettingsError when the worker's own endpoint breaks them."""
    rules = EndpointRules(settings.private_endpoints)
    if rule := rules.broken_rule(settings.endpoint or adapter.endpoint):
        culprit = f"The endpoint of {adapter.provider} in the catalogue"
        raise SettingsError(
            f"{culprit if settings.endpoint is None else f'{PREFIX}_ENDPOINT'} {rule} {PREFIX}_PRIVATE_ENDPOINTS lists "
            "private hosts."
        )
    return rules
