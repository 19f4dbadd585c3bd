"""What operators see: every metric that the dashboards and the alerts name is there, and no label names anybody."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from deploy.grafana.pages import DASHBOARDS
from deploy.local.topology import is_service, metrics_of
from deploy.prometheus.render import ALERTS
from tests.architecture.descriptors import methods
from tests.e2e.conftest import HELLO, PASSWORD, Person, Platform, error_of
from tests.support import npm_client
from tests.support.waiting import eventually

# What Prometheus makes itself, and the labels it adds to everything.
_OF_PROMETHEUS = {"ALERTS": {"alertstate"}, "up": set[str]()}
_ADDED = {"job", "instance"}
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="(?:[^"\\]|\\.)*"')
_MODEL_NOBODY_KNOWS = "sk-canary-in-the-place-of-a-model"


@dataclass(frozen=True)
class Told:
    """What Prometheus is told: the labels of each metric, and all of it as text."""

    labels: dict[str, set[str]]
    text: str


async def scraped(platform: Platform) -> Told:
    """Scrapes every service, every worker and Envoy."""
    names = [*filter(is_service, platform.stack.processes), "envoy"]
    async with httpx.AsyncClient() as http:
        texts = [
            (await http.get(f"http://{platform.stack.address(metrics_of(name))}/metrics")).raise_for_status().text
            for name in names
        ]
    labels: dict[str, set[str]] = {}
    for text in texts:
        # Not by the client library's parser, which gives counters the names that they have in another format.
        for name, pairs in _SAMPLE.findall(text):
            labels.setdefault(name, set()).update(_LABEL.findall(pairs))
    return Told(labels, "\n".join(texts))


async def metrics_of_worker(platform: Platform) -> str:
    """Scrapes the worker for OpenAI."""
    async with httpx.AsyncClient() as http:
        return (await http.get(f"http://{platform.stack.address(metrics_of('worker-openai'))}/metrics")).text


def asked_of_prometheus() -> Iterator[str]:
    """Yields the expressions of the dashboards, as Grafana sends them."""
    for dashboard in DASHBOARDS.values():
        variables = {f"${variable.name}": ".*" for variable in dashboard.variables}
        for expression in dashboard.expressions():
            for macro, value in {"$__rate_interval": "5m", **variables}.items():
                expression = expression.replace(macro, value)
            yield expression
        for variable in dashboard.variables:
            yield f"sum by ({variable.label}) ({variable.metric})"


@pytest.fixture(scope="module")
async def alerts() -> list[dict[str, Any]]:
    rules = await npm_client.read_yaml(ALERTS.read_text())
    return [alert for group in rules["groups"] for alert in group["rules"]]


@pytest.fixture(scope="module")
async def queries(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What every expression selects."""
    expressions = [*asked_of_prometheus(), *(alert["expr"] for alert in alerts)]
    return await npm_client.read_promql(expressions)


@dataclass(frozen=True)
class Canary:
    """Somebody who has done a little of everything, and what must not be seen of it."""

    secrets: Sequence[str]


@pytest.fixture(scope="module")
async def canary(platform: Platform) -> AsyncIterator[Canary]:
    async with platform.person() as person:
        body = {"email": person.email, "password": PASSWORD}
        signed_in = await person.http.post("/api/auth/signin", json=body)
        assert signed_in.status_code == 200
        refused = await person.http.post("/api/auth/signin", json={**body, "password": "not the canary's own"})
        assert error_of(refused)[0] == 401
        said = {"messages": [{"role": "user", "content": "canary sings"}], "conversation_id": "canary-conversation"}
        answers = [
            await person.http.post("/api/chat/openai", json=said),
            await person.http.post("/api/chat/openai/stream", json=said),
            await person.http.post("/api/chat/openai", json={**said, "model": _MODEL_NOBODY_KNOWS}),
            await person.http.post("/v1/embeddings", json={"model": "text-embedding-3-small", "input": "canary"}),
        ]
        assert [answer.status_code for answer in answers[:2]] == [200, 200]
        await person.usage_when(lambda totals: totals["requests"] >= 2)
        yield Canary(
            [
                *(person.user_id, person.email, person.token, person.key, PASSWORD, _MODEL_NOBODY_KNOWS),
                *("canary", *(answer.headers["x-request-id"] for answer in answers)),
            ]
        )


class TestQueries:
    async def test_every_expression_is_promql(self, queries: list[dict[str, Any]]):
        assert [query["errors"] for query in queries if query["errors"]] == []
        assert all(query["selectors"] for query in queries)

    async def test_methods_that_are_named_exist(self, queries: list[dict[str, Any]]):
        known = {method.name for method in methods()}
        values = (selector["labels"].get("grpc_method", "") for query in queries for selector in query["selectors"])
        named = {name for value in values for name in value.split("|") if re.fullmatch(r"[A-Za-z]+", name)}
        assert named
        assert named <= known

    async def test_every_metric_and_label_is_told_by_a_running_platform(
        self, platform: Platform, canary: Canary, queries: list[dict[str, Any]]
    ):
        selected: dict[str, set[str]] = {}
        for query in queries:
            for selector in query["selectors"]:
                labels = set(selector["labels"])
                # What is summed by is of what is selected, where that is one metric.
                if len({each["name"] for each in query["selectors"]}) == 1:
                    labels |= set(query["grouping"])
                selected.setdefault(selector["name"], set()).update(labels - _ADDED)

        async def missing() -> dict[str, set[str] | None]:
            told = (await scraped(platform)).labels | _OF_PROMETHEUS
            return {
                name: labels - told[name] if name in told else None
                for name, labels in selected.items()
                if name not in told or labels - told[name]
            }

        # Envoy adds its numbers up every five seconds.
        assert await eventually(missing, lambda found: not found) == {}


class TestWhatIsTold:
    async def test_every_answer_counts_once_however_it_is_asked_for(self, platform: Platform, person: Person):
        async def counts() -> dict[str, float]:
            text = await metrics_of_worker(platform)
            return {
                name: sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))
                for name in (
                    "realmultillm_overhead_seconds_count",
                    "gen_ai_client_operation_duration_seconds_count",
                    "gen_ai_server_time_to_first_token_seconds_count",
                    "realmultillm_chats_total",
                    "realmultillm_cost_usd_total",
                )
            }

        before = await counts()
        said = {"messages": HELLO, "model": "openai/gpt-4o-mini"}
        answers = [
            await person.chat(),
            await person.http.post("/api/chat/openai/stream", json={"messages": HELLO}),
            await person.http.post("/v1/chat/completions", json=said),
            await person.http.post("/v1/chat/completions", json={**said, "stream": True}),
            await person.http.post("/v1/embeddings", json={"model": "text-embedding-3-small", "input": "Hello"}),
        ]
        assert [answer.status_code for answer in answers] == [200] * 5
        after = await counts()
        assert {name: after[name] - before[name] for name in before if "cost" not in name} == {
            "realmultillm_overhead_seconds_count": 4,
            "gen_ai_client_operation_duration_seconds_count": 5,
            "gen_ai_server_time_to_first_token_seconds_count": 2,
            "realmultillm_chats_total": 4,
        }
        assert after["realmultillm_cost_usd_total"] > before["realmultillm_cost_usd_total"]

    @pytest.mark.parametrize(
        ("verb", "path"), [("GET", "/"), ("GET", "/config_dump"), ("GET", "/metrics/x"), ("POST", "/metrics")]
    )
    async def test_envoy_serves_nothing_else_of_its_administration(self, platform: Platform, verb: str, path: str):
        url = f"http://{platform.stack.address(metrics_of('envoy'))}{path}"
        async with httpx.AsyncClient() as http:
            assert (await http.request(verb, url)).status_code == 404

    async def test_nothing_names_a_person_or_a_key_or_what_was_said(self, platform: Platform, canary: Canary):
        text = (await scraped(platform)).text
        assert 'gen_ai_request_model="other"' in text
        assert [secret for secret in canary.secrets if secret in text] == []

    async def test_a_prometheus_on_this_machine_is_told_where(self, platform: Platform):
        configuration = await npm_client.read_yaml((platform.stack.layout.state / "prometheus.yml").read_text())
        targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in configuration["scrape_configs"]}
        names = [*filter(is_service, platform.stack.processes), "envoy"]
        assert targets == {name: [platform.stack.address(metrics_of(name))] for name in names}

    async def test_envoy_finds_every_service_well(self, platform: Platform):
        async def unwell() -> list[str]:
            text = (await scraped(platform)).text
            healthy = re.findall(
                r'^envoy_cluster_membership_healthy{envoy_cluster_name="([^"]+)"} (\d+)$', text, re.MULTILINE
            )
            assert {name for name, _ in healthy} >= set(filter(is_service, platform.stack.processes))
            return [name for name, count in healthy if int(count) != 1]

        assert await eventually(unwell, lambda names: not names) == []

    async def test_every_alert_leads_to_its_runbook(self, alerts: list[dict[str, Any]]):
        names = [alert["alert"] for alert in alerts]
        runbooks = (ALERTS.parent.parent.parent / "docs" / "runbooks.md").read_text()
        headings = re.findall(r"^## (\w+)$", runbooks, re.MULTILINE)
        assert sorted(names) == sorted(headings)
        for alert in alerts:
            assert alert["labels"]["severity"] in ("warning", "critical")
            url = alert["annotations"]["runbook_url"]
            assert url == f"{{{{ $externalLabels.runbooks }}}}#{alert['alert'].lower()}"
