"""What the audit log must hold of what a service sees: written down here first, delivered to `auth` until it is taken.

Delivered at least once and in order, through an outbox (decision D6): while `auth` is down nothing is lost.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import structlog
from realmultillm.auth.v1 import audit_log_service_pb2 as audit_pb2
from realmultillm.auth.v1.audit_log_service_pb2_grpc import AuditIngestServiceStub

from libs.errors import Unavailable
from libs.network_addresses import network_of
from libs.outbox import Outbox, WriteRefused, open_outbox
from libs.recent import Recent
from libs.redaction import redact, redact_value
from libs.rpc.channel import open_channel
from libs.rpc.identity import current_call
from libs.rpc.status import from_rpc_error
from libs.rpc.tls import TlsIdentity

log = structlog.get_logger()

_INGEST_SECONDS = 10.0
_LONGEST_DETAIL = 500
# Of what an attacker can cause without end, one a minute is noted of each kind, person or network, and resource.
_NOTE_SECONDS = 60.0
_MOST_NOTES = 10_000


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One entry to be. `user_id` is the account that acted, empty when nobody was signed in.

    Where a call was made from, and which, is empty for what happened outside of one.
    """

    action: str
    resource: str = ""
    user_id: str = ""
    address: str = ""
    user_agent: str = ""
    request_id: str = ""
    details: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


def observed(action: str, *, resource: str = "", user_id: str | None = None, **details: str) -> AuditEvent:
    """Describes what the call being served does; who and where is the call's own, unless `user_id` says who.

    `details` have lowerCamel names; an empty one is left out. They hold no secret; what looks like one is redacted all
    the same.
    """
    call = current_call()
    if user_id is None:
        user_id = call.principal.user_id if call.principal is not None else ""
    origin = call.origin()
    safe: dict[str, str] = redact_value(details)
    return AuditEvent(
        action,
        resource,
        user_id,
        origin.address,
        redact(origin.user_agent),
        call.request_id,
        {name: text[:_LONGEST_DETAIL] for name, text in safe.items() if text},
    )


class AuditTrail:
    """Where a service writes down what the audit log must hold. `clock` counts seconds and never goes back."""

    def __init__(self, outbox: Outbox, clock: Callable[[], float] = time.monotonic) -> None:
        self._outbox = outbox
        self._clock = clock
        self._noted: Recent[tuple[str, ...], float] = Recent(_MOST_NOTES)

    def record(self, event: AuditEvent) -> None:
        """Writes an event down; it is safe when this returns. Raises Unavailable when the disk refuses it.

        Call it before the last step that makes the event true: what cannot be audited is not done.
        """
        try:
            self._outbox.append(to_proto(event).SerializeToString())
        except WriteRefused:
            log.exception("audit event not written down", action=event.action, request_id=event.request_id)
            raise Unavailable(
                "This cannot be audited at this moment, so it is not done; try again in a moment.", retry_after=5
            ) from None

    @property
    def outbox(self) -> Outbox:
        """Where events wait until they are taken."""
        return self._outbox

    def check_writable(self) -> None:
        """Raises Unavailable while nothing can be written down, before something is begun whose end is an event."""
        self._outbox.check_writable()

    def note(self, event: AuditEvent) -> None:
        """Writes down something that was refused, unless the like was noted in the last minute. Never raises."""
        # Whoever has a network can call from any address in it.
        who = event.user_id or network_of(event.address) or event.address
        kind = (event.action, who, event.resource)
        now = self._clock()
        if now - self._noted.get(kind, float("-inf")) < _NOTE_SECONDS:
            return
        self._noted.tell(kind, now)
        with suppress(Unavailable):  # logged there; the refusal stands
            self.record(event)


def to_proto(event: AuditEvent) -> audit_pb2.AuditEvent:
    """Converts an event for the wire."""
    return audit_pb2.AuditEvent(
        id=event.id,
        user_id=event.user_id,
        action=event.action,
        resource=event.resource,
        timestamp=event.time,
        ip_address=event.address,
        user_agent=event.user_agent,
        details=event.details,
        request_id=event.request_id,
    )


def from_proto(event: audit_pb2.AuditEvent) -> AuditEvent:
    """Converts an event from the wire, whose time is one that Python knows."""
    return AuditEvent(
        event.action,
        event.resource,
        event.user_id,
        event.ip_address,
        event.user_agent,
        event.request_id,
        dict(event.details),
        event.id,
        event.timestamp.ToDatetime(UTC),
    )


@asynccontextmanager
async def audit_trail(
    folder: Path, store: Callable[[Sequence[AuditEvent]], Awaitable[object]]
) -> AsyncIterator[AuditTrail]:
    """Opens the trail of this process in `folder`, and gives what is in it to `store` until it is taken.

    `store` raises PlatformError for what it does not take.
    """

    async def send(facts: Sequence[bytes]) -> None:
        await store([from_proto(audit_pb2.AuditEvent.FromString(fact)) for fact in facts])

    async with open_outbox(folder, send) as outbox:
        yield AuditTrail(outbox)


@asynccontextmanager
async def connect_audit(address: str, tls: TlsIdentity, folder: Path) -> AsyncIterator[AuditTrail]:
    """Opens the trail of this process in `folder`, and delivers it to `auth`."""
    async with open_channel(address, "auth", tls) as channel:
        stub: Any = AuditIngestServiceStub(channel)

        async def store(events: Sequence[AuditEvent]) -> None:
            request = audit_pb2.IngestAuditEventsRequest(events=map(to_proto, events))
            try:
                await stub.IngestAuditEvents(request, timeout=_INGEST_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, service="auth") from None

        async with audit_trail(folder, store) as trail:
            yield trail
