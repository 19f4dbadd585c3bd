"""A channel that goes on with the newest certificate.

gRPC for Python cannot change the certificate of a channel. So there is a new channel inside when there is a new
certificate; calls under way end on the one they began on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from libs.rpc.tls import TlsIdentity, TlsMaterial

# How long calls may go on over a certificate that was replaced, in seconds: longer than a chat may last. A stream
# without end is cut off then, and begun again by whoever needs it.
_GRACE_SECONDS = 660.0

Open = Callable[[grpc.ChannelCredentials], grpc.aio.Channel]


class RenewedChannel(grpc.aio.Channel):  # type: ignore[misc]
    """Opens channels with `open_with`: one at once, and one in its place whenever the identity has changed."""

    def __init__(self, tls: TlsIdentity, open_with: Open) -> None:
        self._tls = tls
        self._open_with = open_with
        self._material: TlsMaterial = tls.material
        self._channel = open_with(tls.channel_credentials())
        self._closing: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    @property
    def newest(self) -> grpc.aio.Channel:
        """The channel for what begins now."""
        if self._tls.material is not self._material:
            before, self._material = self._channel, self._tls.material
            self._channel = self._open_with(self._tls.channel_credentials())
            closing = asyncio.create_task(before.close(_GRACE_SECONDS), name="close the channel of a certificate")
            self._closing[closing] = before
            closing.add_done_callback(self._closed)
        return self._channel

    def _closed(self, closing: asyncio.Task[None]) -> None:
        self._closing.pop(closing, None)

    async def __aenter__(self) -> RenewedChannel:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes it, and what is left of those before."""
        left = dict(self._closing)
        for closing in left:
            closing.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.gather(*(channel.close(grace) for channel in (self._channel, *left.values())))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Returns the state of the newest channel."""
        return self.newest.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits until the state of the channel that is the newest now has changed."""
        await self.newest.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits until the newest channel is connected."""
        await self.newest.channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> _Method:
        """Makes what calls a method; the arguments are those of `grpc.aio.Channel`."""
        return _Method(self, "unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> _Method:
        """Makes what calls a method; the arguments are those of `grpc.aio.Channel`."""
        return _Method(self, "unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> _Method:
        """Makes what calls a method; the arguments are those of `grpc.aio.Channel`."""
        return _Method(self, "stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> _Method:
        """Makes what calls a method; the arguments are those of `grpc.aio.Channel`."""
        return _Method(self, "stream_stream", args, kwargs)


class _Method:
    """Calls one method, on the channel that is the newest when it is called."""

    __slots__ = ("_args", "_call", "_channel", "_kind", "_kwargs", "_of")

    def __init__(self, channel: RenewedChannel, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._channel = channel
        self._kind = kind
        self._args = args
        self._kwargs = kwargs
        self._of: grpc.aio.Channel | None = None
        self._call: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        newest = self._channel.newest
        if newest is not self._of:
            self._of = newest
            self._call = getattr(newest, self._kind)(*self._args, **self._kwargs)
        return self._call(*args, **kwargs)
