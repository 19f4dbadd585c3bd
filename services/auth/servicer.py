"""Between the protos of `realmultillm.auth.v1` and the domain: check, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from math import isinf
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.auth.v1 import auth_service_pb2, auth_service_pb2_grpc, token_service_pb2, token_service_pb2_grpc

from libs.pagination import PlaceTokens, rows_per_page
from libs.rpc import session_cookie
from libs.rpc.identity import FRONT_DOOR, Call, caller, current_call
from libs.rpc.session_cookie import clear_cookie, set_cookie
from services.auth import emails
from services.auth.accounts import Accounts
from services.auth.api_tokens import ApiTokens
from services.auth.models import Session, User
from services.auth.revocations import AccountChanged, Alive, Revocation, Revocations, Synchronized, TokenRevoked
from services.auth.sessions import NewSession, Sessions
from services.auth.sign_out import sign_out
from services.auth.token_verification import TokenVerification
from services.auth.validation import (
    check_credentials,
    check_digest,
    check_new_account,
    check_password_change,
    normal_name,
)


class AuthServicer(auth_service_pb2_grpc.AuthServiceServicer):
    """What people do with their accounts and sessions."""

    def __init__(self, accounts: Accounts, sessions: Sessions, api_tokens: ApiTokens) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._api_tokens = api_tokens

    async def SignUp(self, request: auth_service_pb2.SignUpRequest, _context: Any) -> auth_service_pb2.SignInResponse:
        email, name = emails.normal_form(request.email), normal_name(request.name)
        check_new_account(email, request.password, name)
        session = await self._accounts.sign_up(email, request.password, name, current_call().origin())
        return self._to_sign_in_response(session)

    async def SignIn(self, request: auth_service_pb2.SignInRequest, _context: Any) -> auth_service_pb2.SignInResponse:
        email = emails.normal_form(request.email)
        check_credentials(email, request.password)
        session = await self._accounts.sign_in(email, request.password, current_call().origin())
        return self._to_sign_in_response(session)

    async def SignOut(
        self, _request: auth_service_pb2.SignOutRequest, _context: Any
    ) -> auth_service_pb2.SignOutResponse:
        call = current_call()
        call.spare()  # also when somebody else ends the token in this moment: that is what it asks for
        await sign_out(caller(), self._sessions, self._api_tokens)
        call.answer_headers.append(clear_cookie(secure=is_secure(call)))
        return auth_service_pb2.SignOutResponse(success=True)

    async def GetSession(self, _request: auth_service_pb2.GetSessionRequest, _context: Any) -> auth_service_pb2.Session:
        principal = caller()
        user = await self._accounts.get(principal.user_id)
        return auth_service_pb2.Session(
            user=to_user(user), expire_time=to_timestamp(principal.expire_time), scopes=sorted(principal.scopes)
        )

    async def ChangePassword(
        self, request: auth_service_pb2.ChangePasswordRequest, _context: Any
    ) -> auth_service_pb2.ChangePasswordResponse:
        user = await self._accounts.get(caller().user_id)
        check_password_change(user.email, request.current_password, request.new_password)
        ended = await self._accounts.change_password(
            caller(), user.email, request.current_password, request.new_password, current_call().origin()
        )
        return auth_service_pb2.ChangePasswordResponse(success=True, ended_sessions=ended)

    async def ListSessions(
        self, request: auth_service_pb2.ListSessionsRequest, _context: Any
    ) -> auth_service_pb2.ListSessionsResponse:
        pages = PlaceTokens("sessions", caller().user_id)
        size = rows_per_page(request.page_size, request.page_token, tokens=pages)
        sessions, last = await self._sessions.find_page(
            caller().user_id, after=pages.place(request.page_token), size=size
        )
        return auth_service_pb2.ListSessionsResponse(
            sessions=map(self._to_open_session, sessions), next_page_token=pages.token(last) if last else ""
        )

    async def DeleteSession(
        self, request: auth_service_pb2.DeleteSessionRequest, _context: Any
    ) -> auth_service_pb2.DeleteSessionResponse:
        await self._sessions.end(caller(), request.id)
        return auth_service_pb2.DeleteSessionResponse(success=True)

    async def DeleteOtherSessions(
        self, _request: auth_service_pb2.DeleteOtherSessionsRequest, _context: Any
    ) -> auth_service_pb2.DeleteOtherSessionsResponse:
        return auth_service_pb2.DeleteOtherSessionsResponse(ended_sessions=await self._sessions.end_others(caller()))

    def _to_sign_in_response(self, session: NewSession) -> auth_service_pb2.SignInResponse:
        """Converts a session; the cookie of it goes with the answer."""
        token, call = session.token.reveal(), current_call()
        max_age = int(self._sessions.lifetimes.absolute.total_seconds())
        call.answer_headers.append(set_cookie(token, max_age=max_age, secure=is_secure(call)))
        return auth_service_pb2.SignInResponse(user=to_user(session.user), token=token, expire_time=session.expire_time)

    def _to_open_session(self, session: Session) -> auth_service_pb2.OpenSession:
        return auth_service_pb2.OpenSession(
            id=session.id,
            current=session.id == caller().token_id,
            create_time=session.create_time,
            last_use_time=session.last_use_time,
            expire_time=self._sessions.lifetimes.end(session, session.last_use_time),
            ip_address=session.ip_address,
            user_agent=session.user_agent,
        )


class TokenServicer(token_service_pb2_grpc.TokenServiceServicer):
    """What the other services ask about tokens."""

    def __init__(self, verification: TokenVerification, revocations: Revocations) -> None:
        self._verification = verification
        self._revocations = revocations

    async def VerifyToken(
        self, request: token_service_pb2.VerifyTokenRequest, _context: Any
    ) -> token_service_pb2.Principal:
        check_digest(request.token_sha256)
        principal = await self._verification.principal(request.token_sha256)
        return token_service_pb2.Principal(
            user_id=principal.user_id,
            role=principal.role,
            token_id=principal.token_id,
            expire_time=to_timestamp(principal.expire_time),
            scopes=sorted(principal.scopes),
        )

    async def WatchRevocations(
        self, _request: token_service_pb2.WatchRevocationsRequest, _context: Any
    ) -> AsyncIterator[token_service_pb2.RevocationEvent]:
        async with aclosing(self._revocations.follow()) as revocations:
            async for revocation in revocations:
                yield to_event(revocation)


def is_secure(call: Call) -> bool:
    """Tells whether the person has reached us over TLS, which only the front door is believed to tell."""
    return call.peer == FRONT_DOOR and session_cookie.is_secure(dict(call.context.invocation_metadata()))


def to_user(user: User) -> auth_service_pb2.User:
    return auth_service_pb2.User(
        id=user.id, email=user.email, name=user.name, role=user.role, create_time=user.create_time
    )


def to_timestamp(seconds: float) -> Timestamp | None:
    """Converts seconds of the Unix epoch; what is infinitely far stays away."""
    if isinf(seconds):
        return None
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1e6))
    return timestamp


def to_event(revocation: Revocation) -> token_service_pb2.RevocationEvent:
    match revocation:
        case Synchronized():
            return token_service_pb2.RevocationEvent(synchronized=True)
        case Alive():
            return token_service_pb2.RevocationEvent(alive=True)
        case TokenRevoked(token_id):
            return token_service_pb2.RevocationEvent(token_id=token_id)
        case AccountChanged(user_id):
            return token_service_pb2.RevocationEvent(user_id=user_id)
