"""How long guessing has to wait, and what it is counted for."""

from datetime import timedelta

import pytest

from services.auth.sign_in_attempts import attempt, wait_after


class TestWait:
    @pytest.mark.parametrize(
        ("failures", "seconds"),
        [(0, 0), (1, 0), (5, 0), (6, 2), (7, 4), (8, 8), (14, 512), (15, 900), (16, 900), (10**9, 900)],
    )
    def test_doubles_after_the_free_failures_up_to_a_quarter_of_an_hour(self, failures: int, seconds: int) -> None:
        assert wait_after(failures, free=5) == timedelta(seconds=seconds)


class TestSubjects:
    def test_every_counter_has_its_own(self) -> None:
        subjects = {counter.subject for counter in attempt("ada@example.com", "192.0.2.1").counters}
        assert len(subjects) == 3

    def test_the_account_is_the_same_from_everywhere(self) -> None:
        here, there = attempt("ada@example.com", "192.0.2.1"), attempt("ada@example.com", "192.0.2.2")
        assert here.account == there.account
        assert here.home != there.home

    def test_addresses_of_one_ipv6_customer_are_one(self) -> None:
        first, second = attempt("a@b", "2001:db8:1:2::3"), attempt("c@d", "2001:db8:1:2:ffff::1")
        assert first.origin == second.origin
        assert first.origin != attempt("a@b", "2001:db8:1:3::3").origin

    def test_an_ipv4_address_is_the_same_in_ipv6(self) -> None:
        assert attempt("a@b", "::ffff:192.0.2.1").origin == attempt("a@b", "192.0.2.1").origin

    @pytest.mark.parametrize("address", [None, "", "not an address", "192.0.2.1, 192.0.2.2", "192.0.2.1\0"])
    def test_what_is_not_an_address_counts_for_the_account_alone(self, address: str | None) -> None:
        unknown = attempt("ada@example.com", address)
        assert unknown.counters == (unknown.account,)

    def test_an_email_cannot_be_spelt_into_another_counter(self) -> None:
        assert attempt("a\0b", None).account != attempt("a", None).account
