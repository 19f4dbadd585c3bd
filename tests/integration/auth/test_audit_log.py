"""The audit log as services add to it and administrators read it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.auth.v1 import audit_log_service_pb2 as audit_pb2
from realmultillm.auth.v1.audit_log_service_pb2_grpc import AuditIngestServiceStub
from realmultillm.auth.v1.auth_service_pb2 import SignInResponse
from structlog.testing import capture_logs

from deploy.local.ports import PortReservation
from libs.audit import AuditEvent, connect_audit, to_proto
from libs.database import Transactions, connect
from libs.redaction import Secret, redact_value
from services.auth.audit_chain import BEGINNING, Head
from services.auth.audit_head import note_head
from services.auth.audit_log import AuditLog
from tests.integration.auth.replica import HANGING, Auth, refusal, replica
from tests.support.rpc import Identities, violations
from tests.support.waiting import eventually

START = datetime(2026, 11, 1, tzinfo=UTC)
SQL = "'; DROP TABLE audit_logs; --"


@pytest.fixture
async def admin(auth: Auth, database: psycopg.AsyncConnection) -> SignInResponse:
    opened = await auth.sign_up(f"{uuid4().hex}@example.com")
    await database.execute("UPDATE users SET role = 'admin' WHERE id = %s", [opened.user.id])
    return opened


@pytest.fixture
def audit(transactions: Transactions) -> AuditLog:
    return AuditLog(transactions)


@pytest.fixture
def somebody() -> str:
    """An account that occurs in the entries of one test alone."""
    return f"usr_{uuid4().hex}"


def events(user_id: str, count: int = 1, **fields: Any) -> list[AuditEvent]:
    """Makes events a minute apart, the oldest first."""
    return [
        AuditEvent(
            **{"action": "provider_config.set", "user_id": user_id, "time": START + timedelta(minutes=minute), **fields}
        )
        for minute in range(count)
    ]


async def ingest(auth: Auth, *events: AuditEvent | audit_pb2.AuditEvent, service: str = "key-vault") -> Any:
    protos = [to_proto(event) if isinstance(event, AuditEvent) else event for event in events]
    stub = AuditIngestServiceStub(await auth.channel(service))
    return await stub.IngestAuditEvents(audit_pb2.IngestAuditEventsRequest(events=protos), timeout=HANGING)


async def pages(auth: Auth, by: SignInResponse, **fields: Any) -> list[list[audit_pb2.AuditLog]]:
    """Returns the entries of a list, page by page."""
    found = []
    page = audit_pb2.ListAuditLogsResponse()
    while True:
        request = audit_pb2.ListAuditLogsRequest(page_token=page.next_page_token, **fields)
        page = await auth.ask(request, by.token)
        found.append(list(page.logs))
        if not page.next_page_token:
            return found


async def listed(auth: Auth, by: SignInResponse, **fields: Any) -> list[audit_pb2.AuditLog]:
    return list(itertools.chain.from_iterable(await pages(auth, by, **fields)))


async def verified(auth: Auth, by: SignInResponse, page_token: str = "") -> audit_pb2.VerifyAuditLogsResponse:
    answer: audit_pb2.VerifyAuditLogsResponse = await auth.ask(
        audit_pb2.VerifyAuditLogsRequest(page_token=page_token), by.token
    )
    return answer


class TestIngest:
    async def test_what_a_service_saw_is_listed_as_it_saw_it(
        self, auth: Auth, admin: SignInResponse, somebody: str
    ) -> None:
        event = AuditEvent(
            "provider_key.revealed",
            "provider-config/openai",
            somebody,
            "2001:db8::1",
            "curl/8.5 (ä)",
            "request-1",
            {"to": "worker-openai", "zß": '"\\\n', "a": ""},
            time=datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC),
        )
        answer = await ingest(auth, event)
        assert (answer.accepted, answer.duplicates) == (1, 0)

        (entry,) = await listed(auth, admin, user_id=somebody)

        assert entry.action == event.action
        assert entry.resource == event.resource
        assert entry.user_id == somebody
        assert entry.ip_address == event.address
        assert entry.user_agent == event.user_agent
        assert entry.request_id == event.request_id
        assert dict(entry.details) == event.details
        assert entry.timestamp.ToDatetime(UTC) == event.time
        # Not what the event says, which says nothing of it, but the certificate.
        assert entry.service == "key-vault"
        assert int(entry.id) >= 1
        assert len(bytes.fromhex(entry.hash)) == 32

    async def test_what_came_before_is_a_duplicate(self, auth: Auth, admin: SignInResponse, somebody: str) -> None:
        first, second, third = events(somebody, 3, action="access.denied")
        await ingest(auth, first)
        answer = await ingest(auth, second, first, second, third)
        assert (answer.accepted, answer.duplicates) == (2, 2)
        answer = await ingest(auth, first, second, third, service="analytics")
        assert (answer.accepted, answer.duplicates) == (0, 3)
        entries = await listed(auth, admin, user_id=somebody)
        assert [entry.service for entry in entries] == ["key-vault"] * 3

    async def test_two_replicas_given_the_same_store_it_once(
        self, auth: Auth, url: Secret, identity: Identities, admin: SignInResponse, somebody: str
    ) -> None:
        async with replica(url, identity) as second:
            same = events(somebody, 200)
            answers = await asyncio.gather(*(ingest(each, *same) for each in (auth, second, auth, second)))
        assert sorted(answer.accepted for answer in answers) == [0, 0, 0, 200]
        assert len(await listed(auth, admin, user_id=somebody, page_size=500)) == 200
        assert (await verified(auth, admin)).valid

    @pytest.mark.parametrize("service", ["envoy", "operator", "auth", "vault", "worker-auto"])
    async def test_nobody_else_may_add_to_it(self, auth: Auth, somebody: str, service: str) -> None:
        error = await refusal(ingest(auth, *events(somebody, action="access.denied"), service=service))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED

    @pytest.mark.parametrize(
        "action",
        ["provider_config.set", "platform_config.set", "provider_key.revealed", "encryption_key.rotation_ended"],
    )
    async def test_the_key_vault_may_report_of_keys(self, auth: Auth, somebody: str, action: str) -> None:
        assert (await ingest(auth, *events(somebody, action=action), service="key-vault")).accepted == 1

    @pytest.mark.parametrize(
        "service", ["key-vault", "analytics", "provider-router", "worker-openai", "worker-our-vllm"]
    )
    async def test_every_service_that_sees_events_may(self, auth: Auth, somebody: str, service: str) -> None:
        for action in ("access.denied", "rate_limit.exceeded"):
            assert (await ingest(auth, *events(somebody, action=action), service=service)).accepted == 1

    @pytest.mark.parametrize(
        ("service", "action"),
        [
            ("key-vault", "auth.sign_in"),
            ("key-vault", "user.made_admin"),
            ("key-vault", "provider_configuration.set"),
            ("worker-openai", "platform_config.set"),
            ("provider-router", "encryption_key.rotation_started"),
            ("worker-openai", "auth.sign_in"),
            ("worker-openai", "provider_key.revealed"),
            ("provider-router", "provider_config.deleted"),
            ("analytics", "provider_config.tested"),
            ("analytics", "anything.else"),
            ("analytics", "access.denied\n{}"),
        ],
    )
    async def test_nobody_may_report_what_another_service_sees(
        self, auth: Auth, admin: SignInResponse, somebody: str, service: str, action: str
    ) -> None:
        possible, invented = *events(somebody, action="access.denied"), *events(somebody, action=action)
        error = await refusal(ingest(auth, possible, invented, service=service))
        # For this one alone its outbox sets the event aside; it would send what is denied again, for ever.
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(error) == ["events[1].action"]
        assert await listed(auth, admin, user_id=somebody) == []

    async def test_everything_that_is_wrong_is_told_and_nothing_stored(
        self, auth: Auth, admin: SignInResponse, somebody: str
    ) -> None:
        (good,) = events(somebody)
        wrong = [
            audit_pb2.AuditEvent(id="17", action="access.denied", timestamp=START),
            audit_pb2.AuditEvent(id=str(uuid4()), timestamp=START),
            audit_pb2.AuditEvent(id=str(uuid4()), action="access.denied"),
            audit_pb2.AuditEvent(id=str(uuid4()), action="access.denied", timestamp=Timestamp(seconds=-(2**62))),
            audit_pb2.AuditEvent(id=str(uuid4()), action="access.denied", timestamp=Timestamp(nanos=-5)),
            audit_pb2.AuditEvent(),
            audit_pb2.AuditEvent(id=str(uuid4()), action="access.denied", timestamp=Timestamp(seconds=2**33)),
        ]
        error = await refusal(ingest(auth, good, *wrong))
        assert violations(error) == [
            "events[1].id",
            "events[2].action",
            "events[3].timestamp",
            "events[4].timestamp",
            "events[5].timestamp",
            "events[6].id",
            "events[6].action",
            "events[6].timestamp",
            "events[7].timestamp",
        ]
        assert await listed(auth, admin, user_id=somebody) == []

    @pytest.mark.parametrize("count", [0, 1001])
    async def test_a_batch_has_its_size(self, auth: Auth, somebody: str, count: int) -> None:
        assert violations(await refusal(ingest(auth, *events(somebody, count)))) == ["events"]

    async def test_no_text_is_a_reason_to_lose_an_event(self, auth: Auth, admin: SignInResponse, somebody: str) -> None:
        long = "\0ä" * 10_000
        event = audit_pb2.AuditEvent(
            id=str(uuid4()),
            user_id=somebody,
            action="access." + "a" * 10_000,
            resource=long,
            timestamp=START,
            ip_address=long,
            user_agent=long,
            request_id=long,
            details={f"name{number:04}\0": long for number in range(1000)} | {long: SQL, SQL: SQL},
        )
        await ingest(auth, event)
        (entry,) = await listed(auth, admin, user_id=somebody)
        assert entry.action == "access." + "a" * 193
        for text in (entry.resource, entry.ip_address, entry.user_agent, entry.request_id, *entry.details.values()):
            assert 1 <= len(text) <= 500
            assert "\0" not in text
        assert len(entry.details) == 30
        assert (await verified(auth, admin)).valid

    async def test_any_time_of_the_past_is_taken(self, auth: Auth, admin: SignInResponse, somebody: str) -> None:
        texts = ("0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "2026-01-01T00:00:00.000001Z")
        times = [datetime.fromisoformat(text) for text in texts]
        for time in times:
            await ingest(auth, *events(somebody, time=time))
        entries = await listed(auth, admin, user_id=somebody)
        assert [entry.timestamp.ToDatetime(UTC) for entry in entries] == times[::-1]
        assert (await verified(auth, admin)).valid


class TestAppend:
    async def test_an_event_is_there_exactly_when_its_transaction_commits(
        self, transactions: Transactions, audit: AuditLog, somebody: str
    ) -> None:
        before = await audit.head()
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what came before it counts
            async with transactions() as tx:
                await audit.append(tx, *events(somebody, 3))
                raise ZeroDivisionError
        assert await audit.head() == before
        async with transactions() as tx:
            await audit.append(tx, *events(somebody, 3))
            assert await audit.head() == before
        assert (await audit.head()).seq == before.seq + 3

    async def test_many_at_once_through_two_pools_make_one_chain(self, url: Secret, somebody: str) -> None:
        async with connect(url) as one, connect(url) as other:
            logs = [(transactions, AuditLog(transactions)) for transactions in (one, other)]

            async def act(number: int) -> int:
                transactions, audit = logs[number % 2]
                try:
                    async with transactions() as tx:
                        await audit.append(tx, *events(somebody, 1 + number % 3))
                        if number % 5 == 0:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    return 0
                # What was there stays whole while more comes.
                assert (await audit.verify()).first_invalid is None
                return 1 + number % 3

            before = (await logs[0][1].head()).seq
            stored = sum(await asyncio.gather(*map(act, range(60))))
            found = await logs[1][1].verify()
        assert found.first_invalid is None
        assert found.head.seq == before + stored
        assert found.looked_at == found.head.seq


class TestList:
    async def test_the_newest_come_first_whenever_they_arrived(
        self, auth: Auth, admin: SignInResponse, somebody: str
    ) -> None:
        some = events(somebody, 7)
        late, *rest = some[3], *some[:3], *some[4:]
        await ingest(auth, *rest)
        await ingest(auth, late)
        entries = await listed(auth, admin, user_id=somebody)
        assert [entry.timestamp.ToDatetime(UTC) for entry in entries] == [event.time for event in reversed(some)]
        assert int(entries[3].id) == max(int(entry.id) for entry in entries)

    @pytest.mark.parametrize("page_size", [1, 3, 7, 8, 500, 501])
    async def test_pages_are_the_list_in_pieces(
        self, auth: Auth, admin: SignInResponse, somebody: str, page_size: int
    ) -> None:
        # Half of them at the same time.
        await ingest(auth, *events(somebody, 4), *(events(somebody)[0] for _ in range(3)))
        found = await pages(auth, admin, user_id=somebody, page_size=page_size)
        assert [len(page) for page in found[:-1]] == [page_size] * (len(found) - 1)
        places = [(entry.timestamp.ToDatetime(), int(entry.id)) for page in found for entry in page]
        assert places == sorted(set(places), reverse=True)
        assert len(places) == 7

    async def test_filters_narrow_it(self, auth: Auth, admin: SignInResponse, somebody: str) -> None:
        other = f"usr_{uuid4().hex}"
        await ingest(
            auth, *events(somebody, 6), *events(somebody, 2, action="provider_config.deleted"), *events(other, 6)
        )

        async def count(**fields: Any) -> int:
            return len(await listed(auth, admin, user_id=somebody, **fields))

        assert await count() == 8
        assert await count(action="provider_config.deleted") == 2
        assert await count(action="provider_config") == 0
        assert await count(**{"from": START + timedelta(minutes=2)}) == 4
        # The beginning belongs to the span, the end does not.
        assert await count(to=START + timedelta(minutes=1)) == 2
        span = {"from": START + timedelta(minutes=1), "to": START + timedelta(minutes=3)}
        assert await count(**span) == 3
        assert await count(**span, action="provider_config.deleted") == 1
        assert all(entry.user_id == somebody for entry in await listed(auth, admin, user_id=somebody))
        entries = await listed(auth, admin, **span)
        assert {somebody, other} <= {entry.user_id for entry in entries}

    async def test_everything_that_is_wrong_is_told(self, auth: Auth, admin: SignInResponse) -> None:
        request = audit_pb2.ListAuditLogsRequest(
            page_size=-1,
            page_token="17",
            user_id="\0",
            action="a" * 201,
            **{"from": Timestamp(seconds=2**62), "to": Timestamp(nanos=-1)},
        )
        error = await refusal(auth.ask(request, admin.token))
        assert violations(error) == ["pageSize", "pageToken", "userId", "action", "from", "to"]
        spans: list[dict[str, Any]] = [
            {"from": START, "to": START},
            {"from": START + timedelta(seconds=1), "to": START},
        ]
        for span in spans:
            error = await refusal(auth.ask(audit_pb2.ListAuditLogsRequest(**span), admin.token))
            assert violations(error) == ["from"]

    async def test_a_token_is_good_for_its_list_alone(self, auth: Auth, admin: SignInResponse, somebody: str) -> None:
        await ingest(auth, *events(somebody, 3))
        page = await auth.ask(audit_pb2.ListAuditLogsRequest(user_id=somebody, page_size=1), admin.token)
        token = page.next_page_token
        for request in (
            audit_pb2.ListAuditLogsRequest(user_id=admin.user.id, page_token=token),
            audit_pb2.ListAuditLogsRequest(user_id=somebody, action="auth.sign_in", page_token=token),
            audit_pb2.ListAuditLogsRequest(user_id=somebody, to=START, page_token=token),
            audit_pb2.ListAuditLogsRequest(user_id=somebody, page_token=token[:-1]),
            audit_pb2.ListAuditLogsRequest(user_id=somebody, page_token=token + "A"),
            audit_pb2.ListAuditLogsRequest(user_id=somebody, page_token=SQL),
        ):
            assert violations(await refusal(auth.ask(request, admin.token))) == ["pageToken"]

    async def test_sql_in_filters_is_a_text_like_any_other(
        self, auth: Auth, admin: SignInResponse, audit: AuditLog
    ) -> None:
        assert await listed(auth, admin, user_id=SQL, action=SQL) == []
        await audit.store("key-vault", events(SQL, action=SQL, resource=SQL, details={SQL: SQL}))
        (entry,) = await listed(auth, admin, user_id=SQL, action=SQL)
        assert dict(entry.details) == {SQL: SQL}

    async def test_only_administrators_see_it_and_who_tries_is_in_it(self, auth: Auth, admin: SignInResponse) -> None:
        user = await auth.sign_up(f"{uuid4().hex}@example.com")
        for request in (audit_pb2.ListAuditLogsRequest(user_id=user.user.id), audit_pb2.VerifyAuditLogsRequest()):
            assert (await refusal(auth.ask(request, user.token))).code() is grpc.StatusCode.PERMISSION_DENIED
            assert (await refusal(auth.ask(request))).code() is grpc.StatusCode.UNAUTHENTICATED

        # By way of the trail of auth itself.
        entries = await eventually(
            lambda: listed(auth, admin, user_id=user.user.id, action="access.denied"), lambda found: len(found) == 2
        )

        assert {(entry.service, entry.resource.rpartition("/")[2]) for entry in entries} == {
            ("auth", "ListAuditLogs"),
            ("auth", "VerifyAuditLogs"),
        }


class TestVerify:
    async def test_pages_reach_the_end(
        self, auth: Auth, admin: SignInResponse, somebody: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await ingest(auth, *events(somebody, 40))
        whole = await verified(auth, admin)
        assert whole.valid
        assert whole.next_page_token == ""
        assert whole.checked == int(whole.head_id)
        monkeypatch.setattr("services.auth.audit_log._BATCH", 7)
        monkeypatch.setattr("services.auth.audit_log._MOST_LOOKED_AT", 14)
        answer = await verified(auth, admin)
        checked = answer.checked
        while answer.next_page_token:
            assert answer.valid
            assert answer.checked == 14
            answer = await verified(auth, admin, answer.next_page_token)
            checked += answer.checked
        assert (answer.valid, answer.head_id, answer.head_hash) == (True, whole.head_id, whole.head_hash)
        assert checked == whole.checked

    async def test_the_head_is_the_hash_of_its_entry(self, auth: Auth, admin: SignInResponse, somebody: str) -> None:
        await ingest(auth, *events(somebody))
        (entry,) = await listed(auth, admin, user_id=somebody)
        answer = await verified(auth, admin)
        assert (answer.head_id, answer.head_hash) == (entry.id, entry.hash)

    async def test_it_goes_on_from_a_head_that_is_there_alone(self, auth: Auth, admin: SignInResponse) -> None:
        answer = await verified(auth, admin)
        noted = f"{answer.head_id}:{answer.head_hash}"
        assert (await verified(auth, admin, noted)).valid
        for other in (f"{answer.head_id}:{'0' * 64}", f"{int(answer.head_id) + 1}:{answer.head_hash}"):
            found = await verified(auth, admin, other)
            assert (found.valid, found.first_invalid_id) == (False, other.partition(":")[0])
            assert (found.head_id, found.head_hash, found.next_page_token) == ("", "", "")

    @pytest.mark.parametrize("page_token", ["17", SQL, f"0:{'0' * 64}", "\0"])
    async def test_no_other_token_is_one(self, auth: Auth, admin: SignInResponse, page_token: str) -> None:
        assert violations(await refusal(verified(auth, admin, page_token))) == ["pageToken"]


class TestHead:
    async def test_is_noted_when_it_has_moved(self, audit: AuditLog, somebody: str) -> None:
        await audit.store("key-vault", events(somebody))
        with capture_logs() as logs:
            noted = await note_head(audit, BEGINNING)
            noted = await note_head(audit, noted)
        assert [line["head"] for line in logs] == [str(await audit.head())]
        # As it is written, it can be given to the command.
        assert Head.parse(redact_value(logs[0])["head"]) == noted


@pytest.fixture
def free_port() -> Iterator[int]:
    ports = PortReservation()
    yield ports.take(["auth"], {})["auth"]
    ports.release()


class TestOutage:
    async def test_events_wait_for_auth_and_arrive(
        self, url: Secret, identity: Identities, free_port: int, tmp_path: Path, audit: AuditLog, somebody: str
    ) -> None:
        some = events(somebody, 20)
        before = (await audit.head()).seq

        async def arrived() -> int:
            return (await audit.head()).seq - before

        async with connect_audit(f"127.0.0.1:{free_port}", identity("key-vault"), tmp_path) as trail:
            for event in some[:10]:
                trail.record(event)
        # They outlive the process that saw them, too.
        async with connect_audit(f"127.0.0.1:{free_port}", identity("key-vault"), tmp_path) as trail:
            for event in some[10:]:
                trail.record(event)
            assert await arrived() == 0
            async with replica(url, identity, port=free_port):
                await eventually(arrived, lambda count: count == 20)
        assert (await audit.verify()).first_invalid is None


def test_details_are_json(url: Secret) -> None:
    """Whoever looks at the table can ask for them by name."""
    with psycopg.connect(url.reveal().replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT details, details::json ->> 'to' FROM audit_logs").fetchall()
    assert rows
    assert all(json.loads(details).get("to") == to for details, to in rows)
