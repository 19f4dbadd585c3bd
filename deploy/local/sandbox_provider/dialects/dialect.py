"""What a wire format has to say; everything else about serving it is common to all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from deploy.local.sandbox_provider.answering import Answer, Question
from deploy.local.sandbox_provider.control_messages import Behaviour


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request; `path` is what follows the mount, `payload` the body where that is JSON."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    payload: Any
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A stream of events, each complete with its blank line and with LF line ends.

    `opening` comes before any output, each of `chunks` carries output, `closing` follows (finish reason,
    usage), and `done` is the terminal event. An item may hold several events that belong together. `waiting` is
    a comment sent before the first event, again and again while that is held back; empty for a silent wait.
    """

    opening: bytes
    chunks: tuple[bytes, ...]
    closing: bytes
    done: bytes
    headers: Mapping[str, str]
    waiting: bytes = b""


class Refusal(Exception):
    """The provider refuses the request."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Conversation(Protocol):
    """A chat request understood, ready to be put into the provider's words once answered.

    Instead of an answer it may raise `Refusal` where a behaviour wants that.
    """

    @property
    def question(self) -> Question:
        """What is asked."""

    @property
    def streamed(self) -> bool:
        """Whether the answer is wanted as a stream."""

    def whole(self, answer: Answer, behaviour: Behaviour) -> Reply:
        """Puts the answer into one body."""

    def stream(self, answer: Answer, behaviour: Behaviour) -> Transcript:
        """Puts the answer into events."""


class Dialect(Protocol):
    """One provider's API."""

    @property
    def mount(self) -> str:
        """The path below which it is served, e.g. `/openai/v1`."""

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Finds the API key of a request."""

    def model(self, path: str, payload: Any) -> str | None:
        """Finds the model of a request, whether or not it exists."""

    def receive(self, call: Call, key: str | None) -> Reply | Conversation:
        """Understands a request as the provider would.

        Raises `Refusal` for a wrong key, an unknown path and an invalid request.
        """

    def failure(self, status: int) -> Reply:
        """Says what the provider says with this status on a bad day."""

    def stream_failure(self) -> bytes:
        """Makes the event that reports an error in a stream that has begun."""
