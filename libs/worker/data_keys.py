"""The data keys that a worker seals the contents of chats with: one for each account, made by `key_vault` once a day.

A key lives in memory alone. It is replaced when the UTC day ends or when it has sealed as many records as it may, and
let go, its bytes overwritten, when its account has not chatted for a while. While `key_vault` or Vault is away,
accounts that have a key of the day go on with it, and yesterday's stays good for an hour. For others there is no
key: one of them waits for that answer, and the rest are told the same at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from realmultillm.keyvault.v1 import data_key_service_pb2 as vault
from realmultillm.keyvault.v1.data_key_service_pb2_grpc import DataKeyServiceStub

from libs.background import beside
from libs.errors import DeadlineExceeded, Unavailable
from libs.rpc.channel import open_channel
from libs.rpc.status import from_rpc_error
from libs.rpc.tls import TlsIdentity
from libs.sealed_content import MOST_USES, DataKey

_MOST_ACCOUNTS = 20_000
# An account that has not chatted for so long has its key let go.
_IDLE_SECONDS = 600.0
_SWEEP_SECONDS = 60.0
# How long a chat waits for a key. Vault makes one in a few milliseconds.
_CALL_SECONDS = 3.0
# How long nobody asks again after a failure.
_PAUSE_SECONDS = 1.0
_DAY_SECONDS = 86_400
# How long a key of the day before may be used while the new one is on its way.
_GRACE_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class AccountKey:
    """An account's data key, and the same wrapped by Vault, to be stored with what it seals."""

    key: DataKey
    wrapped: str


@dataclass(slots=True)
class _Held:
    key: AccountKey
    day: int
    used_at: float
    uses: int = 0


Load = Callable[[str], Awaitable[AccountKey]]


class DataKeys:
    """At most `size` keys, least recently used first out; who asks for the same at a time shares one call.

    `load` makes a key for an account. `now` is in seconds of the Unix epoch, `clock` in seconds that never go back.
    """

    def __init__(
        self,
        load: Load,
        *,
        size: int = _MOST_ACCOUNTS,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._size = size
        self._now = now
        self._clock = clock
        # How often a key was here, and how often it had to be waited for.
        self.hits = 0
        self.misses = 0
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._loads: dict[str, asyncio.Task[_Held]] = {}
        self._failure: Unavailable | None = None
        self._failed_at = float("-inf")

    async def of(self, user_id: str) -> AccountKey:
        """Returns the key to seal one record of an account with; ask again for each.

        Raises Unavailable when there is none and none can be made now.
        """
        key = self.at_hand(user_id)
        if key is not None:
            return key
        self.misses += 1
        # One impatient caller must not take the key away from the others.
        return self._use(user_id, await asyncio.shield(self._loading(user_id)))

    def at_hand(self, user_id: str, *, waited: bool = False) -> AccountKey | None:
        """Returns the same without waiting; None when there is none. `waited` says that it was asked for before."""
        held = self._held.get(user_id)
        if held is None or not self._may_be_used(held):
            return None
        if not waited:
            self.hits += 1
        if held.day != self._today():
            self._renew(user_id)
        return self._use(user_id, held)

    def asked_for(self, user_id: str) -> asyncio.Task[Any]:
        """Has a key made, if that is not under way: a task to wait for and never to cancel; the key is at hand then."""
        self.misses += 1
        return self._loading(user_id)

    def _use(self, user_id: str, held: _Held) -> AccountKey:
        held.uses += 1
        held.used_at = self._clock()
        if self._held.get(user_id) is held:
            self._held.move_to_end(user_id)
        return held.key

    def let_go(self) -> None:
        """Lets go of the keys of accounts that have not chatted for a while, and of days gone by."""
        latest = self._clock() - _IDLE_SECONDS
        for user_id, held in tuple(self._held.items()):
            if held.used_at < latest or not self._may_be_used(held):
                del self._held[user_id]

    def __len__(self) -> int:
        return len(self._held)

    @asynccontextmanager
    async def swept(self) -> AsyncIterator[None]:
        """Lets go of keys from time to time, for the time of the block, and of all at its end."""
        try:
            async with beside({"data key sweep": self._sweep()}):
                yield
        finally:
            loads = tuple(self._loads.values())
            for load in loads:
                load.cancel()
            await asyncio.gather(*loads, return_exceptions=True)
            self._held.clear()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.let_go()

    def _today(self) -> int:
        return int(self._now() // _DAY_SECONDS)

    def _may_be_used(self, held: _Held) -> bool:
        in_time = self._now() < (held.day + 1) * _DAY_SECONDS + _GRACE_SECONDS
        return in_time and held.uses < MOST_USES

    def _renew(self, user_id: str) -> None:
        """Has a new key made, for which nobody waits."""
        if self._clock() - self._failed_at >= _PAUSE_SECONDS:
            self._loading(user_id)

    def _loading(self, user_id: str) -> asyncio.Task[_Held]:
        load = self._loads.get(user_id)
        if load is None:
            load = self._loads[user_id] = asyncio.create_task(self._fetch(user_id))
            load.add_done_callback(lambda done: self._forget(user_id, done))
        return load

    async def _fetch(self, user_id: str) -> _Held:
        failure = self._failure
        if failure is not None and self._clock() - self._failed_at < _PAUSE_SECONDS:
            raise Unavailable(failure.message, reason=failure.reason, retry_after=failure.retry_after)
        day = self._today()  # of before: a key that is made over midnight is yesterday's
        try:
            key = await self._load(user_id)
        except Unavailable as error:
            self._failure, self._failed_at = error, self._clock()
            raise
        self._failure = None
        held = _Held(key, day, self._clock())
        self._held[user_id] = held
        self._held.move_to_end(user_id)
        if len(self._held) > self._size:
            self._held.popitem(last=False)
        return held

    def _forget(self, user_id: str, load: asyncio.Task[_Held]) -> None:
        del self._loads[user_id]
        if not load.cancelled():
            load.exception()  # was raised to whoever waited; nobody may have


@asynccontextmanager
async def connect_data_keys(address: str, tls: TlsIdentity) -> AsyncIterator[DataKeys]:
    """Opens a channel to `key_vault` and has data keys made through it."""
    async with open_channel(address, "key-vault", tls) as channel:
        stub: Any = DataKeyServiceStub(channel)

        async def load(user_id: str) -> AccountKey:
            request = vault.GenerateDataKeyRequest(user_id=user_id)
            try:
                answer = await stub.GenerateDataKey(request, timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error, service="key-vault")
                if isinstance(failure, DeadlineExceeded):
                    raise Unavailable(failure.message, retry_after=_PAUSE_SECONDS) from None
                raise failure from None
            return AccountKey(DataKey(answer.key), answer.wrapped_key)

        keys = DataKeys(load)
        async with keys.swept():
            yield keys
