"""One Envoy for all tests of it, in front of stand-ins of every service it knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from realmultillm.analytics.v1 import analytics_service_pb2, usage_ingest_service_pb2
from realmultillm.anthropic.v1 import message_service_pb2
from realmultillm.auth.v1 import (
    api_token_service_pb2,
    audit_log_service_pb2,
    auth_service_pb2,
    token_service_pb2,
    user_admin_service_pb2,
)
from realmultillm.chat.v1 import chat_service_pb2, comparison_service_pb2
from realmultillm.keyvault.v1 import credential_service_pb2, provider_config_service_pb2
from realmultillm.openai.v1 import chat_completion_service_pb2, embedding_service_pb2
from realmultillm.openai.v1 import model_service_pb2 as openai_model_service_pb2
from realmultillm.provider.v1 import provider_service_pb2
from realmultillm.router.v1 import catalog_service_pb2, health_service_pb2, model_service_pb2

from deploy.local.ports import PortReservation
from tests.support.envoy import FrontDoor, running_envoy
from tests.support.rpc import Identities
from tests.support.stand_ins import StandIn

ORIGIN = "https://app.example.com"

_CHATS = (
    chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"],
    chat_completion_service_pb2.DESCRIPTOR.services_by_name["ChatCompletionService"],
    embedding_service_pb2.DESCRIPTOR.services_by_name["EmbeddingService"],
    message_service_pb2.DESCRIPTOR.services_by_name["MessageService"],
)
_SERVED = {
    "auth": (
        auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"],
        api_token_service_pb2.DESCRIPTOR.services_by_name["ApiTokenService"],
        user_admin_service_pb2.DESCRIPTOR.services_by_name["UserAdminService"],
        audit_log_service_pb2.DESCRIPTOR.services_by_name["AuditLogService"],
        audit_log_service_pb2.DESCRIPTOR.services_by_name["AuditIngestService"],
        token_service_pb2.DESCRIPTOR.services_by_name["TokenService"],
    ),
    "key-vault": (
        provider_config_service_pb2.DESCRIPTOR.services_by_name["ProviderConfigService"],
        credential_service_pb2.DESCRIPTOR.services_by_name["CredentialService"],
    ),
    "analytics": (
        analytics_service_pb2.DESCRIPTOR.services_by_name["AnalyticsService"],
        usage_ingest_service_pb2.DESCRIPTOR.services_by_name["UsageIngestService"],
    ),
    "provider-router": (
        *_CHATS,
        comparison_service_pb2.DESCRIPTOR.services_by_name["ComparisonService"],
        openai_model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
        catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"],
        health_service_pb2.DESCRIPTOR.services_by_name["PlatformHealthService"],
        model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
    ),
    "worker-openai": (*_CHATS, provider_service_pb2.DESCRIPTOR.services_by_name["ProviderService"]),
    "worker-google-ai": (*_CHATS, provider_service_pb2.DESCRIPTOR.services_by_name["ProviderService"]),
}


@dataclass(frozen=True)
class Backends:
    """The services behind Envoy by name, and where each listens. Of `worker-grok` there is an address and no server."""

    services: dict[str, StandIn]
    addresses: dict[str, list[str]]

    def __getitem__(self, name: str) -> StandIn:
        return self.services[name]

    def asked(self) -> dict[str, list[str]]:
        """Returns the methods called, by service."""
        return {
            name: [call.method for call in service.asked] for name, service in self.services.items() if service.asked
        }


@pytest.fixture(scope="session")
async def all_backends(identity: Identities) -> AsyncIterator[Backends]:
    ports = PortReservation()
    services = {name: StandIn(*served) for name, served in _SERVED.items()}
    async with AsyncExitStack() as stack:
        addresses = {
            name: [await stack.enter_async_context(service.running(identity(name), allowed_origins=(ORIGIN,)))]
            for name, service in services.items()
        }
        nobody = ports.take(["nobody"], {})["nobody"]
        yield Backends(services, addresses | {"worker-grok": [f"127.0.0.1:{nobody}"]})
    ports.release()


@pytest.fixture(scope="session")
async def front_door(
    all_backends: Backends, pki_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FrontDoor]:
    async with running_envoy(
        tmp_path_factory.mktemp("envoy"), pki_folder, all_backends.addresses, allowed_origins=[ORIGIN]
    ) as running:
        yield running


@pytest.fixture
def backends(all_backends: Backends) -> Iterator[Backends]:
    """The services, as new for each test."""
    yield all_backends
    for service in all_backends.services.values():
        service.forget()


@pytest.fixture
async def rest(front_door: FrontDoor) -> AsyncIterator[httpx.AsyncClient]:
    """A REST client of Envoy."""
    async with front_door.rest() as client:
        yield client
