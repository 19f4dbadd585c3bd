"""Two replicas of everything: each is restarted in turn, and given a new certificate, and nobody notices."""

from __future__ import annotations

import asyncio
import operator
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from deploy.local import pki
from deploy.local.stack import LocalStack
from deploy.local.topology import replicas_of, service_of
from tests.e2e.conftest import HELLO, Person, Platform, running_platform
from tests.support.waiting import eventually

REPLICATED = ("auth", "key-vault", "analytics", "provider-router", "worker-openai", "worker-grok")
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


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with running_platform(
        tmp_path_factory.mktemp("stack"),
        only=["envoy", *REPLICATED],
        replicas=dict.fromkeys(REPLICATED, 2),
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


async def unwell(http: aiohttp.ClientSession, stack: LocalStack, name: str) -> list[str]:
    """Lists the replicas of a service that Envoy does not use."""
    async with http.get(f"http://{stack.address('envoy-admin')}/clusters?format=json") as response:
        (cluster,) = [each for each in (await response.json())["cluster_statuses"] if each["name"] == service_of(name)]
    return [str(host) for host in cluster["host_statuses"] if host["health_status"] != {"eds_health_status": "HEALTHY"}]


async def restart(stack: LocalStack, name: str) -> None:
    """Restarts a replica, and lets everybody find it again before the next one has its turn, as a rollout does."""
    await stack.restart(name)
    async with aiohttp.ClientSession() as http:
        await eventually(partial(unwell, http, stack, name), lambda hosts: hosts == [], seconds=60)
    await asyncio.sleep(MIN_READY_SECONDS)


async def shown_certificate(stack: LocalStack, name: str) -> int:
    """Returns the serial number of the certificate that a process shows to a connection that begins now."""
    folder = stack.layout.pki / "operator"
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    context.set_alpn_protocols(["h2"])
    host, _, port = stack.address(name).partition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


class TestRollingRestart:
    async def test_no_chat_fails(self, platform: Platform, person: Person) -> None:
        async with chatting(platform, person) as load:
            await load.more()
            for service in REPLICATED:
                for replica in replicas_of(service, 2):
                    await restart(platform.stack, replica)
                    await load.more()
                    assert load.failed == [], replica


class TestRenewedCertificates:
    async def test_are_shown_without_a_failed_chat(self, platform: Platform, person: Person) -> None:
        stack = platform.stack
        replicas = [replica for service in REPLICATED for replica in replicas_of(service, 2)]
        async with chatting(platform, person) as load:
            await load.more()
            before = {replica: await shown_certificate(stack, replica) for replica in replicas}
            for name in (*REPLICATED, "envoy"):
                (stack.layout.pki / name / "tls.crt").unlink()
            pki.issue(stack.layout.pki, (*REPLICATED, "envoy"))
            for replica in replicas:
                renewed = partial(operator.ne, before[replica])
                await eventually(partial(shown_certificate, stack, replica), renewed, seconds=60)
            # On connections that are kept, on new ones of Envoy's, and on those of each service to each other.
            await load.more(20 * len(WAYS))
            assert load.failed == []
