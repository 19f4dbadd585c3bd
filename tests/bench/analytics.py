"""Measures how fast analytics takes facts in, what disk they need and how long reports take: `make bench-analytics`.

Facts of thirty days go in through the service as workers send them, each worker one batch after the other. When a tenth
of them is there and when all are, reports are asked for through Envoy: by somebody who has half of all chats, and by an
administrator. Both times there are as many hours, models and people, so that only the data has grown, not the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psycopg
import uvloop
from psycopg.rows import scalar_row
from realmultillm.analytics.v1.usage_ingest_service_pb2 import IngestUsageRequest, SealedContent, UsageRecord
from realmultillm.analytics.v1.usage_ingest_service_pb2_grpc import UsageIngestServiceStub

from deploy.local import pki
from deploy.local.accounts import make_admin
from deploy.local.stack import LocalStack
from libs.database import libpq_url
from libs.database_roles import owner_of
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from tests.bench.stack_access import cpu_seconds

_PROVIDERS = ("openai", "anthropic", "google-ai", "openrouter", "grok")
_MODELS = ("small", "large")
_PEOPLE = 200
_DAYS = 30
_BATCH = 500
_PARTS = 9
_PASSWORD = "a perfectly fine pass phrase"
_TIMES = 7

_TABLES = (
    "usage_records",
    "chat_contents",
    "usage_hourly",
    "usage_quarter_hourly",
    "platform_hourly",
    "platform_quarter_hourly",
    "user_daily",
)
_REPORTS = {
    "usage": "/api/analytics/usage",
    "usage by hour": "/api/analytics/usage?groupBy=hour",
    "usage by day": "/api/analytics/usage?groupBy=day",
    "costs by model": "/api/analytics/costs?groupBy=model",
    "costs by day, Kolkata": "/api/analytics/costs?groupBy=day&timeZone=Asia/Kolkata",
    "usage by hour, Kolkata": "/api/analytics/usage?groupBy=hour&timeZone=Asia/Kolkata",
    "performance": "/api/analytics/performance",
    "performance by model": "/api/analytics/performance?groupBy=model",
    "export of usage by day": "/api/analytics/export?report=usage&groupBy=day",
    "all people, by day": "/api/admin/analytics?groupBy=day",
    "all people, Kolkata": "/api/admin/analytics?groupBy=day&timeZone=Asia/Kolkata",
}


def _facts(provider: str, numbers: range, of: int, busy: str, end: datetime, content: bytes) -> Iterator[UsageRecord]:
    """Makes some of the chats of a provider: those of these numbers `of` so many, in the order in which they start.

    All of them lie over all hours alike.
    """
    chance = random.Random(f"{provider} {numbers}")
    people = [str(UUID(int=number)) for number in range(_PEOPLE)]
    start, step = end - timedelta(days=_DAYS), timedelta(days=_DAYS) / of
    for number in numbers:
        latency, prompt, completion = chance.lognormvariate(7.5, 0.8), chance.randrange(4_000), chance.randrange(900)
        record = UsageRecord(
            id=str(uuid4()),
            user_id=busy if number % 2 else chance.choice(people),
            provider=provider,
            model_requested=_MODELS[number // 2 % len(_MODELS)],
            model_served="model-2026-04-23",
            end_state="COMPLETED" if chance.random() < 0.97 else "PROVIDER_ERROR_BEFORE_OUTPUT",
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=prompt // 2,
            reasoning_tokens=completion // 3,
            streamed=True,
            latency_ms=int(latency),
            time_to_first_token_ms=int(latency / 5),
            attempts=1,
            request_id=str(uuid4()),
            kind="CHAT",
            cost_source="PRICED",
            cost_picos=prompt * 2_500_000 + completion * 10_000_000,
            price="input=2.5 cached_input=1.25 output=10",
        )
        record.start_time.FromDatetime(start + number * step)
        if content:
            record.content.CopyFrom(SealedContent(sealed=content, wrapped_key="vault:v1:" + "k" * 88))
        yield record


async def _send(stack: LocalStack, provider: str, batches: list[IngestUsageRequest]) -> None:
    async with open_channel(stack.address("analytics"), "analytics", stack.tls(f"worker-{provider}")) as channel:
        stub = UsageIngestServiceStub(channel)
        for batch in batches:
            response = await stub.IngestUsage(batch, timeout=60)
            assert response.accepted == len(batch.records)


async def _ingest(stack: LocalStack, numbers: range, of: int, busy: str, end: datetime, content: bytes) -> None:
    """Takes in facts of each provider, and tells how long that took, the making of them left out."""
    count = len(numbers) * len(_PROVIDERS)
    batches = {
        provider: [IngestUsageRequest(records=it) for it in _batched(_facts(provider, numbers, of, busy, end, content))]
        for provider in _PROVIDERS
    }
    before, started = cpu_seconds(await stack.pid("analytics")), time.perf_counter()
    await asyncio.gather(*(_send(stack, provider, its) for provider, its in batches.items()))
    seconds = time.perf_counter() - started
    spent = cpu_seconds(await stack.pid("analytics")) - before
    print(
        f"  {count:>9,} facts in {seconds:6.1f} s: {count / seconds:,.0f} a second; "
        f"CPU of the service {spent / count * 1e6:.0f} µs each",
        flush=True,
    )


def _batched(records: Iterator[UsageRecord]) -> Iterator[list[UsageRecord]]:
    batch: list[UsageRecord] = []
    for record in records:
        batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _times(http: httpx.AsyncClient, end: datetime) -> dict[str, tuple[float, int]]:
    """Returns for each report the median of its milliseconds and the bytes of the answer."""
    # Not whole hours: the edges of the span are summed up from facts.
    span = {"from": f"{end - timedelta(days=_DAYS):%Y-%m-%dT%H:%M:%SZ}", "to": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
    times = {}
    for name, path in _REPORTS.items():
        url = httpx.URL(path).copy_merge_params(span)
        took = []
        for _ in range(_TIMES + 2):
            started = time.perf_counter()
            response = await http.get(url)
            took.append((time.perf_counter() - started) * 1000)
            if response.status_code != 200:
                print(f"  {name}: {response.status_code} {response.text[:200]}")
                break
            await asyncio.sleep(0.2)  # within the limits of calls
        else:
            times[name] = (statistics.median(took[2:]), len(response.content))
    return times


def _sizes(database: psycopg.Connection[int]) -> dict[str, int]:
    """Returns the bytes of each table with its partitions and indexes."""
    database.execute("VACUUM (ANALYZE)")
    query = (
        "SELECT pg_total_relation_size(%(name)s::regclass) + coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint"
        " FROM pg_inherits WHERE inhparent = %(name)s::regclass"
    )
    return {name: database.execute(query, {"name": name}).fetchone() or 0 for name in _TABLES}


async def _somebody(stack: LocalStack, http: httpx.AsyncClient) -> str:
    """Signs up who has half of all chats and may see everybody's, and returns their id."""
    body = {"email": "busy@example.com", "password": _PASSWORD}
    (await http.post("/api/auth/signup", json=body)).raise_for_status()
    await make_admin(stack, body["email"])
    answer = (await http.post("/api/auth/signin", json=body)).raise_for_status().json()
    http.headers["authorization"] = f"Bearer {answer['token']}"
    user_id: str = answer["user"]["id"]
    return user_id


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.analytics", description=__doc__)
    parser.add_argument("--facts", type=int, default=1_000_000, help="how many facts in all")
    parser.add_argument("--content-bytes", type=int, default=0, help="sealed content of each chat; none by default")
    arguments = parser.parse_args()
    end = datetime.now(UTC) - timedelta(minutes=23)
    content = random.Random(1).randbytes(arguments.content_bytes)
    every = arguments.facts // len(_PROVIDERS)
    with tempfile.TemporaryDirectory(prefix="realmultillm-bench-") as scratch:
        print("Starting the stack…", flush=True)
        async with (
            LocalStack(Path(scratch) / "stack", only=["envoy", "analytics", "auth"], rate_limits=False) as stack,
            httpx.AsyncClient(base_url=stack.base_url, timeout=60) as http,
        ):
            pki.issue(stack.layout.pki, (f"worker-{provider}" for provider in _PROVIDERS))
            busy = await _somebody(stack, http)
            tenth, rest = every // 10, every - every // 10
            await _ingest(stack, range(tenth), tenth, busy, end, content)
            few = await _times(http, end)
            for part in range(_PARTS):
                numbers = range(rest * part // _PARTS, rest * (part + 1) // _PARTS)
                await _ingest(stack, numbers, rest, busy, end, content)
            many = await _times(http, end)
            owner = libpq_url(Secret(stack.layout.database_url(owner_of("analytics")).read_text().strip()))
            with psycopg.connect(owner, autocommit=True, row_factory=scalar_row) as database:
                sizes = _sizes(database)
    columns = "".join(f"{f'{facts:,} facts':>22}" for facts in (arguments.facts // 10, arguments.facts))
    print(f"\n  {'reports, median ms (bytes)':<28}{columns}")
    for name in (name for name in _REPORTS if name in few and name in many):
        cells = "".join(f"{f'{ms:.1f} ({size:,})':>22}" for ms, size in (few[name], many[name]))
        print(f"  {name:<28}{cells}")
    print(f"\n  {'disk of all facts':<28}")
    for name, size in sizes.items():
        print(f"  {name:<28}{size / 1e6:>18,.1f} MB")


if __name__ == "__main__":
    uvloop.run(main())
