"""How the provider has answered lately, by the outcomes of this worker's chats: for those who can choose another.

Chats of the last minute are counted. The provider is unhealthy when half of at least five chats failed through it, or
five in a row. After a cool-down it is recovering: the next chat decides, and when that fails the cool-down is twice as
long. Where no chat comes it is healthy again after a while, for want of knowledge. No chat is refused by any of this.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

import structlog

log = structlog.get_logger()

WINDOW_SECONDS = 60
_BUCKET_SECONDS = 5
_BUCKETS = WINDOW_SECONDS // _BUCKET_SECONDS

_FEWEST_CHATS = 5
_FAILURES_IN_A_ROW = 5
_SHARE_OF_FAILURES = 0.5

_COOL_DOWN_SECONDS = 10.0
_COOL_DOWN_LIMIT = 120.0
# When no chat has decided for so long, nothing is known any more, as at the start.
_LAPSE_SECONDS = 300.0

# How often followers are told new counts; a new state they are told at once.
_TELL_SECONDS = 1.0

# Latencies are counted in steps of 5 %, up to 20 minutes: exact enough, and as cheap for a million chats as for one.
_STEP = math.log(1.05)
_STEPS = math.ceil(math.log(20 * 60 * 1000) / _STEP) + 2


class State(Enum):
    """How a provider stands."""

    HEALTHY = auto()
    UNHEALTHY = auto()
    RECOVERING = auto()


@dataclass(frozen=True, slots=True)
class Health:
    """How a provider stands, and what was counted within the window.

    The latencies are those to the first output of a stream or to a whole answer, in milliseconds, to within 3 %; 0 when
    there is none.
    """

    state: State
    chats: int
    failures: int
    latency_p50_ms: int
    latency_p95_ms: int


class _Bucket:
    """What was counted within a few seconds, which begin at `turn` times as many."""

    __slots__ = ("chats", "failures", "latencies", "turn")

    def __init__(self) -> None:
        self.begin(-1)

    def begin(self, turn: int) -> None:
        self.turn = turn
        self.chats = 0
        self.failures = 0
        self.latencies = array("I", bytes(4 * _STEPS))


class ProviderHealth:
    """Counts the outcomes of chats with one provider. `clock` counts seconds and never goes back."""

    def __init__(self, provider: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._clock = clock
        self._buckets = [_Bucket() for _ in range(_BUCKETS)]
        self._failures_in_a_row = 0
        self._state = State.HEALTHY
        # What began before tells of an earlier time.
        self._counted_from = -math.inf
        self._recovering_from = math.inf
        self._recovered_at = -math.inf
        self._cool_down = _COOL_DOWN_SECONDS
        self._followers: set[asyncio.Event] = set()

    @property
    def state(self) -> State:
        """How the provider stands now."""
        self._let_time_pass()
        return self._state

    def note_answer(self, *, seconds: float, first_output_seconds: float) -> None:
        """Counts a chat that the provider answered, `seconds` after it began."""
        now = self._clock()
        self._let_time_pass()
        if now - seconds < self._counted_from:
            return
        if self._state is State.RECOVERING:
            self._recover(now)
        bucket = self._bucket(now)
        bucket.chats += 1
        bucket.latencies[_step_of(first_output_seconds * 1000)] += 1
        self._failures_in_a_row = 0

    def note_failure(self, *, seconds: float) -> None:
        """Counts a chat that failed through the provider, `seconds` after it began."""
        now = self._clock()
        self._let_time_pass()
        if now - seconds < self._counted_from:
            return
        bucket = self._bucket(now)
        bucket.chats += 1
        bucket.failures += 1
        self._failures_in_a_row += 1
        if self._state is State.RECOVERING or (self._state is State.HEALTHY and self._too_many_fail(now)):
            self._break_down(now)

    def health(self) -> Health:
        """Returns how the provider stands now."""
        self._let_time_pass()
        buckets = self._within_window(self._clock())
        p50, p95 = _quantiles([bucket.latencies for bucket in buckets])
        return Health(
            self._state,
            sum(bucket.chats for bucket in buckets),
            sum(bucket.failures for bucket in buckets),
            p50,
            p95,
        )

    async def follow(self) -> AsyncGenerator[Health]:
        """Yields how the provider stands: now, then whenever that has changed. Does not end by itself."""
        changed = asyncio.Event()
        self._followers.add(changed)
        try:
            told = None
            while True:
                changed.clear()
                health = self.health()
                if health != told:
                    yield health
                    told = health
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TELL_SECONDS):
                        await changed.wait()
        finally:
            self._followers.discard(changed)

    def _bucket(self, now: float) -> _Bucket:
        turn = int(now / _BUCKET_SECONDS)
        bucket = self._buckets[turn % _BUCKETS]
        if bucket.turn != turn:
            bucket.begin(turn)
        return bucket

    def _within_window(self, now: float) -> list[_Bucket]:
        oldest = int(now / _BUCKET_SECONDS) - _BUCKETS
        return [bucket for bucket in self._buckets if bucket.chats and bucket.turn > oldest]

    def _too_many_fail(self, now: float) -> bool:
        if self._failures_in_a_row >= _FAILURES_IN_A_ROW:
            return True
        buckets = self._within_window(now)
        chats = sum(bucket.chats for bucket in buckets)
        failures = sum(bucket.failures for bucket in buckets)
        return chats >= _FEWEST_CHATS and failures >= chats * _SHARE_OF_FAILURES

    def _break_down(self, now: float) -> None:
        # One that stayed healthy for a window has a new start.
        lasted = self._state is State.HEALTHY and now - self._recovered_at > WINDOW_SECONDS
        self._cool_down = _COOL_DOWN_SECONDS if lasted else min(self._cool_down * 2, _COOL_DOWN_LIMIT)
        self._recovering_from = now + self._cool_down
        self._change(State.UNHEALTHY)

    def _let_time_pass(self) -> None:
        if self._state is State.HEALTHY:
            return
        now = self._clock()
        if self._state is State.UNHEALTHY and now >= self._recovering_from:
            self._counted_from = self._recovering_from
            self._change(State.RECOVERING)
        if self._state is State.RECOVERING and now >= self._recovering_from + _LAPSE_SECONDS:
            self._recover(now)

    def _recover(self, now: float) -> None:
        # With the failures of before it would break down again at the next.
        for bucket in self._buckets:
            bucket.begin(-1)
        self._failures_in_a_row = 0
        self._recovered_at = now
        self._change(State.HEALTHY)

    def _change(self, state: State) -> None:
        self._state = state
        log.info("provider health changed", provider=self._provider, state=state.name.lower())
        for follower in self._followers:
            follower.set()


def _step_of(milliseconds: float) -> int:
    return 0 if milliseconds <= 1 else min(math.ceil(math.log(milliseconds) / _STEP), _STEPS - 1)


def _quantiles(counts: Iterable[array[int]]) -> tuple[int, int]:
    """Returns the median and the latency that a twentieth exceeds."""
    steps = [sum(step) for step in zip(*counts, strict=True)]
    total = sum(steps)
    return _quantile(steps, math.ceil(total * 0.5)), _quantile(steps, math.ceil(total * 0.95))


def _quantile(steps: list[int], rank: int) -> int:
    if rank == 0:
        return 0
    for step, count in enumerate(steps):
        rank -= count
        if rank <= 0:
            return max(1, round(math.exp((step - 0.5) * _STEP)))
    raise AssertionError("a rank within the count has a step")
