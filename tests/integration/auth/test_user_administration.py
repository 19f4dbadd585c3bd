"""What administrators do with accounts, seen by them, by those it happens to, and by the other services."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.message import Message
from realmultillm.auth.v1.api_token_service_pb2 import ApiToken, CreateApiTokenRequest
from realmultillm.auth.v1.auth_service_pb2 import SignInResponse
from realmultillm.auth.v1.user_admin_service_pb2 import (
    GetUserRequest,
    ListUsersRequest,
    ListUsersResponse,
    UpdateUserRequest,
    UserAccount,
)
from realmultillm.auth.v1.user_admin_service_pb2_grpc import UserAdminServiceStub
from sqlalchemy import event

from libs.change_feed import ChangeFeed
from libs.database import Transactions
from libs.errors import PermissionDenied, Unauthenticated
from libs.redaction import Secret
from libs.rpc.identity import Call, Principal
from services.auth.audit_log import AuditLog
from services.auth.revocations import CHANNEL, Revocations
from services.auth.sessions import Sessions
from services.auth.user_administration import AccountChange, UserAdministration
from services.auth.user_repository import AccountFilter
from tests.integration.auth.replica import (
    HANGING,
    LIFETIMES,
    Audited,
    Auth,
    WitnessedTokens,
    following,
    reason,
    refusal,
    replica,
)
from tests.support.rpc import Identities, bearer, error_info, violations

SQL = "'; DROP TABLE users; --"
ROUNDS = 25


@pytest.fixture(autouse=True)
async def nobody_rules(database: psycopg.AsyncConnection) -> None:
    """Begins each test without administrators."""
    await database.execute("UPDATE users SET role = 'user'")


@pytest.fixture
def marker() -> str:
    """Occurs in the names of the accounts of one test alone."""
    return uuid4().hex


@pytest.fixture
async def admin(auth: Auth, database: psycopg.AsyncConnection) -> SignInResponse:
    return await signed_up_admin(auth, database)


@pytest.fixture(scope="module")
async def second(url: Secret, identity: Identities) -> AsyncIterator[Auth]:
    """Another replica, on the same database."""
    async with replica(url, identity) as second:
        yield second


async def signed_up(auth: Auth) -> SignInResponse:
    return await auth.sign_up(f"{uuid4().hex}@example.com")


async def signed_up_admin(auth: Auth, database: psycopg.AsyncConnection) -> SignInResponse:
    opened = await signed_up(auth)
    await database.execute("UPDATE users SET role = 'admin' WHERE id = %s", [opened.user.id])
    return opened


async def update(auth: Auth, by: SignInResponse, user_id: str, **fields: Any) -> UserAccount:
    account: UserAccount = await auth.ask(UpdateUserRequest(id=user_id, **fields), by.token)
    return account


async def get(auth: Auth, by: SignInResponse, user_id: str) -> UserAccount:
    account: UserAccount = await auth.ask(GetUserRequest(id=user_id), by.token)
    return account


async def listed(auth: Auth, by: SignInResponse, **fields: Any) -> list[UserAccount]:
    """Returns all pages of a list."""
    accounts: list[UserAccount] = []
    page = ListUsersResponse(next_page_token="")
    while True:
        page = await auth.ask(ListUsersRequest(page_token=page.next_page_token, **fields), by.token)
        accounts += page.users
        if not page.next_page_token:
            return accounts


async def names(auth: Auth, by: SignInResponse, **fields: Any) -> list[str]:
    return sorted(account.name for account in await listed(auth, by, **fields))


async def add(database: psycopg.AsyncConnection, name: str, **columns: Any) -> str:
    """Adds an account that nobody can sign in to."""
    user_id = f"usr_{uuid4().hex}"
    row = {
        "id": user_id,
        "email": f"{user_id}@example.com",
        "role": "user",
        "password_hash": "",
        "name": name,
        **columns,
    }
    await database.execute(
        f"INSERT INTO users ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", list(row.values())
    )
    return user_id


async def api_token(auth: Auth, owner: SignInResponse, *scopes: str) -> ApiToken:
    made: ApiToken = await auth.ask(CreateApiTokenRequest(name="program", scopes=scopes), owner.token)
    return made


async def changes_of(audited: Audited, user_id: str) -> list[tuple[str, str, dict[str, str]]]:
    """Returns what administrators have done to an account: who did what, and its details."""
    return [entry for entry in await audited(f"user/{user_id}") if entry[1].startswith("user.")]


class TestListing:
    async def test_shows_the_newest_first(self, auth: Auth, admin: SignInResponse) -> None:
        people = [await signed_up(auth) for _ in range(3)]
        newest = (await auth.ask(ListUsersRequest(page_size=3), admin.token)).users
        assert [account.id for account in newest] == [person.user.id for person in reversed(people)]
        assert newest[0].email == people[-1].user.email
        assert newest[0].name == people[-1].user.name
        assert newest[0].role == "user"
        assert newest[0].create_time == people[-1].user.create_time
        assert not newest[0].disabled
        assert not newest[0].HasField("disable_time")

    async def test_pages_through_accounts_of_one_moment(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection, marker: str
    ) -> None:
        moment = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)
        ids = {await add(database, marker, create_time=moment) for _ in range(7)}
        seen: list[str] = []
        token = ""
        for expected in (2, 2, 2, 1):
            page = await auth.ask(ListUsersRequest(query=marker, page_size=2, page_token=token), admin.token)
            assert len(page.users) == expected
            seen += [account.id for account in page.users]
            token = page.next_page_token
            # Newer ones come before what was seen, and older ones after.
            await add(database, marker, create_time=moment + timedelta(seconds=1))
        assert token == ""
        assert seen == sorted(ids, reverse=True)

    async def test_the_last_page_may_be_full(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection, marker: str
    ) -> None:
        for _ in range(2):
            await add(database, marker)
        page = await auth.ask(ListUsersRequest(query=marker, page_size=2), admin.token)
        assert len(page.users) == 2
        assert page.next_page_token == ""

    async def test_a_page_has_fifty_accounts_by_default_and_five_hundred_at_most(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection, marker: str
    ) -> None:
        await database.execute(
            "INSERT INTO users (id, email, name, role, password_hash) "
            "SELECT 'usr_' || md5(%s || n), md5(%s || n), %s, 'user', '' FROM generate_series(1, 501) AS n",
            [marker] * 3,
        )
        for asked, given in ((0, 50), (501, 500)):
            page = await auth.ask(ListUsersRequest(query=marker, page_size=asked), admin.token)
            assert len(page.users) == given
        rest = ListUsersRequest(query=marker, page_size=501, page_token=page.next_page_token)
        assert len((await auth.ask(rest, admin.token)).users) == 1

    async def test_finds_by_role_and_by_whether_disabled(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection, marker: str
    ) -> None:
        for role in ("user", "admin"):
            for disabled_at in (None, datetime.now(UTC)):
                state = "disabled" if disabled_at else "enabled"
                await add(database, f"{state} {role} {marker}", role=role, disabled_at=disabled_at)

        async def found(**fields: Any) -> list[str]:
            return [name.removesuffix(f" {marker}") for name in await names(auth, admin, query=marker, **fields)]

        assert await found() == ["disabled admin", "disabled user", "enabled admin", "enabled user"]
        assert await found(role="admin") == ["disabled admin", "enabled admin"]
        assert await found(disabled=True) == ["disabled admin", "disabled user"]
        assert await found(disabled=False) == ["enabled admin", "enabled user"]
        assert await found(role="user", disabled=True) == ["disabled user"]

    @pytest.mark.parametrize(
        ("name", "query"),
        [
            ("Ada Lovelace", "LOVE"),
            ("Ada Lovelace", " lovelace "),
            ("Émile", "éMILE"),
            ("Émile", "e\u0301mile"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
            ("Jörg Strauß", "STRAUSS"),
        ],
    )
    async def test_finds_what_a_name_holds_in_any_case(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection, name: str, query: str
    ) -> None:
        user_id = await add(database, name)
        assert user_id in {account.id for account in await listed(auth, admin, query=query)}

    async def test_finds_what_an_email_holds_in_any_case(self, auth: Auth, admin: SignInResponse, email: str) -> None:
        person = await auth.sign_up(email, name="somebody")
        assert [account.id for account in await listed(auth, admin, query=email[2:20].upper())] == [person.user.id]

    @pytest.mark.parametrize("character", ["%", "_", "\\", "/", "'", '"', "*", ".", "$1", ":x", "{}"])
    async def test_a_text_is_no_pattern(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection, marker: str, character: str
    ) -> None:
        await add(database, f"{marker}a{character}b")
        await add(database, f"{marker}axb")
        await add(database, f"{marker}ab")
        assert await names(auth, admin, query=f"{marker}a{character}b") == [f"{marker}a{character}b"]
        assert await names(auth, admin, query=f"{character}{marker}") == []

    async def test_says_everything_that_is_wrong_at_once(self, auth: Auth, admin: SignInResponse) -> None:
        request = ListUsersRequest(page_size=-1, page_token=SQL, query="x" * 201, role=SQL)
        assert violations(await refusal(auth.ask(request, admin.token))) == ["pageSize", "pageToken", "query", "role"]
        for query in ("a\0b", "x" * 100_000):
            assert violations(await refusal(auth.ask(ListUsersRequest(query=query), admin.token))) == ["query"]

    @pytest.mark.parametrize("other", [{"query": "x"}, {"role": "user"}, {"disabled": False}])
    async def test_a_page_token_is_good_for_its_own_list(
        self, auth: Auth, admin: SignInResponse, other: dict[str, Any]
    ) -> None:
        await signed_up(auth)
        token = (await auth.ask(ListUsersRequest(page_size=1), admin.token)).next_page_token
        assert (await auth.ask(ListUsersRequest(page_size=500, page_token=token), admin.token)).users
        assert violations(await refusal(auth.ask(ListUsersRequest(page_token=token, **other), admin.token))) == [
            "pageToken"
        ]

    async def test_tells_what_accounts_have_open(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection
    ) -> None:
        busy, idle = await signed_up(auth), await add(database, "idle")
        for _ in range(3):
            busy = await auth.sign_in(busy.user.email)
        sessions = [row[0] for row in await rows(database, "sessions", busy.user.id)]
        await database.execute("UPDATE sessions SET expire_time = now() WHERE id = %s", [sessions[0]])
        await database.execute(
            "UPDATE sessions SET last_use_time = now() - %s WHERE id = %s", [LIFETIMES.idle, sessions[1]]
        )
        ended, used, _ = [await api_token(auth, busy) for _ in range(3)]
        await database.execute("UPDATE api_tokens SET expire_time = now() WHERE id = %s", [ended.id])
        last_use = datetime(2040, 1, 1, tzinfo=UTC)
        await database.execute("UPDATE api_tokens SET last_use_time = %s WHERE id = %s", [last_use, used.id])
        by_id = {account.id: account for account in await listed(auth, admin, page_size=1)}
        assert by_id[busy.user.id].open_sessions == 2
        assert by_id[busy.user.id].api_tokens == 2
        assert by_id[busy.user.id].last_use_time.ToDatetime(UTC) == last_use
        assert by_id[busy.user.id] == await get(auth, admin, busy.user.id)
        assert (by_id[idle].open_sessions, by_id[idle].api_tokens) == (0, 0)
        assert not by_id[idle].HasField("last_use_time")

    async def test_asks_the_database_once(self, transactions: Transactions) -> None:
        statements: list[str] = []
        users = _domain(transactions)
        engine = transactions._engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: statements.append(statement))
        page, _ = await users.find_page(AccountFilter(), after=None, size=10)
        assert len(page) == 10
        (_time_limit, _page) = statements


async def rows(database: psycopg.AsyncConnection, table: str, user_id: str) -> list[tuple[Any, ...]]:
    cursor = await database.execute(f"SELECT * FROM {table} WHERE user_id = %s ORDER BY create_time", [user_id])
    return await cursor.fetchall()


def _domain(transactions: Transactions) -> UserAdministration:
    audit, revocations = AuditLog(transactions), Revocations(ChangeFeed(CHANNEL))
    return UserAdministration(transactions, Sessions(transactions, revocations, audit, LIFETIMES), revocations, audit)


class TestGetting:
    ODD_IDS = (
        f"usr_{'0' * 32}",
        f"usr_{'A' * 32}",
        "nobody",
        "usr_",
        "a\0b",
        "\n",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "x" * 100_000,
        "../../etc/passwd",
        "%",
        SQL,
    )

    @pytest.mark.parametrize("odd", ODD_IDS, ids=range(len(ODD_IDS)))
    @pytest.mark.parametrize("request_type", [GetUserRequest, UpdateUserRequest])
    async def test_what_no_account_has_for_an_id_is_not_found(
        self, auth: Auth, admin: SignInResponse, odd: str, request_type: type[Message]
    ) -> None:
        request = GetUserRequest(id=odd) if request_type is GetUserRequest else UpdateUserRequest(id=odd, disabled=True)
        error = await refusal(auth.ask(request, admin.token))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert error_info(error).reason == "NOT_FOUND"

    async def test_nobody_is_asked_for_without_an_id(self, auth: Auth, admin: SignInResponse) -> None:
        assert violations(await refusal(auth.ask(GetUserRequest(), admin.token))) == ["id"]
        request = UpdateUserRequest(role="root")
        assert violations(await refusal(auth.ask(request, admin.token))) == ["id", "role"]


class TestRoles:
    async def test_a_new_role_is_known_to_other_services_at_once(
        self, auth: Auth, admin: SignInResponse, audited: Audited
    ) -> None:
        person = await signed_up(auth)
        async with auth.another_service() as verifier:
            for role in ("admin", "user"):
                assert (await verifier.verify(person.token)).role != role
                verifier.heard.clear()
                assert (await update(auth, admin, person.user.id, role=role)).role == role
                await heard(verifier)
                assert (await verifier.verify(person.token)).role == role
        assert await changes_of(audited, person.user.id) == [
            (admin.user.id, "user.role_changed", {"from": "user", "to": "admin"}),
            (admin.user.id, "user.role_changed", {"from": "admin", "to": "user"}),
        ]

    async def test_the_role_somebody_has_already_changes_nothing(
        self, auth: Auth, admin: SignInResponse, audited: Audited
    ) -> None:
        person = await signed_up(auth)
        async with auth.revocations() as events:
            assert (await following(events)).synchronized
            await update(auth, admin, person.user.id, role="user", disabled=False)
            await update(auth, admin, admin.user.id, role="admin")
            # Nothing was announced before this.
            await auth.sign_out(person.token)
            assert (await following(events)).token_id
        assert await changes_of(audited, person.user.id) == []

    @pytest.mark.parametrize("role", ["", "root", "Admin", " admin", SQL, "a\0b"])
    async def test_unknown_roles_are_refused(self, auth: Auth, admin: SignInResponse, role: str) -> None:
        request = UpdateUserRequest(id=admin.user.id, role=role, disabled=True)
        assert violations(await refusal(auth.ask(request, admin.token))) == ["role"]

    async def test_nothing_to_change_is_refused(self, auth: Auth, admin: SignInResponse) -> None:
        assert violations(await refusal(update(auth, admin, admin.user.id))) == ["role"]
        assert violations(await refusal(update(auth, admin, admin.user.id, end_sessions=False))) == ["role"]

    async def test_administrators_may_demote_themselves_for_another(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection
    ) -> None:
        await signed_up_admin(auth, database)
        assert (await update(auth, admin, admin.user.id, role="user")).role == "user"
        assert (await refusal(get(auth, admin, admin.user.id))).code() is grpc.StatusCode.PERMISSION_DENIED
        await auth.session(admin.token)


class TestDisabling:
    async def test_ends_everything_at_once_and_keeps_api_tokens_for_later(
        self, auth: Auth, admin: SignInResponse, audited: Audited
    ) -> None:
        person = await signed_up(auth)
        program = await api_token(auth, person, "chat")
        before = datetime.now(UTC) - timedelta(seconds=5)
        async with auth.another_service() as verifier:
            for token in (person.token, program.token):
                await verifier.verify(token)
            disabled = await update(auth, admin, person.user.id, disabled=True)
            assert disabled.disabled
            assert before < disabled.disable_time.ToDatetime(UTC)
            assert (disabled.open_sessions, disabled.api_tokens) == (0, 1)
            await heard(verifier)
            for token in (person.token, program.token):
                for verify in (verifier.verify, auth.verify):
                    with pytest.raises((Unauthenticated, grpc.aio.AioRpcError)):
                        await verify(token)
            assert await reason(auth.session(person.token)) == "UNAUTHENTICATED"
            assert await reason(auth.sign_in(person.user.email)) == "ACCOUNT_DISABLED"

            verifier.heard.clear()
            enabled = await update(auth, admin, person.user.id, disabled=False)
            assert not enabled.disabled
            assert not enabled.HasField("disable_time")
            await heard(verifier)
            assert (await verifier.verify(program.token)).user_id == person.user.id
            with pytest.raises(Unauthenticated):
                await verifier.verify(person.token)
        await auth.sign_in(person.user.email)
        assert await changes_of(audited, person.user.id) == [
            (admin.user.id, "user.disabled", {}),
            (admin.user.id, "user.sessions_ended", {"count": "1"}),
            (admin.user.id, "user.enabled", {}),
        ]

    async def test_ends_what_other_services_still_do_for_the_person(self, auth: Auth, admin: SignInResponse) -> None:
        person, other = await signed_up(auth), await signed_up(auth)
        programs = {owner.user.id: await api_token(auth, owner, "chat") for owner in (person, other)}
        async with auth.another_service() as verifier:
            under_way = [
                asyncio.create_task(working(verifier, token))
                for token in (person.token, programs[person.user.id].token)
            ]
            unconcerned = asyncio.create_task(working(verifier, programs[other.user.id].token))
            await eventually_live(verifier, 3)
            await update(auth, admin, person.user.id, disabled=True)
            async with asyncio.timeout(HANGING):
                for ended in await asyncio.gather(*under_way):
                    assert isinstance(ended, Unauthenticated)
            assert not unconcerned.done()
            unconcerned.cancel()

    async def test_twice_is_once(self, auth: Auth, admin: SignInResponse, audited: Audited) -> None:
        person = await signed_up(auth)
        first = await update(auth, admin, person.user.id, disabled=True)
        assert await update(auth, admin, person.user.id, disabled=True) == first
        promoted = await update(auth, admin, person.user.id, disabled=True, role="admin")
        assert promoted.disable_time == first.disable_time
        assert [action for _, action, _ in await changes_of(audited, person.user.id)] == [
            "user.disabled",
            "user.sessions_ended",
            "user.role_changed",
        ]

    async def test_of_oneself_ends_the_own_session(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection
    ) -> None:
        other = await signed_up_admin(auth, database)
        assert (await update(auth, admin, admin.user.id, disabled=True)).disabled
        assert await reason(get(auth, admin, admin.user.id)) == "UNAUTHENTICATED"
        assert (await get(auth, other, admin.user.id)).disabled


async def heard(verifier: WitnessedTokens) -> None:
    """Waits until another service has heard of a change."""
    async with asyncio.timeout(HANGING):
        await verifier.heard.wait()


async def working(verifier: WitnessedTokens, token: str) -> Exception | None:
    """Serves a call that never ends, as the interceptors of another service do, and returns what ended it."""
    call = Call("/service/Method", None, authorization=f"Bearer {token}", timeout=asyncio.timeout(None))
    call.principal = await verifier.verify(token)
    assert call.timeout is not None
    try:
        async with call.timeout:
            verifier.live_calls.add(call)
            await asyncio.Event().wait()
    except TimeoutError:
        pass
    finally:
        verifier.live_calls.discard(call)
    return call.ended_by


async def eventually_live(verifier: WitnessedTokens, calls: int) -> None:
    async with asyncio.timeout(HANGING):
        while len(verifier.live_calls) < calls:
            await asyncio.sleep(0.01)


class TestEndingSessions:
    async def test_ends_all_of_one_account_and_leaves_its_api_tokens(
        self, auth: Auth, admin: SignInResponse, audited: Audited
    ) -> None:
        person, other = await signed_up(auth), await signed_up(auth)
        second = await auth.sign_in(person.user.email)
        program = await api_token(auth, person, "chat")
        async with auth.another_service() as verifier:
            for token in (person.token, second.token, program.token, other.token):
                await verifier.verify(token)
            account = await update(auth, admin, person.user.id, end_sessions=True)
            assert (account.open_sessions, account.api_tokens, account.disabled) == (0, 1, False)
            await heard(verifier)
            for token in (person.token, second.token):
                assert await reason(auth.verify(token)) == "UNAUTHENTICATED"
                async with asyncio.timeout(HANGING):
                    while not await refused_by(verifier, token):
                        await asyncio.sleep(0.01)
            for token in (program.token, other.token):
                await auth.verify(token)
                await verifier.verify(token)
        await auth.sign_in(person.user.email)
        assert await changes_of(audited, person.user.id) == [(admin.user.id, "user.sessions_ended", {"count": "2"})]

    async def test_of_oneself_ends_the_own_session_too(self, auth: Auth, admin: SignInResponse) -> None:
        assert (await update(auth, admin, admin.user.id, end_sessions=True)).open_sessions == 0
        assert await reason(get(auth, admin, admin.user.id)) == "UNAUTHENTICATED"

    async def test_where_there_are_none_is_no_news(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection, marker: str, audited: Audited
    ) -> None:
        user_id = await add(database, marker)
        await update(auth, admin, user_id, end_sessions=True)
        assert await changes_of(audited, user_id) == []

    async def test_comes_with_everything_else(self, auth: Auth, admin: SignInResponse, audited: Audited) -> None:
        person = await signed_up(auth)
        account = await update(auth, admin, person.user.id, role="admin", disabled=True, end_sessions=True)
        assert (account.role, account.disabled, account.open_sessions) == ("admin", True, 0)
        assert await changes_of(audited, person.user.id) == [
            (admin.user.id, "user.role_changed", {"from": "user", "to": "admin"}),
            (admin.user.id, "user.disabled", {}),
            (admin.user.id, "user.sessions_ended", {"count": "1"}),
        ]


async def refused_by(verifier: WitnessedTokens, token: str) -> bool:
    try:
        await verifier.verify(token)
    except Unauthenticated:
        return True
    return False


class TestLastAdministrator:
    @pytest.mark.parametrize(
        "change", [{"role": "user"}, {"disabled": True}, {"role": "user", "disabled": True, "end_sessions": True}]
    )
    async def test_stays(
        self,
        auth: Auth,
        admin: SignInResponse,
        database: psycopg.AsyncConnection,
        change: dict[str, Any],
        audited: Audited,
    ) -> None:
        # Neither of them could do anything.
        await add(database, "disabled", role="admin", disabled_at=datetime.now(UTC))
        await signed_up(auth)
        refused = await refusal(update(auth, admin, admin.user.id, **change))
        assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert error_info(refused).reason == "LAST_ADMIN"
        account = await get(auth, admin, admin.user.id)
        assert (account.role, account.disabled) == ("admin", False)
        assert await changes_of(audited, admin.user.id) == []

    async def test_may_be_given_what_leaves_one(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection
    ) -> None:
        disabled = await add(database, "disabled", role="admin", disabled_at=datetime.now(UTC))
        await update(auth, admin, admin.user.id, role="admin", disabled=False)
        assert (await update(auth, admin, disabled, role="user")).role == "user"


class TestRaces:
    """Two replicas, each asked at the same moment."""

    @pytest.mark.parametrize("change", [{"role": "user"}, {"disabled": True}])
    @pytest.mark.parametrize("whom", ["each other", "themselves"])
    async def test_two_administrators_cannot_end_the_rule_of_both(
        self,
        auth: Auth,
        second: Auth,
        database: psycopg.AsyncConnection,
        change: dict[str, Any],
        whom: str,
    ) -> None:
        pair = [await signed_up_admin(auth, database) for _ in range(2)]
        ids = [admin.user.id for admin in pair]
        targets = ids if whom == "themselves" else ids[::-1]
        for number in range(ROUNDS):
            order = [auth, second] if number % 2 else [second, auth]
            outcomes = await asyncio.gather(
                *(update(at, admin, target, **change) for at, admin, target in zip(order, pair, targets, strict=True)),
                return_exceptions=True,
            )
            refused = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
            # Who is slower finds the own session ended, the own role gone, or the other one to be the last.
            assert [error_info(error).reason for error in refused][1:] == []
            assert {error_info(error).reason for error in refused} <= {
                "LAST_ADMIN",
                "PERMISSION_DENIED",
                "UNAUTHENTICATED",
            }
            cursor = await database.execute(
                "SELECT count(*) FROM users WHERE role = 'admin' AND disabled_at IS NULL AND id = ANY(%s)", [ids]
            )
            assert await cursor.fetchone() == (1,), outcomes
            await database.execute("UPDATE users SET role = 'admin', disabled_at = NULL WHERE id = ANY(%s)", [ids])
            pair = [await auth.sign_in(admin.user.email) for admin in pair]

    async def test_who_is_overtaken_has_no_right_any_more(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection, transactions: Transactions
    ) -> None:
        """Demoted between the check of the call and its turn."""
        person = await signed_up(auth)
        session = await auth.verify(person.token)
        caller = Principal(session.user_id, "admin", session.token_id, math.inf, frozenset(session.scopes))
        with pytest.raises(PermissionDenied):
            await _domain(transactions).change(person.user.id, AccountChange(role="admin"), by=caller)
        assert (await get(auth, admin, person.user.id)).role == "user"

    async def test_nobody_signs_in_while_being_disabled_and_comes_back_with_it(
        self, auth: Auth, second: Auth, admin: SignInResponse, database: psycopg.AsyncConnection
    ) -> None:
        person = await signed_up(auth)
        opened = 0
        for _ in range(ROUNDS):
            outcome, _ = await asyncio.gather(
                second.sign_in(person.user.email),
                update(auth, admin, person.user.id, disabled=True),
                return_exceptions=True,
            )
            await update(auth, admin, person.user.id, disabled=False)
            assert await rows(database, "sessions", person.user.id) == []
            if isinstance(outcome, SignInResponse):
                opened += 1
                assert await reason(auth.verify(outcome.token)) == "UNAUTHENTICATED"
            else:
                assert isinstance(outcome, grpc.aio.AioRpcError)
                assert error_info(outcome).reason == "ACCOUNT_DISABLED"
        assert opened < ROUNDS

    async def test_changes_of_many_at_once_do_not_lock_each_other(
        self, auth: Auth, second: Auth, database: psycopg.AsyncConnection
    ) -> None:
        admins = [await signed_up_admin(auth, database) for _ in range(3)]
        people = [await signed_up(auth) for _ in range(3)]
        changes: list[dict[str, Any]] = [{"role": "admin"}, {"disabled": True}, {"disabled": False}, {"role": "user"}]
        outcomes = await asyncio.gather(
            *(
                update(at, admin, person.user.id, end_sessions=True, **change)
                for change in changes
                for admin, at in zip(admins, (auth, second, auth), strict=True)
                for person in people
            ),
            *(at.sign_in(admin.user.email) for admin in admins for at in (auth, second)),
            return_exceptions=True,
        )
        assert [outcome for outcome in outcomes if not isinstance(outcome, UserAccount | SignInResponse)] == []


class TestAccess:
    REQUESTS = (
        ListUsersRequest(),
        GetUserRequest(id=f"usr_{'0' * 32}"),
        UpdateUserRequest(id=f"usr_{'0' * 32}", disabled=True),
    )

    @pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
    async def test_administrators_alone_may(self, auth: Auth, request_: Message) -> None:
        person = await signed_up(auth)
        assert (await refusal(auth.ask(request_))).code() is grpc.StatusCode.UNAUTHENTICATED
        assert await reason(auth.ask(request_, person.token)) == "PERMISSION_DENIED"

    @pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
    async def test_an_api_token_needs_the_scope(self, auth: Auth, admin: SignInResponse, request_: Message) -> None:
        without = await api_token(auth, admin, "chat", "config", "models:read", "analytics:read")
        assert await reason(auth.ask(request_, without.token)) == "INSUFFICIENT_SCOPE"

    async def test_an_api_token_with_the_scope_is_as_good_as_its_owner(
        self, auth: Auth, admin: SignInResponse, database: psycopg.AsyncConnection
    ) -> None:
        program = await api_token(auth, admin, "admin")
        assert (await auth.ask(GetUserRequest(id=admin.user.id), program.token)).email == admin.user.email
        await signed_up_admin(auth, database)
        await update(auth, admin, admin.user.id, role="user")
        assert await reason(auth.ask(ListUsersRequest(), program.token)) == "PERMISSION_DENIED"

    async def test_other_services_may_not(self, auth: Auth, admin: SignInResponse) -> None:
        stub = UserAdminServiceStub(await auth.channel("provider-router"))
        call = stub.ListUsers(ListUsersRequest(), metadata=bearer(Secret(admin.token)), timeout=HANGING)
        assert (await refusal(call)).code() is grpc.StatusCode.PERMISSION_DENIED
