"""Measures what each service does with one core: CPU per call, and memory; prints a table.

What counts is the CPU time of each process, which a busy machine changes little. The callers, the sandbox provider and
everything else run on this machine too, so calls per second say nothing here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop
from realmultillm.keyvault.v1.credential_service_pb2 import GetCredentialRequest
from realmultillm.keyvault.v1.credential_service_pb2_grpc import CredentialServiceStub

from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.stack import LocalStack
from libs.rpc.channel import open_channel
from tests.bench.load import Target, burst
from tests.bench.stack_access import cpu_seconds, stack_with_router

_MODEL = "gpt-4o-mini"
_MESSAGES = [{"role": "user", "content": "What is the difference between a gateway and a proxy?"}]
_CHUNKS = 100
_STREAMS = 60
_PASSWORD = "a password of the benchmark"
_WATCHED = ("envoy", "provider-router", "worker-openai", "auth", "key-vault", "analytics", "redis", "vault")


@dataclass
class Work:
    """Something the platform does, `times` in each round, and the CPU milliseconds of each process for one of them."""

    name: str
    times: int
    do: Callable[[], Awaitable[object]]
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Person:
    """Somebody with an account and a key of OpenAI."""

    id: str
    email: str
    token: str


async def _sign_up(stack: LocalStack, key: str) -> Person:
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=30) as http:
        email = f"bench-{secrets.token_hex(4)}@example.com"
        answer = (await http.post("/api/auth/signup", json={"email": email, "password": _PASSWORD})).raise_for_status()
        person = Person(answer.json()["user"]["id"], email, answer.json()["token"])
        headers = {"authorization": f"Bearer {person.token}"}
        (await http.post("/api/provider-config/openai", json={"apiKey": key}, headers=headers)).raise_for_status()
    return person


def _works(
    stack: LocalStack, person: Person, another: Person, credentials: CredentialServiceStub, times: int
) -> list[Work]:
    def chat(provider: str, model: str, suffix: str = "") -> Target:
        body = json.dumps({"model": model, "messages": _MESSAGES}).encode()
        return Target.post(f"{stack.base_url}/api/chat/{provider}{suffix}", body, person.token)

    # Not of the same: whoever signs in this often has the oldest sessions ended.
    password = json.dumps({"email": another.email, "password": _PASSWORD}).encode()
    sign_in = Target.post(f"{stack.base_url}/api/auth/signin", password, person.token)
    request = GetCredentialRequest(user_id=person.id, provider="openai")

    async def open_keys() -> None:
        for _ in range(0, times, 8):
            await asyncio.gather(*(credentials.GetCredential(request, timeout=30) for _ in range(8)))

    whole, through_router = chat("openai", _MODEL), chat("auto", f"openai/{_MODEL}")
    streams = chat("openai", _MODEL, "/stream")
    return [
        Work("a whole chat, straight", times, lambda: burst(whole, callers=16, calls=times)),
        Work("a whole chat, by the router", times, lambda: burst(through_router, callers=16, calls=times)),
        Work(
            f"a stream of {_CHUNKS} chunks 20 ms apart",
            _STREAMS,
            lambda: burst(streams, callers=_STREAMS, calls=_STREAMS),
        ),
        Work("a sign-in", times // 10, lambda: burst(sign_in, callers=2, calls=times // 10)),
        Work("the opening of a provider key", times, open_keys),
    ]


async def _measure(work: Work, pids: Mapping[str, int]) -> None:
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    await work.do()
    for name, pid in pids.items():
        work.cpu_ms.setdefault(name, []).append((cpu_seconds(pid) - before[name]) / work.times * 1000)


def _resident_mib(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def _report(works: list[Work], resident: Mapping[str, float]) -> None:
    print(f"\n  {'CPU ms, median of the rounds':<40}" + "".join(f"{name:>17}" for name in _WATCHED))
    for work in works:
        values = (statistics.median(work.cpu_ms[name]) for name in _WATCHED)
        print(f"  {work.name:<40}" + "".join(f"{value:>17.3f}" for value in values))
    print(f"  {'MiB of memory at the end':<40}" + "".join(f"{resident[name]:>17.0f}" for name in _WATCHED))


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.capacity", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is done")
    parser.add_argument("--times", type=int, default=800, help="calls of each kind in a round")
    arguments = parser.parse_args()
    key = f"sk-sandbox-bench-{secrets.token_hex(8)}"
    async with (
        stack_with_router() as (stack, control),
        open_channel(stack.address("key-vault"), "key-vault", stack.tls("worker-openai")) as channel,
    ):
        person = await _sign_up(stack, key)
        pids = {name: await stack.pid(name) for name in _WATCHED}
        works = _works(stack, person, await _sign_up(stack, key), CredentialServiceStub(channel), arguments.times)
        await control.behave(Behaviour(match=Match(key=key), chunk_count=_CHUNKS, chunk_delay_ms=20))
        for work in works:
            await work.do()
        for number in range(arguments.rounds):
            print(f"Round {number + 1} of {arguments.rounds}…", flush=True)
            for work in works:
                await _measure(work, pids)
        _report(works, {name: _resident_mib(pid) for name, pid in pids.items()})


if __name__ == "__main__":
    uvloop.run(main())
