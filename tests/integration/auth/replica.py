"""A replica of the auth service in this process, and those who call it: people, services, the front door."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from realmultillm.auth.v1.api_token_service_pb2_grpc import (
    ApiTokenServiceStub,
    add_ApiTokenServiceServicer_to_server,
)
from realmultillm.auth.v1.audit_log_service_pb2_grpc import (
    AuditLogServiceStub,
    add_AuditIngestServiceServicer_to_server,
    add_AuditLogServiceServicer_to_server,
)
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
from realmultillm.auth.v1.user_admin_service_pb2_grpc import (
    UserAdminServiceStub,
    add_UserAdminServiceServicer_to_server,
)

from libs import tokens
from libs.audit import AuditEvent, audit_trail
from libs.change_feed import ChangeFeed, listening
from libs.database import connect
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from libs.rpc.remote_tokens import RemoteTokens
from services.auth.access_policy import ACCESS_POLICY
from services.auth.accounts import Accounts
from services.auth.administrators import Administrators
from services.auth.api_token_servicer import ApiTokenServicer
from services.auth.api_tokens import ApiTokens
from services.auth.audit_log import AuditLog
from services.auth.audit_log_servicer import AuditIngestServicer, AuditLogServicer
from services.auth.first_administrator import FirstAdministrator, making_first
from services.auth.last_uses import LastUses, recording_uses
from services.auth.password_hashing import PasswordHashing
from services.auth.revocations import CHANNEL, Revocations
from services.auth.servicer import AuthServicer, TokenServicer
from services.auth.sessions import Lifetimes, Sessions
from services.auth.token_verification import TokenVerification
from services.auth.user_admin_servicer import UserAdminServicer
from services.auth.user_administration import UserAdministration
from tests.support.rpc import Identities, bearer, error_info, running

Headers = Iterable[tuple[str, str]]
# What the audit log holds of a resource: who did what, and its details.
Audited = Callable[[str], Awaitable[list[tuple[str, str, dict[str, str]]]]]

PASSWORD = "seven green kettles"
WRONG = "eight green kettles"
# Longer than anything takes; nothing waits for it to pass.
HANGING = 10
ADDRESS = "192.0.2.1"
LIFETIMES = Lifetimes(absolute=timedelta(hours=2), idle=timedelta(hours=1))

_FOR_PEOPLE = (AuthServiceStub, ApiTokenServiceStub, UserAdminServiceStub, AuditLogServiceStub)


class CountingPool(ThreadPoolExecutor):
    """Counts the work it was given. While `released` is not set, what it has done is not told."""

    def __init__(self) -> None:
        super().__init__(2)
        self.jobs = 0
        self.released = threading.Event()
        self.released.set()

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self.jobs += 1
        return super().submit(self._held, partial(work, *arguments, **named))

    def _held(self, work: Callable[[], Any]) -> Any:
        done = work()
        self.released.wait(HANGING)
        return done


class HeldTokenServicer(TokenServicer):
    """While `released` is not set, answers of VerifyToken wait between the database and the wire."""

    def __init__(self, verification: TokenVerification, revocations: Revocations) -> None:
        super().__init__(verification, revocations)
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
        self.following = asyncio.Event()

    def _synchronized(self) -> None:
        super()._synchronized()
        self.following.set()

    def _apply(self, event: RevocationEvent) -> None:
        super()._apply(event)
        self.heard.set()


class Auth:
    """A running replica of the service and its callers."""

    def __init__(
        self,
        address: str,
        identity: Identities,
        pool: CountingPool,
        held: HeldTokenServicer,
        last_uses: LastUses,
        noted: Sequence[AuditEvent],
    ) -> None:
        self.address = address
        self.pool = pool
        self.held = held
        self.last_uses = last_uses
        self.noted = noted
        self._identity = identity
        self._channels = AsyncExitStack()
        self._opened: dict[str, grpc.aio.Channel] = {}

    async def channel(self, service: str) -> grpc.aio.Channel:
        """Returns a channel as a service."""
        if service not in self._opened:
            channel = open_channel(self.address, "auth", self._identity(service))
            self._opened[service] = await self._channels.enter_async_context(channel)
        return self._opened[service]

    async def close(self) -> None:
        """Closes the channels."""
        await self._channels.aclose()

    async def call(
        self, request: Message, token: str = "", *, address: str = "", headers: Headers = ()
    ) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        """Begins a call to the method of this request, as a person with a token, from an address."""
        envoy = await self.channel("envoy")
        method = type(request).__name__.removesuffix("Request")
        (begin,) = (getattr(stub(envoy), method) for stub in _FOR_PEOPLE if hasattr(stub(envoy), method))
        metadata = (*(bearer(Secret(token)) if token else ()), *came_from(address), *headers)
        return begin(request, metadata=metadata, timeout=HANGING)

    async def ask(self, request: Message, token: str = "", *, address: str = "", headers: Headers = ()) -> Any:
        """Makes such a call, and returns the answer."""
        return await (await self.call(request, token, address=address, headers=headers))

    async def sign_up(self, email: str, password: str = PASSWORD, name: str = "", address: str = "") -> SignInResponse:
        response: SignInResponse = await self.ask(
            SignUpRequest(email=email, password=password, name=name), address=address
        )
        return response

    async def sign_in(self, email: str, password: str = PASSWORD, address: str = "") -> SignInResponse:
        response: SignInResponse = await self.ask(SignInRequest(email=email, password=password), address=address)
        return response

    async def fail_to_sign_in(self, email: str, password: str = WRONG, address: str = "") -> grpc.aio.AioRpcError:
        return await refusal(self.sign_in(email, password, address))

    async def session(self, token: str) -> Session:
        session: Session = await self.ask(GetSessionRequest(), token)
        return session

    async def sign_out(self, token: str) -> None:
        assert (await self.ask(SignOutRequest(), token)).success

    @asynccontextmanager
    async def overtaken(self, call: Awaitable[Any]) -> AsyncIterator[asyncio.Future[Any]]:
        """Begins a call that hashes a password, and keeps it from going on from there until the end of the block."""
        before = self.pool.jobs
        self.pool.released.clear()
        try:
            begun = asyncio.ensure_future(call)
            async with asyncio.timeout(HANGING):
                while self.pool.jobs == before:
                    await asyncio.sleep(0.01)
            yield begun
        finally:
            self.pool.released.set()

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
            # What is revoked before its stream is up it need not hear of.
            async with asyncio.timeout(HANGING):
                await verifier.following.wait()
            yield verifier


def came_from(address: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata by which Envoy tells where a person is."""
    return (("x-envoy-external-address", address),) if address else ()


async def following(events: AsyncIterator[RevocationEvent]) -> RevocationEvent:
    """Returns the next event of a stream that tells anything."""
    async with asyncio.timeout(HANGING):
        while (event := await anext(events)).alive:
            pass
        return event


async def refusal(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """Returns the error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


async def reason(call: Awaitable[object]) -> str:
    """Returns the reason for which a call fails, as it must."""
    return str(error_info(await refusal(call)).reason)


@asynccontextmanager
async def replica(
    url: Secret,
    identity: Identities,
    *,
    port: int = 0,
    lifetimes: Lifetimes = LIFETIMES,
    admin_email: str | None = None,
    admin_password: str | None = None,
) -> AsyncIterator[Auth]:
    """Runs the service in this process. A port of 0 chooses a free one."""
    noted: list[AuditEvent] = []

    async def store(events: Sequence[AuditEvent]) -> None:
        await AuditLog(transactions).store_own(events)
        noted.extend(events)

    pool = CountingPool()
    with TemporaryDirectory() as folder:
        async with (
            connect(url) as transactions,
            listening(ChangeFeed(CHANNEL), url) as feed,
            audit_trail(Path(folder), store) as trail,
            recording_uses(transactions) as last_uses,
        ):
            audit, revocations = AuditLog(transactions), Revocations(feed)
            sessions = Sessions(transactions, revocations, audit, lifetimes)
            api_tokens = ApiTokens(transactions, revocations, audit)
            verification = TokenVerification(transactions, last_uses, lifetimes)
            hashing = PasswordHashing(pool, threads=2)
            first_administrator = FirstAdministrator(
                Administrators(transactions, hashing, revocations, audit),
                admin_email,
                None if admin_password is None else Secret(admin_password),
            )
            accounts = Accounts(transactions, sessions, hashing, audit, trail, first_administrator)
            users = UserAdministration(transactions, sessions, revocations, audit)
            held = HeldTokenServicer(verification, revocations)
            async with (
                making_first(first_administrator),
                verification.following(revocations),
                running(
                    identity("auth"),
                    partial(add_AuthServiceServicer_to_server, AuthServicer(accounts, sessions, api_tokens)),
                    partial(add_ApiTokenServiceServicer_to_server, ApiTokenServicer(api_tokens)),
                    partial(add_UserAdminServiceServicer_to_server, UserAdminServicer(users)),
                    partial(add_TokenServiceServicer_to_server, held),
                    partial(add_AuditLogServiceServicer_to_server, AuditLogServicer(audit)),
                    partial(add_AuditIngestServiceServicer_to_server, AuditIngestServicer(audit)),
                    policy=ACCESS_POLICY,
                    tokens=verification,
                    audit=trail,
                    probes={"database": transactions.ping},
                    port=port,
                ) as address,
            ):
                auth = Auth(address, identity, pool, held, last_uses, noted)
                yield auth
                await auth.close()
    pool.shutdown()
