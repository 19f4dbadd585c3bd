"""Who is calling: the service that opened the connection, and the person it calls for."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field
from typing import Any

from libs.errors import PlatformError, Unauthenticated
from libs.tracing import Span

TRUST_DOMAIN = "spiffe://realmultillm/"

# The one service that people reach. Only what it says of where they are is believed.
FRONT_DOOR = "envoy"

_LONGEST_USER_AGENT = 256


@dataclass(frozen=True, slots=True)
class Principal:
    """The person a token speaks for, and what the token may be used for.

    `expire_time` is in seconds of the Unix epoch, infinite for a token that does not end by itself.
    """

    user_id: str
    role: str
    token_id: str
    expire_time: float
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call came from, as the front door saw it; empty where it did not come through that."""

    address: str = ""
    user_agent: str = ""


@dataclass(slots=True, eq=False)
class Call:
    """What is known of the call being served; filled in by the interceptors, one after the other.

    `kind` is that of the method, as gRPC names handlers. `deadline` is a time of the event loop's clock, infinite for
    calls that may last. `peer` is the name of the calling service, empty until authenticated. `authorization` is the
    person's own, to call other services with. `answer_headers` go out with the first message of the answer, or with the
    error in its place. `span` is the innermost under way, None where nobody traces.
    """

    method: str
    context: Any
    request_id: str = ""
    peer: str = ""
    principal: Principal | None = None
    authorization: str = field(default="", repr=False)
    deadline: float = float("inf")
    timeout: asyncio.Timeout | None = field(default=None, repr=False)
    ended_by: PlatformError | None = None
    spared: bool = False
    answer_headers: list[tuple[str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    kind: str = "unary_unary"
    span: Span | None = field(default=None, repr=False)

    def spare(self) -> None:
        """Lets the call come to its own answer, although it makes the change that ends such calls."""
        self.spared = True

    def end(self, error: PlatformError) -> None:
        """Ends the call now, wherever it is, with this error as its answer. One that is spared goes on."""
        if self.timeout is not None and not self.timeout.expired() and not self.spared:
            self.ended_by = error
            self.timeout.reschedule(asyncio.get_running_loop().time())

    def origin(self) -> Origin:
        """Tells where the person is. What any service but the front door says of that is not believed."""
        if self.peer != FRONT_DOOR:
            return Origin()
        metadata = dict(self.context.invocation_metadata())
        return Origin(
            str(metadata.get("x-envoy-external-address", "")), str(metadata.get("user-agent", ""))[:_LONGEST_USER_AGENT]
        )


_current: contextvars.ContextVar[Call] = contextvars.ContextVar("call")


def enter_call(call: Call) -> None:
    """Makes `call` the current one for the rest of its task. gRPC serves each call in a task of its own."""
    _current.set(call)


def current_call() -> Call:
    """Returns the call being served. Raises LookupError outside of one."""
    return _current.get()


def current_span() -> Span | None:
    """Returns the innermost span of the call being served; None where nobody traces, and outside of a call."""
    call = _current.get(None)
    return None if call is None else call.span


def caller() -> Principal:
    """Returns the person the current call is made for. Raises Unauthenticated when the method needs none."""
    principal = _current.get().principal
    if principal is None:
        raise Unauthenticated("Sign in first: send `Authorization: Bearer <token>`.")
    return principal


def invalid_token() -> Unauthenticated:
    """The one answer to every token that is not valid, whatever the cause."""
    return Unauthenticated("The token is not valid, or not any more; sign in again.")


def peer_service(context: Any) -> str:
    """Returns the service name in the peer's certificate, or an empty string when it shows none of ours."""
    # For a certificate, gRPC's "identities" are its subject alternative names.
    for name in context.peer_identities() or ():
        text = name.decode("utf-8", "replace")
        if text.startswith(TRUST_DOMAIN):
            return str(text.removeprefix(TRUST_DOMAIN))
    return ""
