"""What a service sees is written down before it is done, once where it could be without end, and delivered later."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from libs import outbox as outbox_module
from libs.audit import AuditEvent, AuditTrail, audit_trail, from_proto, observed, to_proto
from libs.errors import Unavailable
from libs.outbox import Outbox
from libs.redaction import REDACTED
from libs.rpc.identity import Call, Principal, enter_call
from libs.tokens import API_TOKEN_PREFIX, mint
from tests.support.waiting import within_bound


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LINGER_SECONDS", "_FIRST_DELAY", "_MAX_DELAY"):
        monkeypatch.setattr(outbox_module, name, 0.001)


class Receiver:
    """The audit log at the other end: takes events, or fails as often as it is told."""

    def __init__(self) -> None:
        self.taken: list[AuditEvent] = []
        self.failures: list[Exception] = []
        self._news = asyncio.Condition()

    async def store(self, events: Sequence[AuditEvent]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        async with self._news:
            self.taken += events
            self._news.notify_all()

    async def holding(self, count: int) -> list[AuditEvent]:
        async with self._news:
            await within_bound(self._news.wait_for(lambda: len(self.taken) >= count))
        return self.taken


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Notebook:
    """A trail whose clock stands still, and what is in it."""

    def __init__(self, folder: Path) -> None:
        self._outbox = Outbox(folder / "outbox.sqlite3")
        self.clock = Clock()
        self.trail = AuditTrail(self._outbox, self.clock)

    @property
    def written(self) -> int:
        return self._outbox.backlog()

    def close(self) -> None:
        self._outbox.close()


@pytest.fixture
def notebook(tmp_path: Path):
    notebook = Notebook(tmp_path)
    yield notebook
    notebook.close()


def served(*, peer: str = "envoy", principal: Principal | None = None, **headers: str) -> None:
    """Makes a call the one being served by the task of the test."""
    metadata = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    context = SimpleNamespace(invocation_metadata=lambda: metadata)
    enter_call(Call("/a.B/C", context, request_id="request-1", peer=peer, principal=principal))


ALICE = Principal("usr_alice", "user", "ses_1", float("inf"), frozenset())


class TestObserved:
    async def test_tells_who_and_from_where(self) -> None:
        served(principal=ALICE, x_envoy_external_address="192.0.2.7", user_agent="curl/8.5")
        event = observed("auth.session_ended", resource="session/ses_1", count="3", error="")
        assert (event.action, event.resource, event.user_id) == ("auth.session_ended", "session/ses_1", "usr_alice")
        assert (event.address, event.user_agent, event.request_id) == ("192.0.2.7", "curl/8.5", "request-1")
        assert event.details == {"count": "3"}
        assert observed("auth.sign_in").id != event.id

    async def test_somebody_named_is_who_acted(self) -> None:
        served(principal=ALICE)
        assert observed("auth.sign_in", user_id="usr_bob").user_id == "usr_bob"
        assert observed("auth.sign_in", user_id="").user_id == ""

    async def test_nobody_signed_in_is_nobody(self) -> None:
        served()
        assert observed("auth.sign_in_failed").user_id == ""

    async def test_only_the_front_door_is_believed(self) -> None:
        served(peer="worker-openai", x_envoy_external_address="192.0.2.7", user_agent="curl/8.5")
        event = observed("provider_key.revealed")
        assert (event.address, event.user_agent) == ("", "")

    async def test_what_looks_like_a_secret_is_not_told(self) -> None:
        token = mint(API_TOKEN_PREFIX).reveal()
        served(user_agent=f"script Bearer {token}")
        event = observed("auth.api_token_created", name=f"my {token}", apiKey="anything at all", text="x" * 10_000)
        assert token not in str(event)
        assert event.details["apiKey"] == REDACTED
        assert len(event.details["text"]) == 500


class TestWire:
    def test_an_event_comes_back_as_it_was(self) -> None:
        event = AuditEvent("a.b", "r", "u", "::1", "agent", "request-1", {"from": "user", "to": "admin"})
        assert from_proto(to_proto(event)) == event


class TestRecord:
    def test_is_safe_when_it_returns(self, notebook: Notebook) -> None:
        notebook.trail.record(AuditEvent("auth.sign_in"))
        notebook.trail.record(AuditEvent("auth.sign_in"))
        assert notebook.written == 2

    def test_a_disk_that_refuses_is_told(self, notebook: Notebook, tmp_path: Path) -> None:
        notebook.trail.check_writable()
        with sqlite3.connect(tmp_path / "outbox.sqlite3") as database:
            database.execute("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'disk full'); END")
            database.execute("CREATE TRIGGER also BEFORE INSERT ON trial BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        database.close()
        with capture_logs() as logs, pytest.raises(Unavailable) as told:
            notebook.trail.record(AuditEvent("auth.sign_in", request_id="request-1"))
        assert told.value.retry_after
        assert [(line["log_level"], line["request_id"]) for line in logs] == [("error", "request-1")]
        with pytest.raises(Unavailable):
            notebook.trail.check_writable()
        with capture_logs() as logs:
            notebook.trail.note(AuditEvent("access.denied"))
        assert [line["log_level"] for line in logs] == ["error"]


class TestNote:
    def test_the_like_is_noted_once_a_minute(self, notebook: Notebook) -> None:
        for _ in range(100):
            notebook.trail.note(AuditEvent("rate_limit.exceeded", "/a.B/C", "usr_alice"))
        assert notebook.written == 1
        notebook.clock.now += 59.9
        notebook.trail.note(AuditEvent("rate_limit.exceeded", "/a.B/C", "usr_alice"))
        assert notebook.written == 1
        notebook.clock.now += 0.1
        notebook.trail.note(AuditEvent("rate_limit.exceeded", "/a.B/C", "usr_alice"))
        assert notebook.written == 2

    def test_what_differs_is_noted(self, notebook: Notebook) -> None:
        for event in (
            AuditEvent("rate_limit.exceeded", "/a.B/C", "usr_alice"),
            AuditEvent("access.denied", "/a.B/C", "usr_alice"),
            AuditEvent("rate_limit.exceeded", "/a.B/D", "usr_alice"),
            AuditEvent("rate_limit.exceeded", "/a.B/C", "usr_bob"),
            AuditEvent("rate_limit.exceeded", "/a.B/C", address="192.0.2.1"),
            AuditEvent("rate_limit.exceeded", "/a.B/C", address="192.0.2.2"),
            AuditEvent("rate_limit.exceeded", "/a.B/C"),
        ):
            notebook.trail.note(event)
            notebook.trail.note(event)
        assert notebook.written == 7

    def test_who_has_a_network_is_one_whatever_address_calls(self, notebook: Notebook) -> None:
        for host in range(100):
            notebook.trail.note(AuditEvent("rate_limit.exceeded", "/a.B/C", address=f"2001:db8:0:1::{host:x}"))
        assert notebook.written == 1
        notebook.trail.note(AuditEvent("rate_limit.exceeded", "/a.B/C", address="2001:db8:0:2::1"))
        assert notebook.written == 2

    def test_memory_is_bounded(self, notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(notebook.trail._noted, "_size", 3)
        for user in range(10):
            notebook.trail.note(AuditEvent("access.denied", user_id=f"usr_{user}"))
        assert len(notebook.trail._noted) == 3
        # The latest are those remembered.
        notebook.trail.note(AuditEvent("access.denied", user_id="usr_9"))
        assert notebook.written == 10


class TestDelivery:
    async def test_events_arrive_in_order_as_they_were(self, tmp_path: Path) -> None:
        receiver = Receiver()
        events = [AuditEvent("auth.sign_in", details={"number": str(number)}) for number in range(20)]
        async with audit_trail(tmp_path, receiver.store) as trail:
            for event in events:
                trail.record(event)
            assert await receiver.holding(20) == events

    async def test_what_is_not_taken_comes_again_with_the_same_id(self, tmp_path: Path) -> None:
        receiver = Receiver()
        receiver.failures = [Unavailable("auth is away"), ValueError("a bug")]
        event = AuditEvent("auth.sign_in")
        async with audit_trail(tmp_path, receiver.store) as trail:
            trail.record(event)
            assert await receiver.holding(1) == [event]

    async def test_what_a_process_left_is_delivered_by_the_next(self, tmp_path: Path) -> None:
        left = Outbox(tmp_path / "outbox.sqlite3")
        event = AuditEvent("auth.sign_in")
        AuditTrail(left).record(event)
        left.close()
        receiver = Receiver()
        async with audit_trail(tmp_path, receiver.store):
            assert await receiver.holding(1) == [event]
