"""When providers say to come back, in every notation they use, and in some nobody should."""

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import ProviderRateLimited
from libs.rpc.status import to_status
from libs.worker.retry_after import go_duration, retry_after

DAY = 86_400.0


def wait(**headers: str) -> float | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return retry_after(named.get)


class TestRetryAfter:
    @pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("7", 7.0), ("1.5", 1.5), (" 3 ", 3.0)])
    def test_seconds(self, text: str, seconds: float) -> None:
        assert wait(retry_after=text) == seconds

    def test_milliseconds_come_first(self) -> None:
        assert wait(retry_after_ms="250", retry_after="9") == 0.25

    def test_malformed_milliseconds_leave_the_seconds(self) -> None:
        assert wait(retry_after_ms="soon", retry_after="9") == 9.0

    def test_a_date(self) -> None:
        seconds = wait(retry_after=formatdate(time.time() + 100, usegmt=True))
        assert seconds is not None
        assert 0 < seconds <= 100

    def test_a_date_that_has_passed_means_now(self) -> None:
        assert wait(retry_after="Wed, 21 Oct 2015 07:28:00 GMT") == 0.0

    def test_unsaid(self) -> None:
        assert wait() is None
        assert wait(retry_after="") is None

    @pytest.mark.parametrize(
        "text", ["-1", "nan", "inf", "soon", "0x10", "Wed, 99 Foo 2015 07:28:00 GMT", "Wed, 21 Oct 2015 99:99:99 +9999"]
    )
    def test_nonsense_is_unsaid(self, text: str) -> None:
        assert wait(retry_after=text) is None

    @pytest.mark.parametrize("text", ["1e300", "9" * 300, "Wed, 21 Oct 9999 07:28:00 GMT"])
    def test_nobody_waits_longer_than_a_day(self, text: str) -> None:
        assert wait(retry_after=text) == DAY
        assert wait(retry_after_ms=text) in (DAY, None)

    @given(st.text(), st.text())
    def test_whatever_a_provider_writes_fits_into_a_status(self, milliseconds: str, seconds: str) -> None:
        found = wait(retry_after_ms=milliseconds, retry_after=seconds)
        assert found is None or 0 <= found <= DAY
        to_status(ProviderRateLimited("Wait.", provider="openai", retry_after=found))


class TestGoDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("1s", 1.0), ("120ms", 0.12), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("8.64s", 8.64), ("0s", 0.0)],
    )
    def test_is_read(self, text: str, seconds: float) -> None:
        assert go_duration(text) == pytest.approx(seconds)

    @pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1s ", "1s later", "1 s", "1d", "1.s", ".5s", "1e3s", "１s"])
    def test_anything_else_is_none(self, text: str) -> None:
        assert go_duration(text) is None

    @pytest.mark.parametrize("text", ["99999h", "9" * 400 + "s"])
    def test_nobody_waits_longer_than_a_day(self, text: str) -> None:
        assert go_duration(text) == DAY

    @given(st.text(alphabet="0123456789.hms"))
    def test_whatever_comes_is_a_bounded_wait_or_none(self, text: str) -> None:
        found = go_duration(text)
        assert found is None or 0 <= found <= DAY
