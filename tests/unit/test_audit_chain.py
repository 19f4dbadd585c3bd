"""The chain of the audit log: every change to what was written shows, at the place where it begins."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from services.auth.audit_chain import BEGINNING, Content, Findings, Head, Link, entry_hash, follow

SIZE = 6


def chain(size: int = SIZE) -> list[Link]:
    """Makes a log as it is written."""
    links: list[Link] = []
    previous = BEGINNING.hash
    for seq in range(1, size + 1):
        content: Content = (seq, f"event {seq}", 1_000_000 * seq, "auth", "usr_1", "auth.sign_in", "", "{}")
        links.append(Link(seq, content, previous, entry_hash(previous, content)))
        previous = links[-1].hash
    return links


def forged(previous_hash: bytes, content: Content) -> Link:
    """Makes an entry that holds by itself."""
    seq = content[0]
    assert isinstance(seq, int)
    return Link(seq, content, previous_hash, entry_hash(previous_hash, content))


def first_invalid(links: list[Link]) -> int | None:
    return follow(BEGINNING, links).first_invalid


class TestHash:
    def test_is_what_the_documentation_says(self) -> None:
        content: Content = (1, "ä\n", 1_700_000_000_000_000, "", '{"a":"b"}')
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        assert entry_hash(bytes(32), content) == hashlib.sha256(bytes(32) + text.encode()).digest()

    @pytest.mark.parametrize(
        "others",
        [
            (("ab", "c"), ("a", "bc")),
            (("", "a"), ("a", "")),
            (("a", None), ("a", "null")),
            (("a", None), ("a", "")),
            ((1, "a"), ("1", "a")),
            (('a","b', "c"), ("a", 'b","c')),
            (("a",), ("a", "")),
            (("A",), ("\uff21",)),
        ],
    )
    def test_tells_apart_what_is_not_the_same(self, others: tuple[Content, Content]) -> None:
        assert len({entry_hash(BEGINNING.hash, (1, *content)) for content in others}) == 2


class TestFollow:
    def test_what_was_written_holds(self) -> None:
        links = chain()
        assert follow(BEGINNING, links) == Findings(Head(SIZE, links[-1].hash), SIZE)
        assert follow(BEGINNING, []) == Findings(BEGINNING, 0)

    def test_it_goes_on_where_it_ended(self) -> None:
        links = chain()
        begun = follow(BEGINNING, links[:4])
        assert follow(begun.head, links[4:]) == Findings(Head(SIZE, links[-1].hash), 2)

    @pytest.mark.parametrize("place", range(1, 8))
    def test_a_changed_value_shows(self, place: int) -> None:
        links = chain()
        content = list(links[2].content)
        content[place] = None
        links[2] = dataclasses.replace(links[2], content=tuple(content))
        assert follow(BEGINNING, links) == Findings(Head(2, links[1].hash), 3, first_invalid=3)

    @pytest.mark.parametrize("field", ["hash", "previous_hash"])
    @pytest.mark.parametrize("value", [bytes(32), b"", None])
    def test_a_changed_hash_shows(self, field: str, value: Any) -> None:
        links = chain()
        links[2] = dataclasses.replace(links[2], **{field: value})
        assert first_invalid(links) == 3

    @pytest.mark.parametrize(
        ("tamper", "found"),
        [
            (lambda links: links[1:], 1),
            (lambda links: links[:2] + links[3:], 3),
            (lambda links: links[:2] + links[5:], 3),
            # Put in where there was no place, at a place that is taken, before the beginning.
            (lambda links: [*links[:3], dataclasses.replace(links[2]), *links[3:]], 3),
            (lambda links: [forged(BEGINNING.hash, (0, "first")), *links], 0),
            (lambda links: [forged(BEGINNING.hash, (-7, "first")), *links], -7),
            # Two that changed places, with or without their numbers.
            (lambda links: [*links[:2], links[3], links[2], *links[4:]], 3),
            (lambda links: [*links[:2], renumbered(links[3], 3), renumbered(links[2], 4), *links[4:]], 3),
            # Made anew and not what follows: the entry itself holds, but nothing holds on to it.
            (lambda links: [*links[:2], forged(links[1].hash, (3, "another")), *links[3:]], 4),
        ],
    )
    def test_entries_that_are_missing_moved_or_put_in_show(
        self, tamper: Callable[[list[Link]], list[Link]], found: int
    ) -> None:
        assert first_invalid(tamper(chain())) == found

    def test_only_the_head_tells_of_an_end_that_was_cut_off_or_made_anew(self) -> None:
        links = chain()
        cut = links[:-2]
        assert first_invalid(cut) is None
        anew = [*links[:2], forged(links[1].hash, (3, "another"))]
        assert first_invalid(anew) is None
        heads = {follow(BEGINNING, log).head for log in (links, cut, anew)}
        assert len(heads) == 3


class TestHead:
    def test_is_read_as_it_is_written(self) -> None:
        head = Head(17, bytes(range(32)))
        assert Head.parse(str(head)) == head

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "17",
            ":",
            f"0:{'0' * 64}",
            f"-1:{'0' * 64}",
            f"017:{'0' * 64}",
            f"17:{'0' * 63}",
            f"17:{'0' * 65}",
            f"17:{'A' * 64}",
            f"17:{'0' * 64}\n",
            f"{'9' * 19}:{'0' * 64}",
            f"١:{'0' * 64}",
        ],
    )
    def test_nothing_else_is_one(self, text: str) -> None:
        assert Head.parse(text) is None


def renumbered(link: Link, seq: int) -> Link:
    return dataclasses.replace(link, seq=seq, content=(seq, *link.content[1:]))
