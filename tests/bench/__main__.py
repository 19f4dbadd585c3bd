"""Measures the governed path against the bare one and against the provider asked directly; prints a table.

Machines differ and are noisy: the paths take turns in every round, and what counts are the ratios and the CPU per
call, not the absolute figures. Everything runs on this machine: load generator, Envoy, worker, sandbox provider.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from deploy.local.infrastructure import ROOT
from deploy.local.ports import PortReservation
from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.stack import LocalStack
from libs.redaction import Secret
from tests.bench.governance import governance_cost
from tests.bench.load import Measured, Target, burst
from tests.bench.stack_access import cpu_seconds, person_with_key
from tests.support.envoy import running_envoy

_MESSAGES = [{"role": "user", "content": "What is the difference between a gateway and a proxy?"}]
_CHUNKS = 100
_NO_FLOOD = 1_000_000


@dataclass
class Way:
    """A way to the provider, with what was measured on it. `pid` is the worker's, 0 where there is none."""

    name: str
    whole: Target
    streamed: Target
    pid: int
    unary_p50_ms: list[float] = field(default_factory=list)
    unary_per_second: list[float] = field(default_factory=list)
    unary_cpu_ms: list[float] = field(default_factory=list)
    streams_per_second: list[float] = field(default_factory=list)
    stream_cpu_ms: list[float] = field(default_factory=list)
    paced_chunk_cpu_us: list[float] = field(default_factory=list)


async def _measured(path: Way, target: Target, *, callers: int, calls: int) -> tuple[Measured, float]:
    """Returns what a burst took and the worker's CPU milliseconds per call."""
    before = cpu_seconds(path.pid)
    measured = await burst(target, callers=callers, calls=calls)
    return measured, (cpu_seconds(path.pid) - before) / calls * 1000


async def _round(paths: list[Way], control: SandboxControl, key: str, calls: int) -> None:
    for path in paths:
        one, _ = await _measured(path, path.whole, callers=1, calls=calls // 4)
        path.unary_p50_ms.append(one.percentile_ms(0.5))
    for path in paths:
        many, cpu = await _measured(path, path.whole, callers=32, calls=calls)
        path.unary_per_second.append(many.per_second)
        path.unary_cpu_ms.append(cpu)
    for chunk_delay_ms in (0, 20):
        await control.behave(Behaviour(match=Match(key=key), chunk_count=_CHUNKS, chunk_delay_ms=chunk_delay_ms))
        for path in paths:
            if chunk_delay_ms:
                _, cpu = await _measured(path, path.streamed, callers=50, calls=50)
                path.paced_chunk_cpu_us.append(cpu / _CHUNKS * 1000)
            else:
                many, cpu = await _measured(path, path.streamed, callers=32, calls=max(64, calls // 8))
                path.streams_per_second.append(many.per_second)
                path.stream_cpu_ms.append(cpu)
        await control.reset(key=key)


def _report(direct: Way, bare: Way, governed: Way) -> dict[str, float]:
    median = statistics.median
    columns = (direct, bare, governed)

    def row(label: str, attribute: str, digits: int) -> None:
        values = [median(getattr(path, attribute)) for path in columns]
        print(f"  {label:<52}" + "".join(f"{value:>12,.{digits}f}" if value else f"{'':>12}" for value in values))

    print(f"\n  {'median of the rounds':<52}" + "".join(f"{path.name:>12}" for path in columns))
    row("unary, 1 caller: p50, ms", "unary_p50_ms", 2)
    row("unary, 32 callers: calls/s", "unary_per_second", 0)
    row("unary, 32 callers: worker CPU per call, ms", "unary_cpu_ms", 3)
    row(f"streams of {_CHUNKS} chunks at once, 32 callers: streams/s", "streams_per_second", 0)
    row("  worker CPU per stream, ms", "stream_cpu_ms", 2)
    row(f"streams of {_CHUNKS} chunks 20 ms apart, 50 open: CPU/chunk, µs", "paced_chunk_cpu_us", 0)
    ratios = [g / b for g, b in zip(governed.unary_per_second, bare.unary_per_second, strict=True)]
    result = {
        "governed_to_bare_throughput": median(ratios),
        "added_p50_ms": median(governed.unary_p50_ms) - median(direct.unary_p50_ms),
        "governance_p50_ms": median(governed.unary_p50_ms) - median(bare.unary_p50_ms),
        "chunk_cpu_us": median(governed.paced_chunk_cpu_us),
    }
    print(f"\n  governed / bare unary throughput, round by round: {min(ratios):.2f} … {max(ratios):.2f}, ", end="")
    print(f"median {result['governed_to_bare_throughput']:.2f} (promised: at least 0.75)")
    print(f"  added to a direct call, p50 at one caller: {result['added_p50_ms']:.2f} ms, ", end="")
    print(f"of which governance {result['governance_p50_ms']:.2f} ms\n")
    return result


async def _report_governance(stack: LocalStack) -> dict[str, float]:
    """Measures what the interceptors take of a call, and prints it."""
    cost = await governance_cost(Secret((stack.layout.secrets / "redis-url").read_text()))
    print("  CPU per call, in steady state, µs:")
    for callers in (1, 32):
        print(
            f"    {callers:>2} at a time: who calls and may they {cost[f'authentication_us_{callers}']:.1f}, ", end=""
        )
        print(f"how often, counted in Redis {cost[f'limit_us_{callers}']:.1f}")
    print()
    return cost


@asynccontextmanager
async def _bare_worker(stack: LocalStack, key: str) -> AsyncIterator[tuple[str, int]]:
    """Runs the bare worker; yields its address and process id."""
    reservation = PortReservation()
    address = f"127.0.0.1:{reservation.take(['bare'], {})['bare']}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.bare_worker", "--listen", address, "--key", key),
        *("--tls-dir", str(stack.layout.pki / "worker-openai"), "--endpoint", f"{stack.sandbox_url}/openai/v1"),
        cwd=ROOT,
    )
    try:
        host, _, port = address.partition(":")
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, int(port))
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        writer.close()
        yield address, process.pid
    finally:
        process.terminate()
        await process.wait()
        reservation.release()


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often the paths take turns")
    parser.add_argument("--calls", type=int, default=3200, help="unary calls per path and round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    key = f"sk-sandbox-bench-{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="realmultillm-bench-") as scratch:
        folder = Path(scratch)
        (folder / "envoy").mkdir()
        print("Starting the stack…", flush=True)
        async with (
            LocalStack(folder / "stack", only=["envoy", "worker-openai"], rate_limits=False) as stack,
            SandboxControl(stack.sandbox_url) as control,
            _bare_worker(stack, key) as (bare_address, bare_pid),
        ):
            clusters = {name: [stack.address(name)] for name in ("auth", "key-vault", "analytics", "provider-router")}
            clusters["worker-openai"] = [bare_address]
            token = await person_with_key(stack, key)
            async with running_envoy(
                folder / "envoy",
                stack.layout.pki,
                clusters,
                concurrency=os.cpu_count() or 1,
                # All come from one address, and more of them than from any that a door should let through.
                flood_per_second=_NO_FLOOD,
                flood_burst=_NO_FLOOD,
            ) as bare_envoy:
                hub = json.dumps({"model": "gpt-4o-mini", "messages": _MESSAGES}).encode()
                wire = {"model": "gpt-4o-mini", "messages": _MESSAGES}
                wire_stream = {**wire, "stream": True, "stream_options": {"include_usage": True}}
                provider = f"{stack.sandbox_url}/openai/v1/chat/completions"

                def through_envoy(name: str, base_url: str, pid: int) -> Way:
                    whole = Target.post(f"{base_url}/api/chat/openai", hub, token)
                    return Way(name, whole, Target.post(f"{base_url}/api/chat/openai/stream", hub, token), pid)

                direct = Way(
                    "direct",
                    Target.post(provider, json.dumps(wire).encode(), key),
                    Target.post(provider, json.dumps(wire_stream).encode(), key),
                    0,
                )
                bare = through_envoy("bare", bare_envoy.url, bare_pid)
                governed = through_envoy("governed", stack.base_url, await stack.pid("worker-openai"))
                paths = [direct, bare, governed]
                for path in paths:
                    await burst(path.whole, callers=32, calls=320)
                for number in range(arguments.rounds):
                    print(f"Round {number + 1} of {arguments.rounds}…", flush=True)
                    await _round(paths, control, key, arguments.calls)
                result = _report(direct, bare, governed)
                result |= await _report_governance(stack)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    uvloop.run(main())
