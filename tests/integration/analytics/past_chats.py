"""The history as deployed: analytics with a real database, and a key vault with a real Vault that opens the keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from realmultillm.analytics.v1 import chat_history_service_pb2 as history_pb2
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent
from realmultillm.analytics.v1.chat_history_service_pb2_grpc import (
    ChatHistoryServiceStub,
    add_ChatHistoryServiceServicer_to_server,
)
from realmultillm.analytics.v1.usage_ingest_service_pb2 import IngestUsageRequest, UsageRecord
from realmultillm.analytics.v1.usage_ingest_service_pb2_grpc import (
    UsageIngestServiceStub,
    add_UsageIngestServiceServicer_to_server,
)
from realmultillm.keyvault.v1.data_key_service_pb2_grpc import add_DataKeyServiceServicer_to_server

from libs.audit import audit_trail
from libs.database import Transactions, connect
from libs.redaction import Secret
from libs.rpc.access_policy import SESSION_SCOPES
from libs.rpc.channel import open_channel
from libs.sealed_content import DataKey, seal
from services.analytics.access_policy import ACCESS_POLICY
from services.analytics.history import History
from services.analytics.history_servicer import ChatHistoryServicer
from services.analytics.ingest import UsageIngest
from services.analytics.ingest_servicer import UsageIngestServicer
from services.analytics.opened_keys import OpenedKeys, connect_opened_keys
from services.analytics.partitions import Partitions
from services.analytics.rewrap_history import connect_rewrap
from services.key_vault.access_policy import ACCESS_POLICY as KEY_VAULT_POLICY
from services.key_vault.data_key_servicer import DataKeyServicer
from services.key_vault.transit import Transit
from tests.integration.analytics.deployment import NOW, RETENTION
from tests.integration.key_vault.deployment import Log, connected_transit
from tests.support.rpc import Identities, KnownTokens, bearer, running
from tests.support.vault import VaultServer


class Clock:
    """Tells the time, which a test may change."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Person:
    """Somebody who looks at a history."""

    def __init__(self, stub: Any, call: dict[str, Any]) -> None:
        self._stub = stub
        self._call = call

    async def page(self, **fields: Any) -> history_pb2.ListChatRecordsResponse:
        answer: history_pb2.ListChatRecordsResponse = await self._stub.ListChatRecords(
            history_pb2.ListChatRecordsRequest(**fields), **self._call
        )
        return answer

    async def ids(self, **fields: Any) -> list[str]:
        """Lists the ids of one page."""
        return [record.id for record in (await self.page(**fields)).records]

    async def get(self, record_id: str) -> history_pb2.ChatRecord:
        record: history_pb2.ChatRecord = await self._stub.GetChatRecord(
            history_pb2.GetChatRecordRequest(id=record_id), **self._call
        )
        return record

    async def erase(self, record_id: str) -> bool:
        request = history_pb2.DeleteChatRecordRequest(id=record_id)
        return bool((await self._stub.DeleteChatRecord(request, **self._call)).success)

    async def erase_all(self) -> int:
        return int((await self._stub.DeleteChatHistory(history_pb2.DeleteChatHistoryRequest(), **self._call)).deleted)


class PastChats:
    """The running services, and those who fill and read the history."""

    def __init__(
        self,
        transactions: Transactions,
        history: History,
        keys: OpenedKeys,
        transit: Transit,
        log: Log,
        clock: Clock,
        tokens: KnownTokens,
        addresses: dict[str, str],
        identity: Identities,
        channels: AsyncExitStack,
    ) -> None:
        self.transactions = transactions
        self.history = history
        self.keys = keys
        self.transit = transit
        self.log = log
        self.clock = clock
        self._tokens = tokens
        self._addresses = addresses
        self._identity = identity
        self._channels = channels
        self._data_keys: dict[str, tuple[bytes, str]] = {}

    async def person(self, user_id: str, scopes: Collection[str] = SESSION_SCOPES) -> Person:
        """Somebody who is signed in."""
        stub = ChatHistoryServiceStub(await self._channel("envoy"))
        return Person(stub, {"timeout": 20, "metadata": bearer(self._tokens.issue(user_id, scopes=scopes))})

    async def data_key(self, user_id: str, *, new: bool = False) -> tuple[bytes, str]:
        """Returns the data key of a person, in the clear and wrapped."""
        if new or user_id not in self._data_keys:
            self._data_keys[user_id] = await self.transit.data_key(user_id)
        return self._data_keys[user_id]

    async def seal(self, record: UsageRecord, content: ChatContent) -> UsageRecord:
        """Seals what was said into a record, as a worker does."""
        key, wrapped = await self.data_key(record.user_id)
        record.content.sealed = seal(
            DataKey(key), content.SerializeToString(), record_id=record.id, user_id=record.user_id
        )
        record.content.wrapped_key = wrapped
        return record

    async def ingest(self, *records: UsageRecord) -> None:
        """Reports chats, as the worker of OpenAI."""
        stub = UsageIngestServiceStub(await self._channel("worker-openai"))
        await stub.IngestUsage(IngestUsageRequest(records=records), timeout=20)

    @asynccontextmanager
    async def rewrap(self) -> AsyncIterator[Any]:
        """Has data keys wrapped anew, as the command of the service does."""
        async with connect_rewrap(self._addresses["key-vault"], self._identity("analytics")) as rewrap:
            yield rewrap

    async def _channel(self, service: str) -> grpc.aio.Channel:
        return await self._channels.enter_async_context(
            open_channel(self._addresses["analytics"], "analytics", self._identity(service))
        )


@asynccontextmanager
async def running_history(
    database_url: Secret, vault: VaultServer, identity: Identities, folder: Path
) -> AsyncIterator[PastChats]:
    """Runs both services, at the time NOW."""
    tokens, log, clock = KnownTokens(), Log(), Clock()
    tls = identity("analytics")
    async with (
        connect(database_url) as transactions,
        audit_trail(folder, log.store) as trail,
        connected_transit(vault) as transit,
        running(
            identity("key-vault"),
            partial(add_DataKeyServiceServicer_to_server, DataKeyServicer(transit)),
            policy=KEY_VAULT_POLICY,
            tokens=tokens,
        ) as key_vault,
        connect_opened_keys(key_vault, tls) as keys,
    ):
        history = History(transactions, keys, trail, contents=RETENTION.contents, clock=clock)
        ingest = UsageIngest(transactions, Partitions(transactions), retention=RETENTION, clock=clock)
        async with (
            running(
                tls,
                partial(add_UsageIngestServiceServicer_to_server, UsageIngestServicer(ingest)),
                partial(add_ChatHistoryServiceServicer_to_server, ChatHistoryServicer(history)),
                policy=ACCESS_POLICY,
                tokens=tokens,
                audit=trail,
            ) as analytics,
            AsyncExitStack() as channels,
        ):
            addresses = {"key-vault": key_vault, "analytics": analytics}
            yield PastChats(transactions, history, keys, transit, log, clock, tokens, addresses, identity, channels)


def new_person() -> str:
    """The id of somebody without chats."""
    return str(uuid4())
