"""Certificates are renewed under load, on every side of Envoy, and no caller notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from realmultillm.router.v1 import catalog_service_pb2

from deploy.local.pki import issue
from libs.rpc import tls
from libs.rpc.tls import TlsIdentity
from tests.support.envoy import FrontDoor, running_envoy
from tests.support.stand_ins import StandIn
from tests.support.waiting import eventually

NAMES = ("public", "envoy", "provider-router")


def renew(pki: Path, name: str) -> str:
    """Replaces a certificate by a new one of the same authority; returns its serial number as Envoy writes it."""
    (pki / name / "tls.crt").unlink()
    issue(pki, [name])
    return f"{x509.load_pem_x509_certificate((pki / name / 'tls.crt').read_bytes()).serial_number:x}"


@asynccontextmanager
async def called_all_the_time(front_door: FrontDoor) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Calls over TLS, each time by a new connection, for the time of the block. Yields what tells how often.

    Fails at the end when a call was not answered well.
    """
    statuses: list[int] = []
    ending = False

    async def go_on() -> None:
        while not ending:
            async with httpx.AsyncClient(verify=front_door.trust(), timeout=20, trust_env=False) as client:
                statuses.append((await client.get(f"{front_door.secure_url}/api/providers")).status_code)

    async def how_often() -> int:
        return len(statuses)

    async with asyncio.TaskGroup() as callers:
        for _ in range(4):
            callers.create_task(go_on())
        try:
            yield how_often
        finally:
            ending = True
    assert set(statuses) == {200}


async def test_all_are_used_and_no_call_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_LOOK_SECONDS", 0.0)
    pki, folder = tmp_path / "pki", tmp_path / "envoy"
    folder.mkdir()
    issue(pki, NAMES)
    router = StandIn(catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"])
    nobody = {name: ["127.0.0.1:1"] for name in ("auth", "key-vault", "analytics")}
    async with (
        router.running(TlsIdentity.load(pki / "provider-router")) as address,
        running_envoy(folder, pki, {**nobody, "provider-router": [address]}) as front_door,
        httpx.AsyncClient(base_url=f"http://{(folder / 'admin').read_text()}", trust_env=False) as admin,
    ):

        async def used() -> str:
            return (await admin.get("/certs")).text

        async with called_all_the_time(front_door) as how_often:
            for name in NAMES * 2:
                serial = renew(pki, name)
                if name in ("public", "envoy"):
                    await eventually(used, lambda text: serial in text)  # noqa: B023 - awaited at once
                wanted = await how_often() + 20
                await eventually(how_often, lambda calls: calls >= wanted)  # noqa: B023 - awaited at once
