"""Reports against the same sums worked out one chat at a time, for random chats, spans and time zones."""

from __future__ import annotations

import csv
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from io import StringIO
from typing import Any, cast
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.analytics.v1 import analytics_service_pb2 as pb

from services.analytics import record_pages
from services.analytics.buckets import days_begun, hours_begun, split_hours
from services.analytics.question import Grouping, Question
from services.analytics.reports import ALL_MEASURES, Reports
from services.analytics.usage import Span
from services.analytics.usage import UsageRecord as Fact
from tests.integration.analytics.deployment import NOW, RETENTION, Analytics, running_analytics
from tests.support.postgres import PostgresServer
from tests.support.rpc import Identities, violations

# Offsets of whole hours, of half and of three quarters of one; clocks that change within the days of the chats, by an
# hour and by half of one, and one that skips midnight.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
)
PEOPLE = ("usr_anna", "usr_ben")
MODELS = (("openai", "gpt-5.5"), ("openai", "gpt-5.5-mini"), ("anthropic", "claude-opus-5"))
# Days on which clocks change somewhere, months apart, and the days up to now.
SEASONS = (
    datetime(2026, 4, 5, 1, tzinfo=UTC),  # Lord Howe, Santiago
    datetime(2026, 4, 23, 22, tzinfo=UTC),  # Cairo, at midnight
    datetime(2026, 10, 25, 1, tzinfo=UTC),  # Berlin
    datetime(2026, 11, 1, 6, tzinfo=UTC),  # New York
    NOW - timedelta(hours=30),
)


def some_chat(chance: random.Random) -> Fact:
    season = chance.choice(SEASONS)
    start = season + timedelta(seconds=chance.randint(-2 * 86_400, 2 * 86_400), microseconds=chance.randint(0, 999))
    start = min(start, NOW - timedelta(microseconds=1))
    # Edges of hours and of their quarters are where mistakes are.
    if chance.random() < 0.3:
        start = start.replace(minute=chance.choice((0, 15, 30, 45)), second=0, microsecond=0)
    provider, model = chance.choice(MODELS)
    state = chance.choice((*["completed"] * 6, "timeout", "provider_error_before_output", "cancelled_after_output"))
    used = state in ("completed", "cancelled_after_output")
    streamed = chance.random() < 0.7
    source = chance.choice(("reported", "priced", "unpriced")) if used else "none"
    latency = chance.randint(1, 600_000)
    return Fact(
        user_id=chance.choice(PEOPLE),
        start_time=start,
        id=UUID(int=chance.getrandbits(128), version=4),
        provider=provider,
        model_requested=model,
        model_served=f"{model}-2026-01-01",
        end_state=state,
        error_reason="" if used else "CONNECTION_TIMEOUT",
        prompt_tokens=chance.randint(0, 2_000_000_000) if used else 0,
        completion_tokens=chance.randint(0, 5_000) if used else 0,
        cached_tokens=chance.randint(0, 9),
        reasoning_tokens=chance.randint(0, 9),
        estimated=used and chance.random() < 0.2,
        streamed=streamed,
        latency_ms=latency,
        time_to_first_token_ms=chance.randint(0, latency) if streamed and used else None,
        attempts=1,
        request_id=str(chance.random()),
        conversation_id=chance.choice(("", "=1+1", "-conversation")),
        cache_write_tokens=chance.randint(0, 9),
        cache_write_1h_tokens=0,
        tool_use_tokens=0,
        reported_cost_picos=None,
        service_tier="",
        kind=chance.choice(("chat", "chat", "embeddings")),
        cost_picos=chance.randint(0, 10**15) if source in ("reported", "priced") else None,
        cost_source=source,
        price="",
    )


def summed_up(facts: Iterable[Fact]) -> dict[str, int]:
    """Adds up everything but the histograms."""
    sums: Counter[str] = Counter()
    for fact in facts:
        sums["requests"] += 1
        sums[fact.end_state] += 1
        sums["embeddings"] += fact.kind == "embeddings"
        sums["estimated"] += fact.estimated
        sums["unpriced"] += fact.cost_source == "unpriced"
        for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "cache_write_tokens"):
            sums[name] += getattr(fact, name)
        cost = fact.cost_picos or 0
        sums["cost_picos"] += cost
        sums["reported_picos"] += cost if fact.cost_source == "reported" else 0
        sums["estimated_picos"] += cost if fact.estimated else 0
    return {name: number for name, number in sums.items() if number}


def without_histograms(sums: Mapping[str, int]) -> dict[str, int]:
    return {name: n for name, n in sums.items() if n and name not in ("latency", "first_output", "speed")}


def local_key(fact: Fact, group_by: str, zone: tzinfo) -> Any:
    """Returns the group of a chat as a calendar on the wall tells it."""
    local = fact.start_time.astimezone(zone)
    match group_by:
        case "day":
            return local.date()
        case "hour":
            # The hour that repeats when clocks go back is two.
            return local.date(), local.hour, local.utcoffset()
        case "provider":
            return fact.provider
        case "model":
            return fact.provider, fact.model_requested
    return None


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    chance = random.Random(20261123)
    return [some_chat(chance) for _ in range(3_000)]


@pytest.fixture(scope="module")
async def stored(postgres: PostgresServer, identity: Identities, facts: list[Fact]) -> AsyncIterator[Analytics]:
    """The service with these chats, and nothing else."""
    async with running_analytics(postgres.fresh_database("analytics"), identity) as analytics:
        for at in range(0, len(facts), 500):
            await analytics.store(facts[at : at + 500])
        yield analytics


@pytest.fixture
def reports(stored: Analytics) -> Reports:
    return Reports(stored.transactions, fact_days=RETENTION.facts, clock=lambda: NOW)


def some_question(chance: random.Random, group_by: str) -> Question:
    season = chance.choice(SEASONS)
    longest = 31 * 24 if group_by == "hour" else 250 * 24
    start = season - timedelta(hours=chance.randint(0, 72), minutes=chance.choice((0, 7, 30)))
    hours = chance.choice((1, 5, 48, 26 * 24, longest))
    end = min(start + timedelta(hours=hours, minutes=chance.choice((0, 15, 59))), NOW)
    zone = ZoneInfo(chance.choice(ZONES))
    user_id = chance.choice((*PEOPLE, None))
    provider, model = chance.choice((("", ""), ("", ""), ("openai", ""), ("", "gpt-5.5"), ("anthropic", "gpt-5.5")))
    return Question(
        user_id=user_id,
        span=Span(start, end),
        group_by=cast(Grouping, group_by),
        zone=zone,
        provider=provider,
        model=model,
    )


class TestSums:
    @pytest.mark.parametrize("group_by", ["", "hour", "day", "provider", "model"])
    async def test_are_those_of_the_chats_themselves(self, reports: Reports, facts: list[Fact], group_by: str) -> None:
        chance = random.Random(group_by)
        for _ in range(25):
            question = some_question(chance, group_by)
            asked = [
                fact
                for fact in facts
                if question.user_id in (None, fact.user_id)
                and question.span.start <= fact.start_time < question.span.end
                and question.provider in ("", fact.provider)
                and question.model in ("", fact.model_requested)
            ]
            sums = await reports.sums(question, ALL_MEASURES)

            assert without_histograms(sums.totals) == summed_up(asked), question
            by_key = defaultdict(list)
            for fact in asked:
                by_key[local_key(fact, group_by, question.zone)].append(fact)
            expected = {key: summed_up(group) for key, group in by_key.items()} if group_by else {}
            found = {}
            for group in sums.groups:
                if group.sums["requests"]:
                    found[self._key(group, question)] = without_histograms(group.sums)
            assert found == expected, question
            if group_by in ("hour", "day"):
                starts = [group.start_time for group in sums.groups]
                assert starts == sorted(starts)  # type: ignore[type-var]
                assert starts[0] == question.span.start

    def _key(self, group: Any, question: Question) -> Any:
        match question.group_by:
            case "provider":
                return group.provider
            case "model":
                return group.provider, group.model
        local = group.start_time.astimezone(question.zone)
        return local.date() if question.group_by == "day" else (local.date(), local.hour, local.utcoffset())

    async def test_percentiles_are_near_the_exact_ones(self, stored: Analytics, facts: list[Fact]) -> None:
        report = await stored.ask("GetPerformance", pb.GetPerformanceRequest(**span_of_all()), PEOPLE[0])

        own = [fact for fact in facts if fact.user_id == PEOPLE[0]]
        whole = [fact for fact in own if fact.end_state == "completed"]
        exact: dict[str, list[float]] = {
            "latency_ms": [fact.latency_ms for fact in whole],
            "time_to_first_token_ms": [
                fact.time_to_first_token_ms for fact in own if fact.time_to_first_token_ms is not None
            ],
            "tokens_per_second": [
                1000 * fact.completion_tokens / (fact.latency_ms - fact.time_to_first_token_ms)
                for fact in whole
                if fact.time_to_first_token_ms is not None
                and fact.latency_ms > fact.time_to_first_token_ms
                and fact.completion_tokens
            ],
        }
        for name, values in exact.items():
            told = getattr(report.totals, name)
            ranked = sorted(values)
            for percent in (50, 90, 95, 99):
                nearest_rank = ranked[-(-len(ranked) * percent // 100) - 1]
                # Speeds are counted in tenths of a token per second.
                assert getattr(told, f"p{percent}") == pytest.approx(nearest_rank, rel=0.025, abs=0.051), (
                    name,
                    percent,
                )
        failed = sum(fact.end_state not in ("completed", "cancelled_after_output") for fact in own)
        stayed = sum(fact.end_state != "cancelled_after_output" for fact in own)
        assert (report.totals.errors, report.totals.error_rate) == (failed, pytest.approx(failed / stayed))

    async def test_costs_are_exact_decimals(self, stored: Analytics, facts: list[Fact]) -> None:
        report = await stored.ask("GetCosts", pb.GetCostsRequest(**span_of_all()), PEOPLE[0])

        own = [fact for fact in facts if fact.user_id == PEOPLE[0]]
        dollars = sum(Decimal(fact.cost_picos or 0) for fact in own) / 10**12
        assert Decimal(report.totals.cost_usd) == dollars
        assert report.totals.unpriced_requests == sum(fact.cost_source == "unpriced" for fact in own)

    async def test_hours_whose_chats_are_gone_count_where_they_begin(
        self, stored: Analytics, facts: list[Fact]
    ) -> None:
        # As if the chats of before were dropped: their sums are still there.
        reports = Reports(stored.transactions, fact_days=32, clock=lambda: NOW)
        start = SEASONS[0].replace(minute=40)
        question = Question(user_id=PEOPLE[0], span=Span(start, start + timedelta(hours=3)))

        sums = await reports.sums(question, ("requests",))

        # Not the hour it begins in: that is the span's before, so that two beside each other count all of it once.
        hour = start.replace(minute=0) + timedelta(hours=1)
        counted = [f for f in facts if f.user_id == PEOPLE[0] and hour <= f.start_time < hour + timedelta(hours=3)]
        assert sums.totals == {"requests": len(counted)}


def span_of_all() -> dict[str, Any]:
    return {"from": NOW - timedelta(days=365), "to": NOW}


class TestHours:
    def test_only_those_with_an_edge_inside_are_split(self) -> None:
        kolkata = ZoneInfo("Asia/Kolkata")
        span = Span(datetime(2026, 11, 1, 10, 30, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC))
        always: dict[str, Any] = {
            "known_since": datetime.min.replace(tzinfo=UTC),
            "known_until": datetime.max.replace(tzinfo=UTC),
        }

        days = days_begun(span, kolkata)

        assert days == [span.start, *(datetime(2026, 11, day, 18, 30, tzinfo=UTC) for day in (1, 2))]
        assert split_hours(span, days, **always) == [
            datetime(2026, 11, day, hour, tzinfo=UTC) for day, hour in ((1, 10), (1, 18), (2, 18))
        ]
        assert split_hours(span, [span.start], **(always | {"known_since": NOW})) == []

    def test_the_hour_of_now_is_not_split_by_now(self) -> None:
        now = datetime(2026, 11, 1, 10, 30, tzinfo=UTC)
        span = Span(datetime(2026, 11, 1, 9, tzinfo=UTC), now)
        assert split_hours(span, [span.start], known_since=span.start, known_until=now) == []

    def test_a_day_has_the_hours_that_its_clocks_show(self) -> None:
        berlin = ZoneInfo("Europe/Berlin")
        for month, day, hours in ((10, 25, 25), (3, 29, 23), (6, 1, 24)):
            start = datetime(2026, month, day, tzinfo=berlin)
            end = datetime(2026, month, day + 1, tzinfo=berlin)
            assert len(hours_begun(Span(start.astimezone(UTC), end.astimezone(UTC)), berlin)) == hours


class TestQuestions:
    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"group_by": "week"}, ["groupBy"]),
            ({"group_by": "hour", "from": NOW - timedelta(days=33)}, ["groupBy"]),
            ({"time_zone": "Mars/Olympus"}, ["timeZone"]),
            ({"time_zone": "../../etc/passwd"}, ["timeZone"]),
            ({"time_zone": "Europe"}, ["timeZone"]),
            *(({"time_zone": name}, ["timeZone"]) for name in ("right/UTC", "posixrules", "localtime", "Factory")),
            ({"provider": "x" * 257, "model": "\0"}, ["provider", "model"]),
            ({"from": NOW, "to": NOW, "group_by": "x", "time_zone": "x"}, ["from", "timeZone", "groupBy"]),
            ({"from": Timestamp(nanos=-1), "group_by": "x"}, ["from", "groupBy"]),
        ],
    )
    async def test_everything_that_is_wrong_is_named(
        self, stored: Analytics, fields: dict[str, Any], named: list[str]
    ) -> None:
        for method, message in (
            ("GetUsage", pb.GetUsageRequest),
            ("GetCosts", pb.GetCostsRequest),
            ("GetPerformance", pb.GetPerformanceRequest),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stored.ask(method, message(**fields), PEOPLE[0])
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert violations(caught.value) == named

    async def test_so_is_what_else_is_wrong(self, stored: Analytics) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stored.export(pb.ExportAnalyticsRequest(report="all", group_by="x"), PEOPLE[0])
        assert violations(caught.value) == ["report", "groupBy"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stored.ask_as_admin(pb.GetPlatformAnalyticsRequest(top=101))
        assert violations(caught.value) == ["top"]

    async def test_who_has_no_chats_has_zeros(self, stored: Analytics) -> None:
        usage = await stored.ask("GetUsage", pb.GetUsageRequest(group_by="model"), str(uuid4()))
        assert (usage.totals.requests, list(usage.buckets)) == (0, [])
        costs = await stored.ask("GetCosts", pb.GetCostsRequest(), str(uuid4()))
        assert costs.totals.cost_usd == "0"
        performance = await stored.ask("GetPerformance", pb.GetPerformanceRequest(), str(uuid4()))
        assert MessageToDict(performance.totals) == {}


class TestPlatform:
    async def test_the_dearest_come_first(self, stored: Analytics, facts: list[Fact]) -> None:
        report = await stored.ask_as_admin(pb.GetPlatformAnalyticsRequest(**span_of_all(), group_by="provider", top=2))

        costs: Counter[Any] = Counter()
        for fact in facts:
            costs[fact.user_id] += fact.cost_picos or 0
            costs[fact.provider, fact.model_requested] += fact.cost_picos or 0
        people = sorted(PEOPLE, key=lambda person: -costs[person])
        models = sorted(MODELS, key=lambda model: -costs[model])[:2]
        assert [each.user_id for each in report.top_users] == people
        assert [Decimal(each.cost_usd) for each in report.top_users] == [Decimal(costs[p]) / 10**12 for p in people]
        assert [(each.provider, each.model) for each in report.top_models] == models
        assert report.usage.totals.requests == len(facts)
        assert [bucket.provider for bucket in report.costs.buckets] == ["anthropic", "openai"]

    async def test_a_provider_has_its_own_spenders(self, stored: Analytics, facts: list[Fact]) -> None:
        request = pb.GetPlatformAnalyticsRequest(**span_of_all(), provider="anthropic", user_id=PEOPLE[1])
        report = await stored.ask_as_admin(request)

        requests = sum(fact.provider == "anthropic" and fact.user_id == PEOPLE[1] for fact in facts)
        assert [(each.user_id, each.requests) for each in report.top_users] == [(PEOPLE[1], requests)]
        assert report.performance.totals.requests == requests


class TestExport:
    # Of all in one piece, and of many: chats at the same moment lie on both sides of an edge.
    @pytest.mark.parametrize("piece", [5_000, 7])
    async def test_chats_of_one_person_and_no_other(
        self, stored: Analytics, facts: list[Fact], monkeypatch: pytest.MonkeyPatch, piece: int
    ) -> None:
        monkeypatch.setattr(record_pages, "_PIECE", piece)
        lines = await stored.export(pb.ExportAnalyticsRequest(report="records", **span_of_all()), PEOPLE[0])

        rows = list(csv.DictReader(StringIO(lines)))
        own = sorted((f for f in facts if f.user_id == PEOPLE[0]), key=lambda f: (f.start_time, f.id))
        assert [row["id"] for row in rows] == [str(fact.id) for fact in own]
        assert "user_id" not in rows[0]
        assert (
            sum(Decimal(row["cost_usd"] or 0) for row in rows)
            == sum(Decimal(fact.cost_picos or 0) for fact in own) / 10**12
        )
        assert {row["conversation_id"] for row in rows} == {"", "'=1+1", "'-conversation"}
        assert lines.count("\r\n") == len(own) + 1

    async def test_chats_of_everybody(self, stored: Analytics, facts: list[Fact]) -> None:
        request = pb.ExportPlatformAnalyticsRequest(report="records", **span_of_all(), model="gpt-5.5")
        rows = list(csv.DictReader(StringIO(await stored.export_as_admin(request))))

        expected = {(str(f.id), f.user_id) for f in facts if f.model_requested == "gpt-5.5"}
        assert {(row["id"], row["user_id"]) for row in rows} == expected
        assert len(rows) == len(expected)

    @pytest.mark.parametrize("report", ["usage", "costs", "performance"])
    async def test_a_report_says_what_its_json_says(self, stored: Analytics, report: str) -> None:
        request = pb.ExportAnalyticsRequest(report=report, group_by="model", **span_of_all())
        rows = list(csv.DictReader(StringIO(await stored.export(request, PEOPLE[0]))))
        method, message = {
            "usage": ("GetUsage", pb.GetUsageRequest),
            "costs": ("GetCosts", pb.GetCostsRequest),
            "performance": ("GetPerformance", pb.GetPerformanceRequest),
        }[report]
        answer = await stored.ask(method, message(group_by="model", **span_of_all()), PEOPLE[0])

        assert [(row["provider"], row["model"]) for row in rows] == [(b.provider, b.model) for b in answer.buckets]
        for row, bucket in zip(rows, answer.buckets, strict=True):
            assert int(row["requests"]) == bucket.totals.requests
            match report:
                case "usage":
                    assert int(row["prompt_tokens"]) == bucket.totals.prompt_tokens
                    assert int(row["completed"]) == bucket.totals.requests_by_end_state["completed"]
                case "costs":
                    assert row["cost_usd"] == bucket.totals.cost_usd
                case "performance":
                    assert float(row["latency_ms_p99"]) == bucket.totals.latency_ms.p99

    async def test_without_groups_it_is_one_line(self, stored: Analytics) -> None:
        text = await stored.export(pb.ExportAnalyticsRequest(report="costs"), PEOPLE[0])
        headings, line, end = text.split("\r\n")
        assert headings == "cost_usd,reported_cost_usd,estimated_cost_usd,requests,unpriced_requests"
        assert (line.count(","), end) == (4, "")
