"""The services behind the router: one channel each, open as long as the router runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import grpc

from libs.rpc.channel import open_channel
from libs.rpc.tls import TlsIdentity


@asynccontextmanager
async def open_channels(
    addresses: Mapping[str, str], tls: TlsIdentity
) -> AsyncIterator[Mapping[str, grpc.aio.Channel]]:
    """Opens a channel to each service, by its name."""
    async with AsyncExitStack() as stack:
        yield {
            service: await stack.enter_async_context(open_channel(address, service, tls))
            for service, address in addresses.items()
        }
