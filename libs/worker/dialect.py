"""What a caller's dialect has to say: its requests in the hub's words, and the hub's answers in its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.json_members import JsonMembers


class Translated(Protocol):
    """A request of the dialect in the hub's words."""

    @property
    def request(self) -> chat.CreateChatCompletionRequest:
        """The request, not yet checked; `provider` and `model` are set as they were asked for."""
        ...

    @property
    def streamed(self) -> bool:
        """Whether the answer is wanted in events."""
        ...


class Events(Protocol):
    """One streamed answer in the dialect, as server-sent events."""

    def events(self, chunk: chat.ChatCompletionChunk) -> bytes:
        """Returns the events that say what a chunk does, ready to be sent; empty when it says nothing.

        The last chunk has `finish_reason` and usage, or `error`: that one gives the dialect's error event and no other,
        and is understood also as the first.
        """
        ...


Words = TypeVar("Words", bound=Translated)
WordsOnce = TypeVar("WordsOnce", bound=Translated, covariant=True)


class ToHub(Protocol[WordsOnce]):
    """Reads a request of the dialect."""

    def __call__(self, members: JsonMembers, *, provider: str, model: str) -> WordsOnce:
        """Returns the request in the hub's words, for this provider and model; the model of the body is not read.

        Raises InvalidRequest for what the dialect does not allow, or the hub has no words for.
        """
        ...


def nothing_dropped(_translated: Translated) -> Sequence[chat.DroppedOption]:
    """Of a dialect whose options are all taken or refused."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect(Generic[Words]):
    """One way to ask for chats over HTTP that SDKs speak.

    `name` is what adapters of providers that speak it too call it, `api` what contents that are kept call it. `whole`
    writes a whole answer, `events_of` begins a streamed one; None stands for an answer that passes through, of which
    nothing but its failure is written here. `dropped_of` finds the options that a translation has left out.
    """

    name: str
    api: str
    to_hub: ToHub[Words]
    whole: Callable[[chat.ChatCompletion], bytes]
    events_of: Callable[[Words | None], Events]
    dropped_of: Callable[[Words], Sequence[chat.DroppedOption]] = nothing_dropped
