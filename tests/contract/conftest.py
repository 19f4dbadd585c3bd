"""One worker per adapter, served over real mTLS, talking to the sandbox provider over real HTTP."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from realmultillm.anthropic.v1.message_service_pb2_grpc import (
    MessageServiceStub,
    add_MessageServiceServicer_to_server,
)
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1.chat_service_pb2_grpc import ChatServiceStub, add_ChatServiceServicer_to_server
from realmultillm.openai.v1.chat_completion_service_pb2_grpc import (
    ChatCompletionServiceStub,
    add_ChatCompletionServiceServicer_to_server,
)
from realmultillm.openai.v1.embedding_service_pb2_grpc import (
    EmbeddingServiceStub,
    add_EmbeddingServiceServicer_to_server,
)
from realmultillm.provider.v1.provider_service_pb2_grpc import (
    ProviderServiceStub,
    add_ProviderServiceServicer_to_server,
)

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match, RecordedRequest
from deploy.local.sandbox_provider.server import running as sandbox_running
from libs.errors import FailedPrecondition
from libs.model_catalog import ModelCatalog
from libs.outbox import Outbox, open_outbox
from libs.provider_keys import ProviderKey
from libs.providers import worker_service
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from libs.worker.access_policy import ACCESS_POLICY
from libs.worker.adapter import Adapter, Credential
from libs.worker.answer_costs import costs_of
from libs.worker.chat_completion_servicer import WorkerChatCompletionServicer
from libs.worker.chats import Chats
from libs.worker.data_keys import DataKeys
from libs.worker.embedding_servicer import WorkerEmbeddingServicer
from libs.worker.embeddings import Embeddings
from libs.worker.history import History
from libs.worker.message_servicer import WorkerMessageServicer
from libs.worker.model_listing import Models
from libs.worker.provider_health import ProviderHealth
from libs.worker.servicer import WorkerChatServicer, WorkerProviderServicer
from libs.worker.token_counting import TokenCounts
from libs.worker.upstream import connect_upstream
from tests.contract.adapters import UNDER_CONTRACT, UnderContract
from tests.support.kept_contents import KeyMaker
from tests.support.rpc import Identities, KnownTokens, bearer, running
from tests.support.wire import LOCAL_RULES

MAX_CHATS = 8
MAX_CHATS_OF_ONE_PERSON = 6
# Longer than three attempts take with the pauses between them.
ANSWER_SECONDS = 4.0
IDLE_SECONDS = 1.0
# Of a worker beside the usual one, for tests of providers that never come to an end.
HASTY_ANSWER_SECONDS = 0.5


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
    """Where the outbox delivers to: the usage records, each once, in the order they arrived."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []
        self.outbox: Outbox | None = None

    async def take(self, facts: Sequence[bytes]) -> None:
        known = {record.id for record in self.records}
        self.records += [record for record in map(UsageRecord.FromString, facts) if record.id not in known]

    async def record_of(self, user_id: str) -> UsageRecord:
        """Waits for the record of a person who chats once.

        It is fetched; the outbox sends of itself too, but takes its time.
        """
        async with asyncio.timeout(5):
            while not (found := [record for record in self.records if record.user_id == user_id]):
                await asyncio.sleep(0.005)
                assert self.outbox is not None
                await self.outbox.flush(self.take)
        (record,) = found
        return record


@dataclass
class Person:
    """Somebody with a key and a token, unlike anybody else's, so that tests do not meet."""

    user_id: str
    key: str
    token: Secret

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What their calls carry."""
        return bearer(self.token)


@dataclass(frozen=True)
class Way:
    """A way to ask for an answer: whole or streamed, and, with a limit on its length, whole but fetched as a stream."""

    name: str
    streamed: bool = False
    max_tokens: int | None = None

    @property
    def long(self) -> bool:
        """Whether the worker puts the whole answer together from a stream."""
        return self.max_tokens is not None

    def __str__(self) -> str:
        return self.name


WHOLE, STREAMED = Way("whole"), Way("streamed", streamed=True)


@dataclass
class Worker:
    """A running worker as its callers see it, with the provider behind it in the test's hand."""

    contract: UnderContract
    adapter: Adapter
    stub: ChatServiceStub
    hasty_stub: ChatServiceStub
    openai_stub: ChatCompletionServiceStub
    anthropic_stub: MessageServiceStub
    embedding_stub: EmbeddingServiceStub
    list_models: Any
    test_key: Any
    sandbox: SandboxControl
    outbox: Outbox
    ledger: Ledger
    keys: KeyMaker
    folder: Path
    new_person: Callable[..., Person]
    tokens: KnownTokens

    def request(self, text: str = "Hello", **fields: Any) -> chat.CreateChatCompletionRequest:
        """Makes the simplest request."""
        return chat.CreateChatCompletionRequest(
            provider=self.adapter.provider, messages=[chat.ChatMessage(role="user", content=text)], **fields
        )

    @property
    def ways(self) -> list[Way]:
        """The ways to ask for an answer."""
        limit = self.contract.long_limit
        return [WHOLE, STREAMED, *([] if limit is None else [Way("whole, long", max_tokens=limit)])]

    def ask(
        self, person: Person, way: Way, text: str = "Hello", *, hasty: bool = False, model: str = "", **options: Any
    ) -> Any:
        """Asks the simplest request in a way, and returns the call."""
        if way.max_tokens is not None:
            options["max_tokens"] = way.max_tokens
        stub = self.hasty_stub if hasty else self.stub
        method = stub.StreamChatCompletion if way.streamed else stub.CreateChatCompletion
        request = self.request(text, model=model, options=chat.ChatOptions(**options))
        return method(request, metadata=person.metadata)

    async def in_every_way(self, check: Callable[[Way], Awaitable[None]]) -> None:
        """Checks every way to ask, all at the same time. What fails bears a note of the way."""

        async def checked(way: Way) -> None:
            try:
                await check(way)
            except BaseException as error:
                error.add_note(f"asked {way}")
                raise

        async with asyncio.TaskGroup() as tasks:
            for way in self.ways:
                tasks.create_task(checked(way))

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
    service = worker_service(adapter.provider)
    tokens, credentials, ledger, keys = KnownTokens(), KnownCredentials(), Ledger(), KeyMaker()
    data_keys = DataKeys(keys.load)
    known = ModelCatalog.load({})

    def new_person(**configuration: Any) -> Person:
        user_id = f"usr_{uuid.uuid4().hex}"
        key = f"{contract.key_prefix}{uuid.uuid4().hex}"
        credentials.by_user[user_id] = Credential(api_key=ProviderKey(key), **configuration)
        return Person(user_id, key, tokens.issue(user_id))

    async with (
        SandboxControl(sandbox_url) as sandbox,
        open_outbox(folder, ledger.take) as outbox,
        connect_upstream(
            adapter, sandbox_url + contract.mount, stream_idle_seconds=IDLE_SECONDS, rules=LOCAL_RULES
        ) as upstream,
    ):
        ledger.outbox = outbox

        def serving(answer_seconds: float) -> AbstractAsyncContextManager[str]:
            chats = Chats(
                adapter,
                upstream,
                credentials,
                outbox,
                max_concurrent=MAX_CHATS,
                max_of_one_person=MAX_CHATS_OF_ONE_PERSON,
                answer_seconds=answer_seconds,
                cost=costs_of(adapter.provider, known),
                history=History(data_keys),
            )
            embeddings = Embeddings(
                adapter,
                upstream,
                credentials,
                outbox,
                slot=chats.slot,
                answer_seconds=answer_seconds,
                cost=costs_of(adapter.provider, known),
            )
            counts = TokenCounts(adapter, upstream, credentials, slot=chats.slot)
            provider = WorkerProviderServicer(
                adapter, upstream, Models(adapter, upstream, credentials), ProviderHealth(adapter.provider)
            )
            return running(
                identity(service),
                partial(add_ChatServiceServicer_to_server, WorkerChatServicer(chats, adapter)),
                partial(add_ChatCompletionServiceServicer_to_server, WorkerChatCompletionServicer(chats, adapter)),
                partial(add_MessageServiceServicer_to_server, WorkerMessageServicer(chats, adapter, counts)),
                partial(add_EmbeddingServiceServicer_to_server, WorkerEmbeddingServicer(embeddings, adapter.provider)),
                partial(add_ProviderServiceServicer_to_server, provider),
                policy=ACCESS_POLICY,
                tokens=tokens,
            )

        async with (
            serving(ANSWER_SECONDS) as address,
            serving(HASTY_ANSWER_SECONDS) as hasty_address,
            open_channel(address, service, identity("envoy")) as channel,
            open_channel(hasty_address, service, identity("envoy")) as hasty_channel,
            open_channel(address, service, identity("provider-router")) as router_channel,
            open_channel(address, service, identity("key-vault")) as vault_channel,
        ):
            yield Worker(
                contract,
                adapter,
                ChatServiceStub(channel),
                ChatServiceStub(hasty_channel),
                ChatCompletionServiceStub(channel),
                MessageServiceStub(channel),
                EmbeddingServiceStub(channel),
                ProviderServiceStub(router_channel).ListModels,
                ProviderServiceStub(vault_channel).TestKey,
                sandbox,
                outbox,
                ledger,
                keys,
                folder,
                new_person,
                tokens,
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
