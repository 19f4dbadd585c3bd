"""One chat with the provider, from the request to its settled account; whole and streamed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import LimitExceeded, ProviderError, Unavailable
from libs.rpc.identity import Call, caller
from libs.worker.accounting import Account, Ended, Facts, nobody
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter, Credential, PassingReader, ProviderRequest
from libs.worker.answer_costs import Cost, unknown
from libs.worker.assembly import whole_answer
from libs.worker.credentials import CredentialSource
from libs.worker.failures import Failures
from libs.worker.history import History, KeptContent
from libs.worker.kept_answer import KeptAnswer
from libs.worker.kept_requests import Conversation, KeptRequest, Words
from libs.worker.last_words import say_last
from libs.worker.model_call_spans import model_call
from libs.worker.model_choice import model_of
from libs.worker.streaming import AnswerStream, PassingStream, RelayedAnswer, Said, Told, Write
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


@dataclass(frozen=True, slots=True)
class Passed:
    """The body of a whole answer as it came, the same times, and what it cost in US dollars where that is known."""

    body: bytes = field(repr=False)
    total_ms: float
    provider_ms: float
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of the provider.

    `model` is the one that is named, empty for the default. `wire` builds the request for the model that it comes to.
    `kept` is what the history has of it; None when that is not wanted.
    """

    model: str
    conversation_id: str = ""
    prompt_characters: Callable[[], int]
    wire: Callable[[str, Credential], ProviderRequest]
    kept: KeptRequest | None = None


@dataclass(slots=True)
class _Prepared:
    """What a chat goes on with. Not the credential: a key that is deleted meanwhile shall not wait for its end.

    `answer_by` is a time of the event loop's clock, `provider_ms` the milliseconds spent waiting so far.
    """

    wire: ProviderRequest
    account: Account
    answer_by: float
    platform_key: bool
    content: KeptContent | None = None
    provider_ms: float = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time of the block as the provider's."""
        started = self.account.elapsed_ms()
        try:
            yield
        finally:
            self.provider_ms += self.account.elapsed_ms() - started

    def keeping(self) -> AbstractAsyncContextManager[object]:
        """Waits, at the end of the block, for what its content is to be sealed with."""
        return nullcontext() if self.content is None else self.content

    def keep(self, completion: chat.ChatCompletion) -> None:
        """Keeps a whole answer."""
        if self.content is not None:
            self.content.completion = completion

    def listen(self) -> KeptAnswer | None:
        """Begins to collect what is said, where it is kept."""
        return None if self.content is None else self.content.listen()


class Chats:
    """Chats with one provider.

    At most `max_concurrent` at a time, of one person `max_of_one_person`; more are refused at once, not queued.
    `answer_seconds` is how long the provider may take for a whole answer, or for the first output of a streamed one.
    `ended` hears of each chat's record when it is written down, `cost` prices answers whose provider does not.
    `overhead` hears of the milliseconds that a chat took up to its answer, or to the first output of a streamed one,
    besides waiting for the provider. `history` keeps what is said; nobody does without it. With `traces_content`
    traces tell what is kept.
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
        ended: Ended = nobody,
        cost: Cost = unknown,
        overhead: Callable[[float], None] = lambda _milliseconds: None,
        history: History | None = None,
        traces_content: bool = False,
    ) -> None:
        self._adapter = adapter
        self._failures = Failures(adapter.provider, adapter.display_name)
        self._upstream = upstream
        self._credentials = credentials
        self._outbox = outbox
        self._overhead = overhead
        self._history = history
        self._traces_content = traces_content
        self.most = max_concurrent
        self._free = max_concurrent
        self._max_of_one_person = max_of_one_person
        self._under_way: Counter[str] = Counter()
        self._answer_seconds = answer_seconds
        self._ended = ended
        self._cost = cost

    @property
    def under_way(self) -> int:
        """Places that are taken."""
        return self.most - self._free

    async def complete(
        self,
        request: chat.CreateChatCompletionRequest,
        call: Call,
        dropped: Sequence[chat.DroppedOption] = (),
        words: Words | None = None,
    ) -> Completed:
        """Returns the whole answer.

        `dropped` are options that have been left out already, `words` those of the request before it was translated.
        """
        with self.slot(caller().user_id):
            prepared = await self._prepare(self._asked(request, words, stream=False), call, stream=False)
            wire, account = prepared.wire, prepared.account

            async def ask() -> chat.ChatCompletion:
                if wire.streamed:
                    with prepared.waiting():
                        return await self._collect(prepared)
                return await self._fetch(prepared, self._adapter.read_answer)

            with model_call(call, account.record, self._told_of(prepared)), account:
                async with prepared.keeping():
                    completion = await self._try(prepared, ask)
                prepared.keep(completion)
                told = completion.usage if completion.HasField("usage") else None
                if told is None or told.estimated:
                    completion.usage.CopyFrom(account.estimate(_characters(completion.choices[0].message), told))
                if dropped or wire.dropped:
                    completion.metadata.dropped_options.extend((*dropped, *wire.dropped))
                account.complete(
                    completion.model,
                    completion.usage,
                    cost_usd=completion.cost_usd if completion.HasField("cost_usd") else None,
                    service_tier=completion.service_tier,
                )
            if not completion.HasField("cost_usd") and account.cost_usd is not None:
                completion.cost_usd = account.cost_usd
            return Completed(completion, self._told(prepared), prepared.provider_ms)

    async def stream(
        self,
        request: chat.CreateChatCompletionRequest,
        write: Write,
        call: Call,
        dropped: Sequence[chat.DroppedOption] = (),
        words: Words | None = None,
    ) -> None:
        """Writes the answer chunk by chunk; the last one has `finish_reason` and `usage`, or `error`."""
        with self.slot(caller().user_id):
            prepared = await self._prepare(self._asked(request, words, stream=True), call, stream=True)
            dropped = prepared.wire.dropped
            await self._stream(
                prepared,
                lambda pieces: AnswerStream(self._adapter, pieces, dropped, prepared.listen()),
                write,
                write,
                call,
            )

    async def pass_whole(self, asked: Asked, reader: Callable[[], PassingReader], call: Call) -> Passed:
        """Returns the whole answer as it came. `reader` makes what reads it; each attempt has its own."""

        def read(body: bytes) -> tuple[bytes, PassingReader]:
            facts = reader()
            facts.kept = prepared.listen()
            facts.read_whole(body)
            return body, facts

        with self.slot(caller().user_id):
            prepared = await self._prepare(asked, call, stream=False)
            account = prepared.account
            with model_call(call, account.record, self._told_of(prepared)), account:
                async with prepared.keeping():
                    body, facts = await self._try(prepared, lambda: self._fetch(prepared, read))
                usage = facts.usage()
                if usage is None or usage.estimated:
                    usage = account.estimate(facts.characters, usage)
                account.complete(facts.model, usage, cost_usd=facts.cost_usd, service_tier=facts.service_tier)
            return Passed(body, self._told(prepared), prepared.provider_ms, account.cost_usd)

    async def pass_events(
        self,
        asked: Asked,
        reader: Callable[[], PassingReader],
        write: Callable[[bytes], Awaitable[None]],
        tell_failure: Write,
        call: Call,
    ) -> None:
        """Writes the events of the answer as they come; `tell_failure` writes why one breaks off."""

        def begin(pieces: AsyncIterator[bytes]) -> PassingStream:
            facts = reader()
            facts.kept = prepared.listen()
            return PassingStream(self._failures, facts, pieces)

        with self.slot(caller().user_id):
            prepared = await self._prepare(asked, call, stream=True)
            await self._stream(prepared, begin, write, tell_failure, call)

    def _asked(self, request: chat.CreateChatCompletionRequest, words: Words | None, *, stream: bool) -> Asked:
        return Asked(
            model=request.model,
            conversation_id=request.conversation_id,
            prompt_characters=lambda: _prompt_characters(request),
            wire=lambda model, credential: self._adapter.chat_request(request, model, credential, stream=stream),
            kept=None if request.HasField("store") and not request.store else words or Conversation(request),
        )

    async def _stream(
        self,
        prepared: _Prepared,
        begin: Callable[[AsyncIterator[bytes]], RelayedAnswer[Said, Told]],
        write: Callable[[Said], Awaitable[None]],
        tell_failure: Write,
        call: Call,
    ) -> None:
        account = prepared.account
        try:
            async with AsyncExitStack() as connection:
                with model_call(call, account.record, self._told_of(prepared)), account:
                    async with prepared.keeping():
                        answer = await self._try(prepared, lambda: self._open(prepared, begin, connection))
                        account.answer = answer
                        if answer.has_output:
                            account.first_output()
                            self._told(prepared)
                        await self._relay(answer, write, call.deadline - _DEADLINE_MARGIN)
                    usage = account.usage()
                    closing, facts = answer.closing(usage), answer.reader
                    account.complete(facts.model, usage, cost_usd=facts.cost_usd, service_tier=facts.service_tier)
                    if account.cost_usd is not None:
                        answer.tell_cost(closing, account.cost_usd)
        except asyncio.CancelledError:
            if account.output_sent and call.ended_by is not None:
                await say_last(call.ended_by, tell_failure, request_id=call.request_id, usage=account.usage())
            raise
        except Exception as error:
            if account.output_sent:
                await say_last(error, tell_failure, request_id=call.request_id, usage=account.usage())
            raise
        await write(closing)

    def _told_of(self, prepared: _Prepared) -> KeptContent | None:
        return prepared.content if self._traces_content else None

    def _told(self, prepared: _Prepared) -> float:
        """Tells what the chat has taken besides waiting for the provider; returns the milliseconds of all of it."""
        total_ms = prepared.account.elapsed_ms()
        self._overhead(total_ms - prepared.provider_ms)
        return total_ms

    @contextmanager
    def slot(self, user_id: str) -> Iterator[None]:
        """Holds a place for a call of a person. Raises Unavailable or LimitExceeded when there is none left."""
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

    async def _prepare(self, asked: Asked, call: Call, *, stream: bool) -> _Prepared:
        # The provider would be paid for a chat that nobody is told of and nobody accounts for.
        self._outbox.check_writable()
        user_id = caller().user_id
        # Before the credential, because it is the clock too: what it takes to get the credential is part of the chat.
        account = Account(
            self._outbox,
            provider=self._adapter.provider,
            conversation_id=asked.conversation_id,
            prompt_characters=asked.prompt_characters,
            user_id=user_id,
            request_id=call.request_id,
            streamed=stream,
            cost=self._cost,
            ended=self._ended,
        )
        content = None
        if self._history is not None and asked.kept is not None:
            # Its key is asked for while the credential is.
            content = account.content = self._history.begin(user_id, asked.kept)
        credential = await self._credentials.of(user_id)
        model = account.record.model_requested = model_of(asked.model, self._adapter, credential)
        wire = asked.wire(model, credential).at(credential.endpoint)
        seconds = min(self._answer_seconds, credential.answer_seconds)
        answer_by = min(call.deadline - _DEADLINE_MARGIN, _now() + seconds)
        return _Prepared(wire, account, answer_by, credential.platform_key, content)

    async def _try(self, prepared: _Prepared, call: Callable[[], Awaitable[T]]) -> T:
        """Asks the provider, more than once where that can help."""
        try:
            return await prepared.account.attempts.run(call, deadline=prepared.answer_by)
        except ProviderError as error:
            if not prepared.platform_key:
                raise
            raise self._failures.of_platform_key(error) from None

    async def _fetch(self, prepared: _Prepared, read: Callable[[bytes], T]) -> T:
        with prepared.waiting():
            body = await self._upstream.fetch(prepared.wire, max(0.001, prepared.answer_by - _now()))
        try:
            return read(body)
        except NOT_UNDERSTOOD:
            raise self._failures.not_understood() from None

    async def _open(
        self,
        prepared: _Prepared,
        begin: Callable[[AsyncIterator[bytes]], RelayedAnswer[Said, Told]],
        connection: AsyncExitStack,
    ) -> RelayedAnswer[Said, Told]:
        """Opens a streamed answer and reads to its first output. The connection is handed to `connection`."""
        async with AsyncExitStack() as attempt:
            try:
                with prepared.waiting():
                    async with asyncio.timeout_at(prepared.answer_by):
                        answer = begin(await attempt.enter_async_context(self._upstream.stream(prepared.wire)))
                        await answer.read_first_output()
            except TimeoutError:
                raise self._failures.too_late() from None
            connection.push_async_exit(attempt.pop_all())
            return answer

    async def _relay(
        self, answer: RelayedAnswer[Said, Told], write: Callable[[Said], Awaitable[None]], deadline: float
    ) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await answer.relay(write)
        except TimeoutError:
            raise self._failures.too_late() from None

    async def _collect(self, prepared: _Prepared) -> chat.ChatCompletion:
        """Puts together a whole answer that the provider is asked for as a stream."""
        try:
            async with asyncio.timeout_at(prepared.answer_by), self._upstream.stream(prepared.wire) as pieces:
                answer = AnswerStream(self._adapter, pieces, kept=prepared.listen())
                prepared.account.answer = answer
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


def _prompt_characters(request: chat.CreateChatCompletionRequest) -> int:
    return sum(len(turn.content) + sum(len(part.text) for part in turn.parts) for turn in request.messages)


def _characters(message: chat.AssistantMessage) -> int:
    calls = sum(len(call.function.name) + len(call.function.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.reasoning_content) + calls
