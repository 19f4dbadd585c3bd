"""Whose a note about reasoning is."""

from typing import Any

import pytest

from libs.worker.json_object import json_object
from libs.worker.reasoning_notes import came_routed, own_notes
from tests.support.steps import steps_of

FORM = "anthropic-claude-v1"
OWN: dict[str, Any] = {"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": FORM}
# As OpenRouter's guide to reasoning tokens shows them.
ROUTED: list[dict[str, Any]] = [
    OWN | {"id": "reasoning-text-1", "index": 0},
    OWN | {"id": None, "index": 1},
    OWN | {"id": None},
    {"type": "reasoning.summary", "summary": "Hm.", "id": "r", "format": FORM},
]


class TestNotes:
    def test_a_provider_takes_its_own_in_their_order(self) -> None:
        notes = [OWN, OWN | {"text": "So."}, OWN | {"after_calls": 1}]
        assert list(own_notes(map(json_object, notes), FORM)) == notes

    @pytest.mark.parametrize("other", [*ROUTED, OWN | {"format": "google-gemini-v1"}, {}])
    def test_those_of_others_mean_nothing_to_it(self, other: dict[str, Any]) -> None:
        assert list(own_notes([json_object(other), json_object(OWN)], FORM)) == [OWN]

    def test_those_of_others_are_not_read(self) -> None:
        def steps(members: int) -> int:
            foreign = json_object({**{str(each): [each] for each in range(members)}, "format": "another"})
            return steps_of(lambda: list(own_notes([foreign], FORM)))

        assert steps(1_000) == steps(1)

    def test_of_two_formats_the_last_counts(self) -> None:
        for forms, taken in (([FORM, "another"], False), (["another", FORM], True)):
            note = json_object({})
            for form in forms:
                note.members.extend(json_object({"format": form}).members)
            assert bool(list(own_notes([note], FORM))) is taken

    @pytest.mark.parametrize("note", ROUTED)
    def test_each_note_is_taken_by_one_side_alone(self, note: dict[str, Any]) -> None:
        assert (came_routed(note), came_routed(OWN)) == (True, False)
