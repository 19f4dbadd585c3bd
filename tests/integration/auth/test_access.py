"""Who may call the auth service."""

from __future__ import annotations

import grpc
import pytest
from realmultillm.auth.v1.auth_service_pb2 import (
    SignInRequest,
)
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from realmultillm.auth.v1.token_service_pb2 import (
    VerifyTokenRequest,
)
from realmultillm.auth.v1.token_service_pb2_grpc import TokenServiceStub

from tests.integration.auth.replica import HANGING, PASSWORD, Auth


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
