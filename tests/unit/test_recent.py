"""What is kept of what others cause."""

from libs.recent import Recent


class TestRecent:
    def test_what_was_told_longest_ago_goes_first(self) -> None:
        recent: Recent[str, int] = Recent(2)
        for name, number in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
            recent.tell(name, number)
        assert [recent.get(name, 0) for name in ("a", "b", "c")] == [3, 0, 4]
        assert len(recent) == 2

    def test_what_is_forgotten_is_not_there(self) -> None:
        recent: Recent[str, int] = Recent(2)
        recent.tell("a", 1)
        recent.forget("a")
        recent.forget("never told")
        assert "a" not in recent
        assert not len(recent)
