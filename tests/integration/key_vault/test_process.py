"""The service as a process: `python -m services.key_vault`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.ports import PortReservation
from libs.database import ROOT
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from tests.support.rpc import Identities
from tests.support.vault import VaultServer


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    """A port to serve on, and two that nobody serves."""
    reservation = PortReservation()
    yield reservation.take(["key-vault", "auth", "worker"], {})
    reservation.release()


class TestProcess:
    async def test_it_serves_before_auth_and_workers_do_and_stops_when_told(
        self,
        database_url: Secret,
        vault: VaultServer,
        identity: Identities,
        pki_folder: Path,
        tmp_path: Path,
        ports: dict[str, int],
    ) -> None:
        vault_settings = vault.settings()
        secret_id = vault_settings.pop("KEY_VAULT_VAULT_SECRET_ID")
        (tmp_path / "secret-id").write_text(secret_id)
        address = f"127.0.0.1:{ports['key-vault']}"
        process = await _start(
            KEY_VAULT_LISTEN=address,
            KEY_VAULT_TLS_DIR=str(pki_folder / "key-vault"),
            KEY_VAULT_DATABASE_URL=database_url.reveal(),
            KEY_VAULT_AUTH_ADDRESS=f"127.0.0.1:{ports['auth']}",
            KEY_VAULT_VAULT_SECRET_ID_FILE=str(tmp_path / "secret-id"),
            KEY_VAULT_WORKERS=f"openai=127.0.0.1:{ports['worker']}",
            KEY_VAULT_DATA_DIR=str(tmp_path / "data"),
            KEY_VAULT_DRAIN_SECONDS="1",
            **vault_settings,
        )
        async with open_channel(address, "key-vault", identity("operator")) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="vault"), timeout=30, wait_for_ready=True
            )
            async for answer in watch:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
        process.terminate()

        output = await _output(process)

        assert process.returncode == 0, output
        assert "logged in to vault" in output
        assert secret_id not in output
        assert "Traceback" not in output

    async def test_unusable_settings_are_told_together(self) -> None:
        process = await _start(
            KEY_VAULT_VAULT_ADDRESS="http://vault", KEY_VAULT_ALLOW_PRIVATE_ENDPOINT="true", KEY_VAULT_DRAIN_SECONDS="x"
        )

        output = await _output(process)

        assert process.returncode == os.EX_CONFIG
        for name in ("KEY_VAULT_DATABASE_URL", "KEY_VAULT_ALLOW_PRIVATE_ENDPOINT", "KEY_VAULT_DRAIN_SECONDS"):
            assert name in output
        assert "Traceback" not in output


async def _start(**environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.key_vault",
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def _output(process: asyncio.subprocess.Process) -> str:
    try:
        async with asyncio.timeout(20):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return output.decode()
