"""What a chat used and how it ended, written to the outbox before its end is seen (decision D6)."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import grpc
import structlog
from realmultillm.analytics.v1 import usage_ingest_service_pb2 as analytics
from realmultillm.analytics.v1.usage_ingest_service_pb2_grpc import UsageIngestServiceStub
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import PlatformError, ProviderTimeout
from libs.outbox import DEFAULT_LIMIT_BYTES, Outbox, open_outbox
from libs.rpc.channel import open_channel
from libs.rpc.status import from_rpc_error
from libs.rpc.tls import TlsIdentity
from libs.worker.adapter import AnswerFacts
from libs.worker.answer_costs import PICOS_OF_A_DOLLAR, Cost, unknown
from libs.worker.attempts import Attempts
from libs.worker.reported_costs import HIGHEST_COST_USD
from libs.worker.token_counts import LARGEST_COUNT

log = structlog.get_logger()

EndState = analytics.UsageRecord.EndState

_INGEST_SECONDS = 10.0
# Providers say what they like; a batch of records must still fit into a message.
_LONGEST_MODEL = 200
_LONGEST_TIER = 40
# A rough average over languages and tokenizers, for counts that are marked as estimated.
_CHARACTERS_PER_TOKEN = 4


class Facts(Protocol):
    """Where records are written down: the outbox, as far as a chat knows it."""

    def append(self, fact: bytes) -> None:
        """Writes one down; it is safe when this returns."""
        ...

    def check_writable(self) -> None:
        """Raises Unavailable while none can be written down."""
        ...


class Answer(Protocol):
    """A streamed answer, as far as its account knows it."""

    @property
    def reader(self) -> AnswerFacts:
        """What the provider has told about it."""
        ...

    @property
    def output_characters(self) -> int:
        """How much of what the model said was sent."""
        ...

    @property
    def output_sent(self) -> bool:
        """True when something the model said was sent."""
        ...


class Content(Protocol):
    """What was said in a chat that is kept, as far as its account knows it."""

    def seal_into(self, record: analytics.UsageRecord) -> None:
        """Adds it, sealed, to the record; where it cannot, the record stays without it. Never fails."""
        ...

    def settled(self) -> None:
        """Hears that a whole answer is accounted for. Raises the cancellation that had to wait for that."""
        ...


# Hears how a chat ended, by its record.
Ended = Callable[[analytics.UsageRecord], None]


def nobody(_record: analytics.UsageRecord) -> None:
    """Hears nothing."""


class Account:
    """The record of one chat. As a context manager it settles one that fails or whose caller leaves.

    `prompt_characters` counts what was sent, for usage that the provider does not report. `ended` hears of the record
    when it is written down. `cost` prices what its provider does not.
    """

    def __init__(
        self,
        outbox: Facts,
        *,
        provider: str,
        conversation_id: str = "",
        prompt_characters: Callable[[], int],
        user_id: str,
        request_id: str,
        streamed: bool,
        kind: analytics.UsageRecord.Kind = analytics.UsageRecord.CHAT,
        cost: Cost = unknown,
        ended: Ended = nobody,
    ) -> None:
        self._outbox = outbox
        self._ended = ended
        self._cost = cost
        self._prompt_characters = prompt_characters
        self._started = time.perf_counter()
        self._settled = False
        self.attempts = Attempts()
        self.answer: Answer | None = None
        self.content: Content | None = None
        self.record = analytics.UsageRecord(
            id=str(uuid.uuid4()),
            user_id=user_id,
            provider=provider,
            request_id=request_id,
            conversation_id=conversation_id,
            streamed=streamed,
            kind=kind,
        )
        self.record.start_time.FromNanoseconds(time.time_ns())

    def elapsed_ms(self) -> float:
        """Returns the milliseconds since the worker took up the chat."""
        return (time.perf_counter() - self._started) * 1000

    @property
    def cost_usd(self) -> float | None:
        """What the settled chat cost, in US dollars; None when nobody knows, and when nothing was used."""
        return self.record.cost_picos / PICOS_OF_A_DOLLAR if self.record.HasField("cost_picos") else None

    @property
    def output_sent(self) -> bool:
        """True when the caller was sent something the model said."""
        return self.answer is not None and self.answer.output_sent

    def first_output(self) -> None:
        """Notes that the first output is about to be sent."""
        self.record.time_to_first_token_ms = round(self.elapsed_ms())

    def usage(self) -> chat.Usage:
        """Returns the usage the provider reported on the stream, else an estimate from what was sent."""
        if self.answer is None:
            return self.estimate(0)
        told = self.answer.reader.usage()
        return self.estimate(self.answer.output_characters, told) if told is None or told.estimated else told

    def estimate(self, output_characters: int, told: chat.Usage | None = None) -> chat.Usage:
        """Estimates the usage of an answer whose provider did not report it, or not all of it, and marks it so.

        Of an answer that broke off `told` has the prompt, and of the output what was made when it was last reported.
        """
        usage = chat.Usage(estimated=True)
        if told is not None:
            usage.CopyFrom(told)
        if not usage.prompt_tokens:
            usage.prompt_tokens = _tokens(self._prompt_characters())
        usage.completion_tokens = max(usage.completion_tokens, _tokens(output_characters))
        usage.total_tokens = min(usage.prompt_tokens + usage.completion_tokens, LARGEST_COUNT)
        return usage

    def complete(self, model: str, usage: chat.Usage, *, cost_usd: float | None = None, service_tier: str = "") -> None:
        """Settles a chat whose answer arrived whole. Raises sqlite3.Error when the disk refuses the record.

        `cost_usd` is what the provider says it cost.
        """
        self._settle(EndState.COMPLETED, model, usage, cost_usd, service_tier)
        if self.content is not None:
            self.content.settled()

    def __enter__(self) -> Account:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if error is None or self._settled:
            return
        # What the provider wrote was paid for, also where the caller saw none of it.
        usage = self.usage() if self.answer is not None and self.answer.output_characters else None
        if isinstance(error, asyncio.CancelledError):
            state = EndState.CANCELLED_AFTER_OUTPUT if self.output_sent else EndState.CANCELLED_BEFORE_OUTPUT
        elif isinstance(error, ProviderTimeout):
            state = EndState.TIMEOUT
        else:
            state = EndState.PROVIDER_ERROR_AFTER_OUTPUT if self.output_sent else EndState.PROVIDER_ERROR_BEFORE_OUTPUT
        if not isinstance(error, asyncio.CancelledError):
            self.record.error_reason = error.reason if isinstance(error, PlatformError) else "INTERNAL"
        reader = self.answer.reader if self.answer else None
        try:
            if reader is None:
                self._settle(state, "", usage)
            else:
                self._settle(state, reader.model, usage, reader.cost_usd, reader.service_tier)
        except Exception:  # a sick disk must not hide how the chat ended, a cancellation least of all
            log.exception("chat not recorded", record=self.record.id, request_id=self.record.request_id)

    def _settle(
        self,
        state: EndState,
        model: str,
        usage: chat.Usage | None,
        cost_usd: float | None = None,
        service_tier: str = "",
    ) -> None:
        record = self.record
        record.end_state = state
        record.attempts = self.attempts.made
        record.latency_ms = round(self.elapsed_ms())
        record.model_served = model[:_LONGEST_MODEL]
        if usage is not None:
            record.prompt_tokens = usage.prompt_tokens
            record.completion_tokens = usage.completion_tokens
            sent = usage.prompt_tokens_details
            record.cached_tokens = sent.cached_tokens
            record.cache_write_tokens = sent.cache_write_tokens
            record.cache_write_1h_tokens = sent.cache_write_1h_tokens
            record.tool_use_tokens = sent.tool_use_tokens
            record.reasoning_tokens = usage.completion_tokens_details.reasoning_tokens
            record.estimated = usage.estimated
        record.service_tier = service_tier[:_LONGEST_TIER]
        self._price(model, usage, cost_usd)
        if self.content is not None:
            self.content.seal_into(record)
        self._outbox.append(record.SerializeToString())
        self._settled = True
        self._ended(record)

    def _price(self, model: str, usage: chat.Usage | None, reported: float | None) -> None:
        record = self.record
        if reported is not None and 0 <= reported <= HIGHEST_COST_USD:
            record.cost_source = analytics.UsageRecord.REPORTED
            # By its decimal digits, as it was written: those are what the provider has said.
            record.reported_cost_picos = record.cost_picos = round(Decimal(repr(reported)) * PICOS_OF_A_DOLLAR)
        elif usage is not None and (usage.prompt_tokens or usage.completion_tokens):
            started = record.start_time.ToDatetime(UTC)
            priced = self._cost(model, record.model_requested, usage, record.service_tier, started)
            if priced is None or priced.picos > HIGHEST_COST_USD * PICOS_OF_A_DOLLAR:
                record.cost_source = analytics.UsageRecord.UNPRICED
            else:
                record.cost_source = analytics.UsageRecord.PRICED
                record.cost_picos, record.price = priced.picos, priced.price


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)


@asynccontextmanager
async def connect_accounting(
    address: str, tls: TlsIdentity, folder: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> AsyncIterator[Outbox]:
    """Opens the outbox in `folder` and forwards it to `analytics`. `limit_bytes` is how large it may become."""
    async with open_channel(address, "analytics", tls) as channel:
        stub: Any = UsageIngestServiceStub(channel)

        async def send(facts: Sequence[bytes]) -> None:
            records = [analytics.UsageRecord.FromString(fact) for fact in facts]
            try:
                await stub.IngestUsage(analytics.IngestUsageRequest(records=records), timeout=_INGEST_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, service="analytics") from None

        async with open_outbox(folder, send, limit_bytes=limit_bytes) as outbox:
            yield outbox
