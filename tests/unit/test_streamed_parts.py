"""Parts of a streamed answer that come in fragments: notes about reasoning, and tool calls."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.worker.adapter import NOT_UNDERSTOOD
from libs.worker.openai_dialect.call_places import CallPlaces
from libs.worker.openai_dialect.reasoning_details import ReasoningDetails

TEXTS = st.text(min_size=1, max_size=8)
DETAILS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "reasoning.text", "text": text, "signature": "s"}, TEXTS),
        st.builds(lambda text: {"type": "reasoning.summary", "summary": text}, TEXTS),
        st.builds(lambda data: {"type": "reasoning.encrypted", "data": data}, TEXTS),
    ),
    max_size=4,
).map(lambda details: [{**detail, "format": "f", "index": index} for index, detail in enumerate(details)])


def fragments(detail: dict[str, Any]) -> list[dict[str, Any]]:
    """Cuts a note as providers do: its text by character, its signature at the end."""
    member = next((name for name in ("text", "summary") if name in detail), None)
    if member is None:
        return [detail]
    seal = {"signature": detail["signature"]} if "signature" in detail else {}
    rest = {name: value for name, value in detail.items() if name not in (member, "signature")}
    open_seal: dict[str, Any] = {"signature": None} if seal else {}
    pieces = [{**rest, **open_seal, member: letter} for letter in detail[member]]
    return [*pieces, {**rest, **seal}] if seal else pieces


def merged(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    details = ReasoningDetails()
    for part in parts:
        details.add(part)
    return details.take()


class TestReasoningDetails:
    @given(DETAILS)
    def test_fragments_of_any_notes_become_the_notes(self, details: list[dict[str, Any]]) -> None:
        assert merged(*(piece for detail in details for piece in fragments(detail))) == details

    @given(DETAILS)
    def test_whole_notes_stay_as_they_are(self, details: list[dict[str, Any]]) -> None:
        assert merged(*details) == details

    def test_are_told_once(self) -> None:
        details = ReasoningDetails()
        details.add({"type": "reasoning.text", "text": "a"})
        assert (details.take(), details.take()) == ([{"type": "reasoning.text", "text": "a"}], [])

    def test_what_is_given_is_not_changed(self) -> None:
        first = {"type": "reasoning.text", "text": "a", "index": 0}
        merged(first, {"type": "reasoning.text", "text": "b", "index": 0})
        assert first["text"] == "a"

    def test_fragments_without_index_are_one_note(self) -> None:
        parts = ({"type": "reasoning.text", "text": "a"}, {"type": "reasoning.text", "text": "b"})
        assert merged(*parts) == [{"type": "reasoning.text", "text": "ab"}]

    def test_sealed_notes_are_never_joined(self) -> None:
        sealed = [{"type": "reasoning.encrypted", "data": data, "index": 0} for data in "ab"]
        assert merged(*sealed) == sealed

    def test_another_name_or_kind_is_another_note(self) -> None:
        parts = [
            {"type": "reasoning.text", "text": "a", "id": "1", "index": 0},
            {"type": "reasoning.text", "text": "b", "id": "2", "index": 0},
            {"type": "reasoning.summary", "summary": "c", "index": 0},
        ]
        assert merged(*parts) == parts

    def test_notes_with_names_at_one_place_may_alternate(self) -> None:
        parts = [{"type": "reasoning.text", "text": text, "id": name} for text, name in ("a1", "b2", "c1", "d2")]
        assert [note["text"] for note in merged(*parts)] == ["ac", "bd"]

    def test_a_name_may_come_later(self) -> None:
        named: list[dict[str, Any]] = [{"text": "b", "id": "1"}, {"text": "c", "id": "1"}]
        parts: list[dict[str, Any]] = [{"text": "a"}, *named, {"text": "d"}, {"text": "e", "id": "2"}]
        assert merged(*parts) == [{"text": "abcd", "id": "1"}, {"text": "e", "id": "2"}]

    def test_an_empty_piece_takes_nothing_away(self) -> None:
        parts: list[dict[str, Any]] = [{"text": "a"}, {"text": "", "signature": "s"}, {"text": None}]
        assert merged(*parts) == [{"text": "a", "signature": "s"}]

    def test_whole_notes_that_came_together_stay_apart(self) -> None:
        notes = [{"type": "reasoning.text", "text": text, "index": 0} for text in "ab"]
        assert ReasoningDetails().keep(notes).take() == notes

    def test_a_thousand_are_taken_and_more_make_no_sense(self) -> None:
        notes = [{"type": "reasoning.text", "text": "a", "index": index} for index in range(1_001)]
        assert merged(*notes[:1_000]) == notes[:1_000]
        with pytest.raises(NOT_UNDERSTOOD):
            merged(*notes)
        with pytest.raises(NOT_UNDERSTOOD):
            ReasoningDetails().keep(notes)

    def test_they_count_for_the_whole_answer(self) -> None:
        details = ReasoningDetails()
        for index in range(1_000):
            details.add({"index": index})
            details.take()
        with pytest.raises(NOT_UNDERSTOOD):
            details.add({"index": 1_000})

    @pytest.mark.parametrize("name", ["text", "signature", "data", "other"])
    def test_four_mebibytes_are_taken_and_more_make_no_sense(self, name: str) -> None:
        pieces = [{name: str(number % 10) * 100_000} for number in range(50)]
        assert merged(*pieces[:40])
        with pytest.raises(NOT_UNDERSTOOD):
            merged(*pieces)

    @pytest.mark.parametrize("held", [[0] * 3_000_000, {"a": ["x" * 5_000_000]}], ids=["numbers", "text"])
    def test_neither_does_more_within_one(self, held: Any) -> None:
        with pytest.raises(NOT_UNDERSTOOD):
            merged({"other": held})
        with pytest.raises(NOT_UNDERSTOOD):
            ReasoningDetails().keep([{"other": held}])

    def test_what_every_fragment_repeats_counts_once(self) -> None:
        """A model that thinks for 100,000 tokens sends each with the same facts."""
        rest = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1", "id": "r" * 100}
        (note,) = merged(*({**rest, "text": "word "} for _ in range(100_000)))
        assert note == {**rest, "text": "word " * 100_000}


def places(*calls: dict[str, Any]) -> list[int]:
    known = CallPlaces()
    return [known.of(call) for call in calls]


class TestCallPlaces:
    def test_are_those_the_provider_gives(self) -> None:
        assert places({"index": 0, "id": "a"}, {"index": 0}, {"index": 1, "id": "b"}, {"index": 0}, {"index": 1}) == [
            *(0, 0, 1, 0, 1)
        ]

    def test_the_id_may_stand_on_every_fragment(self) -> None:
        assert places({"index": 0, "id": "a"}, {"index": 0, "id": "a"}, {"index": 0, "id": ""}) == [0, 0, 0]

    def test_ids_tell_calls_apart_where_there_is_no_index(self) -> None:
        assert places({"id": "a"}, {}, {"id": "b"}, {}) == [0, 0, 1, 1]

    def test_ids_tell_calls_apart_where_all_have_one_index(self) -> None:
        assert places({"index": 0, "id": "a"}, {"index": 0, "id": "b"}, {"index": 0}) == [0, 1, 1]

    def test_a_gap_is_kept(self) -> None:
        assert places({"index": 1, "id": "a"}, {"index": 3, "id": "b"}, {"index": 1}) == [1, 3, 1]

    def test_nonsense_for_an_index_is_as_if_unsaid(self) -> None:
        assert places({"index": "x", "id": "a"}, {"index": -1, "id": "b"}) == [0, 1]

    def test_no_two_calls_share_a_place(self) -> None:
        calls: list[dict[str, Any]] = [
            {"index": 0, "id": "a"},
            {"index": 0, "id": "b"},
            {"index": 1, "id": "c"},
            {"id": "d"},
        ]
        assert len(set(places(*calls))) == 4
