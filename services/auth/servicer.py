"""Between the protos of `realmultillm.auth.v1` and the domain: check, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.auth.v1 import auth_service_pb2, auth_service_pb2_grpc, token_service_pb2, token_service_pb2_grpc

from libs.rpc.identity import caller, current_call
from services.auth import emails
from services.auth.accounts import Accounts
from services.auth.models import User
from services.auth.revocations import AccountChanged, Revocation, Revocations, Synchronized, TokenRevoked
from services.auth.sessions import NewSession, Sessions
from services.auth.sign_in_attempts import attempt
from services.auth.validation import check_credentials, check_digest, check_new_account, normal_name


class AuthServicer(auth_service_pb2_grpc.AuthServiceServicer):
    """What people do with their accounts and sessions."""

    def __init__(self, accounts: Accounts, sessions: Sessions) -> None:
        self._accounts = accounts
        self._sessions = sessions

    async def SignUp(self, request: auth_service_pb2.SignUpRequest, context: Any) -> auth_service_pb2.SignInResponse:
        email, name = emails.normal_form(request.email), normal_name(request.name)
        check_new_account(email, request.password, name)
        return to_sign_in_response(
            await self._accounts.sign_up(attempt(email, person_address(context)), request.password, name)
        )

    async def SignIn(self, request: auth_service_pb2.SignInRequest, context: Any) -> auth_service_pb2.SignInResponse:
        email = emails.normal_form(request.email)
        check_credentials(email, request.password)
        return to_sign_in_response(
            await self._accounts.sign_in(attempt(email, person_address(context)), request.password)
        )

    async def SignOut(
        self, _request: auth_service_pb2.SignOutRequest, _context: Any
    ) -> auth_service_pb2.SignOutResponse:
        await self._sessions.end(caller().token_id)
        return auth_service_pb2.SignOutResponse(success=True)

    async def GetSession(self, _request: auth_service_pb2.GetSessionRequest, _context: Any) -> auth_service_pb2.Session:
        session = await self._sessions.get(caller().token_id)
        return auth_service_pb2.Session(user=to_user(session.user), expire_time=session.expire_time)


class TokenServicer(token_service_pb2_grpc.TokenServiceServicer):
    """What the other services ask about tokens."""

    def __init__(self, sessions: Sessions, revocations: Revocations) -> None:
        self._sessions = sessions
        self._revocations = revocations

    async def VerifyToken(
        self, request: token_service_pb2.VerifyTokenRequest, _context: Any
    ) -> token_service_pb2.Principal:
        check_digest(request.token_sha256)
        principal = await self._sessions.principal(request.token_sha256)
        return token_service_pb2.Principal(
            user_id=principal.user_id,
            role=principal.role,
            token_id=principal.token_id,
            expire_time=Timestamp(seconds=int(principal.expire_time)),
        )

    async def WatchRevocations(
        self, _request: token_service_pb2.WatchRevocationsRequest, _context: Any
    ) -> AsyncIterator[token_service_pb2.RevocationEvent]:
        async with aclosing(self._revocations.follow()) as revocations:
            async for revocation in revocations:
                yield to_event(revocation)


def person_address(context: Any) -> str | None:
    """Returns the IP address of the person, which only Envoy is believed to tell."""
    if current_call().peer != "envoy":
        return None
    return dict(context.invocation_metadata()).get("x-envoy-external-address")


def to_sign_in_response(session: NewSession) -> auth_service_pb2.SignInResponse:
    return auth_service_pb2.SignInResponse(
        user=to_user(session.user), token=session.token.reveal(), expire_time=session.expire_time
    )


def to_user(user: User) -> auth_service_pb2.User:
    return auth_service_pb2.User(
        id=user.id, email=user.email, name=user.name, role=user.role, create_time=user.create_time
    )


def to_event(revocation: Revocation) -> token_service_pb2.RevocationEvent:
    match revocation:
        case Synchronized():
            return token_service_pb2.RevocationEvent(synchronized=True)
        case TokenRevoked(token_id):
            return token_service_pb2.RevocationEvent(token_id=token_id)
        case AccountChanged(user_id):
            return token_service_pb2.RevocationEvent(user_id=user_id)
