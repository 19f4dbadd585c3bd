"""Whatever somebody with all rights over the database does to the audit log, its verification says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from libs.audit import AuditEvent
from libs.database import Transactions
from libs.redaction import Secret
from services.auth.audit_chain import Head, entry_hash
from services.auth.audit_log import AuditLog
from services.auth.verify_audit_log import verify
from tests.support.postgres import PostgresServer

SIZE = 10

# Moves all entries behind a place by one.
MOVE = "UPDATE audit_logs SET seq = seq + 1000 WHERE seq > 5; UPDATE audit_logs SET seq = seq - {by} WHERE seq > 1000;"
SWAP = """
    UPDATE audit_logs SET seq = 0 WHERE seq = 5;
    UPDATE audit_logs SET seq = 5 WHERE seq = 6;
    UPDATE audit_logs SET seq = 6 WHERE seq = 0;
"""
COPY = (
    "INSERT INTO audit_logs SELECT {seq}, {event}, time, service, user_id, action, resource, ip_address, user_agent, "
    "request_id, details, previous_hash, hash FROM audit_logs WHERE seq = {of}"
)


@pytest.fixture
async def audit(transactions: Transactions, superuser: psycopg.Connection) -> AuditLog:
    """A log of ten entries, as it was written."""
    superuser.execute("DELETE FROM audit_logs")
    audit = AuditLog(transactions)
    events = [
        AuditEvent("user.role_changed", f"user/{number}", "usr_1", "::1", "curl", f"request-{number}", {"to": "admin"})
        for number in range(SIZE)
    ]
    await audit.store("auth", events[:4])
    await audit.store("key-vault", events[4:])
    return audit


@pytest.fixture
def superuser(postgres: PostgresServer, url: Secret) -> Iterator[psycopg.Connection]:
    """Somebody with all rights, without checks and the trigger; what is done to entries is undone in the end."""
    with psycopg.connect(postgres.superuser_url(url), autocommit=True) as connection:
        connection.execute("SET search_path = auth")
        connection.execute("ALTER TABLE audit_logs DISABLE TRIGGER only_grows")
        for column in ("seq", "time", "details", "previous_hash", "hash"):
            connection.execute(f"ALTER TABLE audit_logs DROP CONSTRAINT IF EXISTS audit_logs_{column}")
        yield connection
        connection.execute("DELETE FROM audit_logs")
        connection.execute("ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER only_grows")


@pytest.fixture(params=[2, 1000], autouse=True)
def batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads the log in steps of different lengths: nothing hides where one ends."""
    monkeypatch.setattr("services.auth.audit_log._BATCH", request.param)


CHANGES = {
    "event_id = gen_random_uuid()": 5,
    "time = time + interval '1 microsecond'": 5,
    "time = 'infinity'": 5,
    "time = '4713-01-01 BC'": 5,
    "service = 'auth'": 5,
    "user_id = ''": 5,
    "action = 'user.enabled'": 5,
    "resource = resource || ' '": 5,
    "ip_address = '::2'": 5,
    "user_agent = 'Curl'": 5,
    "request_id = 'request-5'": 5,
    "details = '{}'": 5,
    """details = '{"to": "admin"}'""": 5,
    "details = '{'": 5,
    "previous_hash = hash": 5,
    "previous_hash = ''": 5,
    "hash = previous_hash": 5,
    "hash = ''": 5,
    "seq = 1000": 5,
    "seq = -1": -1,
    "seq = 0": 0,
    # From one column into the next: what is read one after the other is the same.
    "action = 'user.role_change', resource = 'd' || resource": 5,
}


class TestTampering:
    async def test_what_nobody_touched_is_as_it_was_written(self, audit: AuditLog) -> None:
        found = await audit.verify()
        assert (found.first_invalid, found.looked_at, found.head.seq, found.more) == (None, SIZE, SIZE, False)

    @pytest.mark.parametrize(("change", "place"), CHANGES.items())
    async def test_a_changed_entry_is_named(
        self, audit: AuditLog, superuser: psycopg.Connection, change: str, place: int
    ) -> None:
        assert superuser.execute(f"UPDATE audit_logs SET {change} WHERE seq = 5").rowcount == 1
        assert (await audit.verify()).first_invalid == place

    async def test_so_is_the_first_and_the_last(self, audit: AuditLog, superuser: psycopg.Connection) -> None:
        superuser.execute(f"UPDATE audit_logs SET action = '' WHERE seq = {SIZE}")
        assert (await audit.verify()).first_invalid == SIZE
        superuser.execute("UPDATE audit_logs SET action = '' WHERE seq = 1")
        assert (await audit.verify()).first_invalid == 1

    @pytest.mark.parametrize(
        ("statements", "place"),
        [
            ("DELETE FROM audit_logs WHERE seq = 1", 1),
            ("DELETE FROM audit_logs WHERE seq = 5", 5),
            ("DELETE FROM audit_logs WHERE seq BETWEEN 3 AND 9", 3),
            ("DELETE FROM audit_logs WHERE seq = 5;" + MOVE.format(by=1001), 5),  # the gap closed
            (MOVE.format(by=999) + COPY.format(seq=6, event="gen_random_uuid()", of=5), 6),
            (COPY.format(seq=SIZE + 1, event="gen_random_uuid()", of=SIZE), SIZE + 1),
            (COPY.format(seq=SIZE + 5, event="gen_random_uuid()", of=SIZE), SIZE + 1),
            (COPY.format(seq=0, event="gen_random_uuid()", of=1), 0),
            (COPY.format(seq=-7, event="gen_random_uuid()", of=1), -7),
            (SWAP, 5),
        ],
    )
    async def test_entries_that_are_missing_moved_or_put_in_are_named(
        self, audit: AuditLog, superuser: psycopg.Connection, statements: str, place: int
    ) -> None:
        superuser.execute(statements)
        assert (await audit.verify()).first_invalid == place


class TestWithoutConstraints:
    """Somebody with all rights can have the constraints of the table gone as well."""

    @pytest.fixture(autouse=True)
    def free(self, superuser: psycopg.Connection) -> Iterator[None]:
        superuser.execute("ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_pkey")
        superuser.execute("ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_event_id_key")
        for column in ("details", "time", "previous_hash", "hash"):
            superuser.execute(f"ALTER TABLE audit_logs ALTER COLUMN {column} DROP NOT NULL")
        yield
        superuser.execute("DELETE FROM audit_logs")
        superuser.execute("ALTER TABLE audit_logs ADD PRIMARY KEY (seq), ADD UNIQUE (event_id)")
        for column in ("details", "time", "previous_hash", "hash"):
            superuser.execute(f"ALTER TABLE audit_logs ALTER COLUMN {column} SET NOT NULL")

    @pytest.mark.parametrize("place", [1, 4, 5, SIZE])
    async def test_a_second_entry_at_a_place_is_named(
        self, audit: AuditLog, superuser: psycopg.Connection, place: int
    ) -> None:
        superuser.execute(COPY.format(seq=place, event="event_id", of=place))
        assert (await audit.verify()).first_invalid == place

    @pytest.mark.parametrize("column", ["details", "time", "previous_hash", "hash"])
    async def test_an_entry_with_nothing_in_a_column_is_named(
        self, audit: AuditLog, superuser: psycopg.Connection, column: str
    ) -> None:
        superuser.execute(f"UPDATE audit_logs SET {column} = NULL WHERE seq = 5")
        assert (await audit.verify()).first_invalid == 5


class TestHead:
    """What holds together can still be another log: only a head that was noted earlier tells."""

    async def test_an_end_that_was_cut_off(self, audit: AuditLog, superuser: psycopg.Connection) -> None:
        noted = await audit.head()
        assert await verify(audit, [noted]) == (True, (await verify(audit, []))[1])
        superuser.execute("DELETE FROM audit_logs WHERE seq > 7")
        assert (await verify(audit, []))[0]
        intact, said = await verify(audit, [noted])
        assert not intact
        assert f"entry {SIZE} is missing" in said
        assert (await audit.verify(noted)).first_invalid == SIZE

    async def test_an_end_that_was_cut_off_and_has_grown_again(
        self, audit: AuditLog, superuser: psycopg.Connection
    ) -> None:
        noted = await audit.head()
        superuser.execute("DELETE FROM audit_logs WHERE seq > 7")
        await audit.store("auth", [AuditEvent("auth.sign_in") for _ in range(5)])
        assert (await verify(audit, []))[0]
        intact, said = await verify(audit, [noted])
        assert not intact
        assert "another than the one noted" in said

    async def test_a_chain_that_was_made_anew(self, audit: AuditLog, superuser: psycopg.Connection) -> None:
        early, noted = Head(4, hash_of(superuser, 4)), await audit.head()
        superuser.execute("UPDATE audit_logs SET user_id = 'usr_2' WHERE seq = 5")
        make_anew(superuser)
        assert (await verify(audit, [early]))[0]
        assert not (await verify(audit, [early, noted]))[0]

    async def test_everything_gone(self, audit: AuditLog, superuser: psycopg.Connection) -> None:
        noted = await audit.head()
        superuser.execute("TRUNCATE audit_logs")
        assert await verify(audit, []) == (True, "The audit log is empty.")
        assert not (await verify(audit, [noted]))[0]


class TestWords:
    async def test_say_what_was_found(self, audit: AuditLog, superuser: psycopg.Connection) -> None:
        intact, said = await verify(audit, [])
        assert intact
        assert "10 entries" in said
        assert said.endswith(str(await audit.head()))
        superuser.execute("DELETE FROM audit_logs WHERE seq = 5")
        intact, said = await verify(audit, [])
        assert not intact
        assert "entry 5 is missing or not as it was written" in said
        assert "The 4 before it" in said


def hash_of(superuser: psycopg.Connection, seq: int) -> bytes:
    row = superuser.execute("SELECT hash FROM audit_logs WHERE seq = %s", [seq]).fetchone()
    assert row is not None
    return bytes(row[0])


def make_anew(superuser: psycopg.Connection) -> None:
    """Computes all hashes anew, as the documentation says: what somebody without the noted heads would do."""
    previous = bytes(32)
    superuser.execute("SET timezone = 'UTC'")
    rows = superuser.execute(
        "SELECT seq, event_id, time, service, user_id, action, resource, ip_address, user_agent, request_id, details "
        "FROM audit_logs ORDER BY seq"
    ).fetchall()
    for seq, event_id, time, *texts in rows:
        assert isinstance(event_id, UUID)
        microseconds = round((time - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
        own = entry_hash(previous, (seq, str(event_id), microseconds, *texts))
        superuser.execute("UPDATE audit_logs SET previous_hash = %s, hash = %s WHERE seq = %s", [previous, own, seq])
        previous = own
