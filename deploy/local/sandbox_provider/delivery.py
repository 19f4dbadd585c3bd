"""Sends an answer to one client as a behaviour says: its pace, its faults and its form on the wire."""

import asyncio
import socket
import struct
from typing import Never

from aiohttp import web

from deploy.local.sandbox_provider.control_messages import Behaviour
from deploy.local.sandbox_provider.dialects.dialect import Reply, Transcript
from deploy.local.sandbox_provider.recording import Exchange, Recorder
from deploy.local.sandbox_provider.rule_book import RuleBook

_MALFORMED = b'data: {"choices": [{"delta": {"con\n\n'
_COMMENT_EVERY_MS = 200
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Delivery:
    """One answer on its way; a client that hangs up cancels it, wherever it is."""

    def __init__(
        self,
        request: web.Request,
        exchange: Exchange,
        recorder: Recorder,
        rules: RuleBook,
        behaviour: Behaviour,
        default_chunk_delay_ms: int,
    ) -> None:
        self._request = request
        self._exchange = exchange
        self._recorder = recorder
        self._rules = rules
        self._behaviour = behaviour
        self._chunk_delay_ms = default_chunk_delay_ms if behaviour.chunk_delay_ms is None else behaviour.chunk_delay_ms
        self._pending = bytearray()
        self._pending_chunks = 0

    async def whole(self, reply: Reply) -> web.StreamResponse:
        """Sends an answer in one piece, or breaks off in its middle."""
        headers = {**reply.headers, **self._behaviour.headers}
        if self._behaviour.cut_after_chunks is not None:
            half = web.StreamResponse(status=reply.status, headers=headers)
            half.content_length = len(reply.body)
            await self._open(half)
            await self._write(half, reply.body[: len(reply.body) // 2])
            await self.cut()
        response = web.Response(status=reply.status, body=reply.body, headers=headers)
        await self._open(response)
        await response.write_eof()
        self._exchange.sent(len(reply.body))
        return response

    async def stream(self, transcript: Transcript, failure: bytes) -> web.StreamResponse:
        """Sends a stream of events; those due at the same moment leave in one write."""
        behaviour = self._behaviour
        response = web.StreamResponse(headers={**transcript.headers, **behaviour.headers})
        await self._open(response)
        await self._hold_back(response, transcript.waiting)
        self._add(transcript.opening)
        total = len(transcript.chunks)
        for sent in range(total + 1):
            if _due(behaviour.hold_after_chunks, sent, total):
                await self._flush(response)
                await self._rules.until_cleared(self._exchange.key)
            if _due(behaviour.malformed_after_chunks, sent, total):
                self._add(_MALFORMED)
            if _due(behaviour.error_in_stream_after_chunks, sent, total):
                self._add(failure)
                return await self._finish(response)
            if _due(behaviour.end_after_chunks, sent, total):
                return await self._finish(response)
            if _due(behaviour.cut_after_chunks, sent, total):
                await self._flush(response)
                await self.cut()
            if sent < total:
                if sent:
                    await self._pause(response, self._chunk_delay_ms)
                self._add(transcript.chunks[sent])
                self._pending_chunks += 1
        self._add(transcript.closing)
        if not behaviour.omit_done:
            self._add(transcript.done)
        return await self._finish(response)

    async def cut(self) -> Never:
        """Resets the connection, after what was written has left."""
        self._recorder.end(self._exchange, "cut")
        await asyncio.sleep(0)  # the loop writes to the socket at the end of its turn
        transport = self._request.transport
        if transport is not None:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        await until_connection_lost()

    async def _open(self, response: web.StreamResponse) -> None:
        self._exchange.status = response.status
        await response.prepare(self._request)

    async def _hold_back(self, response: web.StreamResponse, comment: bytes) -> None:
        """Lets the first event wait, with the comments some providers send meanwhile."""
        left = self._behaviour.first_chunk_delay_ms
        while comment and left > _COMMENT_EVERY_MS:
            self._put(comment)
            await self._pause(response, _COMMENT_EVERY_MS)
            left -= _COMMENT_EVERY_MS
        self._put(comment)
        await self._pause(response, left)

    def _add(self, events: bytes) -> None:
        comment = self._behaviour.comment
        self._put(events if comment is None else f": {comment}\n\n".encode() + events)

    def _put(self, lines: bytes) -> None:
        self._pending += lines.replace(b"\n", b"\r\n") if self._behaviour.crlf else lines

    async def _pause(self, response: web.StreamResponse, milliseconds: int) -> None:
        if milliseconds:
            await self._flush(response)
            await asyncio.sleep(milliseconds / 1000)

    async def _flush(self, response: web.StreamResponse) -> None:
        if self._pending:
            events, chunks = bytes(self._pending), self._pending_chunks
            self._pending.clear()
            self._pending_chunks = 0
            await self._write(response, events)
            self._exchange.sent(0, chunks)

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        size = self._behaviour.split_bytes or len(data)
        for start in range(0, len(data), size):
            part = data[start : start + size]
            await response.write(part)
            self._exchange.sent(len(part))
            if size < len(data):
                await asyncio.sleep(0)  # so that each part is a packet of its own

    async def _finish(self, response: web.StreamResponse) -> web.StreamResponse:
        await self._flush(response)
        await response.write_eof()
        return response


async def until_connection_lost() -> Never:
    """Waits to be cancelled, which the server does once the connection is lost."""
    while True:
        await asyncio.get_running_loop().create_future()


def _due(after: int | None, sent: int, total: int) -> bool:
    return after is not None and sent == min(after, total)
