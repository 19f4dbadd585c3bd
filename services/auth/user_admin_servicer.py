"""Between `UserAdminService` and the accounts: check, call, convert."""

from __future__ import annotations

from typing import Any

from realmultillm.auth.v1 import user_admin_service_pb2, user_admin_service_pb2_grpc

from libs.pagination import PlaceTokens, rows_per_page
from libs.rpc.identity import caller
from services.auth.user_administration import AccountChange, UserAdministration
from services.auth.user_repository import Account, AccountFilter
from services.auth.user_validation import check_account_change, check_account_id, check_account_list
from services.auth.validation import normal_name


class UserAdminServicer(user_admin_service_pb2_grpc.UserAdminServiceServicer):
    """What administrators do with the accounts of others."""

    def __init__(self, users: UserAdministration) -> None:
        self._users = users

    async def ListUsers(
        self, request: user_admin_service_pb2.ListUsersRequest, _context: Any
    ) -> user_admin_service_pb2.ListUsersResponse:
        wanted = to_filter(request)
        tokens = PlaceTokens(wanted)
        check_account_list(wanted, request.page_size, request.page_token, tokens)
        accounts, last = await self._users.find_page(
            wanted,
            after=tokens.place(request.page_token),
            size=rows_per_page(request.page_size, request.page_token, tokens=tokens),
        )
        return user_admin_service_pb2.ListUsersResponse(
            users=map(to_account, accounts), next_page_token=tokens.token(last) if last else ""
        )

    async def GetUser(
        self, request: user_admin_service_pb2.GetUserRequest, _context: Any
    ) -> user_admin_service_pb2.UserAccount:
        check_account_id(request.id)
        return to_account(await self._users.get(request.id))

    async def UpdateUser(
        self, request: user_admin_service_pb2.UpdateUserRequest, _context: Any
    ) -> user_admin_service_pb2.UserAccount:
        change = to_change(request)
        check_account_change(request.id, change)
        return to_account(await self._users.change(request.id, change, by=caller()))


def to_filter(request: user_admin_service_pb2.ListUsersRequest) -> AccountFilter:
    return AccountFilter(
        normal_name(request.query), request.role, request.disabled if request.HasField("disabled") else None
    )


def to_change(request: user_admin_service_pb2.UpdateUserRequest) -> AccountChange:
    return AccountChange(
        request.role if request.HasField("role") else None,
        request.disabled if request.HasField("disabled") else None,
        request.end_sessions,
    )


def to_account(account: Account) -> user_admin_service_pb2.UserAccount:
    return user_admin_service_pb2.UserAccount(
        id=account.id,
        email=account.email,
        name=account.name,
        role=account.role,
        create_time=account.create_time,
        disabled=account.disable_time is not None,
        disable_time=account.disable_time,
        last_use_time=account.last_use_time,
        open_sessions=account.open_sessions,
        api_tokens=account.api_tokens,
    )
