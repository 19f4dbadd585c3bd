"""Entries that somebody has put into the audit log behind the service: they cannot hide the others from the list."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from realmultillm.auth.v1 import audit_log_service_pb2 as audit_pb2

from libs.audit import AuditEvent
from libs.database import Transactions
from libs.redaction import Secret
from services.auth.audit_log import AuditLog
from tests.integration.auth.replica import Auth
from tests.support.postgres import PostgresServer

CONSTRAINTS = ("seq", "time", "details", "previous_hash", "hash")
ENTRY = (
    "INSERT INTO audit_logs SELECT %(seq)s, gen_random_uuid(), %(time)s, '', %(user)s, 'put.in', '', '', '', '', "
    "%(details)s, '', ''"
)
NOW = "2026-11-22T00:00:00Z"


@pytest.fixture
def superuser(postgres: PostgresServer, url: Secret) -> Iterator[psycopg.Connection]:
    """Somebody who has added to the log when it did not refuse anything yet."""
    with psycopg.connect(postgres.superuser_url(url), autocommit=True) as connection:
        connection.execute("SET search_path = auth")
        for name in CONSTRAINTS:
            connection.execute(f"ALTER TABLE audit_logs DROP CONSTRAINT IF EXISTS audit_logs_{name}")
        yield connection


class TestUnreadableEntries:
    @pytest.mark.parametrize("page_size", [1, 2, 50])
    async def test_are_listed_among_the_others(
        self, auth: Auth, email: str, transactions: Transactions, superuser: psycopg.Connection, page_size: int
    ) -> None:
        admin, somebody = await auth.sign_up(email), f"usr_{uuid4().hex}"
        superuser.execute("UPDATE users SET role = 'admin' WHERE id = %s", [admin.user.id])
        good = AuditEvent("auth.sign_in", user_id=somebody, time=datetime(2026, 11, 1, tzinfo=UTC))
        await AuditLog(transactions).store_own([good])
        odd = (
            ("infinity", "{}"),
            ("infinity", "[]"),
            ("-infinity", "{}"),
            ("12000-01-01", "{}"),
            ("4713-01-01 BC", "{}"),
            (NOW, "not json"),
            (NOW, '{"a": 1}'),
            (NOW, '{"a": "\\ud800"}'),
            (NOW, "{" * 10_000),
        )
        (lowest,) = superuser.execute("SELECT least(min(seq), 0) FROM audit_logs").fetchone() or (0,)
        for number, (time, details) in enumerate(odd, 1):
            place = lowest - number
            superuser.execute(ENTRY, {"seq": place, "time": time, "user": somebody, "details": details})

        found: list[audit_pb2.AuditLog] = []
        token = ""
        while len(found) <= len(odd) and (token or not found):
            request = audit_pb2.ListAuditLogsRequest(user_id=somebody, page_size=page_size, page_token=token)
            page = await auth.ask(request, admin.token)
            found += page.logs
            token = page.next_page_token

        assert token == ""
        assert len({entry.id for entry in found}) == len(found) == len(odd) + 1
        assert [entry.action for entry in found].count("auth.sign_in") == 1
        assert [entry.HasField("timestamp") for entry in found].count(False) == 5
        unreadable = [entry.details["unreadable"] for entry in found if "unreadable" in entry.details]
        assert sorted(unreadable) == sorted(["[]", "not json", '{"a": 1}', '{"a": "\\ud800"}', "{" * 500])
