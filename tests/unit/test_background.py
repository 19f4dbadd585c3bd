"""Work beside a service: it ends with the block, and is missed when it ends before."""

import asyncio

import pytest
from structlog.testing import capture_logs

from libs.background import attempt, beside, repeat
from libs.errors import Unavailable
from tests.support.waiting import within_bound


class TestBeside:
    async def test_work_runs_until_the_block_ends_however_it_ends(self) -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async def block() -> None:
            async with beside({"work": work()}):
                await within_bound(begun.wait())
                assert not ended.is_set()
                raise ZeroDivisionError

        with capture_logs() as logs, pytest.raises(ZeroDivisionError):
            await block()
        assert ended.is_set()
        assert logs == []

    async def test_work_that_ends_before_is_told_and_disturbs_nothing(self) -> None:
        async def fail() -> None:
            raise ZeroDivisionError

        with capture_logs() as logs:
            async with beside({"sums": fail()}):
                await asyncio.sleep(0)
        (line,) = logs
        assert (line["log_level"], line["work"]) == ("error", "sums")
        assert isinstance(line["exc_info"], ZeroDivisionError)


class TestRepeat:
    async def test_nothing_that_fails_ends_it(self) -> None:
        failures: list[Exception] = [Unavailable("Later."), ZeroDivisionError(), TimeoutError()]
        done = asyncio.Event()

        async def work() -> None:
            if failures:
                raise failures.pop(0)
            done.set()

        with capture_logs() as logs:
            async with beside({"sums": repeat("sums", work, pause=lambda: 0, seconds=20)}):
                await within_bound(done.wait())
        assert [(line["log_level"], line["work"]) for line in logs if "work" in line] == [
            ("warning", "sums"),
            ("error", "sums"),
            ("warning", "sums"),
        ]

    async def test_work_that_hangs_is_given_up(self) -> None:
        with capture_logs() as logs:
            await within_bound(attempt("sums", asyncio.Event().wait, seconds=0.01))
        assert [line["event"] for line in logs if "work" in line] == ["background work not done in time"]

    async def test_being_cancelled_is_no_failure(self) -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            await asyncio.Event().wait()

        with capture_logs() as logs:
            async with beside({"sums": repeat("sums", work, pause=lambda: 0, seconds=20)}):
                await within_bound(begun.wait())
        assert logs == []
