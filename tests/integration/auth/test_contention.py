"""Everything that opens or ends sessions of one account, at once: nobody waits in a circle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime

import grpc
from realmultillm.auth.v1.api_token_service_pb2 import CreateApiTokenRequest, DeleteApiTokenRequest
from realmultillm.auth.v1.auth_service_pb2 import (
    ChangePasswordRequest,
    DeleteOtherSessionsRequest,
    DeleteSessionRequest,
    ListSessionsRequest,
)

from libs.database import Transactions
from libs.redaction import Secret
from services.auth.expiry import remove_ended
from services.auth.last_uses import LastUses
from tests.integration.auth.replica import LIFETIMES, PASSWORD, Auth, replica
from tests.support.rpc import Identities, error_info

# What somebody may be told whose session or password another has ended in that moment.
OVERTAKEN = {"UNAUTHENTICATED", "INVALID_CREDENTIALS", "NOT_FOUND"}


class TestContention:
    async def test_everyone_is_answered(
        self, auth: Auth, url: Secret, identity: Identities, transactions: Transactions, email: str
    ) -> None:
        first = await auth.sign_up(email)
        opened = [await auth.sign_in(email) for _ in range(8)]
        ids = [session.id for session in (await auth.ask(ListSessionsRequest(), first.token)).sessions]
        made = [(await auth.ask(CreateApiTokenRequest(name="nightly"), first.token)) for _ in range(4)]
        uses = [LastUses(transactions) for _ in range(4)]
        for number, last_uses in enumerate(uses):
            for session_id in ids[:: 1 if number % 2 else -1]:
                last_uses.note(session_id, datetime.now(UTC))
        change = ChangePasswordRequest(current_password=PASSWORD, new_password="nine green kettles")
        async with replica(url, identity) as second:
            work: list[Awaitable[object]] = [
                *(auth.sign_in(email) for _ in range(6)),
                *(second.ask(DeleteOtherSessionsRequest(), session.token) for session in opened[:4]),
                *(auth.ask(DeleteSessionRequest(id=session_id), first.token) for session_id in ids[-3:]),
                *(second.ask(change, session.token) for session in opened[4:]),
                *(auth.sign_out(session.token) for session in opened),
                *(second.ask(DeleteApiTokenRequest(id=token.id), first.token) for token in made),
                *(last_uses.write() for last_uses in uses),
                *(remove_ended(transactions, LIFETIMES.idle) for _ in range(3)),
            ]
            outcomes = await asyncio.gather(*work, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert {error_info(error).reason for error in failures if isinstance(error, grpc.aio.AioRpcError)} <= OVERTAKEN
        assert all(isinstance(error, grpc.aio.AioRpcError) for error in failures), failures
