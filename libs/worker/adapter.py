"""What a provider's own code has to say: how to ask it, and how to read what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import ClassVar, NoReturn, Protocol, runtime_checkable

from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.errors import ProviderError
from libs.json_members import JsonMembers
from libs.provider_keys import ProviderKey
from libs.worker.kept_answer import KeptAnswer

# How reading JSON of another shape than the provider's fails.
NOT_UNDERSTOOD = (AttributeError, IndexError, KeyError, TypeError, ValueError)
# The dialects that callers may speak, by what their APIs are called.
CHAT_COMPLETIONS, MESSAGES = "chat completions", "messages"
# Of one page; what a provider lists beyond is passed over. None has a tenth of it.
MOST_MODELS = 5_000


@dataclass(frozen=True, slots=True)
class Credential:
    """What holds for a person's calls to the provider. The key is opened; it lives in memory only.

    `model` is for chats that name none, `platform_model` for those where it is not allowed. `endpoint` is where to call
    the provider instead of its usual place, `answer_seconds` how long a whole answer, or the first output of a streamed
    one, may take, and `allowed_models` which models may be used, in their order, any when empty. `platform_key` says
    that the key is everybody's, so that its owner cannot mend it.
    """

    api_key: ProviderKey
    model: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    endpoint: str = ""
    answer_seconds: float = inf
    allowed_models: tuple[str, ...] = ()
    platform_key: bool = False
    platform_model: str = ""


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One HTTP request to the provider. `path` is relative to its endpoint; `headers` hold the key.

    `endpoint` is where to send it instead of the usual place; adapters leave it empty.

    `streamed` says that the answer comes in events, also when the caller wants it whole: the worker then puts it
    together. `dropped` are the options that were left out, for the answer to tell.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    streamed: bool = False
    dropped: Sequence[chat.DroppedOption] = ()
    endpoint: str = ""

    def at(self, endpoint: str) -> ProviderRequest:
        """Returns the same request for another endpoint; itself when that is empty."""
        return replace(self, endpoint=endpoint) if endpoint else self

    def __reduce__(self) -> NoReturn:
        raise TypeError("What holds a provider's key is not pickled or copied.")


class AnswerFacts(ABC):
    """What a provider has told about an answer so far, beside what the model says in it."""

    __slots__ = ("closed", "cost_usd", "finished", "model", "service_tier")

    def __init__(self) -> None:
        self.model = ""
        """Model the provider says it used; empty until it said so."""
        self.service_tier = ""
        """Class of service the provider says it used; empty when it did not say."""
        self.cost_usd: float | None = None
        """What the provider says the answer cost; None when it did not say."""
        self.finished = False
        """True when the provider has said that the answer is whole; facts such as usage may still follow."""
        self.closed = False
        """True when the provider has said that nothing follows."""

    @abstractmethod
    def usage(self) -> chat.Usage | None:
        """Returns the usage the provider has reported so far; None when it has not."""


class AnswerReader(AnswerFacts):
    """Reads one streamed answer, event by event, into the chunks that go to the caller.

    `read` puts into the chunk what belongs to it: `id`, `model` and `provider` at the first opportunity, then output
    and `reasoning_details`. What is known at the end only is kept here.
    """

    __slots__ = ("finish_reason", "native_finish_reason", "upstream_provider")

    def __init__(self) -> None:
        super().__init__()
        self.finish_reason = ""
        """Why the answer ended; empty until the provider said so."""
        self.native_finish_reason = ""
        """The provider's own word for it."""
        self.upstream_provider = ""
        """Whom a provider that routes to others had answer; empty when it did not say."""

    @abstractmethod
    def read(self, name: bytes, data: bytes, chunk: chat.ChatCompletionChunk) -> None:
        """Adds what one event says to a chunk that may hold earlier events already.

        Raises the ProviderError of an error event. What is not in the provider's format may fail with one of
        NOT_UNDERSTOOD.
        """


class PassingReader(AnswerFacts):
    """Reads an answer that goes on to the caller as it came, for what its account must say and whether it is whole.

    Looks at nothing else, so that what nobody here has heard of passes. What is not in the provider's format at all may
    fail with one of NOT_UNDERSTOOD.
    """

    __slots__ = ("characters", "kept", "spoke")

    ending: ClassVar[bytes] = b""
    """The event every answer ends with, for providers that leave it out; empty where none does."""

    def __init__(self) -> None:
        super().__init__()
        self.spoke = False
        """True when the model has said something, be it of a kind that is not known here."""
        self.characters = 0
        """How much it has said, as far as that can be counted."""
        self.kept: KeptAnswer | None = None
        """Collects what it says, in the hub's words as far as there are any; None where nobody keeps it."""

    @abstractmethod
    def read_event(self, name: bytes, data: bytes) -> bool:
        """Takes in one event of a streamed answer and tells whether it is for the caller.

        Raises the ProviderError of an error event.
        """

    @abstractmethod
    def read_whole(self, body: bytes) -> None:
        """Takes in a whole answer. Raises the ProviderError of an error that came with status 200."""


class Adapter(Protocol):
    """One provider's wire format. Stateless; all state of an answer is in its AnswerReader."""

    @property
    def provider(self) -> str:
        """Provider id."""
        ...

    @property
    def display_name(self) -> str:
        """Name for people."""
        ...

    @property
    def endpoint(self) -> str:
        """Base URL of the provider's API, without a slash at the end."""
        ...

    @property
    def default_model(self) -> str:
        """Model when neither the request nor the person's configuration names one."""
        ...

    def chat_request(
        self, request: chat.CreateChatCompletionRequest, model: str, credential: Credential, *, stream: bool
    ) -> ProviderRequest:
        """Builds the request for an answer, whole or streamed.

        Raises InvalidRequest for what the provider or the model does not take and cannot be left out.
        """
        ...

    def read_answer(self, body: bytes) -> chat.ChatCompletion:
        """Reads a whole answer. Raises the ProviderError of an error that came with status 200.

        What is not in the provider's format may fail with one of NOT_UNDERSTOOD.
        """
        ...

    def answer_reader(self) -> AnswerReader:
        """Makes the reader of one streamed answer."""
        ...

    def read_error(self, status: int, header: Callable[[str], str | None], body: bytes) -> ProviderError:
        """Tells what an answer with an error status means."""
        ...

    def key_test_request(self, api_key: ProviderKey, model: str) -> ProviderRequest:
        """Builds the cheapest request that fails when the key is refused, or not good for the model if one is named."""
        ...

    def read_key_test(self, body: bytes, model: str) -> None:
        """Raises the ProviderError that a successful answer to the key test hides, such as a blocked key.

        `model` is the one the key was tried for, empty when none was named.
        """
        ...

    def models_request(self, api_key: ProviderKey, page_size: int, page_token: str) -> ProviderRequest:
        """Builds the request for a page of models; a size of 0 leaves it to the provider."""
        ...

    def read_models(self, body: bytes) -> tuple[list[provider_pb2.Model], str]:
        """Reads a page of models for chats, and the token of the next page; empty at the end.

        Looks at the first MOST_MODELS of the page.
        """
        ...


@runtime_checkable
class DialectSpeaker(Protocol):
    """An adapter of a provider that speaks a dialect callers may speak too: what they say passes as it is."""

    @property
    def dialect(self) -> str:
        """Name of the dialect."""
        ...

    @property
    def passing_headers(self) -> Collection[str]:
        """Headers of callers that go on to the provider, in lower case."""
        ...

    def passing_request(
        self, body: JsonMembers, model: str, credential: Credential, headers: Mapping[str, str], *, stream: bool
    ) -> ProviderRequest:
        """Builds the request for an answer that passes through; an empty `model` leaves it to the provider.

        `headers` are those of the caller that `passing_headers` lists.
        """
        ...

    def passing_reader(self, body: JsonMembers) -> PassingReader:
        """Makes the reader of the answer to this request of a caller."""
        ...
