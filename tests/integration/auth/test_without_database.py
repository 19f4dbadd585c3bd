"""The auth service while its database is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs import tokens
from libs.redaction import Secret
from tests.integration.auth.replica import HANGING, PASSWORD, Auth, replica
from tests.support.rpc import Identities, error_info


class TestWithoutDatabase:
    @pytest.fixture
    async def cut_off(self, identity: Identities) -> AsyncIterator[Auth]:
        # Port 1 is assigned to nobody here; connections are refused at once.
        nowhere = Secret("postgresql+psycopg://auth:canary-password@127.0.0.1:1/realmultillm")
        async with replica(nowhere, identity) as auth:
            yield auth

    async def test_every_call_says_that_it_may_pass_later(
        self, cut_off: Auth, email: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        token = tokens.mint(tokens.SESSION_PREFIX).reveal()
        for call in (
            cut_off.sign_up(email),
            cut_off.sign_in(email),
            cut_off.session(token),
            cut_off.sign_out(token),
            cut_off.verify(token),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert error_info(failed.value).reason == "SERVICE_UNAVAILABLE"
            assert dict(failed.value.trailing_metadata())["retry-after"]
            assert "canary" not in repr(failed.value)
        printed = "".join(capsys.readouterr())
        for secret in ("canary-password", PASSWORD, token):
            assert secret not in printed

    async def test_health_tells_the_service_from_its_database(self, cut_off: Auth) -> None:
        health = health_pb2_grpc.HealthStub(await cut_off.channel("operator"))
        whole = await health.Check(health_pb2.HealthCheckRequest(), timeout=HANGING)
        assert whole.status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(HANGING):
            async for seen in health.Watch(health_pb2.HealthCheckRequest(service="database")):
                if seen.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    break
