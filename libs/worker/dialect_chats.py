"""Chats in a caller's dialect: passed through where the provider speaks it too, translated where it does not (D8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import Violation, refuse_any
from libs.json_members import JsonMembers
from libs.rpc.identity import Call
from libs.worker.adapter import Adapter, Credential, DialectSpeaker, PassingReader, ProviderRequest
from libs.worker.chats import Asked, Chats, Passed
from libs.worker.dialect import Dialect, Events, Translated
from libs.worker.kept_requests import Words
from libs.worker.model_choice import named_by
from libs.worker.request_amounts import check_amounts
from libs.worker.request_check import check_chat_request, unfold_tool_calls

# Of all headers of one name together; more than any list of betas needs.
_LONGEST_HEADER = 2_000


@dataclass(frozen=True, slots=True)
class Body:
    """A request of the dialect: its JSON, and the model to use in place of the one in there, if not empty."""

    members: JsonMembers
    model: str

    @property
    def streamed(self) -> bool:
        """Whether the answer is wanted in events. Raises InvalidRequest when the body does not say so plainly."""
        return self.members.flag("stream")


class DialectChats:
    """Chats with one provider in one dialect."""

    def __init__(self, chats: Chats, adapter: Adapter, dialect: Dialect[Any]) -> None:
        self._chats = chats
        self._provider = adapter.provider
        self._dialect = dialect
        self._speaker = adapter if isinstance(adapter, DialectSpeaker) and adapter.dialect == dialect.name else None

    def read(self, body: bytes, model: str) -> Body:
        """Reads a request as far as every provider needs it. Raises InvalidRequest."""
        members = JsonMembers(body)
        return Body(members, named_by(members, model))

    async def complete(self, body: Body, call: Call) -> Passed:
        """Returns the whole answer in the dialect."""
        if self._speaker is not None:
            return await self._chats.pass_whole(
                self._passing(self._speaker, body, call, stream=False), _readers(self._speaker, body), call
            )
        translated = self._translated(body, streaming=False)
        dropped = self._dialect.dropped_of(translated)
        completed = await self._chats.complete(translated.request, call, dropped, self._words(body))
        cost_usd = completed.completion.cost_usd if completed.completion.HasField("cost_usd") else None
        return Passed(self._dialect.whole(completed.completion), completed.total_ms, completed.provider_ms, cost_usd)

    async def stream(self, body: Body, write: Callable[[bytes], Awaitable[None]], call: Call) -> None:
        """Writes the answer as events of the dialect; the last one says how it ended."""
        if self._speaker is not None:
            await self._chats.pass_events(
                self._passing(self._speaker, body, call, stream=True),
                _readers(self._speaker, body),
                write,
                _writing(self._dialect.events_of(None), write),
                call,
            )
            return
        translated = self._translated(body, streaming=True)
        writing = _writing(self._dialect.events_of(translated), write)
        dropped = self._dialect.dropped_of(translated)
        await self._chats.stream(translated.request, writing, call, dropped, self._words(body))

    def _translated(self, body: Body, *, streaming: bool) -> Translated:
        translated: Translated = self._dialect.to_hub(body.members, provider=self._provider, model=body.model)
        request = translated.request
        check_amounts(request)
        unfold_tool_calls(request)
        check_chat_request(request, streaming=streaming)
        return translated

    def _passing(self, speaker: DialectSpeaker, body: Body, call: Call, *, stream: bool) -> Asked:
        headers = callers_headers(speaker.passing_headers, call)

        def wire(model: str, credential: Credential) -> ProviderRequest:
            return speaker.passing_request(body.members, model, credential, headers, stream=stream)

        return Asked(
            model=body.model,
            prompt_characters=lambda: prompt_characters(body.members),
            wire=wire,
            kept=self._words(body) if _may_be_kept(body.members) else None,
        )

    def _words(self, body: Body) -> Words:
        return Words(self._dialect.api, body.members.whole)


def _may_be_kept(members: JsonMembers) -> bool:
    """Tells whether a request, of which nobody here reads more, leaves it to the platform to keep it."""
    return members.raw("store") in (b"", b"null", b"true")


def _readers(speaker: DialectSpeaker, body: Body) -> Callable[[], PassingReader]:
    return lambda: speaker.passing_reader(body.members)


def callers_headers(wanted: Collection[str], call: Call) -> dict[str, str]:
    """Finds headers of the caller, by their names in lower case; one that came several times is a list.

    Raises InvalidRequest for what is too long.
    """
    headers: dict[str, str] = {}
    if not wanted:
        return headers
    for name, value in call.context.invocation_metadata() or ():
        if name in wanted and isinstance(value, str):
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    refuse_any(
        Violation(name, f"must have at most {_LONGEST_HEADER} characters.")
        for name, value in headers.items()
        if len(value) > _LONGEST_HEADER
    )
    return headers


def _writing(
    events: Events, write: Callable[[bytes], Awaitable[None]]
) -> Callable[[chat.ChatCompletionChunk], Awaitable[None]]:
    async def write_chunk(chunk: chat.ChatCompletionChunk) -> None:
        if said := events.events(chunk):
            await write(said)

    return write_chunk


def prompt_characters(members: JsonMembers) -> int:
    """Counts the characters of the texts of a conversation, in either dialect; pictures and tools are not counted."""
    left: list[Any] = [members.value("system"), members.value("messages")]
    characters = 0
    while left:
        value = left.pop()
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left.append(value.get("text") or value.get("content"))
    return characters
