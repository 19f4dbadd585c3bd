"""Measures what the way through the router adds to the direct one: `make bench-router`.

Both ways lead through Envoy to the same worker, natively and in OpenAI's words, and take turns in every round. What
counts are the differences and the router's CPU, not the absolute figures: all of it runs on this machine.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
from dataclasses import dataclass, field

import uvloop

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from tests.bench.load import Target, burst
from tests.bench.stack_access import cpu_seconds, person_with_key, stack_with_router

_MODEL = "gpt-4o-mini"
_MESSAGES = [{"role": "user", "content": "What is the difference between a gateway and a proxy?"}]
_CHUNKS = 100
_STREAMS = 50


@dataclass
class Way:
    """A way to the worker, with what was measured on it."""

    name: str
    whole: Target
    streamed: Target
    p50_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    router_ms: list[float] = field(default_factory=list)
    streams_p50_ms: list[float] = field(default_factory=list)
    router_chunk_us: list[float] = field(default_factory=list)


def _ways(url: str, token: str) -> list[Way]:
    def native(name: str, provider: str, model: str) -> Way:
        body = json.dumps({"model": model, "messages": _MESSAGES}).encode()
        path = f"{url}/api/chat/{provider}"
        return Way(name, Target.post(path, body, token), Target.post(f"{path}/stream", body, token))

    def in_openais_words(name: str, prefix: str, model: str) -> Way:
        path = f"{url}{prefix}/v1/chat/completions"
        body = {"model": model, "messages": _MESSAGES}
        whole = Target.post(path, json.dumps(body).encode(), token)
        return Way(name, whole, Target.post(path, json.dumps({**body, "stream": True}).encode(), token))

    return [
        native("native, direct", "openai", _MODEL),
        native("native, auto", "auto", f"openai/{_MODEL}"),
        in_openais_words("/openai/v1", "/openai", _MODEL),
        in_openais_words("/v1", "", f"openai/{_MODEL}"),
    ]


async def _round(ways: list[Way], control: SandboxControl, key: str, router: int, calls: int) -> None:
    for way in ways:
        way.p50_ms.append((await burst(way.whole, callers=1, calls=calls // 4)).percentile_ms(0.5))
    for way in ways:
        before = cpu_seconds(router)
        way.per_second.append((await burst(way.whole, callers=32, calls=calls)).per_second)
        way.router_ms.append((cpu_seconds(router) - before) / calls * 1000)
    await control.behave(Behaviour(match=Match(key=key), chunk_count=_CHUNKS, chunk_delay_ms=20))
    for way in ways:
        before = cpu_seconds(router)
        way.streams_p50_ms.append((await burst(way.streamed, callers=_STREAMS, calls=_STREAMS)).percentile_ms(0.5))
        way.router_chunk_us.append((cpu_seconds(router) - before) / (_STREAMS * _CHUNKS) * 1_000_000)
    await control.reset(key=key)


def _report(ways: list[Way]) -> None:
    rows = (
        ("whole, 1 caller: p50, ms", "p50_ms", 2),
        ("whole, 32 callers: calls/s", "per_second", 0),
        ("  CPU of the router per call, ms", "router_ms", 3),
        (f"{_STREAMS} streams of {_CHUNKS} chunks 20 ms apart: p50, ms", "streams_p50_ms", 0),
        ("  CPU of the router per chunk, µs", "router_chunk_us", 0),
    )
    print(f"\n  {'median of the rounds':<46}" + "".join(f"{way.name:>16}" for way in ways))
    for label, attribute, digits in rows:
        values = (statistics.median(getattr(way, attribute)) for way in ways)
        print(f"  {label:<46}" + "".join(f"{value:>16,.{digits}f}" for value in values))


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.router_hop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often the ways take turns")
    parser.add_argument("--calls", type=int, default=1600, help="whole answers on each way in each round")
    arguments = parser.parse_args()
    key = f"sk-sandbox-bench-{secrets.token_hex(8)}"
    async with stack_with_router() as (stack, control):
        ways = _ways(stack.base_url, await person_with_key(stack, key))
        for way in ways:
            await burst(way.whole, callers=32, calls=320)
        for number in range(arguments.rounds):
            print(f"Round {number + 1} of {arguments.rounds}…", flush=True)
            await _round(ways, control, key, await stack.pid("provider-router"), arguments.calls)
        _report(ways)


if __name__ == "__main__":
    uvloop.run(main())
