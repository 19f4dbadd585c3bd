"""Starts a worker: its wiring, the same for every provider."""

from __future__ import annotations

from functools import partial

from realmultillm.chat.v1.chat_service_pb2_grpc import add_ChatServiceServicer_to_server
from realmultillm.provider.v1.provider_service_pb2_grpc import add_ProviderServiceServicer_to_server

from libs.audit import connect_audit
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
from libs.worker.chats import Chats
from libs.worker.credentials import connect_credentials
from libs.worker.model_listing import Models
from libs.worker.servicer import WorkerChatServicer, WorkerProviderServicer
from libs.worker.settings import PREFIX, Settings
from libs.worker.upstream import connect_upstream


async def serve_worker(adapter: Adapter, settings: Settings | None = None) -> None:
    """Serves chats with the adapter's provider until SIGTERM; settings that are not given are read."""
    settings = settings or from_env(Settings, PREFIX)
    rules = endpoint_rules(adapter, settings)
    configure_logging(
        worker_service(adapter.provider), level=settings.rpc.log_level, log_format=settings.rpc.log_format
    )
    tls = TlsIdentity.load(settings.rpc.tls_dir)
    async with (
        connect_tokens(settings.auth_address, tls) as tokens,
        connect_audit(settings.auth_address, tls, settings.data_dir / "audit") as audit,
        connect_credentials(settings.key_vault_address, tls, adapter.provider) as credentials,
        connect_accounting(settings.analytics_address, tls, settings.data_dir) as outbox,
        connect_upstream(
            adapter,
            settings.endpoint or adapter.endpoint,
            stream_idle_seconds=settings.stream_idle_seconds,
            rules=rules,
        ) as upstream,
    ):
        chats = Chats(
            adapter,
            upstream,
            credentials,
            outbox,
            max_concurrent=settings.max_concurrent_chats,
            max_of_one_person=settings.max_concurrent_chats_per_person,
            answer_seconds=settings.answer_seconds,
        )
        await serve(
            settings.rpc,
            tls=tls,
            registrations=[
                partial(add_ChatServiceServicer_to_server, WorkerChatServicer(chats, adapter)),
                partial(
                    add_ProviderServiceServicer_to_server,
                    WorkerProviderServicer(adapter, upstream, Models(adapter, upstream, credentials)),
                ),
            ],
            policy=ACCESS_POLICY,
            tokens=tokens,
            audit=audit,
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
