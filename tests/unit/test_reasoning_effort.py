"""Which effort is asked for where a model does not have the one that was wanted."""

import pytest

from libs.worker.reasoning_effort import EFFORTS, nearest


class TestNearest:
    @pytest.mark.parametrize("effort", EFFORTS)
    def test_is_itself_where_it_is_offered(self, effort: str) -> None:
        assert nearest(effort, EFFORTS) == effort

    @pytest.mark.parametrize(
        ("effort", "offered", "taken"),
        [
            ("none", ("low", "high"), "low"),
            ("max", ("low", "medium", "high"), "high"),
            ("medium", ("low", "high"), "low"),  # as near; the cheaper
            ("medium", ("high", "low"), "low"),
            ("xhigh", ("none", "minimal"), "minimal"),
        ],
    )
    def test_is_the_nearest_else_and_the_smaller_of_two(
        self, effort: str, offered: tuple[str, ...], taken: str
    ) -> None:
        assert nearest(effort, offered) == taken
