"""Two replicas of everything are restarted in turn, get new certificates and a new authority, and nobody notices."""

from __future__ import annotations

import asyncio
import json
import operator
import shutil
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from deploy.local import pki
from deploy.local.private_files import write_private
from deploy.local.stack import LocalStack
from deploy.local.topology import replicas_of, service_of
from tests.e2e.conftest import HELLO, Person, Platform, running_platform
from tests.support.waiting import eventually

# Two services at a time are restarted.
ROUNDS = (("auth", "worker-grok"), ("key-vault", "worker-openai"), ("analytics", "provider-router"))
REPLICATED = tuple(service for services in ROUNDS for service in services)
REPLICAS = tuple(replica for service in REPLICATED for replica in replicas_of(service, 2))
MODEL = "openai/gpt-4o"
# Where chats are asked for, in which words, and what is in an answer that has come to its end.
WAYS: tuple[tuple[str, Mapping[str, Any], str], ...] = (
    ("/api/chat/openai", {}, '"stop"'),
    ("/api/chat/openai/stream", {}, '"stop"'),
    ("/api/chat/auto", {"model": MODEL}, '"stop"'),
    ("/api/chat/auto/stream", {"model": MODEL}, '"stop"'),
    ("/openai/v1/chat/completions", {"model": "gpt-4o", "stream": True}, "[DONE]"),
    ("/v1/chat/completions", {"model": MODEL}, '"stop"'),
    ("/v1/chat/completions", {"model": MODEL, "stream": True}, "[DONE]"),
)
# What `minReadySeconds` is in Kubernetes, where it is longer: channels try to connect again every two seconds at least.
MIN_READY_SECONDS = 3.0
# Callers of each way, each of whom asks again when answered.
CALLERS = 2


@dataclass
class Load:
    """Chats under way: how many have been answered, and what became of each that was not."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)

    async def more(self, count: int = 5 * len(WAYS)) -> None:
        """Waits until so many more have been answered, or one has failed."""
        enough = self.answered + count
        await eventually(self._state, lambda state: state[0] >= enough or state[1] > 0, seconds=60)

    async def _state(self) -> tuple[int, int]:
        return self.answered, len(self.failed)


def leaving(service: str) -> dict[str, str]:
    """Returns the settings of a service with the times that it has in production before it ends, and as it ends."""
    prefix = "WORKER" if service.startswith("worker-") else service.upper().replace("-", "_")
    return {f"{prefix}_LEAVE_SECONDS": "3", f"{prefix}_DRAIN_SECONDS": "30"}


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with running_platform(
        tmp_path_factory.mktemp("stack"),
        only=["envoy", *REPLICATED],
        replicas=dict.fromkeys(REPLICATED, 2),
        settings={service: leaving(service) for service in REPLICATED},
        # So that a stream lasts for a while.
        chunk_delay_ms=10,
    ) as running:
        yield running


@asynccontextmanager
async def chatting(platform: Platform, person: Person) -> AsyncIterator[Load]:
    """Has people chat for the time of the block, on connections they keep and on new ones."""
    load, done = Load(), asyncio.Event()
    headers = {"authorization": f"Bearer {person.token}"}
    timeout = aiohttp.ClientTimeout(total=60)

    async def chat(http: aiohttp.ClientSession, path: str, body: Mapping[str, Any], ending: str) -> None:
        while not done.is_set():
            try:
                async with http.post(path, json={"messages": HELLO, **body}) as response:
                    text = await response.text()
            except aiohttp.ClientError as error:
                load.failed.append(f"{path}: {error!r}")
                continue
            if response.status == 200 and ending in text:
                load.answered += 1
            else:
                load.failed.append(f"{path}: {response.status} {text[-500:]}")

    async with (
        aiohttp.ClientSession(platform.stack.base_url, timeout=timeout, headers=headers) as http,
        asyncio.TaskGroup() as callers,
    ):
        for way in WAYS * CALLERS:
            callers.create_task(chat(http, *way))
        try:
            yield load
        finally:
            done.set()


async def unwell(stack: LocalStack, name: str) -> list[str]:
    """Lists the replicas of a service that Envoy does not use."""
    clusters = json.loads(await asked_of_envoy(stack, "/clusters?format=json"))["cluster_statuses"]
    (cluster,) = [each for each in clusters if each["name"] == service_of(name)]
    return [str(host) for host in cluster["host_statuses"] if host["health_status"] != {"eds_health_status": "HEALTHY"}]


async def restart(stack: LocalStack, name: str) -> None:
    """Restarts a replica, and lets everybody find it again before the next one has its turn, as a rollout does."""
    await stack.restart(name)
    await eventually(partial(unwell, stack, name), lambda hosts: hosts == [], seconds=60)
    await asyncio.sleep(MIN_READY_SECONDS)


async def asked_of_envoy(stack: LocalStack, path: str) -> str:
    """Returns what Envoy's administration answers."""
    async with aiohttp.ClientSession(f"http://{stack.address('envoy-admin')}") as http, http.get(path) as response:
        return await response.text()


@asynccontextmanager
async def taken_up_by_envoy(stack: LocalStack) -> AsyncIterator[None]:
    """Waits after the block until Envoy uses what was written in it, towards all services."""

    async def updates() -> dict[str, int]:
        text = await asked_of_envoy(stack, "/stats?filter=client_ssl_socket_factory.ssl_context_update_by_sds")
        return {name: int(count) for name, _, count in (line.partition(": ") for line in text.splitlines())}

    before = await updates()
    yield
    await eventually(updates, lambda now: all(now[name] > before[name] for name in before), seconds=60)


@asynccontextmanager
async def connection(
    stack: LocalStack, name: str, identity: Path
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connects to a process with the certificate in a folder, and with whom is trusted there."""
    context = ssl.create_default_context(cafile=identity / "ca.crt")
    context.load_cert_chain(identity / "tls.crt", identity / "tls.key")
    context.set_alpn_protocols(["h2"])
    host, _, port = stack.address(name).partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    try:
        yield reader, writer
    finally:
        writer.close()


async def shown_certificate(stack: LocalStack, name: str) -> int:
    """Returns the serial number of the certificate that a process shows to a connection that begins now."""
    async with connection(stack, name, stack.layout.pki / "operator") as (_, writer):
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown).serial_number


async def is_let_in(stack: LocalStack, name: str, identity: Path) -> bool:
    """Tells whether a process speaks with whoever shows this; in TLS 1.3 that is told after the handshake."""
    async with connection(stack, name, identity) as (reader, _):
        try:
            return await reader.read(1) != b""
        except (ssl.SSLError, ConnectionError):
            return False


def identity(shown: Path, scratch: Path, *, trusted: bytes) -> Path:
    """Copies what somebody shows, and has them trust others."""
    copied = Path(shutil.copytree(shown, scratch / f"{shown.parent.name}-{shown.name}"))
    write_private(copied / "ca.crt", trusted)
    return copied


class TestRollingRestart:
    async def test_no_chat_fails(self, platform: Platform, person: Person) -> None:
        async with chatting(platform, person) as load:
            await load.more()
            for services in ROUNDS:
                for replicas in zip(*(replicas_of(service, 2) for service in services), strict=True):
                    await asyncio.gather(*(restart(platform.stack, replica) for replica in replicas))
                    await load.more()
                    assert load.failed == [], replicas


class TestRenewedCertificates:
    async def test_are_shown_without_a_failed_chat(self, platform: Platform, person: Person) -> None:
        stack = platform.stack
        async with chatting(platform, person) as load:
            await load.more()
            before = {replica: await shown_certificate(stack, replica) for replica in REPLICAS}
            for name in (*REPLICATED, "envoy"):
                (stack.layout.pki / name / "tls.crt").unlink()
            pki.issue(stack.layout.pki, (*REPLICATED, "envoy"))
            for replica in REPLICAS:
                renewed = partial(operator.ne, before[replica])
                await eventually(partial(shown_certificate, stack, replica), renewed, seconds=60)
            # On connections that are kept, on new ones of Envoy's, and on those of each service to each other.
            await load.more(20 * len(WAYS))
            assert load.failed == []


class TestNewAuthority:
    """As docs/operations/rotate.md has it: each step everywhere before the next."""

    async def test_takes_over_without_a_failed_chat(self, platform: Platform, person: Person, tmp_path: Path) -> None:
        stack, names = platform.stack, (*REPLICATED, "envoy", "operator")
        used, next_one = stack.layout.pki, tmp_path / "next"
        pki.issue(next_one, names)
        old, new = ((folder / "authority" / "ca.crt").read_bytes() for folder in (used, next_one))
        of_old, of_new = (identity(folder / "operator", tmp_path, trusted=old + new) for folder in (used, next_one))

        async with chatting(platform, person) as load:
            await load.more()
            async with taken_up_by_envoy(stack):
                for name in names:
                    write_private(used / name / "ca.crt", old + new)
            for replica in REPLICAS:
                await eventually(partial(is_let_in, stack, replica, of_new), bool, seconds=60)
            async with taken_up_by_envoy(stack):
                for name in names:
                    for file in ("tls.key", "tls.crt"):
                        write_private(used / name / file, (next_one / name / file).read_bytes())
            for replica in REPLICAS:
                issued = x509.load_pem_x509_certificate((next_one / service_of(replica) / "tls.crt").read_bytes())
                shown = partial(operator.eq, issued.serial_number)
                await eventually(partial(shown_certificate, stack, replica), shown, seconds=60)
            async with taken_up_by_envoy(stack):
                for name in names:
                    write_private(used / name / "ca.crt", new)
            for replica in REPLICAS:
                await eventually(partial(is_let_in, stack, replica, of_old), operator.not_, seconds=60)
            # On connections that are kept, and on new ones, which alone have to do with the new authority.
            await restart(stack, "worker-openai")
            await load.more(20 * len(WAYS))
            assert load.failed == []
