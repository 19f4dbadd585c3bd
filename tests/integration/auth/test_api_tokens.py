"""API tokens: what they may be used for, and until when."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.auth.v1.api_token_service_pb2 import (
    ApiToken,
    CreateApiTokenRequest,
    DeleteApiTokenRequest,
    ListApiTokensRequest,
)
from realmultillm.auth.v1.auth_service_pb2 import ListSessionsRequest

from libs import tokens
from libs.errors import Unauthenticated
from libs.redaction import Secret
from libs.rpc.access_policy import SCOPES
from services.auth.api_tokens import MOST_TOKENS
from tests.integration.auth.replica import HANGING, Audited, Auth, reason, refusal, replica
from tests.support.rpc import Identities, error_info, violations


async def made(auth: Auth, token: str, name: str = "nightly report", **fields: object) -> ApiToken:
    """Makes an API token."""
    answer: ApiToken = await auth.ask(CreateApiTokenRequest(name=name, **fields), token)  # type: ignore[arg-type]
    return answer


async def listed(auth: Auth, token: str) -> list[ApiToken]:
    """Lists the API tokens of a person."""
    return list((await auth.ask(ListApiTokensRequest(page_size=500), token)).tokens)


def in_days(days: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    return timestamp


class TestCreation:
    async def test_shows_the_token_once(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        token = await made(auth, opened.token, " Nightly report ")
        assert re.fullmatch(r"rmlk_[0-9A-Za-z]{49}", token.token)
        assert tokens.well_formed(token.token)
        assert token.hint == token.token[:9]
        assert token.name == "Nightly report"
        assert token.id.startswith("tok_")
        (shown,) = await listed(auth, opened.token)
        assert shown.token == ""
        token.token = ""
        assert shown == token

    async def test_token_is_stored_nowhere(self, auth: Auth, email: str, database: psycopg.AsyncConnection) -> None:
        opened = await auth.sign_up(email)
        token = await made(auth, opened.token)
        stored = ""
        for table in ("api_tokens", "audit_logs"):
            cursor = await database.execute(f"SELECT row_to_json({table})::text FROM {table}")
            stored += "".join(row[0] for row in await cursor.fetchall())
        assert token.id in stored
        for secret in (token.token, token.token.encode().hex(), token.token[5:]):
            assert secret not in stored

    async def test_gives_chat_and_models_and_no_end_by_default(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        token = await made(auth, opened.token)
        assert list(token.scopes) == ["chat", "models:read"]
        assert not token.HasField("expire_time")
        assert not token.HasField("last_use_time")
        principal = await auth.verify(token.token)
        assert (principal.user_id, principal.token_id) == (opened.user.id, token.id)
        assert set(principal.scopes) == {"chat", "models:read"}
        assert not principal.HasField("expire_time")

    async def test_takes_scopes_once_each(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        token = await made(auth, opened.token, scopes=["config", "chat", "config"])
        assert sorted(token.scopes) == ["chat", "config"]

    async def test_says_everything_that_is_wrong_at_once(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        refused = await refusal(
            made(auth, opened.token, "", scopes=["chat", "session"], expire_time=Timestamp(seconds=1))
        )
        assert violations(refused) == ["name", "expireTime", "scopes"]
        assert await listed(auth, opened.token) == []

    @pytest.mark.parametrize(
        "end",
        [
            in_days(0),
            in_days(3655),
            Timestamp(seconds=-(2**63)),
            Timestamp(seconds=2**63 - 1, nanos=2**31 - 1),
            Timestamp(nanos=-1),
        ],
        ids=["now", "beyond ten years", "least", "most", "negative"],
    )
    async def test_end_must_be_in_the_next_ten_years(self, auth: Auth, email: str, end: Timestamp) -> None:
        opened = await auth.sign_up(email)
        assert violations(await refusal(made(auth, opened.token, expire_time=end))) == ["expireTime"]

    @pytest.mark.parametrize("name", [" ", "n" * 101, "two\nlines", "a\0b", "\u2028"])
    async def test_name_must_be_one_short_line(self, auth: Auth, email: str, name: str) -> None:
        opened = await auth.sign_up(email)
        assert violations(await refusal(made(auth, opened.token, name))) == ["name"]

    @pytest.mark.parametrize("scope", ["", "session", "CHAT", "chat models:read", "admin,chat", "chat\0"])
    async def test_scope_must_be_known(self, auth: Auth, email: str, scope: str) -> None:
        opened = await auth.sign_up(email)
        assert violations(await refusal(made(auth, opened.token, scopes=[scope]))) == ["scopes"]

    async def test_needs_a_session(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        token = (await made(auth, opened.token, scopes=[scope for scope in SCOPES if scope != "admin"])).token
        for request in (
            CreateApiTokenRequest(name="another"),
            ListApiTokensRequest(),
            DeleteApiTokenRequest(id=f"tok_{uuid4().hex}"),
            ListSessionsRequest(),
        ):
            assert await reason(auth.ask(request, token)) == "INSUFFICIENT_SCOPE"

    async def test_is_audited(self, auth: Auth, email: str, audited: Audited) -> None:
        opened = await auth.sign_up(email)
        token = await made(auth, opened.token, "rmlk_is_no_name_0123456789", scopes=["chat"])
        assert await audited(f"api-token/{token.id}") == [
            (
                opened.user.id,
                "auth.api_token_created",
                {"name": "[redacted]", "scopes": "chat", "expireTime": "never"},
            )
        ]


class TestRights:
    """Never beyond those of the owner."""

    async def test_only_administrators_get_the_admin_scope(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        refused = await refusal(made(auth, opened.token, scopes=["chat", "admin"]))
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert error_info(refused).reason == "PERMISSION_DENIED"
        assert await listed(auth, opened.token) == []
        await database.execute("UPDATE users SET role = 'admin' WHERE email = %s", [email])
        token = await made(auth, opened.token, scopes=["chat", "admin"])
        principal = await auth.verify(token.token)
        assert (principal.role, set(principal.scopes)) == ("admin", {"chat", "admin"})

    async def test_an_administrators_token_administers_only_with_the_scope(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        await database.execute("UPDATE users SET role = 'admin' WHERE email = %s", [email])
        token = await made(auth, opened.token)
        assert "admin" not in (await auth.verify(token.token)).scopes

    async def test_token_of_a_demoted_administrator_loses_the_scope(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        await database.execute("UPDATE users SET role = 'admin' WHERE email = %s", [email])
        token = await made(auth, opened.token, scopes=["chat", "admin"])
        await database.execute("UPDATE users SET role = 'user' WHERE email = %s", [email])
        principal = await auth.verify(token.token)
        assert (principal.role, set(principal.scopes)) == ("user", {"chat"})
        assert set((await auth.session(token.token)).scopes) == {"chat"}

    async def test_token_of_a_disabled_account_is_refused_for_that_time(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        token = await made(auth, opened.token)
        await database.execute("UPDATE users SET disabled_at = now() WHERE email = %s", [email])
        assert await reason(auth.verify(token.token)) == "UNAUTHENTICATED"
        await database.execute("UPDATE users SET disabled_at = NULL WHERE email = %s", [email])
        await auth.verify(token.token)


class TestSession:
    async def test_says_whose_the_token_is_and_what_it_may_be_used_for(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        end = in_days(7)
        for expire_time in (None, end):
            token = await made(auth, opened.token, scopes=["analytics:read"], expire_time=expire_time)
            session = await auth.session(token.token)
            assert session.user == opened.user
            assert list(session.scopes) == ["analytics:read"]
            assert session.HasField("expire_time") == (expire_time is not None)
        assert abs(session.expire_time.ToDatetime() - end.ToDatetime()) < timedelta(milliseconds=1)


class TestEnd:
    async def test_expired_token_is_refused_and_listed(
        self, auth: Auth, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        token = await made(auth, opened.token, expire_time=in_days(1))
        assert (await auth.verify(token.token)).expire_time.seconds == token.expire_time.seconds
        await database.execute("UPDATE api_tokens SET expire_time = now() WHERE id = %s", [token.id])
        for ask in (auth.verify, auth.session, auth.sign_out):
            assert await reason(ask(token.token)) == "UNAUTHENTICATED"
        assert [shown.id for shown in await listed(auth, opened.token)] == [token.id]

    async def test_revoked_token_is_refused_everywhere(
        self, auth: Auth, url: Secret, identity: Identities, email: str, audited: Audited
    ) -> None:
        opened = await auth.sign_up(email)
        token, kept = await made(auth, opened.token), await made(auth, opened.token)
        async with replica(url, identity) as second, second.another_service() as verifier:
            await verifier.verify(token.token)
            await auth.ask(DeleteApiTokenRequest(id=token.id), opened.token)
            async with asyncio.timeout(HANGING):
                await verifier.heard.wait()
            with pytest.raises(Unauthenticated):
                await verifier.verify(token.token)
            assert await reason(second.session(token.token)) == "UNAUTHENTICATED"
            await verifier.verify(kept.token)
        assert [shown.id for shown in await listed(auth, opened.token)] == [kept.id]
        assert (await audited(f"api-token/{token.id}"))[-1] == (opened.user.id, "auth.api_token_revoked", {})

    async def test_that_of_somebody_else_is_not_found(self, auth: Auth, email: str) -> None:
        ada, bob = await auth.sign_up(email), await auth.sign_up(f"bob.{email}")
        token = await made(auth, ada.token)
        guessed = await refusal(auth.ask(DeleteApiTokenRequest(id=token.id), bob.token))
        invented = await refusal(auth.ask(DeleteApiTokenRequest(id=f"tok_{uuid4().hex}"), bob.token))
        assert guessed.code() is grpc.StatusCode.NOT_FOUND
        assert (error_info(guessed), guessed.details()) == (error_info(invented), invented.details())
        await auth.verify(token.token)
        assert await listed(auth, bob.token) == []


class TestListing:
    async def test_is_paged_the_newest_first(self, auth: Auth, email: str) -> None:
        opened = await auth.sign_up(email)
        ids = [(await made(auth, opened.token, f"number {number}")).id for number in range(5)]
        found, token = [], ""
        for _ in range(3):
            page = await auth.ask(ListApiTokensRequest(page_size=2, page_token=token), opened.token)
            found += [shown.id for shown in page.tokens]
            token = page.next_page_token
        assert found == ids[::-1]
        assert token == ""

    async def test_page_of_another_person_or_none_is_refused(self, auth: Auth, email: str) -> None:
        ada, bob = await auth.sign_up(email), await auth.sign_up(f"bob.{email}")
        for _ in range(2):
            await made(auth, ada.token)
        page_token = (await auth.ask(ListApiTokensRequest(page_size=1), ada.token)).next_page_token
        for token in (page_token, "nonsense", "\0", "x" * 10_000):
            refused = await refusal(auth.ask(ListApiTokensRequest(page_size=-1, page_token=token), bob.token))
            assert violations(refused) == ["pageSize", "pageToken"]


class TestCap:
    async def test_is_exact_for_many_at_once(
        self, auth: Auth, url: Secret, identity: Identities, email: str, database: psycopg.AsyncConnection
    ) -> None:
        opened = await auth.sign_up(email)
        for _ in range(MOST_TOKENS - 3):
            await database.execute(
                "INSERT INTO api_tokens (id, user_id, token_sha256, name, hint, scopes) "
                "VALUES (%s, %s, %s, '', '', '{}')",
                [f"tok_{uuid4().hex}", opened.user.id, uuid4().bytes],
            )
        async with replica(url, identity) as second:
            outcomes = await asyncio.gather(
                *(made(replica, opened.token) for replica in (auth, second) for _ in range(5)), return_exceptions=True
            )
        refused = [error for error in outcomes if isinstance(error, grpc.aio.AioRpcError)]
        assert len(refused) == 7
        assert {error.code() for error in refused} == {grpc.StatusCode.FAILED_PRECONDITION}
        assert {error_info(error).reason for error in refused} == {"TOO_MANY_API_TOKENS"}
        rows = await listed(auth, opened.token)
        assert len(rows) == MOST_TOKENS
        await auth.ask(DeleteApiTokenRequest(id=rows[-1].id), opened.token)
        await made(auth, opened.token)
