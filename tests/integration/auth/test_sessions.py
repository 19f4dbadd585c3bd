"""Sessions: whom their tokens speak for, how long, and how their person ends them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from realmultillm.auth.v1.auth_service_pb2 import (
    DeleteOtherSessionsRequest,
    DeleteSessionRequest,
    ListSessionsRequest,
    OpenSession,
)
from realmultillm.auth.v1.token_service_pb2 import VerifyTokenRequest
from realmultillm.auth.v1.token_service_pb2_grpc import TokenServiceStub

from libs import tokens
from libs.errors import Unauthenticated
from libs.redaction import Secret
from libs.rpc.access_policy import SESSION_SCOPES
from services.auth.sessions import MOST_SESSIONS
from tests.integration.auth.replica import (
    ADDRESS,
    HANGING,
    LIFETIMES,
    PASSWORD,
    Audited,
    Auth,
    following,
    reason,
    refusal,
    replica,
)
from tests.support.rpc import Identities, error_info, violations

# More than anything takes, and less than anything is moved by.
A_WHILE = timedelta(minutes=1)


async def let_pass(database: psycopg.AsyncConnection, session_id: str, time: timedelta) -> None:
    """Makes a session as old as if this time had passed."""
    await database.execute(
        "UPDATE sessions SET last_use_time = last_use_time - %(time)s, create_time = create_time - %(time)s, "
        "expire_time = expire_time - %(time)s WHERE id = %(id)s",
        {"time": time, "id": session_id},
    )


async def open_sessions(auth: Auth, token: str) -> list[OpenSession]:
    """Lists the sessions of a person."""
    return list((await auth.ask(ListSessionsRequest(page_size=500), token)).sessions)


class TestVerification:
    async def test_verified_token_names_person_and_session(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        principal = await auth.verify(opened.token)
        assert principal.user_id == opened.user.id
        assert principal.role == "user"
        assert principal.token_id.startswith("ses_")
        assert set(principal.scopes) == SESSION_SCOPES - {"admin"}

    @pytest.mark.parametrize("kind", ["unknown", "malformed"])
    async def test_tokens_nobody_was_given_are_refused(self, auth: Auth, kind: str) -> None:
        token = tokens.mint(tokens.SESSION_PREFIX).reveal() if kind == "unknown" else "rmls_nonsense"
        assert await reason(auth.session(token)) == "UNAUTHENTICATED"

    async def test_what_is_no_digest_is_refused(self, auth: Auth) -> None:
        stub = TokenServiceStub(await auth.channel("key-vault"))
        refused = await refusal(stub.VerifyToken(VerifyTokenRequest(token_sha256=b"short"), timeout=HANGING))
        assert violations(refused) == ["tokenSha256"]

    async def test_token_is_stored_nowhere(self, auth: Auth, email: str, database: psycopg.AsyncConnection) -> None:
        opened = await auth.sign_up(email)
        await auth.fail_to_sign_in(f"{PASSWORD.replace(' ', '.')}@example.com")
        stored = ""
        for table in ("users", "sessions", "failure_counts", "audit_logs"):
            cursor = await database.execute(f"SELECT row_to_json({table})::text FROM {table}")
            stored += "".join(row[0] for row in await cursor.fetchall())
        assert email in stored
        for secret in (opened.token, opened.token.encode().hex(), PASSWORD, PASSWORD.replace(" ", ".")):
            assert secret not in stored


class TestExpiry:
    # Two of them are longer than a session may be unused, three longer than it may be.
    STEP = timedelta(minutes=50)

    async def test_ends_a_session_that_is_not_used(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        expired, open_still = await auth.sign_up(email), await auth.sign_in(email)
        session_id = (await auth.verify(expired.token)).token_id
        await auth.last_uses.write()
        await let_pass(database, session_id, LIFETIMES.idle)
        for ask in (auth.verify, auth.session, auth.sign_out):
            assert await reason(ask(expired.token)) == "UNAUTHENTICATED"
        assert [session.current for session in await open_sessions(auth, open_still.token)] == [True]

    async def test_is_put_off_by_each_use_but_not_beyond_the_absolute_end(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        session_id = (await auth.verify(opened.token)).token_id
        for left in (LIFETIMES.idle, LIFETIMES.absolute - 2 * self.STEP):
            await auth.last_uses.write()
            await let_pass(database, session_id, self.STEP)
            for told in (await auth.verify(opened.token), await auth.session(opened.token)):
                assert abs(told.expire_time.ToDatetime(UTC) - datetime.now(UTC) - left) < A_WHILE
        await auth.last_uses.write()
        await let_pass(database, session_id, self.STEP)
        assert await reason(auth.session(opened.token)) == "UNAUTHENTICATED"

    async def test_a_use_told_to_another_service_is_not_cut_short_there(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        session_id = (await auth.verify(opened.token)).token_id
        await auth.last_uses.write()
        await let_pass(database, session_id, LIFETIMES.idle - A_WHILE / 2)
        async with auth.another_service() as verifier:
            principal = await verifier.verify(opened.token)
        assert principal.expire_time > (datetime.now(UTC) + LIFETIMES.idle - A_WHILE).timestamp()


class TestListing:
    async def test_tells_what_is_known_of_each(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email)
        opened = await auth.sign_in(email, address=ADDRESS)
        current, other = await open_sessions(auth, opened.token)
        assert current.current
        assert not other.current
        assert current.id == (await auth.verify(opened.token)).token_id
        assert current.ip_address == ADDRESS
        assert other.ip_address == ""
        assert current.user_agent.startswith("grpc-python")
        assert current.last_use_time.ToDatetime() >= current.create_time.ToDatetime()
        assert current.expire_time == opened.expire_time

    async def test_is_paged_the_most_recently_used_first(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        await add_sessions(database, opened.user.id, 4)
        whole = [session.id for session in await open_sessions(auth, opened.token)]
        first = await auth.ask(ListSessionsRequest(page_size=2), opened.token)
        second = await auth.ask(ListSessionsRequest(page_size=2, page_token=first.next_page_token), opened.token)
        third = await auth.ask(ListSessionsRequest(page_size=2, page_token=second.next_page_token), opened.token)
        assert [session.id for page in (first, second, third) for session in page.sessions] == whole
        assert third.next_page_token == ""
        uses = [session.last_use_time.ToDatetime() for page in (first, second, third) for session in page.sessions]
        assert uses == sorted(uses, reverse=True)
        assert len(uses) == 5

    async def test_page_of_another_person_or_none_is_refused(self, auth: Auth, email: str) -> None:
        ada, bob = await auth.sign_up(email), await auth.sign_up(f"bob.{email}")
        await auth.sign_in(email)
        token = (await auth.ask(ListSessionsRequest(page_size=1), ada.token)).next_page_token
        refused = await refusal(auth.ask(ListSessionsRequest(page_size=-1, page_token=token), bob.token))
        assert violations(refused) == ["pageSize", "pageToken"]

    async def test_shows_nobody_elses(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email)
        other = await auth.sign_up(f"bob.{email}")
        assert len(await open_sessions(auth, other.token)) == 1


class TestEnding:
    async def test_ends_one_everywhere(
        self, auth: Auth, url: Secret, identity: Identities, email: str, audited: Audited
    ) -> None:
        kept, ended = await auth.sign_up(email), await auth.sign_in(email)
        async with replica(url, identity) as second, second.another_service() as verifier:
            session_id = (await verifier.verify(ended.token)).token_id
            await auth.ask(DeleteSessionRequest(id=session_id), kept.token)
            async with asyncio.timeout(HANGING):
                await verifier.heard.wait()
            with pytest.raises(Unauthenticated):
                await verifier.verify(ended.token)
            assert await reason(second.session(ended.token)) == "UNAUTHENTICATED"
        await auth.session(kept.token)
        assert await reason(auth.ask(DeleteSessionRequest(id=session_id), kept.token)) == "NOT_FOUND"
        assert await audited(f"session/{session_id}") == [(kept.user.id, "auth.session_ended", {})]

    async def test_ends_all_others(self, auth: Auth, email: str, audited: Audited) -> None:
        kept, stranger = await auth.sign_up(email), await auth.sign_up(f"bob.{email}")
        ended = [await auth.sign_in(email) for _ in range(3)]
        async with auth.revocations() as events:
            assert (await following(events)).synchronized
            ids = {(await auth.verify(session.token)).token_id for session in ended}
            assert (await auth.ask(DeleteOtherSessionsRequest(), kept.token)).ended_sessions == 3
            assert {(await following(events)).token_id for _ in ended} == ids
        for session in ended:
            assert await reason(auth.session(session.token)) == "UNAUTHENTICATED"
        await auth.session(kept.token)
        await auth.session(stranger.token)
        assert (await audited(f"user/{kept.user.id}"))[-1] == (kept.user.id, "auth.sessions_ended", {"count": "3"})
        assert (await auth.ask(DeleteOtherSessionsRequest(), kept.token)).ended_sessions == 0

    async def test_that_of_somebody_else_is_not_found(self, auth: Auth, email: str) -> None:
        ada, bob = await auth.sign_up(email), await auth.sign_up(f"bob.{email}")
        session_id = (await auth.verify(ada.token)).token_id
        guessed = await refusal(auth.ask(DeleteSessionRequest(id=session_id), bob.token))
        invented = await refusal(auth.ask(DeleteSessionRequest(id=f"ses_{uuid4().hex}"), bob.token))
        assert error_info(guessed) == error_info(invented)
        assert error_info(guessed).reason == "NOT_FOUND"
        assert guessed.details() == invented.details()
        await auth.session(ada.token)

    async def test_all_sessions_ending_all_others_at_once_leave_one_or_none(self, auth: Auth, email: str) -> None:
        opened = [await auth.sign_up(email), *[await auth.sign_in(email) for _ in range(4)]]
        outcomes = await asyncio.gather(
            *(auth.ask(DeleteOtherSessionsRequest(), session.token) for session in opened), return_exceptions=True
        )
        reasons = {error_info(error).reason for error in outcomes if isinstance(error, Exception)}
        assert reasons <= {"UNAUTHENTICATED"}
        again = await auth.sign_in(email)
        assert len(await open_sessions(auth, again.token)) <= 2


class TestCap:
    async def test_one_more_ends_the_least_recently_used(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, audited: Audited
    ) -> None:
        opened = await auth.sign_up(email)
        filled = await add_sessions(database, opened.user.id, MOST_SESSIONS - 1)
        async with auth.revocations() as events:
            assert (await following(events)).synchronized
            again = await auth.sign_in(email)
            assert (await following(events)).token_id == filled[-1]
        ids = {session.id for session in await open_sessions(auth, again.token)}
        assert len(ids) == MOST_SESSIONS
        assert filled[-1] not in ids
        assert await audited(f"session/{filled[-1]}") == [(opened.user.id, "auth.session_ended", {"cause": "surplus"})]

    async def test_holds_when_many_sign_in_at_once(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        await add_sessions(database, opened.user.id, MOST_SESSIONS - 1)
        signed_in = await asyncio.gather(*(auth.sign_in(email) for _ in range(8)))
        ids = {session.id for session in await open_sessions(auth, signed_in[0].token)}
        assert len(ids) == MOST_SESSIONS
        for session in signed_in:
            assert (await auth.verify(session.token)).token_id in ids

    async def test_those_of_others_do_not_count(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        ada, bob = await auth.sign_up(email), await auth.sign_up(f"bob.{email}")
        await add_sessions(database, ada.user.id, MOST_SESSIONS)
        await auth.sign_in(f"bob.{email}")
        assert len(await open_sessions(auth, bob.token)) == 2


async def add_sessions(database: psycopg.AsyncConnection, user_id: str, count: int) -> list[str]:
    """Adds sessions nobody has the tokens of, each used a second before the one before, and returns their ids."""
    ids = [f"ses_{uuid4().hex}" for _ in range(count)]
    for number, session_id in enumerate(ids, 1):
        await database.execute(
            "INSERT INTO sessions (id, user_id, token_sha256, expire_time, last_use_time) "
            "VALUES (%s, %s, %s, now() + interval '1 hour', now() - %s * interval '1 second')",
            [session_id, user_id, uuid4().bytes, number],
        )
    return ids
