"""Who is calling: the service that opened the connection, and the person it calls for."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from typing import Any

from libs.errors import Unauthenticated

TRUST_DOMAIN = "spiffe://realmultillm/"


@dataclass(frozen=True, slots=True)
class Principal:
    """The person a token speaks for. `expire_time` is in seconds of the Unix epoch."""

    user_id: str
    role: str
    token_id: str
    expire_time: float


@dataclass(slots=True)
class Call:
    """What is known of the call being served; filled in by the interceptors, one after the other.

    `deadline` is a time of the event loop's clock, infinite for calls that may last. `peer` is the name of the
    calling service, empty until authenticated.
    """

    method: str
    context: Any
    request_id: str = ""
    peer: str = ""
    principal: Principal | None = None
    deadline: float = float("inf")
    facts: dict[str, Any] = field(default_factory=dict)


_current: contextvars.ContextVar[Call] = contextvars.ContextVar("call")


def enter_call(call: Call) -> None:
    """Makes `call` the current one for the rest of its task. gRPC serves each call in a task of its own."""
    _current.set(call)


def current_call() -> Call:
    """Returns the call being served. Raises LookupError outside of one."""
    return _current.get()


def caller() -> Principal:
    """Returns the person the current call is made for. Raises Unauthenticated when the method needs none."""
    principal = _current.get().principal
    if principal is None:
        raise Unauthenticated("Sign in first: send `Authorization: Bearer <token>`.")
    return principal


def peer_service(context: Any) -> str:
    """Returns the service name in the peer's certificate, or an empty string when it shows none of ours."""
    # For a certificate, gRPC's "identities" are its subject alternative names.
    for name in context.peer_identities() or ():
        text = name.decode("utf-8", "replace")
        if text.startswith(TRUST_DOMAIN):
            return str(text.removeprefix(TRUST_DOMAIN))
    return ""
