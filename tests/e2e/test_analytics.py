"""What people have used and what it cost, through the front door, against the answers they were given."""

from __future__ import annotations

import csv
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import httpx
import pytest

from deploy.local.topology import SANDBOX_ROLES
from tests.e2e.conftest import Person, Platform, error_of, events
from tests.e2e.people import administrator

REPORTS = ("usage", "costs", "performance")
DAY = {"from": (datetime.now(UTC) - timedelta(days=1)).isoformat().replace("+00:00", "Z")}


async def report(client: httpx.AsyncClient, name: str, **query: Any) -> Any:
    answer = await client.get(f"/api/analytics/{name}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def dollars(amount: float) -> Decimal:
    """Returns a cost as an answer tells it, to the trillionth."""
    return Decimal(repr(amount)).quantize(Decimal("1e-12"))


@pytest.fixture(scope="module")
async def spender(platform: Platform) -> AsyncIterator[tuple[Person, dict[str, list[Decimal]]]]:
    """Somebody who has chatted with every provider, whole and streamed, and what each answer said that it cost."""
    async with platform.person(with_key=False) as person:
        costs: dict[str, list[Decimal]] = {}
        for provider, role in SANDBOX_ROLES.items():
            key = f"{role.key_prefix}-{uuid.uuid4().hex}"
            stored = await person.http.post(f"/api/provider-config/{provider}", json={"apiKey": key})
            assert stored.status_code == 200, stored.text
            whole = await person.chat(provider, conversationId="conversation-1")
            async with person.stream(provider) as response:
                last = events([line async for line in response.aiter_lines()])[-1]
            costs[provider] = [dollars(whole.json()["cost_usd"]), dollars(last["cost_usd"])]
        await person.usage_when(lambda totals: totals["requests"] == 2 * len(SANDBOX_ROLES))
        yield person, costs


class TestOwn:
    async def test_costs_are_those_the_answers_told(self, spender: tuple[Person, dict[str, list[Decimal]]]) -> None:
        person, costs = spender
        told = await report(person.http, "costs", groupBy="provider", **DAY)

        assert Decimal(told["totals"]["costUsd"]) == sum(sum(each) for each in costs.values())
        assert (told["totals"]["requests"], told["totals"]["unpricedRequests"]) == (2 * len(costs), 0)
        by_provider = {bucket["provider"]: Decimal(bucket["totals"]["costUsd"]) for bucket in told["buckets"]}
        assert by_provider == {provider: sum(each) for provider, each in costs.items()}
        # What OpenRouter and Grok say themselves goes before a price.
        reported = sum(sum(costs[provider]) for provider in ("openrouter", "grok"))
        assert Decimal(told["totals"]["reportedCostUsd"]) == reported

    async def test_usage_and_performance(self, spender: tuple[Person, dict[str, list[Decimal]]]) -> None:
        person, costs = spender
        usage = (await report(person.http, "usage", groupBy="day", timeZone="Asia/Kathmandu", **DAY))["buckets"]
        assert sum(bucket["totals"]["requests"] for bucket in usage) == 2 * len(costs)
        begun = {datetime.fromisoformat(bucket["startTime"]) for bucket in usage}
        assert all(
            f"{moment:%H:%M:%S.%f}" == "18:15:00.000000" for moment in begun - {datetime.fromisoformat(DAY["from"])}
        )
        performance = (await report(person.http, "performance", **DAY))["totals"]
        assert (performance["requests"], performance["errors"], performance["errorRate"]) == (2 * len(costs), 0, 0)
        for measure in ("latencyMs", "timeToFirstTokenMs"):
            told = performance[measure]
            assert 0 < told["p50"] <= told["p90"] <= told["p95"] <= told["p99"]

    async def test_everything_can_be_taken_away(self, spender: tuple[Person, dict[str, list[Decimal]]]) -> None:
        person, costs = spender
        answer = await person.http.get("/api/analytics/export", params={"report": "records", **DAY})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"].startswith('attachment; filename="records-')
        rows = list(csv.DictReader(StringIO(answer.text)))
        found: dict[str, list[Decimal]] = {provider: [] for provider in costs}
        for row in rows:
            found[row["provider"]].append(Decimal(row["cost_usd"]))
        assert found == costs

    @pytest.mark.parametrize("name", [*REPORTS, "export"])
    async def test_what_is_wrong_is_named(self, spender: tuple[Person, dict[str, list[Decimal]]], name: str) -> None:
        person, _ = spender
        answer = await person.http.get(f"/api/analytics/{name}", params={"groupBy": "week", "timeZone": "Mars"})
        assert error_of(answer) == (400, "INVALID_ARGUMENT")
        assert "groupBy" in answer.text
        assert "timeZone" in answer.text


class TestOthers:
    async def test_nobody_else_reaches_them(
        self, platform: Platform, spender: tuple[Person, dict[str, list[Decimal]]]
    ) -> None:
        victim, _ = spender
        async with platform.person(with_key=False) as thief:
            for name in (*REPORTS, "export?report=records"):
                path = f"/api/analytics/{name}{'&' if '?' in name else '?'}"
                for parameter in ("userId", "user_id", "user", "account"):
                    answer = await thief.http.get(f"{path}{parameter}={victim.user_id}")
                    assert error_of(answer) == (400, "INVALID_ARGUMENT"), answer.text
            for query in ({"provider": "openai"}, {"model": victim.user_id}, {"groupBy": "model"}, DAY):
                assert (await report(thief.http, "usage", **query))["totals"]["requests"] == 0
                assert (await report(thief.http, "costs", **query))["totals"]["costUsd"] == "0"
            rows = (await thief.http.get("/api/analytics/export", params={"report": "records", **DAY})).text
            assert rows.count("\r\n") == 1
            for path in ("/api/admin/analytics", f"/api/admin/analytics?userId={victim.user_id}"):
                assert error_of(await thief.http.get(path)) == (403, "PERMISSION_DENIED")
            export = await thief.http.get("/api/admin/analytics/export", params={"report": "records"})
            assert error_of(export) == (403, "PERMISSION_DENIED")

    async def test_nobody_at_all_without_a_token(self, platform: Platform) -> None:
        async with platform.client() as nobody:
            for path in ("usage", "costs", "performance", "export?report=usage"):
                assert error_of(await nobody.get(f"/api/analytics/{path}")) == (401, "UNAUTHENTICATED")
            assert error_of(await nobody.get("/api/admin/analytics")) == (401, "UNAUTHENTICATED")


class TestAdministrators:
    async def test_see_everybody(self, platform: Platform, spender: tuple[Person, dict[str, list[Decimal]]]) -> None:
        person, costs = spender
        async with administrator(platform) as admin:
            answer = await admin.http.get("/api/admin/analytics", params={"userId": person.user_id, **DAY})
            assert answer.status_code == 200, answer.text
            told = answer.json()
            assert told["usage"]["totals"]["requests"] == 2 * len(costs)
            assert Decimal(told["costs"]["totals"]["costUsd"]) == sum(sum(each) for each in costs.values())
            assert [top["userId"] for top in told["topUsers"]] == [person.user_id]
            assert {top["provider"] for top in told["topModels"]} == set(costs)
            everybody = (await admin.http.get("/api/admin/analytics", params=DAY)).json()
            assert everybody["usage"]["totals"]["requests"] >= 2 * len(costs)
            export = await admin.http.get("/api/admin/analytics/export", params={"report": "records", **DAY})
            rows = list(csv.DictReader(StringIO(export.text)))
            assert sum(row["user_id"] == person.user_id for row in rows) == 2 * len(costs)


async def test_what_is_not_priced_is_counted(platform: Platform) -> None:
    async with platform.person() as person:
        answer = await person.chat(model="gpt-6.2-sol")
        assert answer.status_code == 200, answer.text
        assert "cost_usd" not in answer.json()
        await person.usage_when(lambda totals: totals["requests"] == 1)
        totals = (await report(person.http, "costs"))["totals"]
        assert (totals["costUsd"], totals["unpricedRequests"]) == ("0", 1)
