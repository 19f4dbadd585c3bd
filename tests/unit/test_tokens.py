"""The form of tokens: unguessable, checkable without asking anyone, and never stored."""

import re
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import tokens
from libs.redaction import Secret

PREFIXES = [tokens.SESSION_PREFIX, tokens.API_TOKEN_PREFIX]
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class TestMinting:
    @pytest.mark.parametrize("prefix", PREFIXES)
    def test_makes_a_well_formed_secret_with_its_prefix(self, prefix: str) -> None:
        token = tokens.mint(prefix)
        assert type(token) is Secret
        assert re.fullmatch(rf"{prefix}[0-9A-Za-z]{{49}}", token.reveal())
        assert tokens.well_formed(token.reveal())

    def test_never_repeats_itself(self) -> None:
        assert len({tokens.mint(tokens.SESSION_PREFIX).reveal() for _ in range(1000)}) == 1000

    @pytest.mark.parametrize("number", [0, 1, 2**256 - 1])
    def test_every_number_of_256_bits_fits(self, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(secrets, "randbits", {256: number}.__getitem__)
        token = tokens.mint(tokens.SESSION_PREFIX).reveal()
        digits = token[len(tokens.SESSION_PREFIX) : -6]
        value = 0
        for digit in digits:
            value = value * 62 + ALPHABET.index(digit)
        assert value == number
        assert tokens.well_formed(token)


class TestForm:
    token = tokens.mint(tokens.API_TOKEN_PREFIX).reveal()

    @given(place=st.integers(0, len(token) - 1), character=st.characters())
    def test_one_wrong_character_is_noticed(self, place: int, character: str) -> None:
        wrong = self.token[:place] + character + self.token[place + 1 :]
        assert tokens.well_formed(wrong) == (wrong == self.token)

    @given(place=st.integers(0, len(token) - 2))
    def test_two_swapped_characters_are_noticed(self, place: int) -> None:
        swapped = self.token[:place] + self.token[place + 1] + self.token[place] + self.token[place + 2 :]
        assert tokens.well_formed(swapped) == (swapped == self.token)

    @pytest.mark.parametrize(
        "wrong",
        [token + "\n", " " + token, token[:-1], token + "0", token.upper(), "", "rmlk_"],
        ids=["line", "space", "cut", "longer", "upper", "empty", "prefix"],
    )
    def test_what_is_nearly_a_token_is_none(self, wrong: str) -> None:
        assert not tokens.well_formed(wrong)

    @given(st.text())
    def test_invented_text_is_none(self, text: str) -> None:
        assert not tokens.well_formed(text)
        assert not tokens.well_formed((tokens.SESSION_PREFIX + text)[:54].ljust(54, "0"))

    def test_the_prefix_of_another_kind_is_noticed(self) -> None:
        assert not tokens.well_formed(self.token.replace(tokens.API_TOKEN_PREFIX, tokens.SESSION_PREFIX))


class TestDigest:
    def test_is_the_sha256_of_the_whole_token(self) -> None:
        # `printf %s rmls_x | sha256sum`
        expected = "f3edfe8f8639b5762b813fa3c3b43e1acf57e0bab9ebf04995f315bc46357857"
        assert tokens.digest("rmls_x").hex() == expected

    def test_is_the_same_for_the_token_closed_and_open(self) -> None:
        token = tokens.mint(tokens.SESSION_PREFIX)
        assert tokens.digest(token) == tokens.digest(token.reveal())
