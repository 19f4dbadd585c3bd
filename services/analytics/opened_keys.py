"""Data keys of people, opened by `key_vault` in their own name, and kept for a minute at most.

One who turns pages needs the same keys again and again. A key is at hand for its owner alone, who has been verified for
the call that asks; its bytes are overwritten once it is let go.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from realmultillm.keyvault.v1 import data_key_service_pb2 as vault
from realmultillm.keyvault.v1.data_key_service_pb2_grpc import DataKeyServiceStub

from libs.background import beside
from libs.errors import DeadlineExceeded, Unavailable
from libs.rpc.channel import open_channel
from libs.rpc.delegation import for_the_caller
from libs.rpc.status import from_rpc_error
from libs.rpc.tls import TlsIdentity
from libs.sealed_content import KEY_BYTES, DataKey

_MOST_KEYS = 10_000
_KEPT_SECONDS = 60.0
_SWEEP_SECONDS = 10.0
# As many as `key_vault` opens in one call, for which Vault takes some 20 ms.
_MOST_AT_ONCE = 500
_CALL_SECONDS = 8.0
_PAUSE_SECONDS = 5.0
# What else stands in a wrapped key's place opens for nobody; `key_vault` would refuse all that are asked with it.
WRAPPED_KEY = re.compile(r"vault:v[0-9]{1,9}:[A-Za-z0-9+/=]{1,180}")

# Opens wrapped keys of the caller, in their order; empty for one that does not open.
Unwrap = Callable[[Sequence[str]], Awaitable[Sequence[bytes]]]


class OpenedKeys:
    """At most `size` keys, the one opened longest ago first out. `clock` is in seconds that never go back."""

    def __init__(self, unwrap: Unwrap, *, size: int = _MOST_KEYS, clock: Callable[[], float] = time.monotonic) -> None:
        self._unwrap = unwrap
        self._size = size
        self._clock = clock
        # In the order in which they were opened, which is that of their ends.
        self._held: OrderedDict[tuple[str, str], tuple[DataKey, float]] = OrderedDict()
        # How often a key was here, and how often it had to be opened.
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._held)

    async def open(self, user_id: str, wrapped_keys: Collection[str]) -> dict[str, DataKey]:
        """Opens data keys of the caller, who is `user_id`; those that do not open are not in the answer.

        Raises Unavailable while keys that are not at hand cannot be opened.
        """
        self.let_go()
        opened: dict[str, DataKey] = {}
        missing = []
        for wrapped in dict.fromkeys(wrapped_keys):
            held = self._held.get((user_id, wrapped))
            if held is not None:
                opened[wrapped] = held[0]
            elif WRAPPED_KEY.fullmatch(wrapped):
                missing.append(wrapped)
        self.hits += len(opened)
        self.misses += len(missing)
        for begin in range(0, len(missing), _MOST_AT_ONCE):
            asked = missing[begin : begin + _MOST_AT_ONCE]
            for wrapped, key in zip(asked, await self._unwrap(asked), strict=True):
                if len(key) == KEY_BYTES:
                    opened[wrapped] = self._keep(user_id, wrapped, DataKey(key))
        return opened

    def _keep(self, user_id: str, wrapped: str, key: DataKey) -> DataKey:
        self._held[user_id, wrapped] = key, self._clock() + _KEPT_SECONDS
        self._held.move_to_end((user_id, wrapped))
        if len(self._held) > self._size:
            self._held.popitem(last=False)
        return key

    def let_go(self) -> None:
        """Lets go of the keys that have been here for their time."""
        now = self._clock()
        while self._held and next(iter(self._held.values()))[1] <= now:
            self._held.popitem(last=False)

    @asynccontextmanager
    async def swept(self) -> AsyncIterator[None]:
        """Lets go of keys in time, for the time of the block, and of all at its end."""
        try:
            async with beside({"opened key sweep": self._sweep()}):
                yield
        finally:
            self._held.clear()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.let_go()


@asynccontextmanager
async def connect_opened_keys(address: str, tls: TlsIdentity) -> AsyncIterator[OpenedKeys]:
    """Opens a channel to `key_vault` and has data keys opened through it."""
    async with open_channel(address, "key-vault", tls) as channel:
        stub: Any = DataKeyServiceStub(channel)

        async def unwrap(wrapped_keys: Sequence[str]) -> Sequence[bytes]:
            request = vault.UnwrapDataKeysRequest(wrapped_keys=wrapped_keys)
            try:
                answer = await stub.UnwrapDataKeys(request, **for_the_caller(_CALL_SECONDS))
            except grpc.aio.AioRpcError as error:
                raise _not_opened(error) from None
            keys: Sequence[bytes] = answer.keys
            return keys

        keys = OpenedKeys(unwrap)
        async with keys.swept():
            yield keys


def _not_opened(error: grpc.aio.AioRpcError) -> Exception:
    failure = from_rpc_error(error, service="key-vault")
    if isinstance(failure, Unavailable | DeadlineExceeded):
        return Unavailable(
            "What was said cannot be opened at this moment, because its keys cannot; try again in a moment.",
            retry_after=failure.retry_after or _PAUSE_SECONDS,
        )
    return failure
