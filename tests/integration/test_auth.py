"""The auth service over a real Postgres, called by people through Envoy's certificate and by the other services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import argon2
import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from realmultillm.auth.v1.auth_service_pb2 import (
    GetSessionRequest,
    Session,
    SignInRequest,
    SignInResponse,
    SignOutRequest,
    SignUpRequest,
)
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub, add_AuthServiceServicer_to_server
from realmultillm.auth.v1.token_service_pb2 import (
    Principal,
    RevocationEvent,
    VerifyTokenRequest,
    WatchRevocationsRequest,
)
from realmultillm.auth.v1.token_service_pb2_grpc import TokenServiceStub, add_TokenServiceServicer_to_server

from libs import tokens
from libs.change_feed import ChangeFeed, listening
from libs.database import Transactions, connect
from libs.errors import Unauthenticated
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from libs.rpc.remote_tokens import RemoteTokens
from services.auth import emails
from services.auth.access_policy import ACCESS_POLICY
from services.auth.accounts import Accounts, Promotion, make_admin
from services.auth.expiry import remove_ended
from services.auth.password_hashing import PasswordHashing
from services.auth.revocations import CHANNEL, Revocations
from services.auth.servicer import AuthServicer, TokenServicer
from services.auth.sessions import Sessions
from tests.support.postgres import PostgresServer
from tests.support.rpc import Identities, bearer, details, error_info, running, violations

PASSWORD = "seven green kettles"
WRONG = "eight green kettles"
# Longer than anything takes; nothing waits for it to pass.
HANGING = 10
ADDRESS = "192.0.2.1"


class CountingPool(ThreadPoolExecutor):
    """Counts the work it was given."""

    def __init__(self) -> None:
        super().__init__(2)
        self.jobs = 0

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self.jobs += 1
        return super().submit(work, *arguments, **named)


class HeldTokenServicer(TokenServicer):
    """While `released` is not set, answers of VerifyToken wait between the database and the wire."""

    def __init__(self, sessions: Sessions, revocations: Revocations) -> None:
        super().__init__(sessions, revocations)
        self.answers_waiting = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()

    async def VerifyToken(self, request: VerifyTokenRequest, context: Any) -> Principal:
        answer = await super().VerifyToken(request, context)
        self.answers_waiting.set()
        await self.released.wait()
        return answer


class WitnessedTokens(RemoteTokens):
    """What another service holds, and what it has heard."""

    def __init__(self, stub: Any) -> None:
        super().__init__(stub)
        self.heard = asyncio.Event()

    def _apply(self, event: RevocationEvent) -> None:
        super()._apply(event)
        self.heard.set()


class Auth:
    """A running replica of the service and its callers."""

    def __init__(self, address: str, identity: Identities, pool: CountingPool, held: HeldTokenServicer) -> None:
        self.address = address
        self.pool = pool
        self.held = held
        self._identity = identity
        self._channels = AsyncExitStack()

    async def channel(self, service: str) -> grpc.aio.Channel:
        """Opens a channel as a service."""
        return await self._channels.enter_async_context(open_channel(self.address, "auth", self._identity(service)))

    async def close(self) -> None:
        """Closes the channels."""
        await self._channels.aclose()

    async def sign_up(self, email: str, password: str = PASSWORD, name: str = "", address: str = "") -> SignInResponse:
        stub = AuthServiceStub(await self.channel("envoy"))
        request = SignUpRequest(email=email, password=password, name=name)
        response: SignInResponse = await stub.SignUp(request, metadata=came_from(address), timeout=HANGING)
        return response

    async def sign_in(self, email: str, password: str = PASSWORD, address: str = "") -> SignInResponse:
        stub = AuthServiceStub(await self.channel("envoy"))
        request = SignInRequest(email=email, password=password)
        response: SignInResponse = await stub.SignIn(request, metadata=came_from(address), timeout=HANGING)
        return response

    async def fail_to_sign_in(self, email: str, password: str = WRONG, address: str = "") -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self.sign_in(email, password, address)
        return failed.value

    async def session(self, token: str) -> Session:
        stub = AuthServiceStub(await self.channel("envoy"))
        session: Session = await stub.GetSession(GetSessionRequest(), metadata=bearer(Secret(token)), timeout=HANGING)
        return session

    async def sign_out(self, token: str) -> None:
        stub = AuthServiceStub(await self.channel("envoy"))
        answer = await stub.SignOut(SignOutRequest(), metadata=bearer(Secret(token)), timeout=HANGING)
        assert answer.success

    async def verify(self, token: str) -> Principal:
        stub = TokenServiceStub(await self.channel("key-vault"))
        principal: Principal = await stub.VerifyToken(
            VerifyTokenRequest(token_sha256=tokens.digest(token)), timeout=HANGING
        )
        return principal

    @asynccontextmanager
    async def revocations(self) -> AsyncIterator[AsyncIterator[RevocationEvent]]:
        """Follows the stream of revocations from its beginning."""
        call = TokenServiceStub(await self.channel("worker-openai")).WatchRevocations(WatchRevocationsRequest())
        try:
            yield call.__aiter__()
        finally:
            call.cancel()

    @asynccontextmanager
    async def another_service(self) -> AsyncIterator[WitnessedTokens]:
        """The verifier of another service, as it runs there."""
        verifier = WitnessedTokens(TokenServiceStub(await self.channel("analytics")))
        async with verifier.watching():
            yield verifier


def came_from(address: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata by which Envoy tells where a person is."""
    return (("x-envoy-external-address", address),) if address else ()


async def following(events: AsyncIterator[RevocationEvent]) -> RevocationEvent:
    """Returns the next event of a stream."""
    async with asyncio.timeout(HANGING):
        return await anext(events)


@asynccontextmanager
async def replica(
    url: Secret, identity: Identities, *, lifetime: timedelta = timedelta(hours=1)
) -> AsyncIterator[Auth]:
    """Runs the service in this process."""
    pool = CountingPool()
    async with connect(url) as transactions, listening(ChangeFeed(CHANNEL), url) as feed:
        revocations = Revocations(feed)
        sessions = Sessions(transactions, revocations, lifetime=lifetime)
        held = HeldTokenServicer(sessions, revocations)
        accounts = Accounts(transactions, sessions, PasswordHashing(pool, threads=2))
        async with running(
            identity("auth"),
            partial(add_AuthServiceServicer_to_server, AuthServicer(accounts, sessions)),
            partial(add_TokenServiceServicer_to_server, held),
            policy=ACCESS_POLICY,
            tokens=sessions,
            probes={"database": transactions.ping},
        ) as address:
            auth = Auth(address, identity, pool, held)
            yield auth
            await auth.close()
    pool.shutdown()


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> Secret:
    return postgres.fresh_database("auth")


@pytest.fixture(scope="module")
async def auth(url: Secret, identity: Identities) -> AsyncIterator[Auth]:
    async with replica(url, identity) as auth:
        yield auth


@pytest.fixture
async def transactions(url: Secret) -> AsyncIterator[Transactions]:
    async with connect(url) as transactions:
        yield transactions


@pytest.fixture
async def database(url: Secret) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection to look behind the service, and to let time pass."""
    plain = url.reveal().replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as connection:
        yield connection


@pytest.fixture
def email() -> str:
    return f"ada.{uuid4().hex}@example.com"


class TestSignUp:
    async def test_opens_a_session_for_the_new_account(self, auth: Auth, email: str) -> None:
        before = datetime.now(UTC) - timedelta(seconds=5)
        opened = await auth.sign_up(f"  {email.upper()} ", name=" Ada Lovelace ")
        assert opened.user.email == email
        assert opened.user.name == "Ada Lovelace"
        assert opened.user.role == "user"
        assert opened.user.id.startswith("usr_")
        assert before < opened.user.create_time.ToDatetime(UTC) < datetime.now(UTC) + timedelta(seconds=5)
        assert tokens.well_formed(opened.token)
        session = await auth.session(opened.token)
        assert session.user == opened.user
        assert session.expire_time == opened.expire_time
        assert timedelta(minutes=59) < opened.expire_time.ToDatetime(UTC) - before < timedelta(minutes=61)

    async def test_names_people_after_their_email_by_default(self, auth: Auth, email: str) -> None:
        assert (await auth.sign_up(email)).user.name == emails.local_part(email)

    async def test_taken_email_is_refused(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await auth.sign_up(email.upper(), "another good password")
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert error_info(refused.value).reason == "EMAIL_ALREADY_EXISTS"
        await auth.sign_in(email)

    async def test_of_many_at_once_exactly_one_wins(self, auth: Auth, email: str) -> None:
        passwords = [f"{PASSWORD} {number}" for number in range(8)]
        outcomes = await asyncio.gather(
            *(auth.sign_up(email, password) for password in passwords), return_exceptions=True
        )
        winners = [password for password, outcome in zip(passwords, outcomes, strict=True) if _opened(outcome)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
        assert len(winners) == 1
        assert {error_info(loser).reason for loser in losers} == {"EMAIL_ALREADY_EXISTS"}
        assert len(losers) == 7
        await auth.sign_in(email, winners[0])

    async def test_says_everything_that_is_wrong_at_once(self, auth: Auth) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await auth.sign_up("nobody", "short", "n" * 201)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(refused.value) == ["email", "password", "name"]
        assert "short" not in str(refused.value.details())

    @pytest.mark.parametrize("name", ["a\0b", "two\nlines", "\x1b[31mred"])
    async def test_names_that_would_break_a_line_are_refused(self, auth: Auth, email: str, name: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await auth.sign_up(email, name=name)
        assert violations(refused.value) == ["name"]


def _opened(outcome: object) -> bool:
    return isinstance(outcome, SignInResponse)


class TestSignIn:
    async def test_opens_another_session_each_time(self, auth: Auth, email: str) -> None:
        first = await auth.sign_up(email)
        second = await auth.sign_in(f" {email.title()}")
        assert second.user == first.user
        assert second.token != first.token
        await auth.session(first.token)
        await auth.session(second.token)

    async def test_unknown_email_and_wrong_password_are_one(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email)
        answers, work = [], []
        for tried in (email, f"not.{email}"):
            before = auth.pool.jobs
            error = await auth.fail_to_sign_in(tried)
            work.append(auth.pool.jobs - before)
            status = details(error, error_details_pb2.ErrorInfo)
            trailing = [(key, value) for key, value in error.trailing_metadata() if key != "grpc-status-details-bin"]
            answers.append((error.code(), error.details(), status, trailing))
        assert answers[0] == answers[1]
        assert answers[0][0] is grpc.StatusCode.UNAUTHENTICATED
        assert answers[0][2][0].reason == "INVALID_CREDENTIALS"
        assert work == [1, 1]

    async def test_says_everything_that_is_wrong_at_once(self, auth: Auth) -> None:
        before = auth.pool.jobs
        assert violations(await auth.fail_to_sign_in("", "")) == ["email", "password"]
        assert violations(await auth.fail_to_sign_in("a\0@b", "x" * 1025)) == ["email", "password"]
        assert auth.pool.jobs == before

    async def test_disabled_account_is_refused_only_with_its_password(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        await database.execute("UPDATE users SET disabled_at = now() WHERE email = %s", [email])
        assert error_info(await auth.fail_to_sign_in(email, WRONG)).reason == "INVALID_CREDENTIALS"
        refused = await auth.fail_to_sign_in(email, PASSWORD)
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert error_info(refused).reason == "ACCOUNT_DISABLED"
        with pytest.raises(grpc.aio.AioRpcError) as unverified:
            await auth.verify(opened.token)
        assert unverified.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_hash_with_older_parameters_is_renewed(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        older = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
        await database.execute("UPDATE users SET password_hash = %s WHERE email = %s", [older, email])
        await auth.fail_to_sign_in(email)
        assert await _password_hash(database, email) == older
        await auth.sign_in(email)
        renewed = await _password_hash(database, email)
        assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        await auth.sign_in(email)
        assert await _password_hash(database, email) == renewed


async def _password_hash(database: psycopg.AsyncConnection, email: str) -> str:
    cursor = await database.execute("SELECT password_hash FROM users WHERE email = %s", [email])
    (found,) = await cursor.fetchone() or ("",)
    return str(found)


class TestGuessing:
    FREE = 5
    FREE_AT_ADDRESS = 50

    async def let_time_pass(self, database: psycopg.AsyncConnection) -> None:
        await database.execute("UPDATE failure_counts SET blocked_until = now()")

    async def test_has_to_wait_longer_and_longer(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        for _ in range(self.FREE + 1):
            assert error_info(await auth.fail_to_sign_in(email)).reason == "INVALID_CREDENTIALS"
        for seconds in (2, 4, 8):
            before = auth.pool.jobs
            error = await auth.fail_to_sign_in(email, PASSWORD)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error_info(error).reason == "TOO_MANY_ATTEMPTS"
            (retry,) = details(error, error_details_pb2.RetryInfo)
            assert seconds / 2 <= retry.retry_delay.seconds <= seconds
            assert dict(error.trailing_metadata())["retry-after"] == str(retry.retry_delay.seconds)
            assert auth.pool.jobs == before, "a refused attempt must cost nothing"
            await self.let_time_pass(database)
            assert error_info(await auth.fail_to_sign_in(email)).reason == "INVALID_CREDENTIALS"

    async def test_success_after_the_wait_clears_the_account(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        for _ in range(self.FREE + 3):
            await auth.fail_to_sign_in(email)
            await self.let_time_pass(database)
        await auth.sign_in(email)
        for _ in range(self.FREE):
            assert error_info(await auth.fail_to_sign_in(email)).reason == "INVALID_CREDENTIALS"
        await auth.sign_in(email)

    async def test_an_account_that_does_not_exist_waits_alike(self, auth: Auth, email: str) -> None:
        for _ in range(self.FREE + 1):
            assert error_info(await auth.fail_to_sign_in(email)).reason == "INVALID_CREDENTIALS"
        assert error_info(await auth.fail_to_sign_in(email)).reason == "TOO_MANY_ATTEMPTS"

    async def test_after_a_wait_only_one_of_many_at_once_is_let_through(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        await auth.sign_up(email)
        for _ in range(self.FREE + 1):
            await auth.fail_to_sign_in(email)
        await self.let_time_pass(database)
        errors = await asyncio.gather(*(auth.fail_to_sign_in(email) for _ in range(8)))
        reasons = [error_info(error).reason for error in errors]
        assert sorted(reasons) == ["INVALID_CREDENTIALS"] + ["TOO_MANY_ATTEMPTS"] * 7

    async def test_owner_at_home_is_not_kept_out_by_an_attack_from_elsewhere(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email, address=ADDRESS)
        for number in range(self.FREE + 1):
            await auth.fail_to_sign_in(email, address=f"198.51.100.{number}")
        refused = await auth.fail_to_sign_in(email, PASSWORD, address="198.51.100.99")
        assert error_info(refused).reason == "TOO_MANY_ATTEMPTS"
        await auth.sign_in(email, address=ADDRESS)

    async def test_an_address_that_tries_many_accounts_has_to_wait(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email, address="203.0.113.7")
        for number in range(self.FREE_AT_ADDRESS + 1):
            error = await auth.fail_to_sign_in(f"{number}.{email}", address="203.0.113.7")
            assert error_info(error).reason == "INVALID_CREDENTIALS"
        stranger = await auth.fail_to_sign_in(f"one.more.{email}", address="203.0.113.7")
        assert error_info(stranger).reason == "TOO_MANY_ATTEMPTS"
        await auth.sign_in(email, address="203.0.113.7")
        await auth.fail_to_sign_in(f"one.more.{email}", address="203.0.113.8")

    async def test_ordinary_sign_ins_of_one_account_run_side_by_side(self, auth: Auth, email: str) -> None:
        await auth.sign_up(email, address=ADDRESS)
        opened = await asyncio.gather(*(auth.sign_in(email, address=ADDRESS) for _ in range(20)))
        assert len({session.token for session in opened}) == 20

    async def test_contending_successes_and_failures_do_not_lock_each_other(self, auth: Auth) -> None:
        names = [f"{uuid4().hex}@example.com" for _ in range(4)]
        for name in names:
            await auth.sign_up(name)
        outcomes = await asyncio.gather(
            *(
                auth.sign_in(name, password, address="203.0.113.20")
                for name in names
                for password in (PASSWORD, WRONG, PASSWORD)
            ),
            return_exceptions=True,
        )
        failures = [error_info(error).reason for error in outcomes if isinstance(error, grpc.aio.AioRpcError)]
        assert failures == ["INVALID_CREDENTIALS"] * 4


class TestSessions:
    async def test_verified_token_names_person_and_session(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        principal = await auth.verify(opened.token)
        assert principal.user_id == opened.user.id
        assert principal.role == "user"
        assert principal.token_id.startswith("ses_")
        assert principal.expire_time.seconds == opened.expire_time.seconds

    @pytest.mark.parametrize("kind", ["unknown", "malformed"])
    async def test_tokens_nobody_was_given_are_refused(self, auth: Auth, kind: str) -> None:
        token = tokens.mint(tokens.SESSION_PREFIX).reveal() if kind == "unknown" else "rmls_nonsense"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await auth.session(token)
        assert error_info(refused.value).reason == "UNAUTHENTICATED"

    async def test_what_is_no_digest_is_refused(self, auth: Auth) -> None:
        stub = TokenServiceStub(await auth.channel("key-vault"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.VerifyToken(VerifyTokenRequest(token_sha256=b"short"), timeout=HANGING)
        assert violations(refused.value) == ["tokenSha256"]

    async def test_expired_session_is_refused_and_removed(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, transactions: Transactions
    ) -> None:
        expired, open_still = await auth.sign_up(email), await auth.sign_in(email)
        session_id = (await auth.verify(expired.token)).token_id
        await database.execute("UPDATE sessions SET expire_time = now() WHERE id = %s", [session_id])
        for ask in (auth.verify, auth.session):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(expired.token)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await remove_ended(transactions) >= 1
        cursor = await database.execute("SELECT count(*) FROM sessions WHERE id = %s", [session_id])
        assert await cursor.fetchone() == (0,)
        await auth.session(open_still.token)

    async def test_forgotten_failures_are_removed(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection, transactions: Transactions
    ) -> None:
        await auth.fail_to_sign_in(email)
        await database.execute("UPDATE failure_counts SET forget_time = now()")
        assert await remove_ended(transactions) >= 1
        cursor = await database.execute("SELECT count(*) FROM failure_counts")
        assert await cursor.fetchone() == (0,)

    async def test_token_is_stored_nowhere(self, auth: Auth, email: str, database: psycopg.AsyncConnection) -> None:
        opened = await auth.sign_up(email)
        await auth.fail_to_sign_in(f"{PASSWORD.replace(' ', '.')}@example.com")
        stored = ""
        for table in ("users", "sessions", "failure_counts"):
            cursor = await database.execute(f"SELECT row_to_json({table})::text FROM {table}")
            stored += "".join(row[0] for row in await cursor.fetchall())
        assert email in stored
        for secret in (opened.token, opened.token.encode().hex(), PASSWORD, PASSWORD.replace(" ", ".")):
            assert secret not in stored


class TestSignOut:
    async def test_ends_this_session_and_no_other(self, auth: Auth, email: str) -> None:
        ended, other = await auth.sign_up(email), await auth.sign_in(email)
        await auth.sign_out(ended.token)
        for ask in (auth.verify, auth.session, auth.sign_out):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(ended.token)
            assert error_info(refused.value).reason == "UNAUTHENTICATED"
        await auth.session(other.token)

    async def test_many_at_once_are_all_told_that_it_is_over(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        outcomes = await asyncio.gather(*(auth.sign_out(opened.token) for _ in range(5)), return_exceptions=True)
        assert None in outcomes
        assert {error_info(e).reason for e in outcomes if isinstance(e, grpc.aio.AioRpcError)} <= {"UNAUTHENTICATED"}

    async def test_is_heard_by_every_replica_and_the_services_it_tells(
        self, auth: Auth, url: Secret, identity: Identities, email: str
    ) -> None:
        opened = await auth.sign_up(email)
        async with replica(url, identity) as second, second.another_service() as verifier:
            assert (await verifier.verify(opened.token)).user_id == opened.user.id
            await auth.sign_out(opened.token)
            async with asyncio.timeout(HANGING):
                await verifier.heard.wait()
            with pytest.raises(Unauthenticated):
                await verifier.verify(opened.token)

    async def test_an_answer_overtaken_by_the_sign_out_is_not_kept(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        async with auth.another_service() as verifier, auth.revocations() as events:
            assert (await following(events)).synchronized
            auth.held.answers_waiting.clear()
            auth.held.released.clear()
            overtaken = asyncio.create_task(verifier.verify(opened.token))
            async with asyncio.timeout(HANGING):
                await auth.held.answers_waiting.wait()
                await auth.sign_out(opened.token)
                await verifier.heard.wait()
            auth.held.released.set()
            # The call that asked before the sign-out may still pass; no later one may.
            assert (await overtaken).user_id == opened.user.id
            with pytest.raises(Unauthenticated):
                await verifier.verify(opened.token)


class TestRevocationStream:
    async def test_begins_by_saying_that_it_is_complete(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        principal = await auth.verify(opened.token)
        async with auth.revocations() as events:
            assert (await following(events)).synchronized
            await auth.sign_out(opened.token)
            assert (await following(events)).token_id == principal.token_id

    async def test_ends_when_the_database_connection_is_lost_and_says_so_when_it_is_back(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        async with auth.another_service() as verifier:
            async with auth.revocations() as events:
                assert (await following(events)).synchronized
                await verifier.verify(opened.token)
                await database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                with pytest.raises(StopAsyncIteration):
                    await following(events)
            async with auth.revocations() as events:
                assert (await following(events)).synchronized
                await auth.sign_out(opened.token)
                assert (await following(events)).token_id
                async with asyncio.timeout(HANGING):
                    await verifier.heard.wait()
                with pytest.raises(Unauthenticated):
                    await verifier.verify(opened.token)


class TestAccess:
    async def test_workers_may_not_sign_people_in(self, auth: Auth) -> None:
        stub = AuthServiceStub(await auth.channel("worker-openai"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SignIn(SignInRequest(email="a@b", password=PASSWORD), timeout=HANGING)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

    async def test_people_may_not_verify_tokens(self, auth: Auth) -> None:
        stub = TokenServiceStub(await auth.channel("envoy"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.VerifyToken(VerifyTokenRequest(token_sha256=bytes(32)), timeout=HANGING)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


class TestWithoutDatabase:
    @pytest.fixture
    async def cut_off(self, identity: Identities) -> AsyncIterator[Auth]:
        # Port 1 is assigned to nobody here; connections are refused at once.
        nowhere = Secret("postgresql+psycopg://auth:canary-password@127.0.0.1:1/realmultillm")
        async with replica(nowhere, identity) as auth:
            yield auth

    async def test_every_call_says_that_it_may_pass_later(
        self, cut_off: Auth, email: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        token = tokens.mint(tokens.SESSION_PREFIX).reveal()
        for call in (
            cut_off.sign_up(email),
            cut_off.sign_in(email),
            cut_off.session(token),
            cut_off.sign_out(token),
            cut_off.verify(token),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert error_info(failed.value).reason == "SERVICE_UNAVAILABLE"
            assert dict(failed.value.trailing_metadata())["retry-after"]
            assert "canary" not in repr(failed.value)
        printed = "".join(capsys.readouterr())
        for secret in ("canary-password", PASSWORD, token):
            assert secret not in printed

    async def test_health_tells_the_service_from_its_database(self, cut_off: Auth) -> None:
        health = health_pb2_grpc.HealthStub(await cut_off.channel("operator"))
        whole = await health.Check(health_pb2.HealthCheckRequest(), timeout=HANGING)
        assert whole.status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(HANGING):
            async for seen in health.Watch(health_pb2.HealthCheckRequest(service="database")):
                if seen.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    break


class TestAdministrators:
    @pytest.fixture
    async def make(self, transactions: Transactions, auth: Auth) -> Callable[[str, str], Any]:
        revocations = Revocations(ChangeFeed(CHANNEL))
        hashing = PasswordHashing(auth.pool, threads=2)
        return lambda email, password: make_admin(transactions, hashing, revocations, email=email, password=password)

    async def test_new_account_is_made_an_administrators(
        self, auth: Auth, email: str, make: Callable[[str, str], Any]
    ) -> None:
        assert await make(email, PASSWORD) is Promotion.CREATED
        assert (await auth.sign_in(email)).user.role == "admin"
        assert await make(email, WRONG) is Promotion.NONE_NEEDED
        await auth.sign_in(email)

    async def test_existing_account_keeps_its_password_and_is_asked_about_again(
        self, auth: Auth, email: str, make: Callable[[str, str], Any]
    ) -> None:
        opened = await auth.sign_up(email)
        async with auth.another_service() as verifier, auth.revocations() as events:
            assert (await following(events)).synchronized
            assert (await verifier.verify(opened.token)).role == "user"
            assert await make(email, WRONG) is Promotion.PROMOTED
            assert (await following(events)).user_id == opened.user.id
            async with asyncio.timeout(HANGING):
                await verifier.heard.wait()
            assert (await verifier.verify(opened.token)).role == "admin"
        await auth.sign_in(email)

    async def test_of_many_at_once_one_creates_it(self, email: str, make: Callable[[str, str], Any]) -> None:
        outcomes = await asyncio.gather(*(make(email, PASSWORD) for _ in range(4)))
        assert outcomes.count(Promotion.CREATED) == 1
        assert outcomes.count(Promotion.NONE_NEEDED) == 3
