"""OpenTelemetry's metrics of calls to models, in the form they have in Prometheus, and what the calls cost.

The names, the units and the bounds of the histograms are those of the semantic conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/), dots written as underlines. `provider` is added:
the id in our catalogue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from realmultillm.analytics.v1 import usage_ingest_service_pb2 as analytics

from libs.distribution import Distribution
from libs.worker.gen_ai_names import operation_name, provider_name

# Returns the one name of a model that may be asked for by several; None for a model that is not known.
KnownAs = Callable[[str, str], str | None]

_TOKENS = tuple(float(4**power) for power in range(14))
_SECONDS = tuple(0.01 * 2**power for power in range(14))
_FIRST_TOKEN_SECONDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0),
)
_PER_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_CALL = ("provider", "gen_ai_provider_name", "gen_ai_operation_name", "gen_ai_request_model")
_MODEL = ("provider", "model")

# A catalogue may know more models than a monitoring wants series of; those that are asked for first have them.
_MOST_MODELS = 200
_OTHER_MODEL = "other"
# Names of models as they are asked for, whose one name is remembered.
_MOST_NAMES = 1_000

_COMPLETED = analytics.UsageRecord.EndState.COMPLETED
_CANCELLED = frozenset(
    {
        analytics.UsageRecord.EndState.CANCELLED_BEFORE_OUTPUT,
        analytics.UsageRecord.EndState.CANCELLED_AFTER_OUTPUT,
    }
)
_SOURCES = {
    analytics.UsageRecord.CostSource.REPORTED: "reported",
    analytics.UsageRecord.CostSource.PRICED: "priced",
}
_UNPRICED = analytics.UsageRecord.CostSource.UNPRICED
_EMBEDDINGS = analytics.UsageRecord.Kind.EMBEDDINGS
_PICOS = 1e12
_TOKEN_TYPES = ("prompt", "cached", "cache_write", "completion", "reasoning")
_UNPRICED_CALLS = "unpriced"
_ESTIMATED_CALLS = "estimated"


class GenAiMetrics(Collector):
    """Counts the calls to one provider. People choose names of models: only those known are labels.

    `known_as` is asked once for each name that is remembered, at most so many.
    """

    def __init__(self, provider: str, known_as: KnownAs) -> None:
        self._provider = provider
        self._known_as = known_as
        self._models: dict[tuple[bool, str], _Model] = {}
        self._asked: dict[tuple[bool, str], _Model] = {}

    def note(self, record: analytics.UsageRecord) -> None:
        """Counts a call by its settled record."""
        asked = (record.kind == _EMBEDDINGS, record.model_requested)
        model = self._asked.get(asked)
        if model is None:
            if len(self._asked) >= _MOST_NAMES:
                self._asked.clear()
            model = self._asked[asked] = self._model(*asked)
        model.note(record)

    def _model(self, embeddings: bool, asked: str) -> _Model:
        name = self._known_as(self._provider, asked) or _OTHER_MODEL
        if (embeddings, name) not in self._models and len(self._models) >= _MOST_MODELS:
            name = _OTHER_MODEL
        return self._models.setdefault((embeddings, name), _Model())

    def collect(self) -> Iterator[Metric]:
        """Yields what there is to tell now."""
        families = _Families()
        for (embeddings, name), model in self._models.items():
            operation = operation_name(_EMBEDDINGS if embeddings else analytics.UsageRecord.Kind.CHAT)
            model.add_to(families, (self._provider, provider_name(self._provider), operation, name))
        # Sums of models are told once, whatever they were asked for.
        for name in dict.fromkeys(name for _, name in self._models):
            sums = [model.sums for (_, each), model in self._models.items() if each == name]
            families.add_sums((self._provider, name), sum(sums, Counter()))
        yield from families.all()


class _Families:
    """The metrics, for all models."""

    def __init__(self) -> None:
        self.tokens = HistogramMetricFamily(
            "gen_ai_client_token_usage", "Tokens of a call, input and output.", labels=(*_CALL, "gen_ai_token_type")
        )
        self.seconds = HistogramMetricFamily(
            "gen_ai_client_operation_duration_seconds",
            "How long calls took; `error_type` is the reason of the error, if there was one.",
            labels=(*_CALL, "error_type"),
        )
        self.first_token = HistogramMetricFamily(
            "gen_ai_server_time_to_first_token_seconds",
            "How long streamed answers took to their first output.",
            labels=_CALL,
        )
        self.per_token = HistogramMetricFamily(
            "gen_ai_server_time_per_output_token_seconds",
            "How long each token of a streamed answer took after the first.",
            labels=_CALL,
        )
        self._counted = CounterMetricFamily(
            "realmultillm_tokens",
            "Tokens by what they are; cached and cache_write are parts of prompt, reasoning is one of completion.",
            labels=(*_MODEL, "type"),
        )
        self._dollars = CounterMetricFamily(
            "realmultillm_cost_usd",
            "What calls cost in US dollars, as the provider reported it or by our price.",
            labels=(*_MODEL, "source"),
        )
        self._unpriced = CounterMetricFamily(
            "realmultillm_unpriced_calls", "Calls that used tokens of no known price.", labels=_MODEL
        )
        self._estimated = CounterMetricFamily(
            "realmultillm_estimated_calls", "Calls whose tokens the provider did not tell.", labels=_MODEL
        )

    def add_sums(self, model: tuple[str, str], sums: Counter[str]) -> None:
        """Tells what all calls to a model come to."""
        for kind in _TOKEN_TYPES:
            self._counted.add_metric((*model, kind), sums[kind])
        for source in _SOURCES.values():
            self._dollars.add_metric((*model, source), sums[source] / _PICOS)
        self._unpriced.add_metric(model, sums[_UNPRICED_CALLS])
        self._estimated.add_metric(model, sums[_ESTIMATED_CALLS])

    def all(self) -> Iterator[Metric]:
        """Yields each of them."""
        yield from (self.tokens, self.seconds, self.first_token, self.per_token)
        yield from (self._counted, self._dollars, self._unpriced, self._estimated)


class _Model:
    """What is counted of one model."""

    __slots__ = ("_first_token", "_per_token", "_received", "_seconds", "_sent", "sums")

    def __init__(self) -> None:
        self._seconds: dict[str, Distribution] = {}
        self._sent = Distribution(_TOKENS)
        self._received = Distribution(_TOKENS)
        self._first_token = Distribution(_FIRST_TOKEN_SECONDS)
        self._per_token = Distribution(_PER_TOKEN_SECONDS)
        # Tokens by their types, trillionths of a dollar by their sources, and calls.
        self.sums: Counter[str] = Counter()

    def note(self, record: analytics.UsageRecord) -> None:
        seconds = record.latency_ms / 1000
        error_type = "cancelled" if record.end_state in _CANCELLED else record.error_reason
        duration = self._seconds.get(error_type)
        if duration is None:
            duration = self._seconds[error_type] = Distribution(_SECONDS)
        duration.note(seconds)
        completion = record.completion_tokens
        if completion or record.prompt_tokens:
            self._count_tokens(record)
        if record.HasField("time_to_first_token_ms"):
            first = record.time_to_first_token_ms / 1000
            self._first_token.note(first)
            if record.end_state == _COMPLETED and completion > 1:
                self._per_token.note((seconds - first) / (completion - 1))
        if record.cost_source == _UNPRICED:
            self.sums[_UNPRICED_CALLS] += 1
        elif record.HasField("cost_picos"):
            self.sums[_SOURCES[record.cost_source]] += record.cost_picos

    def _count_tokens(self, record: analytics.UsageRecord) -> None:
        sums, prompt, completion = self.sums, record.prompt_tokens, record.completion_tokens
        self._sent.note(prompt)
        self._received.note(completion)
        sums["prompt"] += prompt
        sums["completion"] += completion
        sums["cached"] += record.cached_tokens
        sums["cache_write"] += record.cache_write_tokens
        sums["reasoning"] += record.reasoning_tokens
        if record.estimated:
            sums[_ESTIMATED_CALLS] += 1

    def add_to(self, families: _Families, call: tuple[str, ...]) -> None:
        """Tells what was counted, under these labels."""
        self._sent.add_to(families.tokens, (*call, "input"))
        self._received.add_to(families.tokens, (*call, "output"))
        for error_type, duration in self._seconds.items():
            duration.add_to(families.seconds, (*call, error_type))
        self._first_token.add_to(families.first_token, call)
        self._per_token.add_to(families.per_token, call)
