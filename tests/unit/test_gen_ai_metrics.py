"""What is told of calls to models, under OpenTelemetry's names: against numbers worked out by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord

from libs.cache_metrics import CacheCollector
from libs.model_catalog import ModelCatalog
from libs.model_catalog.overrides import Overrides, OverridesCollector
from libs.watched_cache import WatchedCache
from libs.worker import gen_ai_metrics
from libs.worker.chat_metrics import ChatMetrics, LoadCollector
from libs.worker.gen_ai_metrics import KnownAs
from services.analytics.ingest_metrics import IngestMetrics

ENDS, SOURCES, KINDS = UsageRecord.EndState, UsageRecord.CostSource, UsageRecord.Kind


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def record(model: str = "gpt-4o", **fields: object) -> UsageRecord:
    """A chat that went well: 2 s, the first output after 0.5 s, and 31 tokens by then or after."""
    usual = {
        "kind": KINDS.CHAT,
        "end_state": ENDS.COMPLETED,
        "latency_ms": 2_000,
        "time_to_first_token_ms": 500,
        "prompt_tokens": 100,
        "completion_tokens": 31,
        "cost_picos": 1_250_000_000,
        "cost_source": SOURCES.PRICED,
    }
    return UsageRecord(model_requested=model, streamed=True, **usual | fields)  # type: ignore[arg-type]


def registered(registry: CollectorRegistry, known_as: KnownAs, provider: str = "grok") -> ChatMetrics:
    metrics = ChatMetrics(provider, known_as)
    registry.register(metrics)
    return metrics


class TestCallsToModels:
    def told(self, registry: CollectorRegistry, name: str, **labels: str) -> float | None:
        usual = {
            "provider": "grok",
            "gen_ai_provider_name": "x_ai",
            "gen_ai_operation_name": "chat",
            "gen_ai_request_model": "grok-4",
        }
        return registry.get_sample_value(f"gen_ai_{name}", usual | labels)

    def known(self, _provider: str, model: str) -> str | None:
        return "grok-4" if model.startswith("grok-4") else None

    def test_a_chat_that_went_well(self, registry: CollectorRegistry) -> None:
        metrics = registered(registry, self.known)
        # Editions of a model are one.
        metrics.note(record("grok-4-0709", cached_tokens=40, reasoning_tokens=8))
        duration = "client_operation_duration_seconds"
        assert self.told(registry, f"{duration}_sum", error_type="") == 2
        assert self.told(registry, f"{duration}_bucket", error_type="", le="1.28") == 0
        assert self.told(registry, f"{duration}_bucket", error_type="", le="2.56") == 1
        assert self.told(registry, "client_token_usage_sum", gen_ai_token_type="input") == 100
        assert self.told(registry, "client_token_usage_sum", gen_ai_token_type="output") == 31
        assert self.told(registry, "client_token_usage_bucket", gen_ai_token_type="output", le="16.0") == 0
        assert self.told(registry, "client_token_usage_bucket", gen_ai_token_type="output", le="64.0") == 1
        assert self.told(registry, "server_time_to_first_token_seconds_sum") == 0.5
        # 1.5 s for the 30 tokens after the first.
        assert self.told(registry, "server_time_per_output_token_seconds_sum") == pytest.approx(0.05)

        def counted(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"realmultillm_{name}", {"provider": "grok", "model": "grok-4", **labels})

        tokens = {kind: counted("tokens_total", type=kind) for kind in ("prompt", "completion", "cached", "reasoning")}
        assert tokens == {"prompt": 100, "completion": 31, "cached": 40, "reasoning": 8}
        assert counted("cost_usd_total", source="priced") == pytest.approx(0.00125)
        assert counted("cost_usd_total", source="reported") == 0
        assert (counted("unpriced_calls_total"), counted("estimated_calls_total")) == (0, 0)

    def test_one_that_failed_and_one_that_was_left(self, registry: CollectorRegistry) -> None:
        metrics = registered(registry, self.known)
        nothing = {"prompt_tokens": 0, "completion_tokens": 0, "cost_source": 0, "time_to_first_token_ms": None}
        failed = record("grok-4", **nothing, end_state=ENDS.TIMEOUT, error_reason="CONNECTION_TIMEOUT")
        failed.ClearField("cost_picos")
        metrics.note(failed)
        metrics.note(record("grok-4", end_state=ENDS.CANCELLED_AFTER_OUTPUT, cost_source=SOURCES.UNPRICED))
        duration = "client_operation_duration_seconds_count"
        assert self.told(registry, duration, error_type="CONNECTION_TIMEOUT") == 1
        assert self.told(registry, duration, error_type="cancelled") == 1
        assert self.told(registry, "client_token_usage_count", gen_ai_token_type="output") == 1
        # How fast one was that broke off, nobody knows.
        assert self.told(registry, "server_time_per_output_token_seconds_count") == 0
        labels = {"provider": "grok", "model": "grok-4"}
        assert registry.get_sample_value("realmultillm_unpriced_calls_total", labels) == 1
        assert registry.get_sample_value("realmultillm_cost_usd_total", {**labels, "source": "priced"}) == 0

    def test_embeddings_are_no_chats(self, registry: CollectorRegistry) -> None:
        metrics = registered(registry, self.known)
        metrics.note(record("grok-4", kind=KINDS.EMBEDDINGS))
        duration = "client_operation_duration_seconds_count"
        assert self.told(registry, duration, gen_ai_operation_name="embeddings", error_type="") == 1
        chats = {"provider": "grok", "end_state": "completed", "reason": ""}
        assert registry.get_sample_value("realmultillm_chats_total", chats) is None

    def test_models_that_people_make_up_are_one(self, registry: CollectorRegistry) -> None:
        metrics = registered(registry, self.known)
        for number in range(50):
            metrics.note(record(f"made-up-{number}"))
        duration = "client_operation_duration_seconds_count"
        assert self.told(registry, duration, gen_ai_request_model="other", error_type="") == 50

    def test_more_models_than_a_monitoring_wants_are_one_too(self, registry: CollectorRegistry) -> None:
        metrics = registered(registry, lambda _provider, model: model)
        for number in range(gen_ai_metrics._MOST_MODELS + 10):
            metrics.note(record(f"known-{number}"))
        series = {
            sample.labels["gen_ai_request_model"]
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "gen_ai_client_operation_duration_seconds_count"
        }
        assert len(series) == gen_ai_metrics._MOST_MODELS + 1
        duration = "client_operation_duration_seconds_count"
        assert self.told(registry, duration, gen_ai_request_model="other", error_type="") == 10

    def test_the_catalogue_knows_models_by_one_name(self) -> None:
        known = ModelCatalog.load({})
        assert known.known_as("openai", "gpt-4o") == "gpt-4o"
        names = {known.known_as("openai", name) for name in ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20")}
        assert names <= {"gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20"}
        assert known.known_as("openai", "sk-what-nobody-calls-a-model") is None
        assert known.known_as("nobody", "gpt-4o") is None


class TestTheWorker:
    def test_overhead_and_load(self, registry: CollectorRegistry) -> None:
        class Places:
            under_way, most = 3, 2000

        registered(registry, lambda _provider, _model: None, "openai").note_overhead(1.25)
        registry.register(LoadCollector("openai", Places()))
        provider = {"provider": "openai"}
        assert registry.get_sample_value("realmultillm_overhead_seconds_sum", provider) == pytest.approx(0.00125)
        below = {le: {**provider, "le": le} for le in ("0.001", "0.0015")}
        assert registry.get_sample_value("realmultillm_overhead_seconds_bucket", below["0.001"]) == 0
        assert registry.get_sample_value("realmultillm_overhead_seconds_bucket", below["0.0015"]) == 1
        assert registry.get_sample_value("realmultillm_chats_in_flight", provider) == 3
        assert registry.get_sample_value("realmultillm_chats_limit", provider) == 2000

    async def test_caches(self, registry: CollectorRegistry) -> None:
        async def load(key: str) -> str:
            return key

        cache = WatchedCache(load, size=10, ttl=60, unwatched_ttl=60)
        registry.register(CacheCollector(principals=cache))
        assert cache.peek("a") is None
        for _ in range(2):
            await cache.get("a")
        assert cache.peek("a") == "a"
        counts = {
            name: registry.get_sample_value(f"realmultillm_cache_{name}", {"cache": "principals"})
            for name in ("hits_total", "misses_total", "entries", "watched")
        }
        # It follows no changes, and is not deaf for that.
        assert counts == {"hits_total": 2, "misses_total": 1, "entries": 1, "watched": None}

    async def test_a_file_that_cannot_be_used(self, registry: CollectorRegistry, tmp_path: Path) -> None:
        file = tmp_path / "models.toml"
        overrides = Overrides(ModelCatalog.load({}), file)
        registry.register(OverridesCollector(overrides))
        problems = []
        for text in ("", "no toml", ""):
            file.write_text(text)
            await overrides.refresh()
            problems.append(registry.get_sample_value("realmultillm_model_facts_problem"))
            file.unlink()
        assert problems == [0, 1, 0]


class TestIngest:
    def test_age_and_number_of_facts(self, registry: CollectorRegistry) -> None:
        now = datetime(2026, 7, 1, tzinfo=UTC)
        metrics = IngestMetrics(registry, clock=lambda: now)
        begun = [now - timedelta(seconds=seconds) for seconds in (3, 2, -5)]
        metrics.note([SimpleNamespace(start_time=start_time, latency_ms=1000) for start_time in begun], accepted=2)
        records = {
            result: registry.get_sample_value("realmultillm_ingested_records_total", {"result": result})
            for result in ("accepted", "duplicate")
        }
        assert records == {"accepted": 2, "duplicate": 1}
        # Each took a second. A clock that is ahead makes no fact younger than new.
        assert registry.get_sample_value("realmultillm_ingest_lag_seconds_sum") == pytest.approx(2 + 1 + 0)
