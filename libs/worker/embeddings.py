"""Texts as vectors, asked for in OpenAI's words and accounted for like a chat without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from realmultillm.analytics.v1 import usage_ingest_service_pb2 as analytics
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import FailedPrecondition, InvalidRequest, ProviderError, Violation
from libs.json_members import JsonMembers
from libs.rpc.identity import Call, caller
from libs.worker.accounting import Account, Ended, Facts, nobody
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter, Credential, ProviderRequest
from libs.worker.answer_costs import Cost, unknown
from libs.worker.chats import Passed
from libs.worker.credentials import CredentialSource
from libs.worker.failures import Failures
from libs.worker.model_call_spans import model_call
from libs.worker.upstream import Upstream

# What the worker keeps back of the caller's deadline to still say how the call ended, in seconds.
_DEADLINE_MARGIN = 0.1
_LONGEST_MODEL = 200

# Holds a place among the calls under way for a person, by their id, or refuses.
Slot = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Embedded:
    """An answer as OpenAI's API has it, and what its account must say; `usage` None where the provider did not."""

    body: bytes
    model: str
    usage: chat.Usage | None
    cost_usd: float | None = None


@runtime_checkable
class Embedder(Protocol):
    """An adapter of a provider that may have embeddings."""

    @property
    def embeds(self) -> bool:
        """Whether it has."""
        ...

    def embedding_request(self, body: JsonMembers, model: str, credential: Credential) -> ProviderRequest:
        """Builds the request. Raises InvalidRequest for what the provider does not take."""
        ...

    def read_embeddings(self, answer: bytes, body: JsonMembers, model: str) -> Embedded:
        """Reads the answer to that request. Raises the ProviderError of an error that came with status 200.

        What is not in the provider's format may fail with one of NOT_UNDERSTOOD.
        """
        ...


class Embeddings:
    """Embeds with one provider. `answer_seconds` is how long it may take.

    `ended` hears of each record when it is written down, `cost` prices answers whose provider does not.
    """

    def __init__(
        self,
        adapter: Adapter,
        upstream: Upstream,
        credentials: CredentialSource,
        outbox: Facts,
        *,
        slot: Slot,
        answer_seconds: float,
        ended: Ended = nobody,
        cost: Cost = unknown,
    ) -> None:
        self._provider = adapter.provider
        self._display_name = adapter.display_name
        self._embedder = adapter if isinstance(adapter, Embedder) and adapter.embeds else None
        self._failures = Failures(adapter.provider, adapter.display_name)
        self._upstream = upstream
        self._credentials = credentials
        self._outbox = outbox
        self._slot = slot
        self._answer_seconds = answer_seconds
        self._ended = ended
        self._cost = cost

    async def create(self, body: JsonMembers, model: str, call: Call) -> Passed:
        """Returns the answer to a request of OpenAI's API; an empty `model` leaves it to the body.

        Raises FailedPrecondition with EMBEDDINGS_NOT_SUPPORTED where the provider has none.
        """
        if self._embedder is None:
            raise FailedPrecondition(
                f"{self._display_name} has no embeddings; use an embedding model of another provider.",
                reason="EMBEDDINGS_NOT_SUPPORTED",
                provider=self._provider,
            )
        model = model or body.text("model")
        if not 0 < len(model) <= _LONGEST_MODEL:
            raise InvalidRequest(
                [Violation("model", f"must name an embedding model, in at most {_LONGEST_MODEL} characters.")]
            )
        with self._slot(caller().user_id):
            return await self._create(self._embedder, body, model, call)

    async def _create(self, embedder: Embedder, body: JsonMembers, model: str, call: Call) -> Passed:
        # The provider would be paid for what nobody accounts for.
        self._outbox.check_writable()
        user_id = caller().user_id
        account = Account(
            self._outbox,
            provider=self._provider,
            prompt_characters=lambda: len(body.raw("input")),
            user_id=user_id,
            request_id=call.request_id,
            streamed=False,
            kind=analytics.UsageRecord.EMBEDDINGS,
            cost=self._cost,
            ended=self._ended,
        )
        credential = await self._credentials.of(user_id)
        if credential.allowed_models and model not in credential.allowed_models:
            raise self._failures.model_not_allowed(credential.allowed_models)
        account.record.model_requested = model
        wire = embedder.embedding_request(body, model, credential).at(credential.endpoint)
        seconds = min(self._answer_seconds, credential.answer_seconds)
        platform_key = credential.platform_key
        del credential  # a key that is deleted meanwhile shall not wait for the end of this
        answer_by = min(call.deadline - _DEADLINE_MARGIN, _now() + seconds)

        provider_ms = 0.0

        async def ask() -> Embedded:
            nonlocal provider_ms
            started = account.elapsed_ms()
            try:
                answer = await self._upstream.fetch(wire, max(0.001, answer_by - _now()))
            finally:
                provider_ms += account.elapsed_ms() - started
            try:
                return embedder.read_embeddings(answer, body, model)
            except NOT_UNDERSTOOD:
                raise self._failures.not_understood() from None

        with model_call(call, account.record), account:
            try:
                embedded = await account.attempts.run(ask, deadline=answer_by)
            except ProviderError as error:
                raise self._failures.of_platform_key(error) if platform_key else error from None
            usage = embedded.usage or account.estimate(0)
            account.complete(embedded.model, usage, cost_usd=embedded.cost_usd)
        return Passed(embedded.body, account.elapsed_ms(), provider_ms, account.cost_usd)


def _now() -> float:
    return asyncio.get_running_loop().time()
