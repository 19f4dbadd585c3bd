"""The tokens of pages: whatever a caller sends in place of one is told from ours, and never breaks anything."""

import base64
from datetime import UTC, datetime

import pytest

from libs.errors import InvalidRequest
from libs.pagination import Place, PlaceTokens, cut_page, rows_per_page

TOKENS = PlaceTokens("ada", "admin", None)
PLACE = Place(datetime(2026, 5, 17, 8, 30, 0, 123_456, tzinfo=UTC), "usr_0123456789abcdef0123456789abcdef")


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decoded(token: str) -> str:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()


class TestPlaceTokens:
    @pytest.mark.parametrize(
        "place",
        [
            PLACE,
            Place(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "17"),
            Place(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "with.dots.and-é"),
            Place(datetime(1, 1, 1, tzinfo=UTC), "x"),
        ],
    )
    def test_a_token_names_the_row_it_was_made_of(self, place: Place) -> None:
        token = TOKENS.token(place)
        assert token in TOKENS
        assert TOKENS.place(token) == place

    def test_time_zones_are_one(self) -> None:
        elsewhere = Place(PLACE.time.astimezone(tz=None), PLACE.id)
        assert TOKENS.place(TOKENS.token(elsewhere)) == PLACE

    def test_the_empty_token_is_that_of_the_first_page(self) -> None:
        assert TOKENS.place("") is None
        assert "" not in TOKENS

    @pytest.mark.parametrize("other", [("bob", "admin", None), ("ada", "admin", False), ("ada", "admin"), ()])
    def test_a_token_is_good_for_the_list_it_was_given_with(self, other: tuple[object, ...]) -> None:
        assert TOKENS.token(PLACE) not in PlaceTokens(*other)

    def test_every_change_of_a_token_is_seen_or_names_another_row(self) -> None:
        token = TOKENS.token(PLACE)
        for position in range(len(token)):
            for character in "A_-z0":
                changed = token[:position] + character + token[position + 1 :]
                assert changed == token or changed not in TOKENS or TOKENS.place(changed) != PLACE

    @pytest.mark.parametrize(
        "token",
        [
            "%",
            "x",
            "nonsense",
            "é",
            "\0",
            "A" * 401,
            TOKENS.token(PLACE) + "=",
            TOKENS.token(PLACE) + "\n",
            f" {TOKENS.token(PLACE)}",
            base64.urlsafe_b64encode(b"\xff\xfe").decode().rstrip("="),
            encoded("."),
            encoded(decoded(TOKENS.token(PLACE)).replace(".", "..", 1)),
            encoded(decoded(TOKENS.token(PLACE)).replace(".", ".+", 1)),
            encoded(decoded(TOKENS.token(PLACE)).replace(".", ".0", 1)),
            encoded(decoded(TOKENS.token(PLACE)).replace(".1", ".\u0661", 1)),
            encoded(decoded(TOKENS.token(PLACE)).replace(".", "." + "9" * 200, 1)),
            encoded(decoded(TOKENS.token(PLACE)).replace(".", ".-" + "9" * 20, 1)),
            TOKENS.token(Place(PLACE.time, "usr_\0")),
            TOKENS.token(Place(PLACE.time, "usr_\n")),
        ],
    )
    def test_what_was_never_given_is_refused(self, token: str) -> None:
        assert token not in TOKENS
        with pytest.raises(InvalidRequest):
            rows_per_page(0, token, tokens=TOKENS)


class TestCutPage:
    @pytest.mark.parametrize(("found", "last"), [([], None), ([1, 2], None), ([1, 2, 3], 2)])
    def test_there_is_a_next_page_when_there_is_one_row_more(self, found: list[int], last: int | None) -> None:
        page, place = cut_page(found, 2, lambda row: Place(PLACE.time, str(row)))
        assert page == found[:2]
        assert place == (None if last is None else Place(PLACE.time, str(last)))


class TestRowsPerPage:
    @pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (500, 500), (501, 500), (2**31 - 1, 500)])
    def test_is_what_was_asked_up_to_the_most(self, asked: int, given: int) -> None:
        assert rows_per_page(asked, "", tokens=TOKENS) == given

    def test_says_everything_that_is_wrong_at_once(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            rows_per_page(-1, "x", tokens=TOKENS)
        assert [violation.field for violation in refused.value.violations] == ["pageSize", "pageToken"]

    def test_a_token_that_fits_is_taken(self) -> None:
        assert rows_per_page(0, TOKENS.token(PLACE), tokens=TOKENS) == 50
