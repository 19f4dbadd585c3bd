"""How a worker judges its provider by the ends of chats: what counts, when it turns, and how it comes back."""

from collections.abc import Iterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realmultillm.analytics.v1.usage_ingest_service_pb2 import UsageRecord
from structlog.testing import capture_logs

from libs.worker import provider_health
from libs.worker.chat_metrics import ChatMetrics
from libs.worker.chat_outcomes import ChatOutcomes
from libs.worker.provider_health import Health, ProviderHealth, State
from tests.support.waiting import within_bound

ENDS = UsageRecord.EndState
HEALTHY, UNHEALTHY, RECOVERING = State.HEALTHY, State.UNHEALTHY, State.RECOVERING


class Clinic:
    """A provider's health, and the clock it is kept by."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.health = ProviderHealth("openai", clock=lambda: self.now)

    @property
    def state(self) -> State:
        """How the provider stands now."""
        return self.health.state

    def answers(self, *, seconds: float = 1.0, first_output_seconds: float = 0.5) -> None:
        """Ends a chat well."""
        self.health.note_answer(seconds=seconds, first_output_seconds=first_output_seconds)

    def fails(self, times: int = 1, *, seconds: float = 0.0) -> None:
        """Ends chats badly."""
        for _ in range(times):
            self.health.note_failure(seconds=seconds)


@pytest.fixture
def clinic() -> Iterator[Clinic]:
    with capture_logs():
        yield Clinic()


class TestTurning:
    def test_is_healthy_while_nothing_is_known(self, clinic: Clinic) -> None:
        assert clinic.health.health() == Health(HEALTHY, 0, 0, 0, 0)

    def test_five_failures_in_a_row_are_too_many_however_many_went_well_before(self, clinic: Clinic) -> None:
        for _ in range(1000):
            clinic.answers()
        clinic.fails(4)
        assert clinic.state is HEALTHY
        clinic.fails()
        assert clinic.state is UNHEALTHY

    def test_half_of_five_chats_are_too_many(self, clinic: Clinic) -> None:
        for outcome in "fafa":
            clinic.fails() if outcome == "f" else clinic.answers()
        assert clinic.state is HEALTHY
        clinic.fails()
        assert clinic.state is UNHEALTHY

    def test_less_than_half_are_not(self, clinic: Clinic) -> None:
        for outcome in "aafaf" * 100:
            clinic.fails() if outcome == "f" else clinic.answers()
        assert clinic.state is HEALTHY
        assert clinic.health.health().failures == 200

    def test_what_was_more_than_a_minute_ago_does_not_count(self, clinic: Clinic) -> None:
        clinic.fails(2)
        clinic.answers()
        clinic.now += 61
        clinic.fails(2)
        clinic.answers()
        clinic.now += 10
        clinic.answers()
        assert clinic.state is HEALTHY
        assert (clinic.health.health().chats, clinic.health.health().failures) == (4, 2)
        clinic.now += 61
        assert clinic.health.health().chats == 0

    def test_is_told_in_the_log_once(self) -> None:
        clinic = Clinic()
        with capture_logs() as lines:
            clinic.fails(8)
        assert [(line["provider"], line["state"]) for line in lines] == [("openai", "unhealthy")]


class TestComingBack:
    def test_one_chat_that_is_answered_after_the_cool_down_heals(self, clinic: Clinic) -> None:
        clinic.fails(5)
        clinic.now += 9.9
        assert clinic.state is UNHEALTHY
        clinic.now += 0.1
        assert clinic.state is RECOVERING
        clinic.answers(seconds=0)
        assert clinic.health.health() == Health(HEALTHY, 1, 0, 503, 503)
        # What failed before it came back does not count against it.
        clinic.fails(3)
        assert clinic.state is HEALTHY

    def test_one_that_fails_doubles_the_cool_down_to_two_minutes_at_most(self, clinic: Clinic) -> None:
        clinic.fails(5)
        for cool_down in (10, 20, 40, 80, 120, 120):
            clinic.now += cool_down - 0.1
            assert clinic.state is UNHEALTHY
            clinic.now += 0.1
            assert clinic.state is RECOVERING
            clinic.fails()
            assert clinic.state is UNHEALTHY

    def test_answers_during_the_cool_down_do_not_heal(self, clinic: Clinic) -> None:
        clinic.fails(5)
        clinic.now += 5
        clinic.answers(seconds=0)
        assert clinic.state is UNHEALTHY

    @pytest.mark.parametrize("ends_well", [True, False])
    def test_chats_that_began_before_do_not_decide(self, clinic: Clinic, ends_well: bool) -> None:
        clinic.fails(5)
        clinic.now += 12
        if ends_well:
            clinic.answers(seconds=2.1)
        else:
            clinic.fails(seconds=2.1)
        assert clinic.state is RECOVERING
        clinic.answers(seconds=1.9)
        assert clinic.state is HEALTHY
        # Nor do they when they end later still.
        clinic.fails(10, seconds=10)
        assert clinic.state is HEALTHY

    def test_what_nobody_tries_is_as_unknown_as_at_the_start_in_the_end(self, clinic: Clinic) -> None:
        clinic.fails(5)
        clinic.now += 309
        assert clinic.state is RECOVERING
        clinic.now += 1
        assert clinic.health.health() == Health(HEALTHY, 0, 0, 0, 0)

    def test_one_that_breaks_down_again_soon_waits_longer(self, clinic: Clinic) -> None:
        self._comes_back_and_breaks_down(clinic, healthy_for=59)
        clinic.now += 19.9
        assert clinic.state is UNHEALTHY
        clinic.now += 0.1
        assert clinic.state is RECOVERING

    def test_one_that_was_healthy_for_a_minute_starts_afresh(self, clinic: Clinic) -> None:
        self._comes_back_and_breaks_down(clinic, healthy_for=61)
        clinic.now += 10
        assert clinic.state is RECOVERING

    def _comes_back_and_breaks_down(self, clinic: Clinic, *, healthy_for: float) -> None:
        clinic.fails(5)
        clinic.now += 10
        clinic.answers(seconds=0)
        clinic.now += healthy_for
        clinic.fails(5)
        assert clinic.state is UNHEALTHY


class TestLatency:
    def test_is_that_of_answers_to_their_first_output(self, clinic: Clinic) -> None:
        for milliseconds in range(1, 101):
            clinic.answers(first_output_seconds=milliseconds / 1000)
        clinic.fails(4, seconds=500)
        health = clinic.health.health()
        assert health.latency_p50_ms == pytest.approx(50, rel=0.03)
        assert health.latency_p95_ms == pytest.approx(95, rel=0.03)

    @given(st.lists(st.floats(0, 5_000_000), min_size=1, max_size=50))
    def test_is_within_three_percent_or_a_millisecond_up_to_twenty_minutes(self, latencies: list[float]) -> None:
        clinic = Clinic()
        for latency in latencies:
            clinic.answers(first_output_seconds=latency / 1000)
        median = sorted(latencies)[(len(latencies) + 1) // 2 - 1]
        expected = pytest.approx(min(max(median, 1), 1_200_000), rel=0.03, abs=1)
        assert clinic.health.health().latency_p50_ms == expected


class TestFollowing:
    async def test_tells_now_and_at_once_when_the_state_changes(
        self, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(provider_health, "_TELL_SECONDS", 3600)
        async with aclosing(clinic.health.follow()) as follower:
            assert await anext(follower) == Health(HEALTHY, 0, 0, 0, 0)
            clinic.fails(5)
            assert (await within_bound(anext(follower))).state is UNHEALTHY
            clinic.now += 10
            clinic.answers(seconds=0)
            assert (await within_bound(anext(follower))).state is HEALTHY

    async def test_tells_what_time_alone_changes(self, clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(provider_health, "_TELL_SECONDS", 0.001)
        clinic.fails(5)
        async with aclosing(clinic.health.follow()) as follower:
            assert (await anext(follower)).state is UNHEALTHY
            clinic.now += 10
            assert (await within_bound(anext(follower))).state is RECOVERING


class TestOutcomes:
    """Which ends of chats say something about the provider."""

    @pytest.mark.parametrize("reason", ["PROVIDER_UNAVAILABLE", "INCOMPLETE_RESPONSE", "CONNECTION_TIMEOUT"])
    def test_what_the_provider_is_to_blame_for_counts(self, clinic: Clinic, reason: str) -> None:
        state = ENDS.TIMEOUT if reason == "CONNECTION_TIMEOUT" else ENDS.PROVIDER_ERROR_BEFORE_OUTPUT
        self._end(clinic, UsageRecord(end_state=state, error_reason=reason, latency_ms=30_000))
        assert (clinic.health.health().chats, clinic.health.health().failures) == (1, 1)

    @pytest.mark.parametrize(
        "record",
        [
            *(
                UsageRecord(end_state=ENDS.PROVIDER_ERROR_BEFORE_OUTPUT, error_reason=reason)
                for reason in (
                    *("INVALID_API_KEY", "PROVIDER_RATE_LIMITED", "PROVIDER_QUOTA_EXHAUSTED", "MODEL_NOT_FOUND"),
                    *("PROVIDER_REJECTED_REQUEST", "CONTEXT_LENGTH_EXCEEDED", "PROVIDER_PERMISSION_DENIED", "INTERNAL"),
                )
            ),
            UsageRecord(end_state=ENDS.CANCELLED_AFTER_OUTPUT),
            # Whoever waits for a moment only would have the provider called unhealthy for everybody.
            UsageRecord(end_state=ENDS.TIMEOUT, error_reason="CONNECTION_TIMEOUT", latency_ms=9_999),
        ],
        ids=lambda record: record.error_reason or ENDS.Name(record.end_state),
    )
    def test_what_it_is_not_does_not(self, clinic: Clinic, record: UsageRecord) -> None:
        self._end(clinic, record)
        assert clinic.health.health().chats == 0

    def test_the_latency_is_to_the_first_output_or_of_the_whole(self, clinic: Clinic) -> None:
        self._end(clinic, UsageRecord(end_state=ENDS.COMPLETED, latency_ms=900))
        assert clinic.health.health().latency_p50_ms == pytest.approx(900, rel=0.03)
        streamed = UsageRecord(end_state=ENDS.COMPLETED, latency_ms=90_000, time_to_first_token_ms=20)
        self._end(clinic, streamed)
        assert clinic.health.health().latency_p50_ms == pytest.approx(20, rel=0.03)

    def _end(self, clinic: Clinic, record: UsageRecord) -> None:
        ChatOutcomes(clinic.health, ChatMetrics("openai"), patience_seconds=10).note(record)
