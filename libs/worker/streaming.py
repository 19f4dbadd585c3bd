"""Carries an answer from a provider that writes to a caller that reads, at the pace of each (decision D7).

A delta leaves the moment it arrives. While a write to the caller is under way, what arrives is merged into the next
message, so under load the cost per token falls instead of the delay growing. When the caller lags by more than
`MAX_PENDING_BYTES`, the provider is not read until the caller has caught up.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from math import inf
from typing import Generic, Protocol, TypeVar

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import ProviderError
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter, AnswerFacts, AnswerReader, PassingReader
from libs.worker.failures import Failures
from libs.worker.kept_answer import KeptAnswer
from libs.worker.pending_events import PendingEvents
from libs.worker.pending_output import PendingOutput
from libs.worker.sse import EventParser, EventTooLarge

MAX_PENDING_BYTES = 64 * 1024
# Of a streamed answer that is wanted whole; a longer one would not fit into a message.
_MAX_WHOLE_BYTES = 32 * 1024 * 1024

# How long the end of the body may take after the last event, and all facts after the answer, in seconds.
_CLOSED_SECONDS = 0.25
_FACTS_SECONDS = 5.0

# What goes to the caller at once: a chunk, or the bytes of events.
Said = TypeVar("Said")
SaidOnce = TypeVar("SaidOnce", covariant=True)
Told = TypeVar("Told", bound=AnswerFacts)
Write = Callable[[chat.ChatCompletionChunk], Awaitable[None]]


class Pending(Protocol[SaidOnce]):
    """What was said and waits to be written."""

    @property
    def size(self) -> int:
        """Bytes that wait."""
        ...

    @property
    def has_output(self) -> bool:
        """True when something the model said waits, not only facts about the answer."""
        ...

    def take(self) -> SaidOnce:
        """Returns all of it, and waits for more."""
        ...


def _characters(chunk: chat.ChatCompletionChunk) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in chunk.tool_calls)
    return len(chunk.content) + len(chunk.reasoning_content) + calls


class RelayedAnswer(ABC, Generic[Said, Told]):
    """One streamed answer, from the provider's bytes to what the caller is written."""

    def __init__(self, failures: Failures, reader: Told, pending: Pending[Said], pieces: AsyncIterator[bytes]) -> None:
        self.reader = reader
        self._failures = failures
        self._pieces = pieces
        self._events = EventParser()
        self._waiting = pending
        self._ended = False
        self._broken_off: ProviderError | None = None
        self._end_by = inf
        self.output_characters = 0
        self.output_sent = False

    @property
    def has_output(self) -> bool:
        """True when something the model said waits to be written, not only facts about the answer."""
        return self._waiting.has_output

    @abstractmethod
    def closing(self, usage: chat.Usage) -> Said:
        """Makes what is written last of a whole answer."""

    def tell_cost(self, closing: Said, cost_usd: float) -> None:
        """Adds what the answer cost, in US dollars, to what is written last."""

    @abstractmethod
    def _read_event(self, name: bytes, data: bytes) -> None:
        """Takes in one event. Raises ProviderError or one of NOT_UNDERSTOOD."""

    @abstractmethod
    def _count(self, said: Said) -> None:
        """Counts what is about to be written."""

    async def read_first_output(self) -> None:
        """Reads up to the first output or the end. A failure before that can still be tried again.

        One that came together with output is raised by who reads on: the output was paid for, and is told first.
        """
        try:
            while not self._ended and not self.has_output:
                await self._read_piece()
        except ProviderError as error:
            if not self.has_output:
                raise
            self._broken_off = error

    async def relay(self, write: Callable[[Said], Awaitable[None]]) -> None:
        """Writes what is said until the answer is complete; the closing facts are left to the caller.

        Raises the ProviderError that broke the answer off, after everything before it was written.
        """
        arrived, taken = asyncio.Event(), asyncio.Event()
        filling = asyncio.create_task(self._fill(arrived, taken), name="read provider")
        try:
            while True:
                if self._waiting.has_output:
                    said = self._waiting.take()
                    self._count(said)
                    self.output_sent = True
                    taken.set()
                    await write(said)
                elif filling.done():
                    return filling.result()
                else:
                    arrived.clear()
                    await arrived.wait()
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)

    async def _fill(self, arrived: asyncio.Event, taken: asyncio.Event) -> None:
        try:
            while not self._ended:
                await self._read_piece()
                arrived.set()
                while self._waiting.size > MAX_PENDING_BYTES:
                    taken.clear()
                    await taken.wait()
        finally:
            arrived.set()

    async def _read_piece(self) -> None:
        """Reads what the provider sent next. Raises ProviderError for what it should not have sent."""
        if self._broken_off is not None:
            raise self._broken_off
        piece = await self._next_piece()
        if piece is not None:
            self._take(piece)
            return
        self._ended = True
        # Of the facts after a whole answer a broken connection may leave half an event.
        with suppress(ProviderError) if self.reader.finished else nullcontext():
            self._take(None)
        if not self.reader.finished:
            raise self._failures.incomplete()

    def _take(self, piece: bytes | None) -> None:
        """Reads the events that a piece completes, or the end of the body where there is none."""
        try:
            for name, data in self._events.end() if piece is None else self._events.feed(piece):
                if self.reader.closed:
                    return
                self._read_event(name, data)
        except (EventTooLarge, *NOT_UNDERSTOOD):
            raise self._failures.not_understood() from None

    async def _next_piece(self) -> bytes | None:
        if not self.reader.finished:
            return None if self.reader.closed else await anext(self._pieces, None)
        # The answer is whole. What may follow is its usage and the end of the body; reading that end keeps the
        # connection usable, but neither a lingering nor a broken one makes the answer worse.
        # Whatever the provider goes on to send, it gains no time by it.
        now = asyncio.get_running_loop().time()
        self._end_by = min(self._end_by, now + (_CLOSED_SECONDS if self.reader.closed else _FACTS_SECONDS))
        if now >= self._end_by:
            return None
        try:
            async with asyncio.timeout_at(self._end_by):
                return await anext(self._pieces, None)
        except (ProviderError, TimeoutError):
            return None


class AnswerStream(RelayedAnswer[chat.ChatCompletionChunk, AnswerReader]):
    """An answer in the hub's words. `dropped` are the options its first chunk tells of.

    `kept` collects what was said.
    """

    def __init__(
        self,
        adapter: Adapter,
        pieces: AsyncIterator[bytes],
        dropped: Sequence[chat.DroppedOption] = (),
        kept: KeptAnswer | None = None,
    ) -> None:
        self._kept = kept
        self._pending = PendingOutput()
        failures = Failures(adapter.provider, adapter.display_name)
        super().__init__(failures, adapter.answer_reader(), self._pending, pieces)
        if dropped:
            metadata = chat.AnswerMetadata(dropped_options=dropped)
            self._pending.add(chat.ChatCompletionChunk(metadata=metadata))

    def closing(self, usage: chat.Usage) -> chat.ChatCompletionChunk:
        """Makes the last chunk of a whole answer, with the facts that no chunk before it has carried."""
        chunk, reader = self._pending.take(), self.reader
        chunk.finish_reason = reader.finish_reason
        if reader.native_finish_reason:
            chunk.native_finish_reason = reader.native_finish_reason
        if reader.service_tier:
            chunk.service_tier = reader.service_tier
        if reader.cost_usd is not None:
            chunk.cost_usd = reader.cost_usd
        if reader.upstream_provider:
            chunk.metadata.upstream_provider = reader.upstream_provider
        chunk.usage.CopyFrom(usage)
        if self._kept is not None:
            self._kept.hear(chunk)
            self._kept.choice().end(reader.finish_reason, reader.native_finish_reason)
        return chunk

    def tell_cost(self, closing: chat.ChatCompletionChunk, cost_usd: float) -> None:
        """Adds what the answer cost to what is written last, unless the provider has said so."""
        if not closing.HasField("cost_usd"):
            closing.cost_usd = cost_usd

    async def read_whole(self) -> chat.ChatCompletionChunk:
        """Reads the answer to its end and returns all that was said; the closing facts stay on the reader."""
        try:
            while not self._ended:
                await self._read_piece()
                if self._pending.size > _MAX_WHOLE_BYTES:
                    raise self._failures.too_long()
        finally:
            whole = self._pending.take()
            self._count(whole)
        return whole

    def _read_event(self, name: bytes, data: bytes) -> None:
        # Once the answer is whole, what more is said is not part of it; facts about it may still come.
        said = not self.reader.finished
        chunk = chat.ChatCompletionChunk()
        self.reader.read(name, data, chunk)
        if said:
            self._pending.add(chunk)

    def _count(self, said: chat.ChatCompletionChunk) -> None:
        self.output_characters += _characters(said) if self._kept is None else self._kept.hear(said)


class PassingStream(RelayedAnswer[bytes, PassingReader]):
    """An answer whose events go on as they came.

    Those from the one on that makes it whole are held back: they are its closing.
    """

    def __init__(self, failures: Failures, reader: PassingReader, pieces: AsyncIterator[bytes]) -> None:
        self._pending = PendingEvents()
        super().__init__(failures, reader, self._pending, pieces)

    @property
    def has_output(self) -> bool:
        """True when the model has said something; it may be held back."""
        return self.reader.spoke

    def closing(self, usage: chat.Usage) -> bytes:  # noqa: ARG002 - the provider has told it, or has not
        """Returns the events that were held back, and the one every answer must end with."""
        return self._pending.take_all() + self.reader.ending

    def _read_event(self, name: bytes, data: bytes) -> None:
        passes = self.reader.read_event(name, data)
        # Also what is held back has been made, and was paid for.
        self.output_characters = self.reader.characters
        if self.reader.finished:
            self._pending.hold_back()
        if passes:
            self._pending.add(name, data, output=self.reader.spoke)
            if self._pending.size > _MAX_WHOLE_BYTES and not self.reader.spoke:
                raise self._failures.too_long()

    def _count(self, said: bytes) -> None:
        """Counts nothing: it is counted where it is read."""
