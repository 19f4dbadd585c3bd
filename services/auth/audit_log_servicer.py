"""Between the audit log and those who read it and add to it: check, call, convert."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.auth.v1 import audit_log_service_pb2 as audit_pb2
from realmultillm.auth.v1 import audit_log_service_pb2_grpc

from libs.audit import from_proto
from libs.errors import InvalidRequest, Violation, refuse_any
from libs.pagination import PlaceTokens, broken_page_rules, rows_per_page
from libs.received_values import TIME_RULE, is_time, is_uuid
from libs.rpc.identity import current_call
from services.auth.audit_chain import BEGINNING, Findings, Head
from services.auth.audit_log import AuditLog
from services.auth.audit_log_repository import Entry, Filters

_MOST_EVENTS = 1_000
_LONGEST_FILTER = 200
_LONGEST_UNREADABLE = 500
# Of entries that somebody has put in behind the service, any number that the column holds.
_SEQS = range(-(2**63), 2**63)

# What the services may report, by the beginnings of the actions: all of them, and each besides. What auth itself sees
# reaches the log inside it, and nobody else can have seen it.
_ACTION = re.compile(r"[a-z_]+\.[a-z_]+")
# What is dated later would stay the newest entry for long.
_CLOCKS_DIFFER_SECONDS = 3_600
_SEEN_BY_ALL = ("access.", "rate_limit.")
_SEEN_BY = {
    "key-vault": ("provider_config.", "platform_config.", "provider_key.", "encryption_key."),
    "analytics": ("chat_history.",),
}


class AuditLogServicer(audit_log_service_pb2_grpc.AuditLogServiceServicer):
    """What administrators see of the log."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def ListAuditLogs(
        self, request: audit_pb2.ListAuditLogsRequest, _context: Any
    ) -> audit_pb2.ListAuditLogsResponse:
        tokens = page_tokens(request)
        check_list(request, tokens)
        entries, last = await self._audit.find_page(
            to_filters(request),
            after=tokens.place(request.page_token),
            size=rows_per_page(request.page_size, request.page_token, tokens=tokens),
        )
        return audit_pb2.ListAuditLogsResponse(
            logs=map(to_audit_log, entries), next_page_token=tokens.token(last) if last else ""
        )

    async def VerifyAuditLogs(
        self, request: audit_pb2.VerifyAuditLogsRequest, _context: Any
    ) -> audit_pb2.VerifyAuditLogsResponse:
        return to_answer(await self._audit.verify(to_head(request.page_token)))


class AuditIngestServicer(audit_log_service_pb2_grpc.AuditIngestServiceServicer):
    """Takes in what the other services saw."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def IngestAuditEvents(
        self, request: audit_pb2.IngestAuditEventsRequest, _context: Any
    ) -> audit_pb2.IngestAuditEventsResponse:
        peer = current_call().peer
        check_events(request, peer=peer)
        accepted = await self._audit.store(peer, [from_proto(event) for event in request.events])
        return audit_pb2.IngestAuditEventsResponse(accepted=accepted, duplicates=len(request.events) - accepted)


class EntryTokens(PlaceTokens):
    """The tokens of the pages of a list of entries, which have places for ids."""

    def __contains__(self, token: object) -> bool:
        place = self.place(token) if super().__contains__(token) and isinstance(token, str) else None
        if place is None:
            return False
        try:
            return int(place.id) in _SEQS
        except ValueError:
            return False


def page_tokens(request: audit_pb2.ListAuditLogsRequest) -> EntryTokens:
    """Returns the tokens of the pages of a list."""
    span = {name: (time.seconds, time.nanos) for name, time in _times(request).items()}
    return EntryTokens(request.user_id, request.action, span)


def check_list(request: audit_pb2.ListAuditLogsRequest, tokens: EntryTokens) -> None:
    """Raises InvalidRequest unless entries can be listed like this; `tokens` are those of the pages."""
    violations = broken_page_rules(request.page_size, request.page_token, tokens=tokens)
    for name, text in (("userId", request.user_id), ("action", request.action)):
        if len(text) > _LONGEST_FILTER or "\0" in text:
            rule = f"must have at most {_LONGEST_FILTER} characters, U+0000 not among them."
            violations.append(Violation(name, rule))
    times = _times(request)
    broken = [Violation(name, TIME_RULE) for name, time in times.items() if not is_time(time)]
    violations += broken
    if len(times) == 2 and not broken and times["from"].ToNanoseconds() >= times["to"].ToNanoseconds():
        violations.append(Violation("from", "must lie before `to`."))
    refuse_any(violations)


def check_events(request: audit_pb2.IngestAuditEventsRequest, *, peer: str) -> None:
    """Raises InvalidRequest unless there are events, not too many, and each can be an entry that `peer` has seen.

    Not PermissionDenied for what it cannot have seen: it would be sent again for ever, and all that follows with it.
    """
    if not 1 <= len(request.events) <= _MOST_EVENTS:
        raise InvalidRequest([Violation("events", f"must be 1 to {_MOST_EVENTS:,} events.")])
    refuse_any(
        Violation(f"events[{index}].{field}", rule)
        for index, event in enumerate(request.events)
        for field, rule in _broken_event_rules(event, peer)
    )


def _broken_event_rules(event: audit_pb2.AuditEvent, peer: str) -> Iterator[tuple[str, str]]:
    """Yields (field in lowerCamel, what it must be). Texts that are too long are no reason to lose an event."""
    if not is_uuid(event.id):
        yield "id", "must be a UUID."
    if not event.action:
        yield "action", "must not be empty."
    elif not _may_report(peer, event.action):
        yield "action", f"must be one that {peer} may report; docs/access.md lists who reports what."
    if not event.HasField("timestamp") or not is_time(event.timestamp):
        yield "timestamp", TIME_RULE
    elif event.timestamp.seconds > time.time() + _CLOCKS_DIFFER_SECONDS:
        yield "timestamp", "must not lie in the future."


def _may_report(peer: str, action: str) -> bool:
    kinds = (*_SEEN_BY_ALL, *_SEEN_BY.get(peer, ()))
    return action.startswith(kinds) and _ACTION.fullmatch(action) is not None


def to_filters(request: audit_pb2.ListAuditLogsRequest) -> Filters:
    """Converts the checked filters of a list."""
    times = {name: time.ToDatetime(UTC) for name, time in _times(request).items()}
    return Filters(request.user_id, request.action, times.get("from"), times.get("to"))


def to_audit_log(entry: Entry) -> audit_pb2.AuditLog:
    """Converts an entry. One that cannot be read is shown as far as it can: it must not hide the others."""
    return audit_pb2.AuditLog(
        id=str(entry.seq),
        user_id=entry.user_id,
        action=entry.action,
        resource=entry.resource,
        timestamp=entry.time,
        ip_address=entry.ip_address,
        user_agent=entry.user_agent,
        details=_details(entry.details),
        service=entry.service,
        request_id=entry.request_id,
        hash=entry.hash.hex(),
    )


def _details(text: str) -> dict[str, str]:
    try:
        details = orjson.loads(text)
    except orjson.JSONDecodeError:
        details = None
    if isinstance(details, dict) and all(isinstance(value, str) for value in details.values()):
        return details
    return {"unreadable": text[:_LONGEST_UNREADABLE]}


def to_head(page_token: str) -> Head:
    """Converts the head of an earlier answer, or none. Raises InvalidRequest."""
    head = Head.parse(page_token) if page_token else BEGINNING
    if head is None:
        rule = "must be the nextPageToken of an earlier answer, or its headId and headHash joined by a colon."
        raise InvalidRequest([Violation("pageToken", rule)])
    return head


def to_answer(found: Findings) -> audit_pb2.VerifyAuditLogsResponse:
    """Converts what was found out."""
    has_head = found.head != BEGINNING
    return audit_pb2.VerifyAuditLogsResponse(
        valid=found.first_invalid is None,
        checked=found.looked_at,
        first_invalid_id="" if found.first_invalid is None else str(found.first_invalid),
        head_id=str(found.head.seq) if has_head else "",
        head_hash=found.head.hash.hex() if has_head else "",
        next_page_token=str(found.head) if found.more else "",
    )


def _times(request: audit_pb2.ListAuditLogsRequest) -> dict[str, Timestamp]:
    """Returns the times that are given. `from` is a keyword of Python, so they are reached by name."""
    return {name: getattr(request, name) for name in ("from", "to") if request.HasField(name)}
