"""One target after the other: whom an error turns away from, how long each may take, and what is told in the end."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from libs import errors
from libs.rpc.identity import Call, enter_call
from services.provider_router.attempts import Begun, first_to_begin, summary
from services.provider_router.model_names import Target

TARGETS = (Target("openai"), Target("anthropic", "claude-x"), Target("grok"))


class Trials:
    """Remembers which providers are being tried."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.now: list[str] = []

    @contextmanager
    def attempt(self, provider: str) -> Iterator[None]:
        self.tried.append(provider)
        self.now.append(provider)
        try:
            yield
        finally:
            self.now.remove(provider)


class Workers:
    """Fails in this order, then answers; remembers how long each was given."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.asked: list[Target] = []
        self.seconds: list[float] = []

    async def begin(self, target: Target, seconds: float) -> str:
        self.asked.append(target)
        self.seconds.append(seconds)
        if self._failures:
            raise self._failures.pop(0)
        return "answer"


def call_with(seconds: float) -> None:
    """Makes a call the current one that has so many seconds left."""
    enter_call(Call("", None, deadline=asyncio.get_running_loop().time() + seconds))


async def asked(workers: Workers, targets: Sequence[Target] = TARGETS, *, seconds: float = 600.0) -> Begun[str]:
    call_with(seconds)
    return await first_to_begin(targets, workers.begin, Trials())


def unavailable(provider: str = "openai") -> errors.ProviderUnavailable:
    return errors.ProviderUnavailable("Away; try again.", provider=provider, retry_after=3)


class TestTurning:
    @pytest.mark.parametrize(
        "error",
        [
            unavailable(),
            errors.ProviderRateLimited("", provider="openai"),
            errors.ProviderQuotaExhausted("", provider="openai"),
            errors.ProviderTimeout("", provider="openai"),
            errors.ProviderKeyRejected("", provider="openai"),
            errors.ProviderPermissionDenied("", provider="openai"),
            errors.ModelNotFound("", provider="openai"),
            errors.IncompleteResponse("", provider="openai"),
            errors.ContextLengthExceeded("", provider="openai"),
            errors.FailedPrecondition("", reason="PROVIDER_NOT_CONFIGURED"),
            errors.FailedPrecondition("", reason="ENDPOINT_NOT_ALLOWED"),
            errors.PermissionDenied("", reason="PROVIDER_DISABLED"),
            errors.PermissionDenied("", reason="MODEL_NOT_ALLOWED"),
            errors.Unavailable("", reason="SERVICE_OVERLOADED"),
            errors.Unavailable(""),
            errors.DeadlineExceeded(""),
        ],
        ids=lambda error: error.reason,
    )
    async def test_what_another_may_do_better_goes_to_the_next(self, error: errors.PlatformError) -> None:
        workers = Workers(error)

        begun = await asked(workers)

        assert workers.asked == list(TARGETS[:2])
        assert (begun.answer, begun.target) == ("answer", TARGETS[1])
        assert [(failed.target, failed.error) for failed in begun.failed] == [(TARGETS[0], error)]
        assert summary(begun.failed) == f"openai={error.reason}"

    @pytest.mark.parametrize(
        "error",
        [
            errors.InvalidRequest([errors.Violation("messages", "must not be empty.")]),
            errors.ProviderRejectedRequest("", provider="openai"),
            errors.LimitExceeded(""),
            errors.Unauthenticated(""),
            errors.PermissionDenied(""),
            errors.FailedPrecondition("", reason="SOMETHING_ELSE"),
        ],
        ids=lambda error: type(error).__name__,
    )
    async def test_what_is_wrong_for_all_ends_it(self, error: errors.PlatformError) -> None:
        workers = Workers(unavailable(), error)

        with pytest.raises(errors.PlatformError) as raised:
            await asked(workers)

        assert raised.value is error
        assert len(workers.asked) == 2
        assert error.metadata["attempts"] == f"openai=PROVIDER_UNAVAILABLE, anthropic={error.reason}"

    async def test_a_bug_is_nobodys_reason_to_turn(self) -> None:
        workers = Workers(RuntimeError("a bug"))

        with pytest.raises(RuntimeError):
            await asked(workers)

        assert len(workers.asked) == 1


class TestAllFailing:
    async def test_the_first_error_is_told_with_all_the_attempts(self) -> None:
        first = unavailable()
        workers = Workers(first, errors.ProviderTimeout("", provider="anthropic"), errors.Unavailable(""))

        with pytest.raises(errors.ProviderUnavailable) as raised:
            await asked(workers)

        assert raised.value is first
        assert first.retry_after == 3
        attempts = "openai=PROVIDER_UNAVAILABLE, anthropic=CONNECTION_TIMEOUT, grok=SERVICE_UNAVAILABLE"
        assert first.metadata["attempts"] == attempts

    async def test_of_one_alone_the_error_is_as_it_was(self) -> None:
        first = unavailable()

        with pytest.raises(errors.ProviderUnavailable) as raised:
            await asked(Workers(first), TARGETS[:1])

        assert raised.value is first
        assert first.metadata == {"provider": "openai"}


class TestTime:
    async def test_what_is_left_is_shared_among_those_left(self) -> None:
        workers = Workers(unavailable(), unavailable())

        await asked(workers, seconds=600)

        assert workers.seconds == pytest.approx([200, 300, 600], abs=10)

    async def test_nobody_gets_less_than_thirty_seconds_while_there_are_so_many(self) -> None:
        workers = Workers(unavailable(), unavailable())

        await asked(workers, seconds=60)

        assert workers.seconds == pytest.approx([30, 30, 60], abs=5)

    async def test_nobody_gets_more_than_is_left(self) -> None:
        workers = Workers(unavailable(), unavailable())

        await asked(workers, seconds=20)

        assert workers.seconds == pytest.approx([20, 20, 20], abs=5)

    async def test_without_time_nobody_else_is_asked(self) -> None:
        first = errors.DeadlineExceeded("Too late.")
        workers = Workers(first)

        with pytest.raises(errors.DeadlineExceeded) as raised:
            await asked(workers, seconds=0.2)

        assert raised.value is first
        assert workers.asked == [TARGETS[0]]


class TestTrials:
    async def test_an_attempt_is_one_until_it_has_begun_or_failed(self) -> None:
        trials = Trials()
        call_with(600)
        during: list[list[str]] = []

        async def begin(target: Target, seconds: float) -> str:
            during.append(list(trials.now))
            if target is TARGETS[0]:
                raise unavailable()
            return "answer"

        await first_to_begin(TARGETS, begin, trials)

        assert during == [["openai"], ["anthropic"]]
        assert trials.now == []

    async def test_who_is_called_off_is_tried_no_more(self) -> None:
        trials = Trials()
        call_with(600)
        entered = asyncio.Event()

        async def begin(target: Target, seconds: float) -> str:
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        waiting = asyncio.create_task(first_to_begin(TARGETS, begin, trials))
        await entered.wait()
        waiting.cancel()

        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (trials.tried, trials.now) == (["openai"], [])
