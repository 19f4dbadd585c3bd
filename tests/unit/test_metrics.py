"""What is served to Prometheus: in its own format, and of chats and providers only what concerns nobody."""

import socket

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from structlog.testing import capture_logs

from libs.metrics import process_metrics, serving_metrics
from libs.settings import SettingsError
from libs.worker.chat_metrics import ChatMetrics, ProviderHealthCollector
from libs.worker.chat_outcomes import ChatOutcomes
from libs.worker.provider_health import ProviderHealth

ENDS = UsageRecord.EndState


async def scraped(port: int) -> list[Sample]:
    """Returns every sample there is."""
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
        assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 404
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]


def value_of(samples: list[Sample], name: str, **labels: str) -> float:
    """Returns the value of the only sample of this name that has these labels."""
    (value,) = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
    return value


class TestWorker:
    async def test_chats_and_the_provider_are_told_and_people_are_not(self) -> None:
        health, registry = ProviderHealth("openai"), process_metrics()
        registry.register(ProviderHealthCollector("openai", health))
        metrics = ChatMetrics("openai")
        registry.register(metrics)
        outcomes = ChatOutcomes(health, metrics, patience_seconds=20)
        chat = UsageRecord(
            user_id="usr_ada", request_id="request-1", conversation_id="ours", model_requested="gpt-x", latency_ms=2000
        )
        answered, broken, failed = UsageRecord(), UsageRecord(), ENDS.PROVIDER_ERROR_BEFORE_OUTPUT
        for record in (answered, broken):
            record.CopyFrom(chat)
        answered.MergeFrom(UsageRecord(end_state=ENDS.COMPLETED, time_to_first_token_ms=200))
        broken.MergeFrom(UsageRecord(end_state=failed, error_reason="PROVIDER_UNAVAILABLE"))
        with capture_logs():
            for record in (answered, *[broken] * 5):
                outcomes.note(record)
            async with serving_metrics("127.0.0.1:0", registry) as port:
                told = await scraped(port)

        def value(name: str, **labels: str) -> float:
            return value_of(told, f"realmultillm_{name}", provider="openai", **labels)

        assert value("chats_total", end_state="completed", reason="") == 1
        assert value("chats_total", end_state=ENDS.Name(failed).lower(), reason="PROVIDER_UNAVAILABLE") == 5
        assert value("chat_seconds_sum", end_state="completed") == 2
        assert (value("chat_first_output_seconds_bucket", le="0.1"), value("chat_first_output_seconds_count")) == (0, 1)
        assert (value("provider_state", state="unhealthy"), value("provider_state", state="healthy")) == (1, 0)
        assert (value("provider_window_chats"), value("provider_window_failures")) == (6, 5)
        assert value("provider_window_latency_p50_seconds") == pytest.approx(0.2, rel=0.03)
        assert value_of(told, "process_resident_memory_bytes") > 0
        labels = {label for sample in told for label in sample.labels.values()}
        assert not labels & {chat.user_id, chat.request_id, chat.conversation_id, chat.model_requested}


class TestListening:
    @pytest.mark.parametrize("listen", ["9100", "127.0.0.1:", "127.0.0.1:http"])
    async def test_what_is_no_address_is_a_wrong_setting(self, listen: str) -> None:
        with pytest.raises(SettingsError, match="host:port"):
            async with serving_metrics(listen, process_metrics()):
                pass

    async def test_an_address_that_is_taken_is_a_wrong_setting(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(SettingsError, match="cannot be served"):
                async with serving_metrics(f"127.0.0.1:{taken.getsockname()[1]}", process_metrics()):
                    pass
