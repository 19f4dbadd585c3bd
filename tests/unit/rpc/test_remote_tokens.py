"""The tokens of a service that asks `auth` about them: what it remembers, and whose calls it ends when that says so."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_status import rpc_status
from realmultillm.auth.v1.token_service_pb2 import Principal, RevocationEvent, VerifyTokenRequest

from libs import tokens as token_format
from libs import watched_cache
from libs.errors import PlatformError, Unauthenticated, Unavailable
from libs.redaction import Secret
from libs.rpc import live_calls
from libs.rpc.identity import invalid_token
from libs.rpc.remote_tokens import RemoteTokens
from libs.rpc.status import to_status
from tests.support.rpc import Identities, bearer, running
from tests.support.waiting import eventually, within_bound
from tests.unit.rpc.conftest import POLICY, Client, Echo

SYNCHRONIZED = RevocationEvent(synchronized=True)


class StandInAuth:
    """The TokenService, as its stub shows it, over tokens it has issued itself."""

    def __init__(self) -> None:
        self.known: dict[bytes, Principal] = {}
        self.asked: list[bytes] = []
        self.away = False
        self.asking = asyncio.Event()
        self._held: dict[bytes, asyncio.Event] = {}
        self._events: asyncio.Queue[RevocationEvent | None] = asyncio.Queue()
        self.subscriptions = 0

    def issue(self, user_id: str, token_id: str, **fields: Any) -> Secret:
        """Makes a token."""
        token = token_format.mint(token_format.SESSION_PREFIX)
        self.known[token_format.digest(token.reveal())] = Principal(
            user_id=user_id, role="user", token_id=token_id, scopes=["chat"], **fields
        )
        return token

    def forget(self, token: Secret) -> None:
        """Makes a token invalid, and tells nobody."""
        del self.known[token_format.digest(token.reveal())]

    def hold(self, token: Secret) -> asyncio.Event:
        """Holds the answer about a token back until the event is set."""
        self.asking.clear()
        return self._held.setdefault(token_format.digest(token.reveal()), asyncio.Event())

    async def tell(self, *events: RevocationEvent) -> None:
        """Waits until the service has heard these."""
        for event in events:
            self._events.put_nowait(event)
        await within_bound(self._events.join())

    async def lose(self) -> None:
        """Breaks the stream off, and waits until the service listens again."""
        subscriptions = self.subscriptions
        self._events.put_nowait(None)

        async def now() -> int:
            return self.subscriptions

        await eventually(now, lambda number: number > subscriptions)

    async def VerifyToken(self, request: VerifyTokenRequest, *, timeout: float) -> Principal:
        assert timeout <= 5
        self.asked.append(request.token_sha256)
        answer = self.known.get(request.token_sha256)
        self.asking.set()
        if held := self._held.get(request.token_sha256):
            await held.wait()
        if self.away:
            raise rpc_error(Unavailable("The database is away."))
        if answer is None:
            raise rpc_error(invalid_token())
        return answer

    async def WatchRevocations(self, _request: Any, *, wait_for_ready: bool) -> AsyncIterator[RevocationEvent]:
        assert wait_for_ready
        self.subscriptions += 1
        while True:
            event = await self._events.get()
            try:
                if event is None:
                    raise rpc_error(Unavailable("Nothing can be heard."))
                yield event
            finally:
                self._events.task_done()


def rpc_error(error: PlatformError) -> grpc.aio.AioRpcError:
    """Returns the error as a client of `auth` meets it."""
    status = rpc_status.to_status(to_status(error))
    trailing = grpc.aio.Metadata(*status.trailing_metadata)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailing, status.details)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_cache, "_RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(live_calls, "_ASK_AGAIN_SECONDS", 0.01)


@pytest.fixture
async def auth() -> StandInAuth:
    return StandInAuth()


@pytest.fixture
async def tokens(auth: StandInAuth) -> AsyncIterator[RemoteTokens]:
    """The tokens of a service that hears `auth`."""
    tokens = RemoteTokens(auth)
    async with tokens.watching():
        await auth.tell(SYNCHRONIZED)
        yield tokens


@pytest.fixture
async def address(echo: Echo, tokens: RemoteTokens, identity: Identities) -> AsyncIterator[str]:
    async with running(identity("analytics"), echo.register, policy=POLICY, tokens=tokens) as address:
        yield address


class TestVerifying:
    async def test_a_token_is_asked_about_once(self, tokens: RemoteTokens, auth: StandInAuth) -> None:
        token = auth.issue("usr_1", "ses_1")
        for _ in range(3):
            principal = await tokens.verify(token.reveal())
            assert (principal.user_id, principal.token_id) == ("usr_1", "ses_1")
            assert principal.scopes == {"chat"}
        assert len(auth.asked) == 1

    async def test_neither_the_token_nor_more_of_it_than_its_digest_leaves(
        self, tokens: RemoteTokens, auth: StandInAuth
    ) -> None:
        token = auth.issue("usr_1", "ses_1")
        await tokens.verify(token.reveal())
        assert auth.asked == [token_format.digest(token.reveal())]
        assert token.reveal() not in repr(vars(tokens))

    async def test_what_is_no_token_is_not_asked_about(self, tokens: RemoteTokens, auth: StandInAuth) -> None:
        token = auth.issue("usr_1", "ses_1").reveal()
        for text in ("", token[:-1], token + "x", f" {token}", token.swapcase(), f"Bearer {token}"):
            with pytest.raises(Unauthenticated):
                await tokens.verify(text)
        assert auth.asked == []

    async def test_one_that_is_not_known_may_be_later(self, tokens: RemoteTokens, auth: StandInAuth) -> None:
        token = auth.issue("usr_1", "ses_1")
        principal = auth.known.pop(token_format.digest(token.reveal()))
        with pytest.raises(Unauthenticated):
            await tokens.verify(token.reveal())
        auth.known[token_format.digest(token.reveal())] = principal
        assert (await tokens.verify(token.reveal())).user_id == "usr_1"

    async def test_it_ends_at_its_time_without_a_word_of_auth(self, tokens: RemoteTokens, auth: StandInAuth) -> None:
        over = auth.issue("usr_1", "ses_1", expire_time=Timestamp(seconds=int(time.time())))
        endless = auth.issue("usr_1", "ses_2")
        with pytest.raises(Unauthenticated):
            await tokens.verify(over.reveal())
        assert (await tokens.verify(endless.reveal())).expire_time == float("inf")

    async def test_one_revoked_while_it_is_asked_about_is_not_valid(
        self, tokens: RemoteTokens, auth: StandInAuth
    ) -> None:
        token = auth.issue("usr_1", "ses_1")
        may_answer = auth.hold(token)
        verifying = asyncio.ensure_future(tokens.verify(token.reveal()))
        await within_bound(auth.asking.wait())
        auth.forget(token)
        await auth.tell(RevocationEvent(token_id="ses_1"))
        may_answer.set()  # with what was true when it was asked
        with pytest.raises(Unauthenticated):
            await within_bound(verifying)


class UnderWay:
    """A call that waits until it is ended or let go on."""

    def __init__(self, envoy: Client, echo: Echo, token: Secret) -> None:
        self.go_on = asyncio.Event()
        self._begun = asyncio.Event()
        self._echo = echo
        self._call = envoy.open("personal", b"x", metadata=bearer(token))

    async def begin(self) -> "UnderWay":
        self._echo.behavior = self._wait
        self.answer = asyncio.ensure_future(self._answered())
        await within_bound(self._begun.wait())
        return self

    async def _wait(self, _requests: list[bytes], _context: Any) -> None:
        self._begun.set()
        await self.go_on.wait()

    async def _answered(self) -> str:
        """Returns the code of the answer."""
        return str((await self._call.code()).name)

    async def goes_on(self) -> bool:
        """Lets the call go on, and tells whether it ends well."""
        self.go_on.set()
        return await within_bound(self.answer) == "OK"


class TestCallsUnderWay:
    async def test_those_of_a_revoked_token_end(self, envoy: Client, echo: Echo, auth: StandInAuth) -> None:
        token, other = auth.issue("usr_1", "ses_1"), auth.issue("usr_1", "ses_2")
        ended, unharmed = [await UnderWay(envoy, echo, each).begin() for each in (token, other)]
        await auth.tell(RevocationEvent(token_id="ses_1"))
        assert await within_bound(ended.answer) == "UNAUTHENTICATED"
        assert await unharmed.goes_on()
        assert len(auth.asked) == 2

    async def test_of_a_changed_account_those_whose_token_is_not_valid_any_more_end(
        self, envoy: Client, echo: Echo, auth: StandInAuth
    ) -> None:
        kept, lost, anothers = (
            auth.issue("usr_1", "ses_1"),
            auth.issue("usr_1", "ses_2"),
            auth.issue("usr_2", "ses_3"),
        )
        calls = [await UnderWay(envoy, echo, each).begin() for each in (kept, lost, anothers)]
        auth.asked.clear()
        auth.forget(lost)
        auth.forget(anothers)  # nobody has said so: not asked about
        await auth.tell(RevocationEvent(user_id="usr_1"))
        assert await within_bound(calls[1].answer) == "UNAUTHENTICATED"
        assert await calls[0].goes_on()
        assert await calls[2].goes_on()
        assert sorted(auth.asked) == sorted(token_format.digest(each.reveal()) for each in (kept, lost))

    async def test_while_auth_cannot_say_they_go_on_and_end_when_it_can(
        self, envoy: Client, echo: Echo, auth: StandInAuth
    ) -> None:
        lost, kept = auth.issue("usr_1", "ses_1"), auth.issue("usr_1", "ses_2")
        ended, unharmed = [await UnderWay(envoy, echo, each).begin() for each in (lost, kept)]
        auth.asked.clear()
        auth.away = True
        auth.forget(lost)
        await auth.tell(RevocationEvent(user_id="usr_1"))

        async def asked() -> int:
            return len(auth.asked)

        await eventually(asked, lambda number: number >= 6)
        assert not ended.answer.done()
        auth.away = False
        assert await within_bound(ended.answer) == "UNAUTHENTICATED"
        assert await unharmed.goes_on()

    async def test_after_a_gap_all_are_asked_about(self, envoy: Client, echo: Echo, auth: StandInAuth) -> None:
        live = [auth.issue(f"usr_{number}", f"ses_{number}") for number in range(40)]
        calls = [await UnderWay(envoy, echo, each).begin() for each in live]
        await auth.lose()
        for token in live[::2]:
            auth.forget(token)
        auth.asked.clear()
        await auth.tell(SYNCHRONIZED)
        for call in calls[::2]:
            assert await within_bound(call.answer) == "UNAUTHENTICATED"
        assert all([await call.goes_on() for call in calls[1::2]])
        assert sorted(auth.asked) == sorted(token_format.digest(each.reveal()) for each in live)

    async def test_one_answer_that_is_late_holds_no_other_up(
        self, envoy: Client, echo: Echo, auth: StandInAuth
    ) -> None:
        slow, lost = auth.issue("usr_1", "ses_1"), auth.issue("usr_2", "ses_2")
        held, ended = [await UnderWay(envoy, echo, each).begin() for each in (slow, lost)]
        may_answer = auth.hold(slow)
        await auth.tell(RevocationEvent(user_id="usr_1"))
        await within_bound(auth.asking.wait())
        auth.forget(lost)
        await auth.tell(RevocationEvent(user_id="usr_2"))
        assert await within_bound(ended.answer) == "UNAUTHENTICATED"
        may_answer.set()
        assert await held.goes_on()

    async def test_a_call_that_begins_while_its_token_is_revoked_does_not_begin(
        self, envoy: Client, echo: Echo, auth: StandInAuth
    ) -> None:
        token = auth.issue("usr_1", "ses_1")
        may_answer = auth.hold(token)
        call = envoy.open("personal", b"x", metadata=bearer(token))
        await within_bound(auth.asking.wait())
        auth.forget(token)
        await auth.tell(RevocationEvent(user_id="usr_1"))
        may_answer.set()
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert echo.calls == []
