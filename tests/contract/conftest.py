"""One worker per adapter, served over real mTLS, talking to the sandbox provider over real HTTP."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub, add_ChatServiceServicer_to_server
from realmultillm.provider.v1.provider_service_pb2_grpc import (
    ProviderServiceStub,
    add_ProviderServiceServicer_to_server,
)

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match, RecordedRequest
from deploy.local.sandbox_provider.server import running as sandbox_running
from libs.errors import FailedPrecondition
from libs.outbox import Outbox, open_outbox
from libs.providers import worker_service
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from libs.worker.access_policy import ACCESS_POLICY
from libs.worker.adapter import Adapter, Credential
from libs.worker.chats import Chats
from libs.worker.models import Models
from libs.worker.servicer import WorkerChatServicer, WorkerProviderServicer
from libs.worker.upstream import connect_upstream
from tests.contract.adapters import UNDER_CONTRACT, UnderContract
from tests.support.rpc import Identities, KnownTokens, bearer, running

MAX_CHATS = 8
# Longer than three attempts take with the pauses between them.
ANSWER_SECONDS = 4.0
IDLE_SECONDS = 1.0


class KnownCredentials:
    """The port of `libs.worker.credentials`, over keys that stand in memory."""

    def __init__(self) -> None:
        self.by_user: dict[str, Credential] = {}

    async def of(self, user_id: str) -> Credential:
        try:
            return self.by_user[user_id]
        except KeyError:
            raise FailedPrecondition("Store a key first.", reason="PROVIDER_NOT_CONFIGURED") from None


class Ledger:
    """Where the outbox delivers to: the usage records, in the order they arrived."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []
        self._arrived = asyncio.Condition()

    async def take(self, facts: Sequence[bytes]) -> None:
        async with self._arrived:
            self.records += [UsageRecord.FromString(fact) for fact in facts]
            self._arrived.notify_all()

    async def record_of(self, user_id: str) -> UsageRecord:
        """Waits for the record of a person who chats once."""
        async with asyncio.timeout(5), self._arrived:
            await self._arrived.wait_for(lambda: any(record.user_id == user_id for record in self.records))
        (record,) = [record for record in self.records if record.user_id == user_id]
        return record


@dataclass
class Person:
    """Somebody with a key and a token, unlike anybody else's, so that tests do not meet."""

    user_id: str
    key: str
    metadata: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass
class Worker:
    """A running worker as its callers see it, with the provider behind it in the test's hand."""

    contract: UnderContract
    adapter: Adapter
    stub: ChatServiceStub
    list_models: Any
    test_key: Any
    sandbox: SandboxControl
    outbox: Outbox
    ledger: Ledger
    new_person: Callable[..., Person]

    def request(self, text: str = "Hello", **fields: Any) -> chat.CreateChatCompletionRequest:
        """Makes the simplest request."""
        return chat.CreateChatCompletionRequest(
            provider=self.adapter.provider, messages=[chat.ChatMessage(role="user", content=text)], **fields
        )

    async def bad_day(self, person: Person, **behaviour: Any) -> None:
        """Makes the provider answer one person's key in this way."""
        await self.sandbox.behave(Behaviour(match=Match(key=person.key), **behaviour))

    async def received(self, person: Person) -> list[RecordedRequest]:
        """Lists what reached the provider with a person's key."""
        return await self.sandbox.requests(key=person.key)


@asynccontextmanager
async def _running_worker(name: str, identity: Identities, folder: Path, sandbox_url: str) -> AsyncIterator[Worker]:
    contract = UNDER_CONTRACT[name]
    adapter = contract.adapter
    tokens, credentials, ledger = KnownTokens(), KnownCredentials(), Ledger()

    def new_person(**configuration: Any) -> Person:
        user_id = f"usr_{uuid.uuid4().hex}"
        key = f"{contract.key_prefix}{uuid.uuid4().hex}"
        credentials.by_user[user_id] = Credential(api_key=Secret(key), **configuration)
        return Person(user_id, key, bearer(tokens.issue(user_id)))

    async with (
        SandboxControl(sandbox_url) as sandbox,
        open_outbox(folder, ledger.take) as outbox,
        connect_upstream(adapter, sandbox_url + contract.mount, stream_idle_seconds=IDLE_SECONDS) as upstream,
    ):
        chats = Chats(adapter, upstream, credentials, outbox, max_concurrent=MAX_CHATS, answer_seconds=ANSWER_SECONDS)
        async with (
            running(
                identity(worker_service(adapter.provider)),
                partial(add_ChatServiceServicer_to_server, WorkerChatServicer(chats, adapter)),
                partial(
                    add_ProviderServiceServicer_to_server,
                    WorkerProviderServicer(adapter, upstream, Models(adapter, upstream, credentials)),
                ),
                policy=ACCESS_POLICY,
                tokens=tokens,
            ) as address,
            open_channel(address, worker_service(adapter.provider), identity("envoy")) as channel,
            open_channel(address, worker_service(adapter.provider), identity("provider-router")) as router_channel,
            open_channel(address, worker_service(adapter.provider), identity("key-vault")) as vault_channel,
        ):
            yield Worker(
                contract,
                adapter,
                ChatServiceStub(channel),
                ProviderServiceStub(router_channel).ListModels,
                ProviderServiceStub(vault_channel).TestKey,
                sandbox,
                outbox,
                ledger,
                new_person,
            )


@pytest.fixture(scope="session")
async def sandbox_url() -> AsyncIterator[str]:
    async with sandbox_running() as url:
        yield url


@pytest.fixture(scope="session", params=sorted(UNDER_CONTRACT))
async def worker(
    request: pytest.FixtureRequest, identity: Identities, tmp_path_factory: pytest.TempPathFactory, sandbox_url: str
) -> AsyncIterator[Worker]:
    folder = tmp_path_factory.mktemp(f"outbox-{request.param}")
    async with _running_worker(request.param, identity, folder, sandbox_url) as running_worker:
        yield running_worker
