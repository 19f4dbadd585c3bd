"""Health without TLS, for those who have no certificate, as they ask for it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health

from deploy.local.ports import PortReservation
from libs.rpc.plain_health import serving_plain_health
from libs.rpc.server import serving
from libs.rpc.settings import RpcSettings
from libs.settings import SettingsError
from tests.support.rpc import Identities, KnownTokens
from tests.support.waiting import within_bound
from tests.unit.rpc.conftest import POLICY, SERVICE, Echo


async def asked(address: str) -> tuple[int, str]:
    """Asks by the command, as a container's health check does; returns its status and what it complains of."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "libs.rpc.plain_health", address), stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await within_bound(process.communicate())
    assert process.returncode is not None
    return process.returncode, complaint.decode().strip()


async def test_is_told_to_the_end_of_the_drain_and_nothing_else_is(identity: Identities, echo: Echo) -> None:
    ports = PortReservation()
    address = f"127.0.0.1:{ports.take(['health'], {})['health']}"
    ports.release()
    settings = RpcSettings(
        listen="127.0.0.1:0",
        tls_dir=Path("unused"),
        health_listen=address,
        leave_seconds=2,
        drain_seconds=20,
        rate_limits={},
    )
    held, under_way = asyncio.Event(), asyncio.Event()

    async def hold(_requests: list[bytes], _context: Any) -> None:
        under_way.set()
        await held.wait()

    echo.behavior = hold
    service = serving(
        settings, tls=identity("analytics"), registrations=[echo.register], policy=POLICY, tokens=KnownTokens()
    )
    port = await service.__aenter__()
    credentials = identity("envoy").channel_credentials()
    options = (("grpc.ssl_target_name_override", "analytics"),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        assert await asked(address) == (0, "")
        async with grpc.aio.insecure_channel(address) as plain:
            call = plain.unary_unary(f"/{SERVICE}/unary_unary")(b"without a certificate", timeout=10)
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
        assert echo.calls == []
        call = asyncio.ensure_future(channel.unary_unary(f"/{SERVICE}/unary_unary")(b"held", timeout=30))
        await within_bound(under_way.wait())

        leaving = asyncio.create_task(service.__aexit__(None, None, None))
        await asyncio.sleep(0)
        assert await asked(address) == (1, "NOT_SERVING")
        held.set()
        assert await call == b"held"
        # From somebody who has not heard of it yet.
        assert await channel.unary_unary(f"/{SERVICE}/unary_unary")(b"late", timeout=30) == b"late"
        await within_bound(leaving)
    assert await asked(address) == (1, "UNAVAILABLE")


@pytest.mark.parametrize("listen", ["nowhere", "198.51.100.1:1"])
async def test_an_address_that_cannot_be_had_is_a_setting_to_correct(listen: str) -> None:
    with pytest.raises(SettingsError, match="Health cannot be told"):
        async with serving_plain_health(listen, health.aio.HealthServicer()):
            pass
