"""What a provider's own code has to say: how to ask it, and how to read what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import ProviderError
from libs.redaction import Secret


@dataclass(frozen=True, slots=True)
class Credential:
    """What a person has configured for the provider. The key is opened; it lives in memory only."""

    api_key: Secret
    model: str = ""
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One HTTP request to the provider. `path` is relative to its endpoint; `headers` hold the key."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


class AnswerReader(Protocol):
    """Reads one streamed answer, event by event, into the chunks that go to the caller."""

    finish_reason: str
    """Why the answer ended; empty until the provider said so."""
    model: str
    """Model the provider says it used; empty until it said so."""
    finished: bool
    """True when the provider has said that the answer is whole; facts such as usage may still follow."""
    closed: bool
    """True when the provider has said that nothing follows."""

    def read(self, name: bytes, data: bytes, chunk: chat.ChatCompletionChunk) -> None:
        """Adds what one event says to a chunk that may hold earlier events already.

        Raises the ProviderError of an error event, and ProviderUnavailable for an event that is not understood.
        """
        ...

    def usage(self) -> chat.Usage | None:
        """Returns the usage the provider has reported so far; None when it has not."""
        ...


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
        """Builds the request for an answer, whole or streamed."""
        ...

    def read_answer(self, body: bytes) -> chat.ChatCompletion:
        """Reads a whole answer. Raises the ProviderError of an error that came with status 200."""
        ...

    def answer_reader(self) -> AnswerReader:
        """Makes the reader of one streamed answer."""
        ...

    def read_error(self, status: int, header: Callable[[str], str | None], body: bytes) -> ProviderError:
        """Tells what an answer with an error status means."""
        ...

    def key_test_request(self, api_key: Secret) -> ProviderRequest:
        """Builds the cheapest request that fails when the key is refused."""
        ...
