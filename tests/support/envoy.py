"""The real Envoy with the real configuration, in front of whatever a test serves."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from deploy.envoy import descriptors
from deploy.envoy.render import EnvoyConfig, write_configuration
from deploy.local.binaries import ENVOY
from deploy.local.pki import issue
from tests.support.waiting import eventually, within_bound

# The certificate of the HTTPS listener.
_PUBLIC = "public"


@dataclass(frozen=True)
class FrontDoor:
    """A running Envoy. Clients of it are the caller's to close."""

    http_port: int
    https_port: int
    authority: Path
    folder: Path

    @property
    def url(self) -> str:
        """Base URL of the listener without TLS."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def secure_url(self) -> str:
        """Base URL of the listener with TLS."""
        return f"https://127.0.0.1:{self.https_port}"

    def trust(self) -> ssl.SSLContext:
        """What a client needs to trust the listener with TLS."""
        return ssl.create_default_context(cafile=self.authority)

    def rest(self, **options: Any) -> httpx.AsyncClient:
        """A REST client of the listener without TLS."""
        return httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False, **options)

    def channel(self) -> grpc.aio.Channel:
        """A channel to the listener without TLS."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.http_port}")

    def secure_channel(self) -> grpc.aio.Channel:
        """A channel to the listener with TLS."""
        credentials = grpc.ssl_channel_credentials(self.authority.read_bytes())
        return grpc.aio.secure_channel(f"localhost:{self.https_port}", credentials)

    async def access_log(self, request_id: str) -> dict[str, Any]:
        """Returns the line of one request, when it has been written."""

        async def lines() -> list[dict[str, Any]]:
            text = (self.folder / "access.log").read_text()
            # The last line may be half written.
            entries = [json.loads(line) for line in text.split("\n")[:-1]]
            return [entry for entry in entries if entry["request_id"] == request_id]

        (entry,) = await eventually(lines, bool)
        return entry


def envoy_config(folder: Path, pki: Path, clusters: Mapping[str, list[str]], **settings: Any) -> EnvoyConfig:
    """Builds a configuration with files in `folder` and free ports, and the descriptor set it names."""
    issue(pki, [_PUBLIC])
    descriptors.build(folder / "descriptors.pb")
    free_ports = {"http_port": 0, "https_port": 0, "admin_port": 0}
    fields: dict[str, Any] = {**free_ports, "access_log": folder / "access.log", **settings}
    return EnvoyConfig(
        **fields,
        tls_dir=pki / "envoy",
        public_tls_dir=pki / _PUBLIC,
        descriptor_set=folder / "descriptors.pb",
        clusters=dict(clusters),
    )


@asynccontextmanager
async def running_envoy(
    folder: Path, pki: Path, clusters: Mapping[str, list[str]], *, concurrency: int = 1, **settings: Any
) -> AsyncIterator[FrontDoor]:
    """Runs Envoy in front of the services at these addresses for the time of the block, and yields it when it is ready.

    `pki` is a folder of `deploy.local.pki` with the certificate of `envoy`; `settings` are fields of EnvoyConfig.
    """
    write_configuration(envoy_config(folder, pki, clusters, **settings), folder)
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(ENVOY, "-c", folder / "envoy.yaml", "--disable-hot-restart", "--concurrency", str(concurrency)),
            *("--log-level", "warning", "--file-flush-interval-msec", "50"),
            *("--admin-address-path", folder / "admin"),
            stdout=log,
            stderr=log,
        )
    try:
        http_port, https_port = await _ports_when_ready(process, folder)
        yield FrontDoor(http_port, https_port, pki / _PUBLIC / "ca.crt", folder)
    finally:
        if process.returncode is None:
            process.terminate()
            await within_bound(process.wait())


async def _ports_when_ready(process: asyncio.subprocess.Process, folder: Path) -> tuple[int, int]:
    async def admin_address() -> str:
        assert process.returncode is None, (folder / "log").read_text()
        # Empty for a moment, between the creation of the file and the writing.
        return (folder / "admin").read_text() if (folder / "admin").exists() else ""

    async def ready() -> bool:
        assert process.returncode is None, (folder / "log").read_text()
        return (await admin.get("/ready")).text == "LIVE\n"

    address = await eventually(admin_address, bool)
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as admin:
        await eventually(ready, bool)
        listeners = (await admin.get("/listeners", params={"format": "json"})).json()["listener_statuses"]
    ports = {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in listeners}
    return ports["http"], ports["https"]
