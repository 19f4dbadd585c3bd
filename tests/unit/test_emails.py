"""The normal form of email addresses, and which addresses are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth import emails


class TestNormalForm:
    @pytest.mark.parametrize(
        "spelling",
        [
            "ada@example.com",
            "  Ada@Example.COM\n",
            "ＡＤＡ@example.com",
            "ada＠example.com",
        ],
    )
    def test_spellings_of_one_address_are_one(self, spelling: str) -> None:
        assert emails.normal_form(spelling) == "ada@example.com"

    def test_composed_and_decomposed_letters_are_one(self) -> None:
        assert emails.normal_form("zoe\u0308@example.com") == emails.normal_form("Zo\u00eb@example.com")

    def test_what_is_far_too_long_is_not_worked_on(self) -> None:
        text = "A" * 32_000_000
        assert emails.normal_form(text) is text
        assert "254" in (emails.broken_rule(text) or "")

    @given(st.text(max_size=40))
    def test_is_its_own_normal_form(self, text: str) -> None:
        once = emails.normal_form(text)
        assert emails.normal_form(once) == once


class TestRules:
    @pytest.mark.parametrize(
        "email",
        [
            "a@b",
            "first.last+tag@sub.example.co",
            "o'brien@example.ie",
            "李@例え.jp",
            "x@xn--r8jz45g.jp",
            f"{'l' * 64}@example.com",
        ],
    )
    def test_addresses_people_have_are_taken(self, email: str) -> None:
        assert emails.broken_rule(email) is None

    @pytest.mark.parametrize(
        "email",
        [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@@example.com",
            "ada@one@example.com",
            "a da@example.com",
            "ada@exa mple.com",
            "ada@.example.com",
            "ada@example..com",
            "ada@example.com.",
            "ada@-example.com",
            "ada@example-.com",
            "ada\0@example.com",
            "ada\u202e@example.com",
            "ada@example.com, eve@example.com",
            "Ada <ada@example.com>",
            f"{'l' * 65}@example.com",
            f"ada@{'d' * 64}.com",
            f"ada@{'d.' * 130}com",
        ],
    )
    def test_what_no_address_looks_like_is_refused(self, email: str) -> None:
        assert emails.broken_rule(email)

    @given(st.text(max_size=40))
    def test_what_is_taken_can_be_stored(self, text: str) -> None:
        email = emails.normal_form(text)
        if emails.broken_rule(email) is None:
            assert "\0" not in email
            assert email.count("@") == 1
