"""When providers say to come back, in every notation they use, and in some nobody should."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import ProviderRateLimited
from libs.rpc.status import to_status
from libs.worker.retry_after import go_duration, retry_after, rfc3339, should_retry, used_up

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


def after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class TestRfc3339:
    def test_is_the_time_until_then(self) -> None:
        assert rfc3339(after(4_000)) == pytest.approx(4_000, abs=1_000)
        elsewhere = (datetime.now(UTC) + timedelta(seconds=4_000)).astimezone().isoformat()
        assert rfc3339(elsewhere) == pytest.approx(4_000, abs=1_000)

    def test_that_has_passed_means_now(self) -> None:
        assert rfc3339("2015-10-21T07:28:00Z") == 0.0

    @pytest.mark.parametrize("text", ["", "soon", "2026-13-45", "12", "2099-01-01T00:00:00"])
    def test_anything_else_is_none(self, text: str) -> None:
        """A time without a zone may be any of a day's."""
        assert rfc3339(text) is None

    @pytest.mark.parametrize("text", ["9999-12-31T00:00:00Z", "9999-12-31T23:59:59-23:59"])
    def test_nobody_waits_longer_than_a_day(self, text: str) -> None:
        assert rfc3339(text) == DAY

    @given(st.text() | st.datetimes(timezones=st.timezones()).map(datetime.isoformat))
    def test_whatever_comes_is_a_bounded_wait_or_none(self, text: str) -> None:
        found = rfc3339(text)
        assert found is None or 0 <= found <= DAY


class TestUsedUp:
    LIMITS = ("a-{}-x", "b-{}-x", "c-{}-x")

    def wait(self, **headers: str) -> float | None:
        return used_up({name.replace("_", "-"): value for name, value in headers.items()}.get, self.LIMITS, go_duration)

    def test_waits_for_the_limit_that_is_used_up(self) -> None:
        assert self.wait(a_remaining_x="1", a_reset_x="9h", b_remaining_x="0", b_reset_x="6m0s") == 360.0

    def test_waits_for_the_last_of_several(self) -> None:
        headers = {"a_remaining_x": "0", "a_reset_x": "1s", "b_remaining_x": "0", "b_reset_x": "2m0s"}
        assert self.wait(**headers, c_remaining_x="0", c_reset_x="soon") == 120.0

    def test_knows_nothing_where_none_is(self) -> None:
        assert self.wait(a_remaining_x="1", a_reset_x="1s", b_reset_x="1s") is None
        assert self.wait(a_remaining_x="0") is None
        assert self.wait() is None


class TestShouldRetry:
    @pytest.mark.parametrize(
        ("text", "told"), [("true", True), ("false", False), (None, None), ("", None), ("maybe", None), ("True", None)]
    )
    def test_is_what_the_provider_says(self, text: str | None, told: bool | None) -> None:
        assert should_retry({"x-should-retry": text}.get) is told
