"""One chat with the provider, from the request to its settled account; whole and streamed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import LimitExceeded, ProviderError, Unavailable
from libs.rpc.identity import Call, caller
from libs.worker.accounting import Account, Facts
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter, Credential, ProviderRequest
from libs.worker.assembly import whole_answer
from libs.worker.credentials import CredentialSource
from libs.worker.failures import Failures
from libs.worker.last_words import say_last
from libs.worker.streaming import AnswerStream, Write
from libs.worker.upstream import Upstream

T = TypeVar("T")

# What the worker keeps back of the caller's deadline to still say how the chat ended, in seconds.
_DEADLINE_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class Completed:
    """A whole answer, the milliseconds the chat took, and those of them spent waiting for the provider."""

    completion: chat.ChatCompletion
    total_ms: float
    provider_ms: float


@dataclass(slots=True)
class _Prepared:
    """What a chat goes on with. Not the credential: a key that is deleted meanwhile shall not wait for its end.

    `answer_by` is a time of the event loop's clock.
    """

    wire: ProviderRequest
    account: Account
    answer_by: float
    platform_key: bool


class Chats:
    """Chats with one provider.

    At most `max_concurrent` at a time, of one person `max_of_one_person`; more are refused at once, not queued.
    `answer_seconds` is how long the provider may take for a whole answer, or for the first output of a streamed one.
    """

    def __init__(
        self,
        adapter: Adapter,
        upstream: Upstream,
        credentials: CredentialSource,
        outbox: Facts,
        *,
        max_concurrent: int,
        max_of_one_person: int,
        answer_seconds: float,
    ) -> None:
        self._adapter = adapter
        self._failures = Failures(adapter.provider, adapter.display_name)
        self._upstream = upstream
        self._credentials = credentials
        self._outbox = outbox
        self._free = max_concurrent
        self._max_of_one_person = max_of_one_person
        self._under_way: Counter[str] = Counter()
        self._answer_seconds = answer_seconds

    async def complete(self, request: chat.CreateChatCompletionRequest, call: Call) -> Completed:
        """Returns the whole answer."""
        with self._slot(caller().user_id):
            prepared = await self._prepare(request, call, stream=False)
            wire, account, deadline = prepared.wire, prepared.account, prepared.answer_by
            provider_ms = 0.0

            async def ask() -> chat.ChatCompletion:
                nonlocal provider_ms
                started = account.elapsed_ms()
                try:
                    if wire.streamed:
                        return await self._collect(wire, account, deadline)
                    body = await self._upstream.fetch(wire, max(0.001, deadline - _now()))
                finally:
                    provider_ms += account.elapsed_ms() - started
                try:
                    return self._adapter.read_answer(body)
                except NOT_UNDERSTOOD:
                    raise self._failures.not_understood() from None

            with account:
                completion = await self._try(prepared, ask)
                told = completion.usage if completion.HasField("usage") else None
                if told is None or told.estimated:
                    completion.usage.CopyFrom(account.estimate(_characters(completion.choices[0].message), told))
                if wire.dropped:
                    completion.metadata.dropped_options.extend(wire.dropped)
                account.complete(
                    completion.model,
                    completion.usage,
                    cost_usd=completion.cost_usd if completion.HasField("cost_usd") else None,
                    service_tier=completion.service_tier,
                )
            return Completed(completion, account.elapsed_ms(), provider_ms)

    async def stream(self, request: chat.CreateChatCompletionRequest, write: Write, call: Call) -> None:
        """Writes the answer chunk by chunk; the last one has `finish_reason` and `usage`, or `error`."""
        with self._slot(caller().user_id):
            prepared = await self._prepare(request, call, stream=True)
            wire, account, first_output_by = prepared.wire, prepared.account, prepared.answer_by
            try:
                async with AsyncExitStack() as connection:
                    with account:
                        answer = await self._try(prepared, lambda: self._open(wire, connection, first_output_by))
                        account.answer = answer
                        if answer.has_output:
                            account.first_output()
                        await self._relay(answer, write, call.deadline - _DEADLINE_MARGIN)
                        usage = account.usage()
                        closing, reader = answer.closing_chunk(usage), answer.reader
                        account.complete(
                            reader.model, usage, cost_usd=reader.cost_usd, service_tier=reader.service_tier
                        )
            except asyncio.CancelledError:
                if account.output_sent and call.ended_by is not None:
                    await say_last(call.ended_by, write, request_id=call.request_id, usage=account.usage())
                raise
            except Exception as error:
                if account.output_sent:
                    await say_last(error, write, request_id=call.request_id, usage=account.usage())
                raise
            await write(closing)

    @contextmanager
    def _slot(self, user_id: str) -> Iterator[None]:
        if self._free <= 0:
            raise Unavailable(
                "This provider's worker holds as many chats as it can; try again in a second.",
                reason="SERVICE_OVERLOADED",
                retry_after=1,
            )
        if self._under_way[user_id] >= self._max_of_one_person:
            raise LimitExceeded(
                f"You have {self._max_of_one_person} chats with this provider under way, as many as one person may;"
                " try again when one of them has ended.",
                retry_after=1,
                limit=str(self._max_of_one_person),
            )
        self._free -= 1
        self._under_way[user_id] += 1
        try:
            yield
        finally:
            self._free += 1
            self._under_way[user_id] -= 1
            if not self._under_way[user_id]:
                del self._under_way[user_id]

    async def _prepare(self, request: chat.CreateChatCompletionRequest, call: Call, *, stream: bool) -> _Prepared:
        # The provider would be paid for a chat that nobody is told of and nobody accounts for.
        self._outbox.check_writable()
        user_id = caller().user_id
        # Before the credential, because it is the clock too: what it takes to get the credential is part of the chat.
        account = Account(self._outbox, request, user_id=user_id, request_id=call.request_id, streamed=stream)
        credential = await self._credentials.of(user_id)
        model = account.record.model_requested = self._model_of(request, credential)
        wire = self._adapter.chat_request(request, model, credential, stream=stream).at(credential.endpoint)
        seconds = min(self._answer_seconds, credential.answer_seconds)
        answer_by = min(call.deadline - _DEADLINE_MARGIN, _now() + seconds)
        return _Prepared(wire, account, answer_by, credential.platform_key)

    def _model_of(self, request: chat.CreateChatCompletionRequest, credential: Credential) -> str:
        """Returns the model to ask for: the one that is named, else the first default that is allowed.

        Raises PermissionDenied when the one that is named is not allowed.
        """
        allowed = credential.allowed_models
        if request.model:
            if allowed and request.model not in allowed:
                raise self._failures.model_not_allowed(allowed)
            return request.model
        defaults = (credential.model, credential.platform_model, self._adapter.default_model, *allowed[:1])
        return next((model for model in defaults if model and (not allowed or model in allowed)), "")

    async def _try(self, prepared: _Prepared, call: Callable[[], Awaitable[T]]) -> T:
        """Asks the provider, more than once where that can help."""
        try:
            return await prepared.account.attempts.run(call, deadline=prepared.answer_by)
        except ProviderError as error:
            if not prepared.platform_key:
                raise
            raise self._failures.of_platform_key(error) from None

    async def _open(self, wire: ProviderRequest, connection: AsyncExitStack, deadline: float) -> AnswerStream:
        """Opens a streamed answer and reads to its first output. The connection is handed to `connection`."""
        async with AsyncExitStack() as attempt:
            try:
                async with asyncio.timeout_at(deadline):
                    pieces = await attempt.enter_async_context(self._upstream.stream(wire))
                    answer = AnswerStream(self._adapter, pieces, wire.dropped)
                    await answer.read_first_output()
            except TimeoutError:
                raise self._failures.too_late() from None
            connection.push_async_exit(attempt.pop_all())
            return answer

    async def _relay(self, answer: AnswerStream, write: Write, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await answer.relay(write)
        except TimeoutError:
            raise self._failures.too_late() from None

    async def _collect(self, wire: ProviderRequest, account: Account, deadline: float) -> chat.ChatCompletion:
        """Puts together a whole answer that the provider is asked for as a stream."""
        try:
            async with asyncio.timeout_at(deadline), self._upstream.stream(wire) as pieces:
                answer = account.answer = AnswerStream(self._adapter, pieces)
                await answer.read_first_output()
                try:
                    said = await answer.read_whole()
                except ProviderError as error:
                    error.retryable = False  # what was said up to here has been paid for, and would be again
                    raise
                return whole_answer(said, answer.reader)
        except TimeoutError:
            raise self._failures.too_late() from None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _characters(message: chat.AssistantMessage) -> int:
    calls = sum(len(call.function.name) + len(call.function.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.reasoning_content) + calls
