"""Between `ApiTokenService` and the API tokens: check, call, convert."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.auth.v1 import api_token_service_pb2, api_token_service_pb2_grpc

from libs.pagination import PlaceTokens, rows_per_page
from libs.rpc.identity import caller
from services.auth.api_tokens import DEFAULT_SCOPES, ApiTokens
from services.auth.models import ApiToken
from services.auth.validation import check_new_api_token, normal_name

# What Python knows of time.
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


class ApiTokenServicer(api_token_service_pb2_grpc.ApiTokenServiceServicer):
    """What people do with their API tokens."""

    def __init__(self, api_tokens: ApiTokens) -> None:
        self._api_tokens = api_tokens

    async def CreateApiToken(
        self, request: api_token_service_pb2.CreateApiTokenRequest, _context: Any
    ) -> api_token_service_pb2.ApiToken:
        name, scopes = normal_name(request.name), request.scopes or DEFAULT_SCOPES
        expire_time = to_time(request.expire_time) if request.HasField("expire_time") else None
        check_new_api_token(name, scopes, expire_time)
        made = await self._api_tokens.create(caller(), name=name, scopes=scopes, expire_time=expire_time)
        answer = to_api_token(made.row)
        answer.token = made.token.reveal()
        return answer

    async def ListApiTokens(
        self, request: api_token_service_pb2.ListApiTokensRequest, _context: Any
    ) -> api_token_service_pb2.ListApiTokensResponse:
        pages = PlaceTokens("api tokens", caller().user_id)
        size = rows_per_page(request.page_size, request.page_token, tokens=pages)
        tokens, last = await self._api_tokens.find_page(
            caller().user_id, after=pages.place(request.page_token), size=size
        )
        return api_token_service_pb2.ListApiTokensResponse(
            tokens=map(to_api_token, tokens), next_page_token=pages.token(last) if last else ""
        )

    async def DeleteApiToken(
        self, request: api_token_service_pb2.DeleteApiTokenRequest, _context: Any
    ) -> api_token_service_pb2.DeleteApiTokenResponse:
        await self._api_tokens.revoke(caller(), request.id)
        return api_token_service_pb2.DeleteApiTokenResponse(success=True)


def to_time(timestamp: Timestamp) -> datetime:
    """Converts a time; one beyond what can be told becomes the first or the last there is."""
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(
            seconds=timestamp.seconds, microseconds=timestamp.nanos // 1_000
        )
    except OverflowError:
        return _FIRST if timestamp.seconds < 0 else _LAST


def to_api_token(token: ApiToken) -> api_token_service_pb2.ApiToken:
    return api_token_service_pb2.ApiToken(
        id=token.id,
        name=token.name,
        hint=token.hint,
        scopes=token.scopes,
        create_time=token.create_time,
        expire_time=token.expire_time,
        last_use_time=token.last_use_time,
    )
