"""Data keys that tests hold in their hand, to read what workers have kept of chats."""

from __future__ import annotations

import asyncio
import os

from realmultillm.analytics.v1.chat_content_pb2 import ChatContent
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord

from libs.errors import Unavailable
from libs.sealed_content import KEY_BYTES, DataKey, unseal
from libs.worker.data_keys import AccountKey


class KeyMaker:
    """Stands in for the key vault behind DataKeys: makes keys, unless it is `away`, or frozen until it `goes_on`."""

    def __init__(self) -> None:
        self.away = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.asked = 0
        self._made: dict[str, tuple[str, bytes]] = {}

    async def load(self, user_id: str) -> AccountKey:
        """Makes a key for an account. Raises Unavailable when away."""
        self.asked += 1
        await self.goes_on.wait()
        if self.away:
            raise Unavailable("Vault is sealed; an operator unseals it.", retry_after=5)
        wrapped, key = f"vault:v1:{len(self._made)}", os.urandom(KEY_BYTES)
        self._made[wrapped] = user_id, key
        return AccountKey(DataKey(key), wrapped)

    def content_of(self, record: UsageRecord) -> ChatContent:
        """Opens what was kept with a record, by the key of its account."""
        user_id, key = self._made[record.content.wrapped_key]
        assert user_id == record.user_id
        sealed = record.content.sealed
        return ChatContent.FromString(unseal(DataKey(key), sealed, record_id=record.id, user_id=user_id))
