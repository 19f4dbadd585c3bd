"""Wraps the data keys of the history anew: `python -m services.analytics.rewrap_history`.

After a rotation of `chat-history`, so that Vault may refuse earlier versions of that key; docs/history.md says when.
Takes the settings of the service, `ANALYTICS_…`. To interrupt it loses nothing: it passes over what is done when it is
run again. Ends with status 0 when all is wrapped by the latest version, 1 when some keys do not open, with 75 when the
database, the key vault or Vault was away.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from realmultillm.keyvault.v1 import data_key_service_pb2 as vault
from realmultillm.keyvault.v1.data_key_service_pb2_grpc import DataKeyServiceStub

from libs.database import connect
from libs.errors import PlatformError
from libs.rpc.channel import open_channel
from libs.rpc.status import from_rpc_error
from libs.rpc.tls import TlsIdentity
from libs.settings import SettingsError, from_env
from libs.telemetry import configure_logging
from services.analytics.history_rewrapping import HistoryRewrapping, Progress, Rewrap
from services.analytics.opened_keys import WRAPPED_KEY
from services.analytics.settings import PREFIX, Settings

_INTERRUPTED = 130
_CALL_SECONDS = 25.0
_ERASE = "\r\x1b[K"


@asynccontextmanager
async def connect_rewrap(address: str, tls: TlsIdentity) -> AsyncIterator[Rewrap]:
    """Opens a channel to `key_vault` and has data keys wrapped anew through it."""
    async with open_channel(address, "key-vault", tls) as channel:
        stub: Any = DataKeyServiceStub(channel)

        async def rewrap(keys: Sequence[tuple[str, str]]) -> Sequence[str]:
            # What cannot be a key is not asked for: all that are asked with it would be refused.
            asked = [(user_id, wrapped) for user_id, wrapped in keys if WRAPPED_KEY.fullmatch(wrapped)]
            if not asked:
                return [""] * len(keys)
            pairs = [vault.WrappedKey(user_id=user_id, wrapped_key=wrapped) for user_id, wrapped in asked]
            try:
                answer = await stub.RewrapDataKeys(vault.RewrapDataKeysRequest(keys=pairs), timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, service="key-vault") from None
            fresh = dict(zip(asked, answer.wrapped_keys, strict=True))
            return [fresh.get(key, "") for key in keys]

        yield rewrap


class _Line:
    """A line that says how far it is: one that changes on a terminal, one for each day elsewhere."""

    def __init__(self) -> None:
        self._updating = sys.stderr.isatty()
        self._said = ""

    def show(self, progress: Progress) -> None:
        if progress.day is None or not (self._updating or self._said != f"{progress.day}"):
            return
        self._said = f"{progress.day}"
        text = f"{progress.day}: {progress.rewrapped:,} of {progress.total:,} rewrapped"
        print(f"{_ERASE}{text}" if self._updating else text, end="" if self._updating else "\n", file=sys.stderr)
        sys.stderr.flush()

    def end(self) -> None:
        if self._updating and self._said:
            print(file=sys.stderr)


async def rewrap_history() -> int:
    """Runs the command and returns its status. Raises SettingsError."""
    settings = from_env(Settings, PREFIX)
    configure_logging("rewrap-history", level="error", log_format=settings.rpc.log_format)
    tls = TlsIdentity.load(settings.rpc.tls_dir)
    line, progress = _Line(), Progress(total=0)
    async with (
        connect(settings.database.database_url, pool_size=1) as transactions,
        connect_rewrap(settings.key_vault_address, tls) as rewrap,
    ):
        try:
            async for progress in HistoryRewrapping(transactions, rewrap).run():
                line.show(progress)
        except (PlatformError, asyncio.CancelledError) as error:
            line.end()
            why = error.message if isinstance(error, PlatformError) else "Interrupted."
            print(f"{why} Run it again: it goes on where it was.", file=sys.stderr)
            return os.EX_TEMPFAIL if isinstance(error, PlatformError) else _INTERRUPTED
    line.end()
    print(summary(progress))
    return 1 if progress.failed else 0


def summary(progress: Progress) -> str:
    """Says in a sentence or two what came of it."""
    if not progress.target:
        return "There is nothing to wrap anew."
    done = f"Wrapped anew: {progress.rewrapped:,}; all are of version {progress.target} now"
    if progress.failed:
        return f"{done}, but for {progress.failed:,} whose keys do not open: the log names them."
    return f"{done}. Before Vault refuses earlier ones, see docs/history.md: some may be on their way."


async def _until_interrupted() -> int:
    task = asyncio.create_task(rewrap_history())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def main() -> None:
    """Runs it."""
    try:
        sys.exit(asyncio.run(_until_interrupted()))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main()
